//! What a flow matches, as numbers under masks. One meaning has one form here, however `ovs-ofctl` spells it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::grammar::{hex, is_mac, number};

/// A field. Those that stand for the same bits of a packet are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    InPort,
    Vlan,
    Register(u8),
    Conjunction,
    State,
    Mark,
    From,
    To,
    Ether,
    Protocol,
    Source4,
    Destination4,
    Source6,
    Destination6,
    ArpSource,
    ArpHardware,
    Fragment,
    SourcePort,
    DestinationPort,
    Flags,
    IcmpType,
    IcmpCode,
    NdTarget,
    NdSource,
    NdLink,
}

/// A field's value; no bit outside its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Field {
    /// Which.
    pub(crate) name: Name,
    /// Its bits.
    pub(crate) value: u128,
    /// Those that count.
    pub(crate) mask: u128,
}

/// All that a flow matches, in the order of names, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Match(Vec<Field>);

/// OpenFlow 1.0's `OFPP_LOCAL`: the bridge's own interface in dom0.
pub(crate) const LOCAL: u16 = 0xfffe;

/// Ports with a meaning of their own start here.
const RESERVED: u64 = 0xff00;

/// `OFPVID_PRESENT`: there is a VLAN header.
const PRESENT: u128 = 0x1000;

/// The bit of a MAC that means many.
const MANY: u128 = 1 << 40;

const MAC: u128 = (1 << 48) - 1;

/// The protocols' words: ethertype, and protocol.
const WORDS: [(&str, u16, Option<u8>); 12] = [
    ("arp", 0x0806, None),
    ("ip", 0x0800, None),
    ("ipv6", 0x86dd, None),
    ("icmp", 0x0800, Some(1)),
    ("icmp6", 0x86dd, Some(58)),
    ("tcp", 0x0800, Some(6)),
    ("tcp6", 0x86dd, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("udp6", 0x86dd, Some(17)),
    ("sctp", 0x0800, Some(132)),
    ("sctp6", 0x86dd, Some(132)),
    ("igmp", 0x0800, Some(2)),
];

/// What a destination MAC may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum To {
    /// Any group address.
    Many,
    /// This one.
    One(u64),
}

/// What a VLAN header may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Header {
    /// There is none.
    None,
    /// It has this id.
    Id(u16),
}

impl Match {
    /// Reads fields. `None`: one is not known here, or not spelled as `ovs-ofctl` spells it, or stands twice.
    pub(crate) fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut found = Vec::new();
        for field in fields {
            let (name, value) = field.split_once('=').map_or((field, None), |(k, v)| (k, Some(v)));
            match (WORDS.iter().find(|(word, ..)| *word == name), value) {
                (Some((_, ether, protocol)), None) => {
                    found.push(exactly(Name::Ether, (*ether).into(), 16));
                    found.extend(protocol.map(|protocol| exactly(Name::Protocol, protocol.into(), 8)));
                }
                (None, Some(value)) => match read(name, value) {
                    Some(Some(field)) => found.push(field),
                    Some(None) => return Err(format!("{name:.40}: not a value")),
                    None => return Err(format!("{name:.40} is not a known match")),
                },
                _ => return Err(format!("{name:.40} is not a known match")),
            }
        }
        found.sort_unstable();
        match found.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(format!("{:?} stands twice", pair[0].name)),
            None => Ok(Self(found)),
        }
    }

    /// The fields.
    pub(crate) fn fields(&self) -> &[Field] {
        &self.0
    }

    fn get(&self, name: Name) -> Option<Field> {
        self.0.iter().find(|field| field.name == name).copied()
    }

    /// A field that must be this very number, as a number.
    fn number<T: TryFrom<u128>>(&self, name: Name) -> Option<T> {
        T::try_from(self.get(name)?.value).ok()
    }

    pub(crate) fn in_port(&self) -> Option<u16> {
        self.number(Name::InPort)
    }

    pub(crate) fn register(&self, register: u8) -> Option<u32> {
        self.number(Name::Register(register))
    }

    pub(crate) fn from(&self) -> Option<u64> {
        self.number(Name::From)
    }

    pub(crate) fn to(&self) -> Option<To> {
        let field = self.get(Name::To)?;
        if field.mask == MANY { Some(To::Many) } else { u64::try_from(field.value).ok().map(To::One) }
    }

    pub(crate) fn header(&self) -> Option<Header> {
        let value = self.number::<u16>(Name::Vlan)?;
        Some(if value == 0 { Header::None } else { Header::Id(value & 0x0fff) })
    }

    pub(crate) fn ether(&self) -> Option<u16> {
        self.number(Name::Ether)
    }

    /// Whether it matches IPv4, or IPv6.
    pub(crate) fn is_ip(&self) -> bool {
        matches!(self.number::<u16>(Name::Ether), Some(0x0800 | 0x86dd))
    }

    /// Fields that the switch would leave out without a word, since they belong to a protocol that the flow does not name:
    /// such a flow matches more than it says, and stands in another place.
    pub(crate) fn lacks(&self) -> Option<Name> {
        let ether = self.number::<u16>(Name::Ether);
        let protocol = self.number::<u8>(Name::Protocol);
        let kind = self.number::<u8>(Name::IcmpType);
        let is_ip = self.is_ip();
        let stands = |name| match name {
            Name::Protocol | Name::Fragment => is_ip,
            Name::Source4 | Name::Destination4 => ether == Some(0x0800),
            Name::Source6 | Name::Destination6 => ether == Some(0x86dd),
            Name::ArpSource | Name::ArpHardware => ether == Some(0x0806),
            Name::SourcePort | Name::DestinationPort => is_ip && matches!(protocol, Some(6 | 17 | 132)),
            Name::Flags => is_ip && protocol == Some(6),
            Name::IcmpType | Name::IcmpCode => {
                matches!((ether, protocol), (Some(0x0800), Some(1)) | (Some(0x86dd), Some(58)))
            }
            Name::NdTarget => ether == Some(0x86dd) && matches!(kind, Some(135 | 136)),
            Name::NdSource => ether == Some(0x86dd) && kind == Some(135),
            Name::NdLink => ether == Some(0x86dd) && kind == Some(136),
            Name::InPort
            | Name::Vlan
            | Name::Register(_)
            | Name::Conjunction
            | Name::State
            | Name::Mark
            | Name::From
            | Name::To
            | Name::Ether => true,
        };
        self.0.iter().map(|field| field.name).find(|name| !stands(*name))
    }
}

fn exactly(name: Name, value: u128, bits: u32) -> Field {
    Field { name, value, mask: u128::MAX >> (128 - bits) }
}

/// `None`: no such field. `Some(None)`: not a value of it.
fn read(name: &str, text: &str) -> Option<Option<Field>> {
    let decimal = |name, bits: u32| {
        let value = number(text).filter(|n| *n < 1 << bits)?;
        Some(exactly(name, value.into(), bits))
    };
    let hardware = |name| Some(exactly(name, mac(text)?, 48));
    Some(match name {
        "in_port" => port(text).map(|port| exactly(Name::InPort, port.into(), 16)),
        "vlan_tci" => (text == "0x0000/0x1fff").then(|| exactly(Name::Vlan, 0, 13)),
        "dl_vlan" => {
            number(text).filter(|id| *id < 4096).map(|id| exactly(Name::Vlan, PRESENT | u128::from(id), 13))
        }
        "conj_id" => decimal(Name::Conjunction, 32),
        "ct_state" => state(text),
        "ct_mark" => masked(Name::Mark, text, 32),
        "dl_src" => hardware(Name::From),
        "dl_dst" => match text {
            "01:00:00:00:00:00/01:00:00:00:00:00" => Some(Field { name: Name::To, value: MANY, mask: MANY }),
            // A group's address is nobody's own.
            _ => hardware(Name::To).filter(|to| to.value & MANY == 0),
        },
        "nw_proto" => decimal(Name::Protocol, 8),
        "nw_src" => v4(Name::Source4, text),
        "nw_dst" => v4(Name::Destination4, text),
        "arp_spa" => v4(Name::ArpSource, text),
        "arp_sha" => hardware(Name::ArpHardware),
        "ipv6_src" => v6(Name::Source6, text),
        "ipv6_dst" => v6(Name::Destination6, text),
        "nd_target" => v6(Name::NdTarget, text),
        "nd_sll" => hardware(Name::NdSource),
        "nd_tll" => hardware(Name::NdLink),
        "nw_frag" => (text == "later").then(|| exactly(Name::Fragment, 1, 1)),
        "tp_src" => masked(Name::SourcePort, text, 16),
        "tp_dst" => masked(Name::DestinationPort, text, 16),
        "tcp_flags" => (text == "+ack").then(|| exactly(Name::Flags, 1, 1)),
        "icmp_type" => decimal(Name::IcmpType, 8),
        "icmp_code" => decimal(Name::IcmpCode, 8),
        _ => {
            let register = number(name.strip_prefix("reg")?).and_then(|n| u8::try_from(n).ok());
            let register = register.filter(|register| *register < 8)?;
            hex(text)
                .filter(|v| *v <= u32::MAX.into())
                .map(|v| exactly(Name::Register(register), v.into(), 32))
        }
    })
}

/// A port's number, or `LOCAL`.
pub(crate) fn port(text: &str) -> Option<u16> {
    match text {
        "LOCAL" => Some(LOCAL),
        text => number(text).filter(|n| (1..RESERVED).contains(n)).and_then(|n| u16::try_from(n).ok()),
    }
}

/// A MAC as a number.
pub(crate) fn mac(text: &str) -> Option<u128> {
    let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    (is_mac(text) && lower)
        .then(|| u128::from_str_radix(&text.replace(':', ""), 16).ok())?
        .filter(|m| *m <= MAC)
}

/// `80`, or `0x50/0xfff0`; a mark is always written in hex.
fn masked(name: Name, text: &str, bits: u32) -> Option<Field> {
    let most = u64::MAX >> (64 - bits);
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (hex(value)?, hex(mask)?),
        None if name == Name::Mark => (hex(text)?, most),
        None => (number(text)?, most),
    };
    let fits = mask != 0 && mask <= most && value & !mask == 0;
    fits.then(|| Field { name, value: value.into(), mask: mask.into() })
}

/// An address, or a prefix without bits behind it; length 0 would match everything.
fn v4(name: Name, text: &str) -> Option<Field> {
    prefix(name, text, 32, |address| address.parse::<Ipv4Addr>().ok().map(|a| u128::from(u32::from(a))))
}

fn v6(name: Name, text: &str) -> Option<Field> {
    prefix(name, text, 128, |address| address.parse::<Ipv6Addr>().ok().map(u128::from))
}

fn prefix(name: Name, text: &str, bits: u32, read: impl Fn(&str) -> Option<u128>) -> Option<Field> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, number(length).and_then(|n| u32::try_from(n).ok())?),
        None => (text, bits),
    };
    let all = u128::MAX >> (128 - bits);
    let mask = (1..=bits).contains(&length).then(|| all & !(all.checked_shr(length).unwrap_or(0)))?;
    let value = read(address)?;
    (value & !mask == 0).then_some(Field { name, value, mask })
}

/// `+est-rel+trk`
fn state(text: &str) -> Option<Field> {
    const FLAGS: [&str; 6] = ["new", "est", "rel", "rpl", "inv", "trk"];
    let (mut value, mut mask, mut rest) = (0_u128, 0_u128, text);
    while !rest.is_empty() {
        let (sign, flag) = (rest.get(..1)?, rest.get(1..4)?);
        let bit = 1 << FLAGS.iter().position(|known| *known == flag)?;
        match sign {
            _ if mask & bit != 0 => return None,
            "+" => value |= bit,
            "-" => {}
            _ => return None,
        }
        mask |= bit;
        rest = &rest[4..];
    }
    (mask != 0).then_some(Field { name: Name::State, value, mask })
}
