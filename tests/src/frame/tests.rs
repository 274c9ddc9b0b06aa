use std::net::{Ipv4Addr, Ipv6Addr};

use super::ip::{Path, TCP, UDP, flag};
use super::read::{Flow, Headers};
use super::{Mac, arp_request, dhcp, ether_type, ip, nd, source};

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 2);

#[test]
fn hardware_addresses_are_read_and_written() {
    for text in ["00:16:3e:aa:bb:cc", "ff:ff:ff:ff:ff:ff"] {
        assert_eq!(text.parse::<Mac>().unwrap().to_string(), text);
    }
    for text in ["", "00:16:3e:aa:bb", "00:16:3e:aa:bb:cc:dd", "00:16:3e:aa:bb:c", "00:16:3e:aa:bb:gg"] {
        assert!(text.parse::<Mac>().is_err(), "{text:?} was taken");
    }
    let mac: Mac = "00:16:3e:aa:bb:cc".parse().unwrap();
    assert_eq!(mac.link_local(), "fe80::216:3eff:feaa:bbcc".parse::<Ipv6Addr>().unwrap());
    assert_eq!(Mac::of_ipv6_group(nd::ALL_NODES), "33:33:00:00:00:01".parse().unwrap());
    assert_eq!(nd::solicited_node(A6), "ff02::1:ff00:1".parse::<Ipv6Addr>().unwrap());
}

/// RFC 1071's sum over everything the sender summed, its own result included, is all ones.
fn sums_up(parts: &[&[u8]]) -> bool {
    let sum: u32 = parts
        .iter()
        .flat_map(|part| part.chunks(2))
        .map(|pair| u32::from(pair[0]) * 256 + u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

#[test]
fn checksums_hold() {
    for data in [&b""[..], b"x", b"four", b"seven..", &[0xff; 600]] {
        let four = Path::V4(A4, B4);
        let six = Path::V6(A6, B6);
        for (path, protocol, payload) in [
            (four, UDP, four.udp(68, 67, data)),
            (four, TCP, four.tcp((1, 2), flag::SYN, (3, 4), data)),
            (six, UDP, six.udp(546, 547, data)),
            (six, TCP, six.tcp((1, 2), flag::ACK, (3, 4), data)),
            (six, ip::ICMPV6, six.icmp(128, 0, data)),
        ] {
            let packet = path.packet(protocol, &payload);
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            let addresses = match path {
                Path::V4(..) => {
                    assert!(sums_up(&[&packet[..20]]), "IPv4 header");
                    &packet[12..20]
                }
                Path::V6(..) => &packet[8..40],
            };
            assert!(sums_up(&[addresses, &[0, protocol], &length, &payload]), "{path:?} {protocol}");
        }
        assert!(sums_up(&[&four.icmp(8, 0, data)]), "ICMP");
    }
}

#[test]
fn a_checksum_of_zero_is_sent_as_all_ones() {
    // Chosen so that everything but the checksum sums up to 0xffff.
    let path = Path::V4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
    let rest = 0xffff - (17 + 10 + 10);
    let datagram = path.udp(0, 0, &u16::to_be_bytes(rest));
    assert_eq!(datagram[6..8], [0xff, 0xff]);
}

#[test]
fn frames_are_read_back() {
    let path = Path::V4(A4, B4);
    let frame = path.frame(B, A, UDP, &path.udp(1000, 53, b"?"));
    assert_eq!((source(&frame), ether_type(&frame)), (Some(A), Some(super::IPV4)));
    let headers = Headers::of_frame(&frame).unwrap();
    assert_eq!((headers.source, headers.destination), (A4.into(), B4.into()));
    assert_eq!((headers.protocol, headers.flow), (UDP, Flow::Ports(1000, 53)));

    let path = Path::V6(A6, B6);
    let frame = path.frame(B, A, ip::ICMPV6, &path.echo_request(7, 1));
    let headers = Headers::of_frame(&frame).unwrap();
    assert_eq!(headers.flow, Flow::Icmp { kind: 128, identifier: 7 });

    assert_eq!(Headers::of_frame(&arp_request((A, A4), B4)), None);
    for length in 0..frame.len() {
        // Cut short anywhere: no panic, and no addresses without a whole header.
        assert!(Headers::of_frame(&frame[..length]).is_none() || length >= 54);
    }
}

#[test]
fn dhcp_is_broadcast_from_no_address() {
    let headers = Headers::of_frame(&dhcp::discover(A)).unwrap();
    assert_eq!(headers.source, Ipv4Addr::UNSPECIFIED);
    assert_eq!(headers.flow, Flow::Ports(68, 67));
    let headers = Headers::of_frame(&dhcp::offer((B, B4), A, A4)).unwrap();
    assert_eq!(headers.flow, Flow::Ports(67, 68));
    assert_eq!(Headers::of_frame(&dhcp::solicit(A)).unwrap().flow, Flow::Ports(546, 547));
    assert_eq!(Headers::of_frame(&dhcp::advertise(B, A)).unwrap().flow, Flow::Ports(547, 546));
}
