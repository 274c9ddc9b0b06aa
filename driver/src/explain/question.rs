//! What a packet is, as it is typed: `tcp/22`, `icmp`, `icmp/8/0`, `gre`, `47`.

use std::fmt;
use std::str::FromStr;

use ruleset::model::{Family, Protocol};
use ruleset::packet::Transport;

/// A packet asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// To a port of a protocol that has ports.
    Port(Protocol, u16),
    /// ICMP, in IPv6 ICMPv6, of this type and code; without a type an echo request.
    Icmp(Option<(u8, u8)>),
    /// Any other protocol.
    Protocol(Protocol),
}

/// Not a packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no packet: write tcp/22, udp/53, icmp, icmp/8, icmp/3/4, gre or a protocol's number")]
pub struct InvalidQuestion(String);

/// An ephemeral port to send from.
const SOURCE_PORT: u16 = 40_000;

impl Probe {
    /// Its header in a family; `None` where it does not exist.
    pub(super) fn transport(&self, family: Family) -> Option<Transport> {
        match *self {
            Self::Port(protocol, destination) => {
                Some(Transport::Ports { protocol, source: SOURCE_PORT, destination })
            }
            Self::Icmp(Some((kind, code))) => Some(Transport::icmp(kind, code)),
            Self::Icmp(None) => Some(Transport::icmp(if family == Family::Ipv4 { 8 } else { 128 }, 0)),
            Self::Protocol(protocol) if family == Family::Ipv4 && protocol.is_ipv6_only() => None,
            Self::Protocol(protocol) => Some(Transport::Other(protocol)),
        }
    }
}

impl FromStr for Probe {
    type Err = InvalidQuestion;

    fn from_str(text: &str) -> Result<Self, InvalidQuestion> {
        let invalid = || InvalidQuestion(text.to_owned());
        let mut parts = text.split('/');
        let protocol: Protocol = parts.next().unwrap_or_default().parse().map_err(|_| invalid())?;
        let numbers: Vec<u16> = parts.map(str::parse).collect::<Result<_, _>>().map_err(|_| invalid())?;
        let small = |n: u16| u8::try_from(n).map_err(|_| invalid());
        match (protocol, numbers.as_slice()) {
            (Protocol::ICMP | Protocol::ICMPV6, []) => Ok(Self::Icmp(None)),
            (Protocol::ICMP | Protocol::ICMPV6, [kind]) => Ok(Self::Icmp(Some((small(*kind)?, 0)))),
            (Protocol::ICMP | Protocol::ICMPV6, [kind, code]) => {
                Ok(Self::Icmp(Some((small(*kind)?, small(*code)?))))
            }
            (p, [port]) if p.has_ports() && *port > 0 => Ok(Self::Port(p, *port)),
            (p, []) if !p.has_ports() => Ok(Self::Protocol(p)),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(protocol, port) => write!(f, "{protocol}/{port}"),
            Self::Icmp(None) => f.write_str("icmp"),
            Self::Icmp(Some((kind, code))) => write!(f, "icmp/{kind}/{code}"),
            Self::Protocol(protocol) => write!(f, "{protocol}"),
        }
    }
}
