//! The bytes of a datagram's headers (RFC 791, 8200, 4443).

use super::{Packet, Payload, Transport};
use crate::model::Protocol;

pub(super) fn of(packet: &Packet) -> Vec<u8> {
    match &packet.payload {
        Payload::Ipv4(ip) => {
            let fragment = if matches!(ip.transport, Transport::Fragment(_)) { 0x00b9_u16 } else { 0 };
            let protocol = ip.transport.protocol(Protocol::ICMP).0;
            let body = upper(&ip.transport);
            let mut out = vec![0x45, 0];
            out.extend(u16::try_from(20 + body.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend([0, 0]);
            out.extend(fragment.to_be_bytes());
            out.extend([64, protocol, 0, 0]);
            out.extend(ip.source.octets());
            out.extend(ip.destination.octets());
            out.extend(body);
            out
        }
        Payload::Ipv6(ip) => {
            let mut chain = ip.extensions.clone();
            if matches!(ip.transport, Transport::Fragment(_)) {
                chain.push(44);
            }
            chain.push(ip.transport.protocol(Protocol::ICMPV6).0);
            let body = upper(&ip.transport);
            let length = 8 * (chain.len() - 1) + body.len();
            let mut out = vec![0x60, 0, 0, 0];
            out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
            out.extend([chain[0], 64]);
            out.extend(ip.source.octets());
            out.extend(ip.destination.octets());
            for (header, next) in chain.iter().zip(&chain[1..]) {
                // Eight bytes each; for AH a length of 0 means the same, and a fragment has its offset here.
                let offset: [u8; 2] = if *header == 44 { [0x05, 0xc8] } else { [0, 0] };
                out.extend([*next, 0, offset[0], offset[1], 0, 0, 0, 0]);
            }
            out.extend(body);
            out
        }
        Payload::Arp(_) | Payload::Other(_) => Vec::new(),
    }
}

fn upper(transport: &Transport) -> Vec<u8> {
    match transport {
        Transport::Ports { source, destination, .. } => {
            let mut out = source.to_be_bytes().to_vec();
            out.extend(destination.to_be_bytes());
            out.resize(20, 0);
            out
        }
        Transport::Icmp { kind, code, target } => {
            let mut out = vec![*kind, *code, 0, 0, 0, 0, 0, 0];
            out.extend(target.iter().flat_map(std::net::Ipv6Addr::octets));
            out
        }
        Transport::Other(_) | Transport::Fragment(_) => vec![0; 8],
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::super::*;

    #[test]
    fn the_nd_target_stands_at_byte_48_unless_an_extension_header_comes_before() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let (ip, target): (IpAddr, Ipv6Addr) = ("fe80::1".parse().unwrap(), "2001:db8::7".parse().unwrap());
        let solicit = Transport::Icmp { kind: 135, code: 0, target: Some(target) };
        let mut packet = Packet::ip((mac, mac), (ip, ip), solicit).unwrap();
        let bytes = packet.ip_bytes();
        assert_eq!((bytes[6], &bytes[48..64]), (58, &target.octets()[..]));
        if let Payload::Ipv6(ip) = &mut packet.payload {
            ip.extensions.push(0);
        }
        let bytes = packet.ip_bytes();
        assert_eq!((bytes[6], bytes[40], &bytes[56..72]), (0, 58, &target.octets()[..]));
    }

    #[test]
    fn ipv4_headers_are_where_they_belong() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let ips: (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let bytes = Packet::ip((mac, mac), ips, Transport::icmp(255, 5)).unwrap().ip_bytes();
        assert_eq!((bytes[0], bytes[9], &bytes[12..20]), (0x45, 1, &[10, 0, 0, 1, 10, 0, 0, 2][..]));
        assert_eq!(bytes[20..22], [255, 5]);
    }
}
