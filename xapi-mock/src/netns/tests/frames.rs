//! The few frames these tests forge.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) type Mac = [u8; 6];

pub(super) const BROADCAST: Mac = [0xff; 6];

fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// A request for `target`, said to come from `mac` at `address`.
pub(super) fn arp(from: Mac, address: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let body = [&head[..], &from, &address.octets(), &[0; 6], &target.octets()].concat();
    ethernet(BROADCAST, from, 0x0806, &body)
}

/// A UDP datagram without checksum.
pub(super) fn udp(to: Mac, from: Mac, source: Ipv4Addr, target: Ipv4Addr, port: u16, text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len() + 8).unwrap();
    let mut ip = [
        &[0x45, 0][..],
        &(length + 20).to_be_bytes(),
        &[0, 0, 0, 0, 64, 17, 0, 0],
        &source.octets(),
        &target.octets(),
    ]
    .concat();
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let datagram =
        [&port.to_be_bytes()[..], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], text].concat();
    ethernet(to, from, 0x0800, &[ip, datagram].concat())
}

/// An IPv6 packet that holds nothing but `text`.
pub(super) fn ipv6(to: Mac, from: Mac, source: Ipv6Addr, target: Ipv6Addr, text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let head = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[59, 64]].concat();
    ethernet(to, from, 0x86dd, &[&head[..], &source.octets(), &target.octets(), text].concat())
}
