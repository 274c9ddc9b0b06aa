//! Who speaks to whom in a captured frame; only as far as telling one probe's packets from another's needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ip::{ICMP, ICMPV6, TCP, UDP};
use super::{IPV4, IPV6, ether_type};

/// The addresses of an IP packet and what tells its flow from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Who sent it.
    pub source: IpAddr,
    /// For whom it is.
    pub destination: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// What the protocol says first.
    pub flow: Flow,
}

/// The first four (or eight) bytes after the IP header, by protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// TCP or UDP: source and destination port.
    Ports(u16, u16),
    /// ICMP or `ICMPv6`: type and, for echoes, the identifier.
    Icmp {
        /// The message's type.
        kind: u8,
        /// Bytes 4 and 5.
        identifier: u16,
    },
    /// Anything else, also what is cut short.
    Other,
}

impl Headers {
    /// Of a frame; `None` if it is not IP or cut short. IPv6 extension headers are not followed.
    #[must_use]
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(14..)?;
        match ether_type(frame)? {
            IPV4 => {
                let header = usize::from(packet.first()? & 0x0f) * 4;
                let address =
                    |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
                Some(Self::new(
                    address(12)?.into(),
                    address(16)?.into(),
                    *packet.get(9)?,
                    packet.get(header..)?,
                ))
            }
            IPV6 => {
                let address =
                    |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
                Some(Self::new(address(8)?.into(), address(24)?.into(), *packet.get(6)?, packet.get(40..)?))
            }
            _ => None,
        }
    }

    fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Self {
        let word = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
        let flow = match protocol {
            TCP | UDP => word(0).zip(word(2)).map(|(from, to)| Flow::Ports(from, to)),
            ICMP | ICMPV6 => {
                payload.first().zip(word(4)).map(|(&kind, identifier)| Flow::Icmp { kind, identifier })
            }
            _ => None,
        };
        Self { source, destination, protocol, flow: flow.unwrap_or(Flow::Other) }
    }
}
