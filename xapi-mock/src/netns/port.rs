//! A [`VifPort`] checked: everything that goes into a line for `ip` or `ebtables` is of a type that holds nothing else.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::dataplane::{Locking, VifPort};

/// The MAC of every VIF's end in dom0.
pub(super) const DOM0_MAC: &str = "fe:ff:ff:ff:ff:ff";

fn invalid(what: &str, value: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what}: {value}"))
}

/// A network interface's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(String);

impl FromStr for Name {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..16).contains(&text.len()) && text.bytes().all(known) && !text.starts_with(['.', '-']);
        if fits { Ok(Self(text.to_owned())) } else { Err(invalid("not an interface's name", text)) }
    }
}

impl Name {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands for an object in OVSDB's external ids: a uuid, or a test's word for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id(String);

impl FromStr for Id {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(known);
        if fits { Ok(Self(text.to_owned())) } else { Err(invalid("not a uuid", text)) }
    }
}

impl Id {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ethernet address of one station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mac([u8; 6]);

impl FromStr for Mac {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let octet = |part: &str| {
            let hex = part.len() == 2 && part.bytes().all(|it| it.is_ascii_hexdigit());
            if hex { u8::from_str_radix(part, 16).ok() } else { None }
        };
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        match octets.and_then(|it| <[u8; 6]>::try_from(it).ok()) {
            Some(octets) if octets[0] & 1 == 0 => Ok(Self(octets)),
            _ => Err(invalid("not a station's MAC", text)),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// [`Locking`], parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Unlocked,
    Disabled,
    Locked { ipv4: Vec<Ipv4Addr>, ipv6: Vec<Ipv6Addr> },
}

/// One VIF of a domain.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) domid: u32,
    pub(super) device: u32,
    pub(super) uuid: Id,
    pub(super) network: Id,
    pub(super) bridge: Name,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
    pub(super) lock: Lock,
    pub(super) addresses: Vec<IpNet>,
    pub(super) gateways: Vec<IpAddr>,
}

impl Port {
    /// The name in dom0.
    pub(super) fn vif(&self) -> String {
        format!("vif{}.{}", self.domid, self.device)
    }

    /// The name in the guest.
    pub(super) fn eth(&self) -> String {
        format!("eth{}", self.device)
    }
}

impl TryFrom<&VifPort> for Port {
    type Error = io::Error;

    fn try_from(port: &VifPort) -> io::Result<Self> {
        let VifPort { domid, device, uuid, network_uuid, bridge, mac, mtu, locking, addresses, gateways } =
            port;
        let port = Self {
            domid: *domid,
            device: *device,
            uuid: uuid.parse()?,
            network: network_uuid.parse()?,
            bridge: bridge.parse()?,
            mac: mac.parse()?,
            mtu: *mtu,
            lock: locking.try_into()?,
            addresses: parse_all("not an address in CIDR form", addresses)?,
            gateways: parse_all("not an address", gateways)?,
        };
        port.vif().parse::<Name>()?;
        Ok(port)
    }
}

impl TryFrom<&Locking> for Lock {
    type Error = io::Error;

    fn try_from(locking: &Locking) -> io::Result<Self> {
        Ok(match locking {
            Locking::Unlocked => Self::Unlocked,
            Locking::Disabled => Self::Disabled,
            Locking::Locked { ipv4, ipv6 } => Self::Locked {
                ipv4: parse_all("not an IPv4 address", ipv4)?,
                ipv6: parse_all("not an IPv6 address", ipv6)?,
            },
        })
    }
}

pub(super) fn parse_all<T: FromStr>(complaint: &str, texts: &[String]) -> io::Result<Vec<T>> {
    texts.iter().map(|text| text.parse().map_err(|_| invalid(complaint, text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> VifPort {
        VifPort {
            domid: 7,
            device: 1,
            uuid: "5b1c2f0e-aaaa-4ccc-8ddd-000000000001".into(),
            network_uuid: "5b1c2f0e-aaaa-4ccc-8ddd-000000000002".into(),
            bridge: "xenbr0".into(),
            mac: "00:16:3E:00:00:01".into(),
            mtu: 1500,
            locking: Locking::Unlocked,
            addresses: vec!["10.0.0.1/24".into(), "fd00::1/64".into()],
            gateways: vec!["10.0.0.254".into()],
        }
    }

    #[test]
    fn a_port_is_named_after_domain_and_device() {
        let port = Port::try_from(&port()).unwrap();
        assert_eq!((port.vif().as_str(), port.eth().as_str()), ("vif7.1", "eth1"));
        assert_eq!(port.mac.to_string(), "00:16:3e:00:00:01");
    }

    #[test]
    fn nothing_but_values_reaches_a_line() {
        type Edit = fn(&mut VifPort);
        let edits: [(&str, Edit); 12] = [
            ("bridge with a space", |it| it.bridge = "xenbr0 up".into()),
            ("bridge with a newline", |it| it.bridge = "xenbr0\nlink".into()),
            ("bridge too long", |it| it.bridge = "b".repeat(16)),
            ("bridge empty", |it| it.bridge.clear()),
            ("uuid with a quote", |it| it.uuid = "x\"".into()),
            ("no uuid", |it| it.network_uuid.clear()),
            ("IPv4 where IPv6 belongs", |it| {
                it.locking = Locking::Locked { ipv4: Vec::new(), ipv6: vec!["10.0.0.1".into()] };
            }),
            ("MAC of a group", |it| it.mac = "01:00:5e:00:00:01".into()),
            ("MAC too short", |it| it.mac = "00:16:3e:00:00".into()),
            ("MAC with a sign", |it| it.mac = "00:16:3e:00:00:+1".into()),
            ("address without length", |it| it.addresses = vec!["10.0.0.1".into()]),
            ("IPv6 where IPv4 belongs", |it| {
                it.locking = Locking::Locked { ipv4: vec!["fd00::1".into()], ipv6: Vec::new() };
            }),
        ];
        for (case, edit) in edits {
            let mut port = port();
            edit(&mut port);
            let refused = Port::try_from(&port).expect_err(case);
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{case}");
        }
    }
}
