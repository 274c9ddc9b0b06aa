//! IPv4 and IPv6 packets with UDP, TCP or ICMP inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{IPV4, IPV6, Mac, ethernet};

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of `ICMPv6`.
pub const ICMPV6: u8 = 58;

/// TCP flags as they stand in the header.
pub mod flag {
    /// Last data.
    pub const FIN: u8 = 0x01;
    /// First packet of a connection.
    pub const SYN: u8 = 0x02;
    /// Refusal.
    pub const RST: u8 = 0x04;
    /// Acknowledgement.
    pub const ACK: u8 = 0x10;
}

/// Source and destination, always of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// IPv4 source, destination.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6 source, destination.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Path {
    /// Of two addresses, if they are of one family.
    #[must_use]
    pub const fn between(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4(source, destination)),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6(source, destination)),
            _ => None,
        }
    }

    /// An IP packet of any protocol; `payload` carries its own checksum, if it has one. Hop limit 255, because
    /// neighbour discovery asks for it and nothing else minds.
    #[must_use]
    pub fn packet(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::V4(source, destination) => {
                let mut header = vec![0x45, 0];
                header.extend(length(payload.len() + 20));
                header.extend([0, 0, 0x40, 0, 255, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum);
                header.extend(payload);
                header
            }
            Self::V6(source, destination) => {
                let mut header = vec![0x60, 0, 0, 0];
                header.extend(length(payload.len()));
                header.extend([protocol, 255]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(payload);
                header
            }
        }
    }

    /// The same inside a frame.
    #[must_use]
    pub fn frame(self, destination: Mac, source: Mac, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let ether_type = match self {
            Self::V4(..) => IPV4,
            Self::V6(..) => IPV6,
        };
        ethernet(destination, source, ether_type, &self.packet(protocol, payload))
    }

    /// A UDP datagram (header and data), to be carried by [`Self::packet`] as [`UDP`].
    #[must_use]
    pub fn udp(self, source_port: u16, destination_port: u16, data: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(8 + data.len());
        datagram.extend(source_port.to_be_bytes());
        datagram.extend(destination_port.to_be_bytes());
        datagram.extend(length(8 + data.len()));
        datagram.extend([0, 0]);
        datagram.extend(data);
        let sum = match self.checksum(UDP, &datagram) {
            // Zero on the wire means "no checksum".
            [0, 0] => [0xff, 0xff],
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&sum);
        datagram
    }

    /// A TCP segment without options, to be carried by [`Self::packet`] as [`TCP`].
    #[must_use]
    pub fn tcp(self, ports: (u16, u16), flags: u8, numbers: (u32, u32), data: &[u8]) -> Vec<u8> {
        let mut segment = Vec::with_capacity(20 + data.len());
        segment.extend(ports.0.to_be_bytes());
        segment.extend(ports.1.to_be_bytes());
        segment.extend(numbers.0.to_be_bytes());
        segment.extend(numbers.1.to_be_bytes());
        segment.extend([0x50, flags, 0x72, 0x10, 0, 0, 0, 0]);
        segment.extend(data);
        let sum = self.checksum(TCP, &segment);
        segment[16..18].copy_from_slice(&sum);
        segment
    }

    /// An ICMP or `ICMPv6` message, by family: type, code and everything after the checksum.
    #[must_use]
    pub fn icmp(self, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend(body);
        let sum = match self {
            Self::V4(..) => checksum(&[&message]),
            Self::V6(..) => self.checksum(ICMPV6, &message),
        };
        message[2..4].copy_from_slice(&sum);
        message
    }

    /// An echo request.
    #[must_use]
    pub fn echo_request(self, identifier: u16, sequence: u16) -> Vec<u8> {
        let kind = match self {
            Self::V4(..) => 8,
            Self::V6(..) => 128,
        };
        self.icmp(kind, 0, &[identifier.to_be_bytes(), sequence.to_be_bytes()].concat())
    }

    /// ICMP's protocol number in this family.
    #[must_use]
    pub const fn icmp_protocol(self) -> u8 {
        match self {
            Self::V4(..) => ICMP,
            Self::V6(..) => ICMPV6,
        }
    }

    /// Checksum over the pseudo header and `payload`, for protocols that have one there.
    #[must_use]
    pub fn checksum(self, protocol: u8, payload: &[u8]) -> [u8; 2] {
        let tail = [[0, protocol], length(payload.len())].concat();
        match self {
            Self::V4(source, destination) => {
                checksum(&[&source.octets(), &destination.octets(), &tail, payload])
            }
            Self::V6(source, destination) => {
                checksum(&[&source.octets(), &destination.octets(), &tail, payload])
            }
        }
    }
}

/// A length field. Frames of the Lab stay far below 64 KiB; a longer one is cut to the field's largest value,
/// which the receiving kernel refuses.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// The Internet checksum (RFC 1071) over the parts, each but the last of even length.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let [.., high, low] = (!folded).to_be_bytes();
    [high, low]
}
