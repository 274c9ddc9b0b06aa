//! One flow, with types. The order in which a flow's fields stand in text is [`super::render`]'s business.

use std::fmt;

use ipnet::{IpNet, Ipv6Net};

use crate::ids::Mac;

/// A port's number in OpenFlow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OfPort {
    /// An ordinary port, below 0xff00.
    Number(u16),
    /// The bridge's own interface in dom0.
    Local,
}

impl OfPort {
    /// `OFPP_LOCAL` in OpenFlow 1.0's numbers, as the database has it.
    const LOCAL: i64 = 0xfffe;

    /// A port from the number in the switch's database; `None` for −1 (it could not be added) and reserved numbers.
    #[must_use]
    pub fn from_database(number: i64) -> Option<Self> {
        match number {
            Self::LOCAL => Some(Self::Local),
            1..0xff00 => u16::try_from(number).ok().map(Self::Number),
            _ => None,
        }
    }
}

/// What a match asks of the VLAN header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vlan {
    /// There is none.
    None,
    /// There is one with this id; 0 is a mere priority tag.
    Id(u16),
}

/// What a match asks of the destination MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// This one.
    Exactly(Mac),
    /// Any group address: multicast and broadcast.
    Many,
}

/// The protocols a flow can tell apart by ethertype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ether {
    /// ARP
    Arp,
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
}

/// A 16-bit value under a mask: a range of ports is a list of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Masked {
    /// The value; no bit outside the mask.
    pub value: u16,
    /// Which bits count.
    pub mask: u16,
}

impl Masked {
    /// One value.
    #[must_use]
    pub fn exactly(value: u16) -> Self {
        Self { value, mask: u16::MAX }
    }

    /// Whether `port` is one of its values.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        port & self.mask == self.value
    }
}

/// A connection's state as `ct_state` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtState(pub u8);

impl CtState {
    /// First packet, or no answer yet.
    pub const NEW: Self = Self(1);
    /// Answered.
    pub const EST: Self = Self(2);
    /// About another connection.
    pub const REL: Self = Self(4);
    /// In the other direction.
    pub const RPL: Self = Self(8);
    /// No connection, and none can begin.
    pub const INV: Self = Self(16);
    /// It went through `ct()`.
    pub const TRK: Self = Self(32);

    /// The flags by bit, least first.
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("new", Self::NEW),
        ("est", Self::EST),
        ("rel", Self::REL),
        ("rpl", Self::RPL),
        ("inv", Self::INV),
        ("trk", Self::TRK),
    ];

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a match asks of a connection's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtMatch {
    /// These must be set.
    pub set: CtState,
    /// These must not.
    pub clear: CtState,
}

/// A register's number.
pub type Register = u8;

/// What a flow matches. `None` (or empty) everywhere matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the fields are OpenFlow's, under their names there")]
pub struct Match {
    pub in_port: Option<OfPort>,
    pub vlan: Option<Vlan>,
    pub registers: Vec<(Register, u32)>,
    pub conj_id: Option<u32>,
    pub ct_state: CtMatch,
    /// Value and mask.
    pub ct_mark: Option<(u32, u32)>,
    pub dl_src: Option<Mac>,
    pub dl_dst: Option<Destination>,
    pub ether: Option<Ether>,
    pub nw_proto: Option<u8>,
    /// `nw_src`, `ipv6_src` or `arp_spa`, by ethertype.
    pub source: Option<IpNet>,
    /// `nw_dst` or `ipv6_dst`.
    pub destination: Option<IpNet>,
    /// `nw_frag=later`
    pub later_fragment: bool,
    pub tp_src: Option<Masked>,
    pub tp_dst: Option<Masked>,
    /// `tcp_flags=+ack`: not the first packet of a connection.
    pub tcp_ack: bool,
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
    pub arp_sha: Option<Mac>,
    pub nd_target: Option<Ipv6Net>,
    /// All zero: there is no such option.
    pub nd_sll: Option<Mac>,
    /// All zero: there is no such option.
    pub nd_tll: Option<Mac>,
}

impl Match {
    /// Everything with this in a register.
    #[must_use]
    pub fn register(mut self, register: Register, value: u32) -> Self {
        self.registers.push((register, value));
        self.registers.sort_unstable();
        self
    }

    /// Sets a network field; a prefix of length 0 asks nothing.
    pub(super) fn net(net: IpNet) -> Option<IpNet> {
        (net.prefix_len() > 0).then(|| net.trunc())
    }
}

/// A conntrack zone. Zone 0 is dom0's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Zone {
    /// This one.
    Is(std::num::NonZeroU16),
    /// The one that [`super::table::NETWORK`] holds: as the first layout had it. It is read, and never written.
    InRegister,
}

/// What a flow does. An empty list drops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// To a port; never back to where the packet came from.
    Output(OfPort),
    /// As a learning switch would.
    Normal,
    /// To one of our tables, and back.
    Resubmit(u8),
    /// Into a register.
    Load(Register, u32),
    /// Through connection tracking, and on in a table.
    Track {
        /// In this zone.
        zone: Zone,
        /// The table.
        next: u8,
    },
    /// Remember the connection.
    Commit {
        /// In this zone.
        zone: Zone,
        /// This, under [`crate::iptables::MARK_MASK`], is in its mark then.
        mark: u32,
    },
    /// One dimension of two of a conjunction.
    Conjunction {
        /// Its id.
        id: u32,
        /// 1 or 2.
        dimension: u8,
    },
    /// Takes the VLAN header off.
    PopVlan,
    /// Puts a VLAN header with this id on.
    PushVlan(u16),
}

/// A table, a priority and a match: the identity of a flow in a switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Match.
    pub matches: Match,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Its identity.
    pub key: Key,
    /// What it does.
    pub actions: Vec<Action>,
}

impl fmt::Display for Flow {
    /// Without the cookie, as `ovs-ofctl add-flow` reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},actions={}", self.key, super::render::Actions(&self.actions))
    }
}
