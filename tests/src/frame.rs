//! Ethernet frames, byte by byte, checksums included.
//!
//! Everything a guest may send or must not send: ARP, IPv4 and IPv6 with UDP, TCP and ICMP ([`ip`]), neighbour
//! discovery and multicast listener reports ([`nd`]), DHCP of both families ([`dhcp`]).

pub mod dhcp;
pub mod ip;
pub mod nd;
pub mod read;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The group address an IPv6 multicast packet is sent to (RFC 2464 §7).
    #[must_use]
    pub fn of_ipv6_group(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }

    /// The link-local address made from this hardware address (RFC 4291, appendix A).
    #[must_use]
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        octets.into()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a hardware address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a hardware address")]
pub struct InvalidMac(String);

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(octets)) }
    }
}

/// A frame without a checksum of its own (the link adds it).
#[must_use]
pub fn ethernet(destination: Mac, source: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, &ether_type.to_be_bytes(), payload].concat()
}

/// The sender of a captured frame.
#[must_use]
pub fn source(frame: &[u8]) -> Option<Mac> {
    Some(Mac(frame.get(6..12)?.try_into().ok()?))
}

/// The EtherType of a captured frame.
#[must_use]
pub fn ether_type(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?))
}

/// An ARP packet; `operation` is 1 to ask, 2 to answer.
fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    [
        // Ethernet, IPv4, addresses of 6 and 4 bytes.
        &[0, 1, 8, 0, 6, 4][..],
        &operation.to_be_bytes(),
        &sender.0.0,
        &sender.1.octets(),
        &target.0.0,
        &target.1.octets(),
    ]
    .concat()
}

/// A broadcast question for the owner of `target`.
#[must_use]
pub fn arp_request(sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    ethernet(Mac::BROADCAST, sender.0, ARP, &arp(1, sender, (Mac([0; 6]), target)))
}

/// An answer (asked for or not) that `sender` owns its address.
#[must_use]
pub fn arp_reply(sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    ethernet(target.0, sender.0, ARP, &arp(2, sender, target))
}

#[cfg(test)]
mod tests;
