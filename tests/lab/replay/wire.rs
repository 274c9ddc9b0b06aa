//! Packets as data become frames: correct in every header and checksum, and with a mark by which they are known again.

use std::net::Ipv6Addr;

use e2e::frame::ip::{Path, flag};
use e2e::frame::{self, ethernet};
use ruleset::model::Protocol;
use ruleset::packet::{Arp, Packet, Payload, Transport};

/// What a mark begins with; the packet's number follows, then two bytes that damage may change.
const MAGIC: [u8; 6] = *b"drawbr";

/// What a packet looks like on the wire, beyond what the verdict is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As it should be.
    Whole,
    /// UDP that does not fit into one frame.
    Fragmented,
    /// Its checksum is wrong.
    Damaged,
    /// TCP with these flags instead of SYN.
    Flags(u8),
}

/// The number in a frame's mark, if it has one.
pub(super) fn number(frame: &[u8]) -> Option<u32> {
    let at = frame.windows(MAGIC.len()).position(|bytes| bytes == MAGIC)? + MAGIC.len();
    Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?))
}

fn mark(number: u32) -> Vec<u8> {
    [&MAGIC[..], &number.to_be_bytes(), &[0, 0]].concat()
}

/// The frames of a packet. `about` is what an ICMP error quotes: a datagram without its mark.
pub(crate) fn frames(packet: &Packet, number: u32, shape: Shape, about: Option<&[u8]>) -> Vec<Vec<u8>> {
    let (destination, source) = (frame::Mac(packet.destination.0), frame::Mac(packet.source.0));
    let wrap = |ether_type: u16, payload: &[u8]| ethernet(destination, source, ether_type, payload);
    let (path, extensions, transport): (_, &[u8], _) = match &packet.payload {
        Payload::Arp(arp) => return vec![wrap(frame::ARP, &[arp_bytes(arp), mark(number)].concat())],
        // Of a tagged frame this is VLAN 7 and the EtherType inside.
        Payload::Other(ether_type) => {
            return vec![wrap(*ether_type, &[&[0, 7, 0x88, 0xb5][..], &mark(number)].concat())];
        }
        Payload::Ipv4(ip) => (Path::V4(ip.source, ip.destination), &[], &ip.transport),
        Payload::Ipv6(ip) => (Path::V6(ip.source, ip.destination), &ip.extensions, &ip.transport),
    };
    let protocol = packet.protocol().map_or(0, |protocol| protocol.0);
    let mut body = upper(path, transport, number, shape, about);
    if shape == Shape::Damaged {
        // Behind every header, so that only a checksum tells.
        if let Some(last) = body.last_mut() {
            *last ^= 0xff;
        }
    }
    let ether_type = if matches!(path, Path::V4(..)) { frame::IPV4 } else { frame::IPV6 };
    match (shape, transport) {
        (Shape::Fragmented, _) => {
            let (first, rest) = body.split_at(1400);
            let part = |offset, more, bytes: &[u8]| {
                wrap(ether_type, &fragment(path, protocol, number, (offset, more), bytes))
            };
            vec![part(0, true, first), part(1400, false, rest)]
        }
        (_, Transport::Fragment(_)) => {
            vec![wrap(ether_type, &fragment(path, protocol, number, (1480, false), &body))]
        }
        _ => {
            let (first, body) = behind(extensions, protocol, body);
            vec![wrap(ether_type, &path.packet(first, &body))]
        }
    }
}

/// Puts extension headers of eight bytes before an upper-layer packet: padding, a routing header with nothing left, or
/// (AH counts otherwise) the shortest possible.
fn behind(extensions: &[u8], protocol: u8, body: Vec<u8>) -> (u8, Vec<u8>) {
    extensions.iter().rev().fold((protocol, body), |(next, body), extension| {
        (*extension, [&[next, 0, 0, 0, 0, 0, 0, 0][..], &body].concat())
    })
}

/// A piece of a datagram, `at` its offset in bytes and whether more follow.
fn fragment(path: Path, protocol: u8, number: u32, (offset, more): (u16, bool), bytes: &[u8]) -> Vec<u8> {
    match path {
        Path::V4(..) => {
            let mut packet = path.packet(protocol, bytes);
            let [.., high, low] = number.to_be_bytes();
            packet[4..6].copy_from_slice(&[high, low]);
            packet[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
            packet[10..12].fill(0);
            let sum = frame::ip::checksum(&[&packet[..20]]);
            packet[10..12].copy_from_slice(&sum);
            packet
        }
        Path::V6(..) => {
            let mut header = vec![protocol, 0];
            header.extend((offset | u16::from(more)).to_be_bytes());
            header.extend(number.to_be_bytes());
            header.extend(bytes);
            path.packet(44, &header)
        }
    }
}

fn arp_bytes(arp: &Arp) -> Vec<u8> {
    let operation = if arp.reply { 2 } else { 1 };
    [
        &[0, 1, 8, 0, 6, 4, 0, operation][..],
        &arp.sender_mac.0,
        &arp.sender.octets(),
        &[0; 6],
        &arp.target.octets(),
    ]
    .concat()
}

/// The upper-layer packet, its checksum right.
fn upper(path: Path, transport: &Transport, number: u32, shape: Shape, about: Option<&[u8]>) -> Vec<u8> {
    let mark = mark(number);
    match *transport {
        Transport::Ports { protocol, source, destination } => {
            let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
            match protocol {
                Protocol::TCP => {
                    let flags = if let Shape::Flags(flags) = shape { flags } else { flag::SYN };
                    path.tcp((source, destination), flags, (1, 0), &mark)
                }
                Protocol::UDP if shape == Shape::Fragmented => {
                    path.udp(source, destination, &[mark, vec![0x5a; 2000]].concat())
                }
                Protocol::UDP => path.udp(source, destination, &mark),
                // The checksum covers all of it (RFC 3828).
                Protocol::UDPLITE => summed(path, protocol, [ports, vec![0; 4], mark].concat(), 6),
                // A request of 5 words, long sequence numbers, with a service code (RFC 4340).
                Protocol::DCCP => {
                    let rest = [5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
                    summed(path, protocol, [&ports, &rest[..], &mark].concat(), 6)
                }
                _ => sctp_init(&ports, &mark),
            }
        }
        Transport::Icmp { kind, code, target } => {
            path.icmp(kind, code, &icmp_body(path, kind, target, number, about))
        }
        Transport::Other(_) | Transport::Fragment(_) => [vec![0; 8], mark].concat(),
    }
}

fn icmp_body(path: Path, kind: u8, target: Option<Ipv6Addr>, number: u32, about: Option<&[u8]>) -> Vec<u8> {
    let mark = mark(number);
    let [.., high, low] = number.to_be_bytes();
    if let Some(about) = about {
        return [&[0; 4][..], about, &mark].concat();
    }
    match (path, kind) {
        (Path::V6(..), 134) => [vec![0; 12], mark].concat(),
        (Path::V6(..), 130..=132 | 135..=137) => {
            let target = target.unwrap_or(Ipv6Addr::UNSPECIFIED).octets();
            [&[0; 4][..], &target, if kind == 137 { &target } else { &[] }, &mark].concat()
        }
        _ => [&[high, low, 0, 1][..], &mark].concat(),
    }
}

/// Fills in the checksum over pseudo header and packet at byte `at`.
fn summed(path: Path, protocol: Protocol, mut packet: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = path.checksum(protocol.0, &packet);
    packet[at..at + 2].copy_from_slice(&sum);
    packet
}

/// An INIT chunk (RFC 9260) with the mark in a parameter that receivers skip.
fn sctp_init(ports: &[u8], mark: &[u8]) -> Vec<u8> {
    let parameter = [&[0x80, 0x57, 0, 16][..], mark].concat();
    let chunk = [&[1, 0, 0, 36, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1][..], &parameter].concat();
    let mut packet = [ports, &[0; 8], &chunk].concat();
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}
