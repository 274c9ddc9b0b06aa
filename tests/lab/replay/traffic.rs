//! Random packets, mostly honest, often close to a rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use e2e::frame::ip::flag;
use e2e::lab::{Backend, ipv4, ipv6};
use ipnet::IpNet;
use ruleset::ids::Mac;
use ruleset::model::{Family, Protocol, Service};
use ruleset::packet::{Arp, Packet, Payload, Transport};
use ruleset::resolve::HostPolicy;
use ruleset::verdict::{Connection, Endpoint};

use super::place::{Place, Site};
use super::random::Random;
use super::wire::Shape;

/// Ports that rules speak of.
pub(super) const PORTS: [u16; 13] = [1, 22, 53, 67, 68, 80, 81, 443, 546, 547, 1023, 8000, 65535];
/// ICMP types of either family that rules speak of.
pub(super) const ICMP: [u8; 19] =
    [0, 1, 3, 5, 8, 11, 13, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143, 254];
/// Protocols that come as such: no ports, no extension headers.
const PROTOCOLS: [u8; 8] = [2, 47, 50, 59, 89, 112, 253, 255];

/// Numbers of addresses: the guests', the stations', those of pairs and their neighbours, and nobody's.
const NUMBERS: [u8; 18] = [11, 12, 13, 14, 15, 31, 32, 33, 77, 78, 95, 96, 103, 111, 112, 150, 200, 201];

/// A MAC that may be sent to, and never sends: bridges flood what is for it.
pub(super) const NOBODY: Mac = Mac([0x00, 0x16, 0x3e, 0x77, 0, 1]);
/// MACs that only liars send from. (Not another guest's: bridges would learn it in the wrong place.)
const STRANGERS: [Mac; 2] = [Mac([0x00, 0x16, 0x3e, 0x66, 0, 1]), Mac([0x00, 0x16, 0x3e, 0x99, 0, 2])];

/// A packet with what the wire makes of it.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// Index of the sender.
    pub(super) from: usize,
    pub(super) packet: Packet,
    pub(super) shape: Shape,
}

/// An address that a rule or another packet may speak of, too.
pub(super) fn address(r: &mut Random, family: Family) -> IpAddr {
    let network = u8::from(r.percent(25));
    let number = r.pick(&NUMBERS);
    match (family, r.below(12)) {
        (Family::Ipv4, 0) => Ipv4Addr::new(192, 0, 2, number).into(),
        (Family::Ipv4, _) => ipv4(network, number).into(),
        (Family::Ipv6, 0) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
        (Family::Ipv6, 1) => e2e::lab::mac(network, number).link_local().into(),
        (Family::Ipv6, _) => ipv6(network, number).into(),
    }
}

/// An address in a prefix: its first, its last, or one between.
fn inside(r: &mut Random, net: IpNet) -> IpAddr {
    let other = address(r, Family::of(&net));
    match r.below(3) {
        0 => net.broadcast(),
        1 if net.contains(&other) => other,
        _ => net.addr(),
    }
}

/// One packet of somebody's.
pub(super) fn draft(r: &mut Random, site: &Site<'_>, source_port: u16) -> Draft {
    let from = r.below(site.places.len());
    let sender = &site.places[from];
    let others: Vec<&Place> = site.others(from).map(|(_, place)| place).collect();
    let receiver = r.pick(&others);
    let destination = if r.percent(80) { receiver.mac() } else { NOBODY };
    let (source, shape) = (sender.mac(), Shape::Whole);
    let payload = match r.below(20) {
        0 | 1 => return Draft { from, packet: arp(r, site, sender, receiver), shape },
        2 if r.percent(50) => Payload::Other(r.pick(&[0x88b5, 0x8100, 0x22f0])),
        _ => return ip(r, site, (from, sender), (receiver, destination), source_port),
    };
    Draft { from, packet: Packet { source, destination, payload }, shape }
}

/// Whose addresses a place may use, and with which MAC.
fn own(r: &mut Random, site: &Site<'_>, place: &Place, family: Family) -> (Mac, IpAddr) {
    if let Some(Endpoint::Port(port)) = site.endpoint(place) {
        let sources = port.sources(family);
        if !sources.is_empty() {
            let (mac, net) = r.pick(&sources);
            return (mac, inside(r, net));
        }
    }
    let address = match family {
        Family::Ipv4 => ipv4(place.network, place.number).into(),
        Family::Ipv6 => ipv6(place.network, place.number).into(),
    };
    (place.mac(), address)
}

fn arp(r: &mut Random, site: &Site<'_>, sender: &Place, receiver: &Place) -> Packet {
    let v4 = |address| if let IpAddr::V4(address) = address { address } else { Ipv4Addr::UNSPECIFIED };
    let mut source = sender.mac();
    let mut owner = v4(own(r, site, sender, Family::Ipv4).1);
    match r.below(6) {
        0 => owner = v4(address(r, Family::Ipv4)),
        1 => source = r.pick(&STRANGERS),
        2 => owner = Ipv4Addr::UNSPECIFIED,
        _ => {}
    }
    let reply = r.percent(40);
    // XAPI's locking does not look into requests (docs/security.md).
    let sender_mac = if reply && r.percent(15) { r.pick(&STRANGERS) } else { source };
    let destination = if reply { receiver.mac() } else { Mac([0xff; 6]) };
    let target = ipv4(receiver.network, receiver.number);
    Packet { source, destination, payload: Payload::Arp(Arp { reply, sender_mac, sender: owner, target }) }
}

fn ip(
    r: &mut Random,
    site: &Site<'_>,
    (from, sender): (usize, &Place),
    (receiver, mut destination_mac): (&Place, Mac),
    source_port: u16,
) -> Draft {
    let family = r.pick(&Family::ALL);
    let (mut source_mac, mut source) = own(r, site, sender, family);
    match r.below(20) {
        0 => source_mac = r.pick(&STRANGERS),
        1 => source_mac = sender.mac(),
        2 | 3 => source = address(r, family),
        _ => {}
    }
    let mut destination = if r.percent(80) { own(r, site, receiver, family).1 } else { address(r, family) };
    let mut transport = transport(r, site, family, source_port);
    if r.percent(6) {
        (destination, destination_mac) = match family {
            Family::Ipv4 => r.pick(&[
                (Ipv4Addr::BROADCAST.into(), Mac([0xff; 6])),
                (Ipv4Addr::new(224, 0, 0, 251).into(), Mac([0x01, 0, 0x5e, 0, 0, 0xfb])),
            ]),
            Family::Ipv6 => {
                (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(), Mac([0x33, 0x33, 0, 0, 0, 1]))
            }
        };
    }
    match (family, &mut transport) {
        (Family::Ipv4, t) if *t == Transport::udp(68, 67) && r.percent(60) => {
            (source, destination) = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
            destination_mac = Mac([0xff; 6]);
        }
        (Family::Ipv6, Transport::Icmp { kind, target, .. }) => {
            if (135..=137).contains(kind) {
                let wanted = if r.percent(70) { own(r, site, sender, family).1 } else { address(r, family) };
                *target = if let IpAddr::V6(address) = wanted { Some(address) } else { None };
            }
            if matches!(kind, 130..=137 | 143) && r.percent(40) {
                let local = Mac::link_local(source_mac);
                source = r.pick(&[Ipv6Addr::UNSPECIFIED, local, local]).into();
            }
        }
        (Family::Ipv6, Transport::Ports { destination: 546 | 547, .. }) if r.percent(60) => {
            source = source_mac.link_local().into();
        }
        _ => {}
    }
    let shape = match transport {
        // For one receiver: of a flooded datagram that is put together and taken apart again, the kernel may lose copies.
        Transport::Ports { protocol: Protocol::UDP, .. }
            if destination_mac == receiver.mac() && r.percent(10) =>
        {
            Shape::Fragmented
        }
        Transport::Ports { protocol: Protocol::TCP, .. } if r.percent(20) => {
            Shape::Flags(r.pick(&[flag::ACK, flag::SYN | flag::ACK, flag::RST, flag::FIN]))
        }
        Transport::Ports { protocol: Protocol::TCP | Protocol::UDP | Protocol::SCTP, .. }
        | Transport::Icmp { .. }
            if r.percent(4) =>
        {
            Shape::Damaged
        }
        _ => Shape::Whole,
    };
    let extensions: Vec<u8> = if family == Family::Ipv6
        && r.percent(12)
        && shape != Shape::Fragmented
        && !matches!(transport, Transport::Fragment(_))
    {
        (0..=r.below(2)).map(|_| r.pick(&[43, 51, 60])).collect()
    } else {
        Vec::new()
    };
    let payload = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Payload::Ipv4(ruleset::packet::Ipv4 { source, destination, transport })
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Payload::Ipv6(ruleset::packet::Ipv6 { source, destination, extensions, transport })
        }
        // All of the above is of one family.
        _ => Payload::Other(0x88b5),
    };
    Draft { from, packet: Packet { source: source_mac, destination: destination_mac, payload }, shape }
}

fn transport(r: &mut Random, site: &Site<'_>, family: Family, source: u16) -> Transport {
    let services: Vec<Service> = site.hosts.values().flat_map(|host| services(host, family)).collect();
    if !services.is_empty() && r.percent(65) {
        return near(r, &services, source);
    }
    match r.below(10) {
        0 => Transport::udp(68, 67),
        1 => Transport::udp(67, 68),
        2 => r.pick(&[Transport::udp(546, 547), Transport::udp(547, 546), Transport::udp(547, 547)]),
        3..7 => Transport::icmp(r.pick(&ICMP), r.byte() % 3),
        7 => Transport::Fragment(Protocol(r.pick(&[6, 17]))),
        8 => Transport::Other(Protocol(r.pick(&PROTOCOLS))),
        _ => Transport::Ports {
            protocol: Protocol(r.pick(&[6, 17, 33, 132, 136])),
            source,
            destination: r.pick(&PORTS),
        },
    }
}

fn services(host: &HostPolicy, family: Family) -> impl Iterator<Item = Service> {
    let rules =
        host.groups.values().flat_map(|group| &group.rules).chain(host.provider.iter().map(|p| &p.rule));
    rules.filter(move |rule| rule.family == family).map(|rule| rule.service)
}

/// What one of the services serves, or just not.
fn near(r: &mut Random, services: &[Service], source: u16) -> Transport {
    match r.pick(services) {
        Service::Protocol(protocol) if protocol.has_ports() => {
            Transport::Ports { protocol, source, destination: r.pick(&PORTS) }
        }
        Service::Protocol(Protocol::ICMP | Protocol::ICMPV6) => {
            Transport::icmp(r.pick(&[8, 11, 128, 129]), r.byte() % 3)
        }
        // An extension header in IPv6; the generator of the policies gives it to IPv4 only.
        Service::Protocol(protocol) => Transport::Other(protocol),
        Service::Ports(protocol, range) => {
            let end = if r.percent(50) { range.first() } else { range.last() };
            let destination = match r.below(6) {
                0 => end.saturating_add(1),
                1 => end.saturating_sub(1),
                _ => end,
            };
            let other = r.percent(10);
            let protocol = if other { r.pick(&[Protocol::TCP, Protocol::UDP]) } else { protocol };
            Transport::Ports { protocol, source, destination }
        }
        Service::Icmp(_, icmp) => {
            Transport::icmp(icmp.kind, icmp.code.unwrap_or(0).wrapping_add(u8::from(r.percent(20))))
        }
        Service::Any => r.pick(&[Transport::tcp(source, 22), Transport::udp(source, 53)]),
    }
}

/// What connection tracking says of a packet that belongs to nothing it knows.
pub(super) fn first(packet: &Packet, shape: Shape, backend: Backend) -> Connection {
    let Some(family) = packet.family() else { return Connection::New };
    // The switch of the Lab's Open vSwitch hosts tracks connections in user space, after OpenBSD: it looks at the checksums
    // of fewer protocols, and at other flags and types than the kernel, which dom0's has.
    let in_user_space = backend == Backend::OpenVSwitch;
    if shape == Shape::Damaged && !(in_user_space && packet.protocol() == Some(Protocol::SCTP)) {
        return Connection::Invalid;
    }
    let begins = match packet.transport() {
        // Picked up in the middle (nf_conntrack_tcp_loose): an acknowledgement begins a connection.
        Some(Transport::Ports { .. }) => {
            matches!(shape, Shape::Whole | Shape::Fragmented | Shape::Damaged | Shape::Flags(flag::ACK))
                || in_user_space && shape == Shape::Flags(flag::RST)
        }
        Some(Transport::Icmp { kind, code, .. }) => match (family, kind) {
            // Not the redirect: to connection tracking it is an error about what it quotes.
            (Family::Ipv6, 130..=136 | 143) => return Connection::Untracked,
            _ if in_user_space && *code != 0 => false,
            (Family::Ipv4, 17) => !in_user_space,
            (Family::Ipv4, kind) => matches!(kind, 8 | 13 | 15),
            (Family::Ipv6, 139) => !in_user_space,
            (Family::Ipv6, kind) => *kind == 128,
        },
        // "No next header" ends the walk through the headers before anything was found.
        Some(Transport::Other(Protocol(59))) => family == Family::Ipv4 || in_user_space,
        Some(Transport::Other(_)) => true,
        Some(Transport::Fragment(_)) | None => false,
    };
    if begins { Connection::New } else { Connection::Invalid }
}
