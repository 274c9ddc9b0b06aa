//! A frame as data: what the verdict and the interpreter look at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ids::Mac;
use crate::model::{Family, Protocol};

mod bytes;

/// ICMPv6 types (RFC 4443, 4861, 2710, 3810).
pub mod icmpv6 {
    /// Multicast Listener Query
    pub const MLD_QUERY: u8 = 130;
    /// Multicast Listener Report
    pub const MLD_REPORT: u8 = 131;
    /// Multicast Listener Done
    pub const MLD_DONE: u8 = 132;
    /// Router Solicitation
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router Advertisement
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbor Solicitation
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbor Advertisement
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    /// Redirect
    pub const REDIRECT: u8 = 137;
    /// Version 2 Multicast Listener Report
    pub const MLDV2_REPORT: u8 = 143;
}

/// ICMP redirect (RFC 792).
pub const ICMP_REDIRECT: u8 = 5;

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Source MAC.
    pub source: Mac,
    /// Destination MAC; may be a group address.
    pub destination: Mac,
    /// What it carries.
    pub payload: Payload,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// ARP for IPv4.
    Arp(Arp),
    /// IPv4.
    Ipv4(Ipv4),
    /// IPv6.
    Ipv6(Ipv6),
    /// Any other ethertype, VLAN tags included.
    Other(u16),
}

/// An ARP packet (RFC 826).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arp {
    /// A reply, or a request.
    pub reply: bool,
    /// Whose MAC it announces.
    pub sender_mac: Mac,
    /// Whose address it announces.
    pub sender: Ipv4Addr,
    /// The address asked for or answered to.
    pub target: Ipv4Addr,
}

/// An IPv4 datagram.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// What it carries.
    pub transport: Transport,
}

/// An IPv6 datagram.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Extension headers before the upper-layer header, by number (hop-by-hop 0, routing 43, AH 51, destination
    /// options 60).
    pub extensions: Vec<u8>,
    /// What comes after the extension headers, and so never one of them.
    pub transport: Transport,
}

/// The upper-layer header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A protocol with ports (see [`Protocol::has_ports`]).
    Ports {
        /// Which.
        protocol: Protocol,
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP in IPv4, ICMPv6 in IPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The target of a Neighbor Solicitation, Advertisement or Redirect, which have one; others have none.
        target: Option<Ipv6Addr>,
    },
    /// Any other protocol.
    Other(Protocol),
    /// A later fragment whose datagram never becomes whole: its header is not there to be looked at.
    Fragment(Protocol),
}

impl Packet {
    /// The family of the IP datagram in it, if it is one.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        match self.payload {
            Payload::Ipv4(_) => Some(Family::Ipv4),
            Payload::Ipv6(_) => Some(Family::Ipv6),
            Payload::Arp(_) | Payload::Other(_) => None,
        }
    }

    /// Source and destination address of the IP datagram in it, if it is one.
    #[must_use]
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match &self.payload {
            Payload::Ipv4(ip) => Some((ip.source.into(), ip.destination.into())),
            Payload::Ipv6(ip) => Some((ip.source.into(), ip.destination.into())),
            Payload::Arp(_) | Payload::Other(_) => None,
        }
    }

    /// The upper-layer header of the IP datagram in it, if it is one.
    #[must_use]
    pub fn transport(&self) -> Option<&Transport> {
        match &self.payload {
            Payload::Ipv4(ip) => Some(&ip.transport),
            Payload::Ipv6(ip) => Some(&ip.transport),
            Payload::Arp(_) | Payload::Other(_) => None,
        }
    }

    /// The number of its upper-layer protocol; in IPv6 that of the header after the extension headers.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        let icmp = if self.family()? == Family::Ipv4 { Protocol::ICMP } else { Protocol::ICMPV6 };
        Some(self.transport()?.protocol(icmp))
    }

    /// Whether its destination is a group address: broadcast or multicast.
    #[must_use]
    pub fn is_for_many(&self) -> bool {
        self.destination.0[0] & 1 == 1
    }

    /// The first bytes of its IP datagram, headers and ND target: what a match on raw bytes reads. Empty when it is none.
    #[must_use]
    pub fn ip_bytes(&self) -> Vec<u8> {
        bytes::of(self)
    }

    /// An IP packet between two addresses of one family.
    ///
    /// Returns `None` when the addresses are of different families.
    #[must_use]
    pub fn ip(macs: (Mac, Mac), addresses: (IpAddr, IpAddr), transport: Transport) -> Option<Self> {
        let payload = match addresses {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Payload::Ipv4(Ipv4 { source, destination, transport })
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Payload::Ipv6(Ipv6 { source, destination, extensions: Vec::new(), transport })
            }
            _ => return None,
        };
        Some(Self { source: macs.0, destination: macs.1, payload })
    }
}

impl Transport {
    fn protocol(&self, icmp: Protocol) -> Protocol {
        match self {
            Self::Ports { protocol, .. } | Self::Other(protocol) | Self::Fragment(protocol) => *protocol,
            Self::Icmp { .. } => icmp,
        }
    }

    /// TCP from one port to another.
    #[must_use]
    pub fn tcp(source: u16, destination: u16) -> Self {
        Self::Ports { protocol: Protocol::TCP, source, destination }
    }

    /// UDP from one port to another.
    #[must_use]
    pub fn udp(source: u16, destination: u16) -> Self {
        Self::Ports { protocol: Protocol::UDP, source, destination }
    }

    /// ICMP or ICMPv6 without an ND target.
    #[must_use]
    pub fn icmp(kind: u8, code: u8) -> Self {
        Self::Icmp { kind, code, target: None }
    }
}
