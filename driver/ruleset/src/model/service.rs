//! What a rule admits, apart from whom: protocol, ports, ICMP type and code.

use std::fmt;

use super::group::Family;
use super::protocol::Protocol;

/// Inclusive range of ports, 1 to 65535, never reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// `first..=last`.
    ///
    /// # Errors
    /// [`InvalidService`] when reversed, or when 0 is in it (neutron: 0 is not allowed).
    pub fn new(first: u16, last: u16) -> Result<Self, InvalidService> {
        if first == 0 {
            return Err(InvalidService::PortZero);
        }
        if first > last {
            return Err(InvalidService::ReversedRange { first, last });
        }
        Ok(Self { first, last })
    }

    /// Lowest port.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// Highest port.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` lies in it.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// 1 to 65535, which neutron stores as "no range" (bug 1848213).
    #[must_use]
    pub fn is_all(self) -> bool {
        self.first == 1 && self.last == u16::MAX
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// ICMP or ICMPv6 type, with or without a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code; `None` means every code.
    pub code: Option<u8>,
}

/// Protocol and what inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Every protocol.
    Any,
    /// One protocol, all of it.
    Protocol(Protocol),
    /// Destination ports of a protocol that has ports.
    Ports(Protocol, PortRange),
    /// Type and code of ICMP or ICMPv6, whichever the protocol says.
    Icmp(Protocol, Icmp),
}

/// What is wrong with the protocol part of a rule; one variant per mistake (neutron `securitygroups_db.py`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum InvalidService {
    #[error("port 0 cannot be used in a rule")]
    PortZero,
    #[error("port range {first}-{last} is reversed")]
    ReversedRange { first: u16, last: u16 },
    #[error("ports need a protocol")]
    PortsWithoutProtocol,
    #[error("protocol {0} has no ports: ports go with tcp, udp, udplite, sctp and dccp only")]
    NoPorts(Protocol),
    #[error("ICMP type and code need protocol icmp or ipv6-icmp")]
    IcmpWithoutIcmp,
    #[error("ICMP code {0} needs an ICMP type")]
    CodeWithoutType(u8),
    #[error("protocol {0} exists over IPv6 only; the rule's ethertype is IPv4")]
    Ipv6Only(Protocol),
    #[error("both ports and an ICMP type are given")]
    PortsAndIcmp,
}

impl Service {
    /// Puts a service together by neutron's rules: `icmp` in an IPv6 rule means ipv6-icmp; 0 means any; 1-65535 means all ports.
    ///
    /// # Errors
    /// [`InvalidService`], one variant per mistake.
    pub fn new(
        family: Family,
        protocol: Option<Protocol>,
        ports: Option<PortRange>,
        icmp_type: Option<u8>,
        icmp_code: Option<u8>,
    ) -> Result<Self, InvalidService> {
        let protocol = match (family, protocol) {
            (Family::Ipv6, Some(Protocol::ICMP)) => Some(Protocol::ICMPV6),
            // neutron's "ip": to iptables, protocol 0 means every protocol.
            (_, Some(Protocol(0))) => None,
            (Family::Ipv4, Some(p)) if p.is_ipv6_only() => return Err(InvalidService::Ipv6Only(p)),
            (_, p) => p,
        };
        if let (None, Some(code)) = (icmp_type, icmp_code) {
            return Err(InvalidService::CodeWithoutType(code));
        }
        match (protocol, ports, icmp_type) {
            (_, Some(_), Some(_)) => Err(InvalidService::PortsAndIcmp),
            (None, Some(_), None) => Err(InvalidService::PortsWithoutProtocol),
            (Some(p), Some(_), None) if !p.has_ports() => Err(InvalidService::NoPorts(p)),
            (Some(p), Some(range), None) if range.is_all() => Ok(Self::Protocol(p)),
            (Some(p), Some(range), None) => Ok(Self::Ports(p, range)),
            (Some(p @ (Protocol::ICMP | Protocol::ICMPV6)), None, Some(kind)) => {
                Ok(Self::Icmp(p, Icmp { kind, code: icmp_code }))
            }
            (_, None, Some(_)) => Err(InvalidService::IcmpWithoutIcmp),
            (Some(p), None, None) => Ok(Self::Protocol(p)),
            (None, None, None) => Ok(Self::Any),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Protocol(p) => write!(f, "{p}"),
            Self::Ports(p, range) => write!(f, "{p}/{range}"),
            Self::Icmp(_, Icmp { kind, code: None }) => write!(f, "icmp type {kind}"),
            Self::Icmp(_, Icmp { kind, code: Some(code) }) => write!(f, "icmp type {kind} code {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(
        family: Family,
        p: &str,
        ports: Option<(u16, u16)>,
        icmp: (Option<u8>, Option<u8>),
    ) -> Result<Service, InvalidService> {
        let protocol = (!p.is_empty()).then(|| p.parse().unwrap());
        let ports = ports.map(|(a, b)| PortRange::new(a, b)).transpose()?;
        Service::new(family, protocol, ports, icmp.0, icmp.1)
    }

    #[test]
    fn neutrons_spellings_are_accepted() {
        use Family::{Ipv4, Ipv6};
        let none = (None, None);
        assert_eq!(service(Ipv4, "", None, none), Ok(Service::Any));
        assert_eq!(service(Ipv4, "TCP", Some((1, 65535)), none), Ok(Service::Protocol(Protocol::TCP)));
        assert_eq!(service(Ipv6, "icmp", None, none), Ok(Service::Protocol(Protocol::ICMPV6)));
        assert_eq!(
            service(Ipv6, "icmpv6", None, (Some(128), None)),
            Ok(Service::Icmp(Protocol::ICMPV6, Icmp { kind: 128, code: None }))
        );
        assert_eq!(service(Ipv4, "112", None, none), Ok(Service::Protocol(Protocol(112))));
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        use Family::Ipv4;
        let none = (None, None);
        assert_eq!(service(Ipv4, "tcp", Some((0, 5)), none), Err(InvalidService::PortZero));
        assert_eq!(
            service(Ipv4, "tcp", Some((9, 5)), none),
            Err(InvalidService::ReversedRange { first: 9, last: 5 })
        );
        assert_eq!(service(Ipv4, "", Some((1, 5)), none), Err(InvalidService::PortsWithoutProtocol));
        // CVE-2019-9735: VRRP with a port.
        assert_eq!(service(Ipv4, "vrrp", Some((1, 5)), none), Err(InvalidService::NoPorts(Protocol(112))));
        assert_eq!(service(Ipv4, "tcp", None, (Some(8), None)), Err(InvalidService::IcmpWithoutIcmp));
        assert_eq!(service(Ipv4, "icmp", None, (None, Some(1))), Err(InvalidService::CodeWithoutType(1)));
        assert_eq!(service(Ipv4, "ipv6-icmp", None, none), Err(InvalidService::Ipv6Only(Protocol::ICMPV6)));
        assert_eq!(service(Ipv4, "icmp", Some((1, 2)), (Some(8), None)), Err(InvalidService::PortsAndIcmp));
        for bad in ["", "256", "-1", "tcpx", "1e1"] {
            assert!(bad.parse::<Protocol>().is_err(), "{bad}");
        }
    }
}
