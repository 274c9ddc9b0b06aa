//! C: what holds for every guest, whatever its groups say.

use anyhow::{Context, Result, ensure};
use e2e::flow::Flow;
use e2e::frame::ip::{Path, UDP};
use e2e::frame::{Mac, arp_reply, arp_request, dhcp, nd};
use e2e::lab::{Backend, Guest, Lab, OUTSIDE, ipv4, ipv6, mac};
use e2e::probe::{Expectation, Probe, check};
use e2e::scenario::spoofing;
use e2e::station::{Family, Station};
use ruleset::packet::Transport;

use super::{
    addresses, applied, applied_in_between, egress, group, ingress, port, port_with_pairs, sends, sends_as,
};
use crate::on_each;

/// Nobody's addresses.
const NOBODY: u8 = 99;
/// Nobody's hardware address.
const STRANGER: Mac = Mac([0x00, 0x16, 0x3e, 0x66, 0x66, 0x66]);

/// Three guests of one host, one without groups (`bare`), two whose group admits and lets out everything (`rich`,
/// `victim`), and `peer` elsewhere, that is nobody's business. Nothing is applied yet.
fn start(backend: Backend) -> Result<Lab> {
    Lab::builder(backend)
        .guest(Guest::new("bare", "host1", 11))
        .guest(Guest::new("rich", "host1", 12))
        .guest(Guest::new("peer", "host2", 13))
        .guest(Guest::new("victim", "host1", 14))
        .policy(
            &[
                group("everything", &[ingress(""), egress("")]),
                port("bare", 11, &[]),
                port("rich", 12, &["everything"]),
                port("victim", 14, &["everything"]),
            ]
            .concat(),
        )
        .start()
}

/// The frames of a case, each with its name, from one station and watched for at another.
fn frames<const N: usize>(from: &Station, to: &Station, frames: [(&'static str, Vec<u8>); N]) -> [Probe; N] {
    frames.map(|(name, bytes)| from.frame(to, name, bytes))
}

fn pass<const N: usize>(probes: [Probe; N]) -> [Expectation; N] {
    probes.map(Probe::passes)
}

fn block<const N: usize>(probes: [Probe; N]) -> [Expectation; N] {
    probes.map(Probe::blocked)
}

fn datagram(path: Path, macs: (Mac, Mac), ports: (u16, u16)) -> Vec<u8> {
    path.frame(macs.1, macs.0, UDP, &path.udp(ports.0, ports.1, b"case"))
}

on_each! {
    /// A guest without rules gets its address, by broadcast or from a server it knows; nothing else by those ports.
    fn c01_a_dhcp_client_needs_no_rules(backend) {
        let lab = start(backend)?;
        let (bare, outside) = (lab.guest("bare")?, lab.outside());
        let (to4, from4) = (Path::V4(ipv4(0, 11), ipv4(0, OUTSIDE)), Path::V4(ipv4(0, OUTSIDE), ipv4(0, 11)));
        let (to6, from6) = (Path::V6(ipv6(0, 11), ipv6(0, OUTSIDE)), Path::V6(ipv6(0, OUTSIDE), ipv6(0, 11)));
        let (out, back) = ((bare.mac, outside.mac), (outside.mac, bare.mac));
        let mut all = Vec::new();
        all.extend(pass(frames(&bare, outside, [
            ("DHCP discover", dhcp::discover(bare.mac)),
            ("DHCP renewal", datagram(to4, out, (68, 67))),
            ("DHCPv6 solicit", dhcp::solicit(bare.mac)),
        ])));
        all.extend(pass(frames(outside, &bare, [
            ("DHCP offer", dhcp::offer((outside.mac, ipv4(0, OUTSIDE)), bare.mac, ipv4(0, 11))),
            ("DHCP ack to its address", datagram(from4, back, (67, 68))),
            ("DHCPv6 advertise", dhcp::advertise(outside.mac, bare.mac)),
        ])));
        all.extend(block(frames(&bare, outside, [
            ("to the server's port from another", datagram(to4, out, (1068, 67))),
            ("to another than the server's port", datagram(to4, out, (68, 69))),
            ("to the DHCPv6 server's port from another", datagram(to6, out, (1546, 547))),
        ])));
        all.extend(block(frames(outside, &bare, [
            ("from the server's port to another", datagram(from4, back, (67, 69))),
            ("from the DHCPv6 server's port to another", datagram(from6, back, (547, 549))),
            ("a client's words to a guest", datagram(from4, back, (68, 67))),
        ])));
        applied_in_between(&lab, all)?;
    }

    /// No rule makes a guest a DHCP server: not towards its neighbours, not towards the network.
    fn c02_a_guest_is_no_dhcp_server(backend) {
        let lab = start(backend)?;
        let mut all = Vec::new();
        for (guest, number) in [(lab.guest("rich")?, 12), (lab.guest("bare")?, 11)] {
            for victim in [lab.outside(), &lab.guest("peer")?] {
                let victim4 = victim.ipv4.context("no address")?;
                let path = Path::V4(ipv4(0, number), victim4);
                all.extend(block(frames(&guest, victim, [
                    ("DHCP offer", dhcp::offer((guest.mac, ipv4(0, number)), victim.mac, ipv4(0, NOBODY))),
                    ("DHCP ack to its address", datagram(path, (guest.mac, victim.mac), (67, 68))),
                    ("DHCPv6 advertise", dhcp::advertise(guest.mac, victim.mac)),
                ])));
            }
        }
        let (rich, bare) = (lab.guest("rich")?, lab.guest("bare")?);
        all.extend(block(frames(&rich, &bare, [
            ("DHCP offer to a neighbour", dhcp::offer((rich.mac, ipv4(0, 12)), bare.mac, ipv4(0, NOBODY))),
            ("DHCPv6 advertise to a neighbour", dhcp::advertise(rich.mac, bare.mac)),
        ])));
        applied_in_between(&lab, all)?;
    }

    /// A guest hears routers and is none.
    fn c03_router_advertisements_come_in_and_not_out(backend) {
        let lab = start(backend)?;
        let (bare, rich, outside) = (lab.guest("bare")?, lab.guest("rich")?, lab.outside());
        let advertisement = |from: &Station, address| nd::router_advertisement((from.mac, address), ipv6(9, 0));
        let local = |station: &Station| station.mac.link_local();
        let mut all = Vec::new();
        for guest in [&bare, &rich] {
            all.extend(pass(frames(outside, guest, [
                ("router advertisement from a router", advertisement(outside, local(outside))),
            ])));
            all.extend(pass(frames(guest, outside, [
                ("router solicitation", nd::router_solicitation((guest.mac, local(guest)))),
            ])));
            for victim in [outside, &lab.guest("peer")?] {
                all.extend(block(frames(guest, victim, [
                    ("router advertisement from a guest", advertisement(guest, local(guest))),
                    ("the same from its other address", advertisement(guest, ipv6(0, guest.mac.0[5]))),
                    ("redirect", nd::redirect(
                        (guest.mac, local(guest)),
                        (victim.mac, ipv6(0, victim.mac.0[5])),
                        ipv6(0, guest.mac.0[5]),
                        ipv6(0, NOBODY),
                    )),
                ])));
            }
        }
        all.extend(block(frames(outside, &bare, [
            ("router advertisement from what is no link-local address", advertisement(outside, ipv6(0, OUTSIDE))),
        ])));
        applied_in_between(&lab, all)?;
    }

    /// ARP needs no rules, and is honest (CVE-2021-20267, 2015-8914: neutron let a guest answer for others).
    fn c04_arp_passes_and_does_not_lie(backend) {
        let lab = start(backend)?;
        let (bare, rich, outside) = (lab.guest("bare")?, lab.guest("rich")?, lab.outside());
        let mut all = Vec::new();
        let out4 = ipv4(0, OUTSIDE);
        for (guest, number) in [(&bare, 11), (&rich, 12)] {
            let own = (guest.mac, ipv4(0, number));
            let (to, lie) = ((outside.mac, out4), (guest.mac, ipv4(0, NOBODY)));
            all.extend(pass(frames(guest, outside, [
                ("ARP request", arp_request(own, out4)),
                ("ARP reply", arp_reply(own, to)),
                ("gratuitous ARP", arp_request(own, own.1)),
            ])));
            all.extend(pass(frames(outside, guest, [
                ("ARP request", arp_request(to, own.1)),
                ("ARP reply", arp_reply(to, own)),
            ])));
            all.extend(block(frames(guest, outside, [
                ("ARP reply for another", arp_reply(lie, to)),
                ("ARP request in another's name", arp_request(lie, out4)),
                ("gratuitous ARP for another", arp_request(lie, lie.1)),
                ("ARP request from another hardware address", arp_request((STRANGER, own.1), out4)),
                ("ARP reply from another hardware address", arp_reply((STRANGER, own.1), to)),
            ])));
        }
        // On a Linux bridge XAPI's locking lets everything to a locked guest, from its neighbours, too: docs/security.md.
        if backend == Backend::OpenVSwitch {
            all.extend(block(frames(&rich, &bare, [
                ("ARP reply for another to a neighbour", arp_reply((rich.mac, ipv4(0, NOBODY)), (bare.mac, ipv4(0, 11)))),
            ])));
        }
        applied_in_between(&lab, all)?;
    }

    /// A guest whose group lets out everything sends from its own hardware address only.
    fn c05_a_foreign_mac(backend) {
        let lab = start(backend)?;
        let (rich, bare, outside) = (lab.guest("rich")?, lab.guest("bare")?, lab.outside());
        let mut all = Vec::new();
        for own in addresses(12) {
            all.push(sends(&rich, outside, own, Transport::udp(50_000, 53))?.passes());
            all.push(sends_as(&rich, (STRANGER, own), outside, Transport::udp(50_000, 53))?.blocked());
            all.push(sends_as(&rich, (STRANGER, own), &lab.guest("peer")?, Transport::tcp(50_000, 80))?.blocked());
            all.push(sends_as(&rich, (STRANGER, own), &bare, Transport::udp(50_000, 53))?.blocked());
        }
        applied_in_between(&lab, all)?;
    }

    /// What it says by a neighbour's goes nowhere, and does not draw to it what is meant for the neighbour.
    fn c05_a_neighbours_mac(backend) {
        let lab = start(backend)?;
        lab.apply()?.success()?;
        let (rich, victim, outside) = (lab.guest("rich")?, lab.guest("victim")?, lab.outside());
        let flow = Flow::start(&outside.udp(&victim, 7, Family::V4))?;
        for own in addresses(12).into_iter().chain(addresses(14)) {
            check([sends_as(&rich, (victim.mac, own), &lab.guest("peer")?, Transport::udp(50_000, 53))?.blocked()]);
        }
        // A Linux bridge learns where a hardware address is from what is dropped, too: docs/security.md.
        if backend == Backend::OpenVSwitch {
            let report = flow.stop()?;
            ensure!(report.undisturbed(), "{report:?}");
        } else {
            flow.stop()?;
        }
    }

    /// And from its own addresses only: not from nobody's, not from a neighbour's.
    fn c06_a_foreign_address(backend) {
        let lab = start(backend)?;
        let (rich, outside, peer) = (lab.guest("rich")?, lab.outside(), lab.guest("peer")?);
        let mut all = Vec::new();
        for transport in [Transport::udp(50_000, 53), Transport::tcp(50_000, 80)] {
            for own in addresses(12) {
                all.push(sends(&rich, outside, own, transport.clone())?.passes());
            }
            for other in addresses(NOBODY).into_iter().chain(addresses(11)).chain(addresses(13)) {
                all.push(sends(&rich, outside, other, transport.clone())?.blocked());
            }
            for other in ["0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1", "fe80::1"] {
                let other: std::net::IpAddr = other.parse()?;
                all.push(sends(&rich, &peer, other, transport.clone())?.blocked());
            }
            let local = rich.mac.link_local();
            all.push(sends(&rich, outside, local, transport)?.passes());
        }
        applied_in_between(&lab, all)?;
    }

    /// What a DHCP client may say before it has an address is no way around that.
    fn c07_spoofed_dhcp(backend) {
        let lab = start(backend)?;
        let (rich, outside) = (lab.guest("rich")?, lab.outside());
        let broadcast = |source| Path::V4(source, std::net::Ipv4Addr::BROADCAST);
        let request = |source: u8, from: Mac| datagram(broadcast(ipv4(0, source)), (from, Mac::BROADCAST), (68, 67));
        let servers = "ff02::1:2".parse()?;
        let solicit = |source: std::net::Ipv6Addr, from| {
            datagram(Path::V6(source, servers), (from, Mac::of_ipv6_group(servers)), (546, 547))
        };
        let unset = std::net::Ipv4Addr::UNSPECIFIED;
        let mut all = Vec::new();
        all.extend(pass(frames(&rich, outside, [
            ("discover", dhcp::discover(rich.mac)),
            ("request from its own address", request(12, rich.mac)),
            ("solicit", solicit(rich.mac.link_local(), rich.mac)),
        ])));
        all.extend(block(frames(&rich, outside, [
            ("discover from another hardware address", dhcp::discover(STRANGER)),
            ("request from another's address", request(NOBODY, rich.mac)),
            ("from no address to one server", datagram(
                Path::V4(unset, ipv4(0, OUTSIDE)), (rich.mac, outside.mac), (68, 67),
            )),
            ("from no address to another port", datagram(broadcast(unset), (rich.mac, Mac::BROADCAST), (68, 69))),
            ("solicit from another hardware address", solicit(rich.mac.link_local(), STRANGER)),
            ("solicit from another's link-local address", solicit(STRANGER.link_local(), rich.mac)),
            ("solicit from another's address", solicit(ipv6(0, NOBODY), rich.mac)),
        ])));
        applied_in_between(&lab, all)?;
    }

    /// Neighbour discovery needs no rules, and is honest (CVE-2016-5362, 2016-5363, 2021-20267).
    fn c08_neighbour_discovery_passes_and_does_not_lie(backend) {
        let lab = start(backend)?;
        let outside = lab.outside();
        let (nobody, unset) = (ipv6(0, NOBODY), std::net::Ipv6Addr::UNSPECIFIED);
        let mut all = Vec::new();
        for (guest, number) in [(lab.guest("bare")?, 11), (lab.guest("rich")?, 12)] {
            let (own, local) = ((guest.mac, ipv6(0, number)), (guest.mac, guest.mac.link_local()));
            all.extend(pass(frames(&guest, outside, [
                ("solicitation", nd::solicitation(own, ipv6(0, OUTSIDE))),
                ("solicitation, link-local", nd::solicitation(local, ipv6(0, OUTSIDE))),
                ("duplicate address detection", nd::solicitation((guest.mac, unset), own.1)),
                ("advertisement", nd::advertisement(own, own.1)),
                ("advertisement, link-local", nd::advertisement(local, own.1)),
                ("multicast report", nd::listener_report(local, nd::solicited_node(own.1))),
            ])));
            all.extend(pass(frames(outside, &guest, [
                ("solicitation", nd::solicitation((outside.mac, ipv6(0, OUTSIDE)), own.1)),
                ("advertisement", nd::advertisement((outside.mac, ipv6(0, OUTSIDE)), ipv6(0, OUTSIDE))),
            ])));
            all.extend(block(frames(&guest, outside, [
                ("advertisement for another", nd::advertisement(own, nobody)),
                ("advertisement for another, link-local", nd::advertisement(local, nobody)),
                ("advertisement from another", nd::advertisement((guest.mac, nobody), own.1)),
                ("solicitation in another's name", nd::solicitation((guest.mac, nobody), ipv6(0, OUTSIDE))),
                ("duplicate address detection for another", nd::solicitation((guest.mac, unset), nobody)),
                ("multicast report from another", nd::listener_report((guest.mac, nobody), nd::solicited_node(nobody))),
            ])));
        }
        applied_in_between(&lab, all)?;
    }

    /// An address goes with its hardware address: own or the pair's, five combinations of which two are nobody's.
    fn c09_address_pairs(backend) {
        let lab = Lab::builder(backend)
            .guest(Guest::new("vm", "host1", 25))
            .guest(Guest::new("peer", "host2", 13))
            .policy(&[
                group("everything", &[ingress(""), egress("")]),
                port_with_pairs("vm", 25, &["everything"], &[
                    "{ address = '10.20.0.97' }",
                    "{ address = 'fd20::61' }",
                    "{ mac = '00:16:3e:66:66:66', address = '10.20.0.98' }",
                    "{ mac = '00:16:3e:66:66:66', address = 'fd20::62' }",
                ]),
            ].concat())
            .start()?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        let mut all = Vec::new();
        for family in [0, 1] {
            let say = |mac, number| {
                sends_as(&vm, (mac, addresses(number)[family]), outside, Transport::udp(50_000, 53))
            };
            all.extend([
                say(vm.mac, 25)?.passes(),
                say(vm.mac, 97)?.passes(),
                say(vm.mac, NOBODY)?.blocked(),
                say(STRANGER, 98)?.passes(),
                say(STRANGER, 25)?.blocked(),
                say(STRANGER, 97)?.blocked(),
                say(vm.mac, 98)?.blocked(),
            ]);
        }
        applied_in_between(&lab, all)?;
    }

    /// Switched off, nothing is checked; switched on again, everything is.
    fn c10_port_security_off_and_on(backend) {
        let on = [group("only", &[ingress("protocol = 'tcp', ports = 80"), egress("")]), port("vm", 11, &["only"])];
        let on = on.concat();
        let off = "\n[[port]]\nvm = 'vm'\ndevice = 0\nport_security = false\n";
        let lab = applied(Lab::builder(backend).guest(Guest::new("vm", "host1", 11)).policy(&on))?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        let lies = || spoofing(&vm, outside);
        let ports = || Family::BOTH.into_iter().flat_map(|family| [
            outside.tcp(&vm, 22, family).blocked(),
            outside.udp(&vm, 80, family).blocked(),
            outside.echo(&vm, family).blocked(),
        ]);
        let all = || lies().into_iter().chain(ports());
        check(all());
        lab.set_policy(off)?;
        lab.apply()?.success()?;
        check(all().map(|one| one.probe.passes()));
        lab.set_policy(&on)?;
        lab.apply()?.success()?;
        check(all());
    }

    /// One hardware address on two networks is two guests, each with its own rules, also where their IP addresses are equal.
    fn c11_one_mac_on_two_networks(backend) {
        let second = "\n[[port]]\nvm = 'there'\ndevice = 0\ngroups = ['b']\naddresses = ['10.20.0.11', 'fd20::b']\n";
        let lab = Lab::builder(backend)
            .host_count(1)
            .network("other")
            .guest(Guest::new("here", "host1", 11))
            .guest(Guest::new("there", "host1", 11).on(&[1]).with_addresses_of(0).with_mac_of(0))
            .policy(&[
                group("a", &[ingress("protocol = 'tcp', ports = 80"), egress("protocol = 'udp', ports = 1053")]),
                group("b", &[ingress("protocol = 'tcp', ports = 81"), egress("protocol = 'udp', ports = 2053")]),
                port("here", 11, &["a"]),
                second.to_owned(),
            ].concat())
            .start()?;
        lab.apply()?.success()?;
        let (here, there) = (lab.guest("here")?, lab.guest("there")?);
        ensure!(here.mac == there.mac && here.mac == mac(0, 11), "the test shows nothing");
        let (outside, elsewhere) = (lab.outside(), lab.add_station_on(1, "elsewhere", OUTSIDE)?);
        // Both at a time: they differ in nothing but their network.
        check(Family::BOTH.into_iter().flat_map(|family| [
            outside.tcp(&here, 80, family).passes(),
            outside.tcp(&here, 81, family).blocked(),
            here.udp(outside, 1053, family).passes(),
            here.udp(outside, 2053, family).blocked(),
            elsewhere.tcp(&there, 81, family).passes(),
            elsewhere.tcp(&there, 80, family).blocked(),
            there.udp(&elsewhere, 2053, family).passes(),
            there.udp(&elsewhere, 1053, family).blocked(),
        ]));
    }

    /// An ICMP error about what a guest has said comes in without a rule for ICMP; one about what it never said does not.
    fn c12_icmp_errors_about_its_own_packets(backend) {
        let lab = applied(
            Lab::builder(backend)
                .guest(Guest::new("vm", "host1", 11))
                .policy(&[group("talkers", &[egress("")]), port("vm", 11, &["talkers"])].concat()),
        )?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        for (own, out) in addresses(11).into_iter().zip(addresses(OUTSIDE)) {
            let (there, back) = (Path::between(own, out), Path::between(out, own));
            let (there, back) = (there.context("one family")?, back.context("one family")?);
            let question = |port| there.packet(UDP, &there.udp(50_000, port, b"anybody there?"));
            // Destination (port) unreachable, with all of the packet it is about.
            let (kind, code) = if own.is_ipv4() { (3, 3) } else { (1, 4) };
            let error = |port| {
                let message = back.icmp(kind, code, &[&[0; 4][..], &question(port)].concat());
                back.frame(vm.mac, outside.mac, back.icmp_protocol(), &message)
            };
            let ask = datagram_of(&vm, outside, own.is_ipv4(), &question(5300));
            check([outside.frame(&vm, "error about what was not said yet", error(5300)).blocked()]);
            check([vm.frame(outside, "question", ask).passes()]);
            check([
                outside.frame(&vm, "error about the question", error(5300)).passes(),
                outside.frame(&vm, "error about another", error(5301)).blocked(),
            ]);
            // And the guest's own kernel takes it.
            let refused = vm.namespace.enter(move || -> std::io::Result<_> {
                let socket = std::net::UdpSocket::bind((own, 0))?;
                socket.connect((out, 5302))?;
                socket.set_read_timeout(Some(e2e::probe::PATIENCE))?;
                socket.send(b"anybody there?")?;
                Ok(socket.recv(&mut [0; 16]).err().map(|error| error.kind()))
            })?;
            ensure!(refused == Some(std::io::ErrorKind::ConnectionRefused), "{own}: {refused:?}");
        }
    }
}

fn datagram_of(from: &Station, to: &Station, ipv4: bool, packet: &[u8]) -> Vec<u8> {
    let ether_type = if ipv4 { e2e::frame::IPV4 } else { e2e::frame::IPV6 };
    e2e::frame::ethernet(to.mac, from.mac, ether_type, packet)
}
