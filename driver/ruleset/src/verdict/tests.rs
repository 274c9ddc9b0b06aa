use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::iptables::fixtures;
use crate::model::AddressPair;
use crate::packet::{Arp, Payload, Transport, icmpv6};
use crate::resolve::Lifeline;

/// Guest 1 of the fixtures: 10.0.0.1 and 2001:db8::1 behind 00:16:3e:00:00:01, in group web, with one more pair.
struct Case {
    host: HostPolicy,
    port: Port,
}

impl Case {
    fn new() -> Self {
        let mut port = fixtures::attachment(1).port;
        port.pairs.push(AddressPair {
            mac: Some("00:16:3e:ff:00:01".parse().unwrap()),
            net: "10.9.0.0/24".parse().unwrap(),
        });
        Self { host: fixtures::host(&fixtures::policy(), 2), port }
    }

    fn number(&self, side: Direction, packet: &Packet, connection: Connection) -> &'static str {
        match verdict_of_port(&self.host, side, &self.port, packet, connection) {
            Verdict::Allow { rule } => rule.number(side),
            Verdict::Deny { reason } => reason.number(side),
        }
    }

    #[track_caller]
    fn expect(&self, side: Direction, packet: &Packet, passes: bool, number: &str) {
        let verdict = verdict_of_port(&self.host, side, &self.port, packet, Connection::New);
        assert_eq!(
            (verdict.passes(), self.number(side, packet, Connection::New)),
            (passes, number),
            "{packet:?}"
        );
    }
}

const OWN: &str = "00:16:3e:00:00:01";
const PAIR: &str = "00:16:3e:ff:00:01";
const OTHER: &str = "00:16:3e:00:00:09";

fn packet(mac: &str, source: &str, destination: &str, transport: Transport) -> Packet {
    let addresses: (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    Packet::ip((mac.parse().unwrap(), OTHER.parse().unwrap()), addresses, transport).unwrap()
}

fn nd(kind: u8, target: &str) -> Transport {
    Transport::Icmp { kind, code: 0, target: Some(target.parse().unwrap()) }
}

fn arp(mac: &str, sender_mac: &str, sender: &str) -> Packet {
    let payload = Payload::Arp(Arp {
        reply: true,
        sender_mac: sender_mac.parse().unwrap(),
        sender: sender.parse().unwrap(),
        target: Ipv4Addr::new(10, 0, 0, 9),
    });
    Packet { source: mac.parse().unwrap(), destination: OTHER.parse().unwrap(), payload }
}

#[test]
fn e1_a_guest_speaks_for_itself_and_its_pairs_only() {
    let case = Case::new();
    let egress = Direction::Egress;
    let web = || Transport::tcp(1024, 80);
    for (mac, source, passes, number) in [
        (OWN, "10.0.0.1", true, "E6"),
        (OTHER, "10.0.0.1", false, "E1.1"),
        (OWN, "10.0.0.2", false, "E1.3"),
        (OWN, "10.9.0.7", false, "E1.3"),
        (PAIR, "10.9.0.7", true, "E6"),
        (PAIR, "10.0.0.1", false, "E1.3"),
        (OWN, "0.0.0.0", false, "E1.3"),
    ] {
        case.expect(egress, &packet(mac, source, "192.0.2.1", web()), passes, number);
    }
    for (mac, source, passes, number) in [
        (OWN, "2001:db8::1", true, "E6"),
        (OWN, "fe80::216:3eff:fe00:1", true, "E6"),
        (PAIR, "fe80::216:3eff:feff:1", true, "E6"),
        (OWN, "fe80::216:3eff:feff:1", false, "E1.4"),
        (OWN, "2001:db8::2", false, "E1.4"),
        (OWN, "::", false, "E1.4"),
    ] {
        case.expect(egress, &packet(mac, source, "2001:db8::9", web()), passes, number);
    }
    for (frame, sender_mac, sender, passes, number) in [
        (OWN, OWN, "10.0.0.1", true, "E2"),
        (PAIR, PAIR, "10.9.0.1", true, "E2"),
        (OWN, OTHER, "10.0.0.1", false, "E1.2"),
        (OWN, OWN, "10.0.0.2", false, "E1.2"),
        (OWN, PAIR, "10.9.0.1", false, "E1.2"),
        (OTHER, OTHER, "10.0.0.1", false, "E1.1"),
    ] {
        case.expect(egress, &arp(frame, sender_mac, sender), passes, number);
    }
}

#[test]
fn e1_neighbour_discovery_is_for_own_addresses() {
    let case = Case::new();
    let local = "fe80::216:3eff:fe00:1";
    for (source, transport, passes, number) in [
        (local, nd(136, "2001:db8::1"), true, "E2"),
        (local, nd(136, local), true, "E2"),
        (local, nd(136, "2001:db8::2"), false, "E1.5"),
        ("::", nd(135, "2001:db8::1"), true, "E2"),
        ("::", nd(135, "2001:db8::2"), false, "E1.5"),
        (local, nd(135, "2001:db8::2"), true, "E2"),
        ("::", Transport::icmp(133, 0), true, "E2"),
        ("::", Transport::icmp(143, 0), true, "E2"),
        ("::", Transport::icmp(128, 0), false, "E1.4"),
        (local, Transport::icmp(134, 0), false, "E1.6"),
        (local, nd(137, "2001:db8::1"), false, "E1.6"),
        (local, Transport::udp(547, 546), false, "E1.6"),
        (local, Transport::udp(546, 547), true, "E2"),
    ] {
        case.expect(Direction::Egress, &packet(OWN, source, "ff02::1", transport), passes, number);
    }
    let mut hidden = packet(OWN, local, "ff02::1", nd(136, "2001:db8::1"));
    if let Payload::Ipv6(ip) = &mut hidden.payload {
        ip.extensions.push(60);
    }
    case.expect(Direction::Egress, &hidden, false, "E1.5");
}

#[test]
fn dhcp_is_for_clients() {
    let case = Case::new();
    let egress = Direction::Egress;
    case.expect(egress, &packet(OWN, "0.0.0.0", "255.255.255.255", Transport::udp(68, 67)), true, "E2");
    case.expect(egress, &packet(OWN, "10.0.0.1", "10.0.0.254", Transport::udp(68, 67)), true, "E2");
    case.expect(egress, &packet(OWN, "0.0.0.0", "10.0.0.254", Transport::udp(68, 67)), false, "E1.3");
    case.expect(egress, &packet(PAIR, "0.0.0.0", "255.255.255.255", Transport::udp(68, 67)), false, "E1.3");
    case.expect(egress, &packet(OWN, "10.0.0.1", "255.255.255.255", Transport::udp(67, 68)), false, "E1.6");
    case.expect(egress, &packet(OWN, "10.0.0.1", "10.0.0.9", Transport::icmp(5, 0)), false, "E1.6");
    let ingress = Direction::Ingress;
    case.expect(ingress, &packet(OTHER, "10.0.0.254", "10.0.0.1", Transport::udp(67, 68)), true, "I1");
    case.expect(ingress, &packet(OTHER, "fe80::1", "fe80::2", Transport::udp(547, 546)), true, "I1");
    case.expect(ingress, &packet(OTHER, "2001:db8::1", "fe80::2", Transport::udp(547, 546)), false, "I6");
}

#[test]
fn ingress_passes_what_rules_admit_and_no_more() {
    let case = Case::new();
    for (source, transport, passes, number) in [
        ("192.0.2.9", Transport::tcp(1024, 80), true, "I5"),
        ("192.0.2.9", Transport::tcp(1024, 81), false, "I6"),
        ("192.0.2.9", Transport::udp(1024, 80), false, "I6"),
        ("10.0.0.2", Transport::tcp(1024, 22), true, "I5"),
        ("10.0.0.3", Transport::tcp(1024, 22), false, "I6"),
        ("10.0.0.77", Transport::icmp(8, 0), true, "I5"),
        ("10.0.1.77", Transport::icmp(8, 0), false, "I6"),
        ("10.0.0.77", Transport::Fragment(crate::model::Protocol::ICMP), false, "I2"),
    ] {
        case.expect(Direction::Ingress, &packet(OTHER, source, "10.0.0.1", transport), passes, number);
    }
    for (source, transport, passes) in [
        ("fe80::1", Transport::icmp(134, 0), true),
        ("2001:db8::fe", Transport::icmp(134, 0), false),
        ("febf::1", Transport::icmp(130, 0), true),
        ("fec0::1", Transport::icmp(130, 0), false),
        ("2001:db8::fe", nd(135, "2001:db8::1"), true),
        ("2001:db8::fe", Transport::icmp(133, 0), false),
    ] {
        case.expect(
            Direction::Ingress,
            &packet(OTHER, source, "ff02::1", transport),
            passes,
            if passes { "I1" } else { "I6" },
        );
    }
    let tagged = Packet {
        source: OWN.parse().unwrap(),
        destination: OTHER.parse().unwrap(),
        payload: Payload::Other(0x8100),
    };
    case.expect(Direction::Ingress, &tagged, false, "I6");
    case.expect(Direction::Egress, &tagged, false, "E7");
}

#[test]
fn the_operators_rules_come_first_and_in_order() {
    let mut case = Case::new();
    let smtp = packet(OWN, "10.0.0.1", "192.0.2.9", Transport::tcp(1024, 25));
    case.expect(Direction::Egress, &smtp, false, "E5");
    let mut allow = case.host.provider[0].clone();
    allow.action = Action::Allow;
    case.host.provider.insert(0, allow);
    case.expect(Direction::Egress, &smtp, true, "E5");
}

#[test]
fn connections_pass_until_they_are_cut() {
    let case = Case::new();
    let reply = packet(OTHER, "192.0.2.9", "10.0.0.1", Transport::tcp(5432, 1024));
    for (connection, number) in [
        (Connection::New, "I6"),
        (Connection::Original, "I6"),
        (Connection::Reply { cut: false }, "I3"),
        (Connection::Related { cut: false }, "I3"),
        (Connection::Reply { cut: true }, "H4"),
        (Connection::Related { cut: true }, "H4"),
        (Connection::Invalid, "I2"),
    ] {
        assert_eq!(case.number(Direction::Ingress, &reply, connection), number, "{connection:?}");
    }
    // A spoofed packet does not ride on a connection.
    let spoofed = packet(OWN, "10.0.0.2", "192.0.2.9", Transport::tcp(1024, 80));
    assert_eq!(case.number(Direction::Egress, &spoofed, Connection::Reply { cut: false }), "E1.3");
}

#[test]
fn a_hop_needs_both_sides() {
    let mut case = Case::new();
    case.host.guarded.insert("xapi1".parse().unwrap());
    let mut off = case.port.clone();
    off.security = PortSecurity::Off;
    let hop = |from, to, guarded| Hop { from, to, bridge: if guarded { "xapi1" } else { "xapi2" } };
    let (port, open) = (Endpoint::Port(&case.port), Endpoint::Port(&off));
    let (unknown, wire) = (Endpoint::OtherVif, Endpoint::Elsewhere);
    let web = packet(OWN, "10.0.0.1", "10.0.0.1", Transport::tcp(1024, 80));
    let odd = packet(OTHER, "203.0.113.1", "10.0.0.1", Transport::tcp(1024, 81));
    for (what, hop, packet, passes) in [
        ("both filtered", hop(port, port, false), &web, true),
        ("the receiver refuses", hop(wire, port, false), &odd, false),
        ("the sender is a spoofer", hop(port, wire, false), &odd, false),
        ("nobody is ours", hop(unknown, wire, false), &odd, true),
        ("port security off", hop(open, wire, true), &odd, true),
        ("to port security off", hop(wire, open, true), &odd, true),
        ("guarded, from a VIF without rules", hop(unknown, wire, true), &odd, false),
        ("guarded, to a VIF without rules", hop(wire, unknown, true), &odd, false),
        ("guarded, past it", hop(wire, wire, true), &odd, true),
    ] {
        let passage = verdict(&case.host, &hop, packet, Connection::New);
        assert_eq!(passage.passes(), passes, "{what}: {passage:?}");
    }
    let to_unknown = hop(wire, unknown, true);
    let passage = verdict(&case.host, &to_unknown, &odd, Connection::Reply { cut: false });
    assert_eq!(passage, Passage::Stops { side: Direction::Ingress, reason: Reason::UnknownVif });
}

/// A guarded network on which the driver's own VM has a VIF: XAPI at 192.0.2.7 and 2001:db8::7.
#[test]
fn h1_the_drivers_own_vm_reaches_xapi_and_nothing_else() {
    let mut host = fixtures::host(&fixtures::policy(), 2);
    host.guarded = ["xapi1", "xapi2"].map(|bridge| bridge.parse().unwrap()).into();
    let line = Lifeline {
        bridge: "xapi1".parse().unwrap(),
        mac: OWN.parse().unwrap(),
        hosts: ["192.0.2.7", "2001:db8::7"].map(|address| address.parse().unwrap()).into(),
    };
    let v4_only = Lifeline { hosts: ["192.0.2.7".parse().unwrap()].into(), ..line.clone() };
    let passes = |host: &HostPolicy, bridge, direction, packet: &Packet, connection| {
        let (from, to) = match direction {
            Direction::Egress => (Endpoint::OtherVif, Endpoint::Elsewhere),
            Direction::Ingress => (Endpoint::Elsewhere, Endpoint::OtherVif),
        };
        verdict(host, &Hop { from, to, bridge }, packet, connection).passes()
    };
    host.lifelines = [line].into();
    let (new, reply) = (Connection::New, Connection::Reply { cut: false });
    let ask = packet(OWN, "10.0.0.1", "192.0.2.7", Transport::tcp(1024, 443));
    let answer = packet(OTHER, "192.0.2.7", "10.0.0.1", Transport::tcp(443, 1024));
    let solicitation =
        packet(OWN, "2001:db8::1", "2001:db8::7", nd(icmpv6::NEIGHBOR_SOLICITATION, "2001:db8::7"));
    let (out, to) = (Direction::Egress, Direction::Ingress);
    for (what, direction, packet, connection, wanted) in [
        ("XAPI", out, ask.clone(), new, true),
        (
            "XAPI by IPv6",
            out,
            packet(OWN, "2001:db8::1", "2001:db8::7", Transport::tcp(1024, 443)),
            new,
            true,
        ),
        ("another's MAC", out, packet(OTHER, "10.0.0.1", "192.0.2.7", Transport::tcp(1024, 443)), new, false),
        ("another port", out, packet(OWN, "10.0.0.1", "192.0.2.7", Transport::tcp(1024, 22)), new, false),
        ("by UDP", out, packet(OWN, "10.0.0.1", "192.0.2.7", Transport::udp(1024, 443)), new, false),
        ("another host", out, packet(OWN, "10.0.0.1", "192.0.2.8", Transport::tcp(1024, 443)), new, false),
        ("a cut connection", out, ask.clone(), Connection::Reply { cut: true }, false),
        ("DHCP", out, packet(OWN, "0.0.0.0", "255.255.255.255", Transport::udp(68, 67)), new, true),
        ("as a DHCP server", out, packet(OWN, "10.0.0.1", "10.0.0.2", Transport::udp(67, 68)), new, false),
        ("ARP", out, arp(OWN, OWN, "10.0.0.1"), new, true),
        ("ND", out, solicitation.clone(), Connection::Untracked, true),
        ("XAPI's answer", to, answer.clone(), reply, true),
        ("XAPI calls", to, answer.clone(), new, false),
        ("XAPI calls, answered", to, answer.clone(), Connection::Original, false),
        (
            "a reply of somebody's",
            to,
            packet(OTHER, "192.0.2.8", "10.0.0.1", Transport::tcp(443, 1024)),
            reply,
            false,
        ),
        (
            "a reply from another port",
            to,
            packet(OTHER, "192.0.2.7", "10.0.0.1", Transport::tcp(80, 1024)),
            reply,
            false,
        ),
        ("an offer", to, packet(OTHER, "10.0.0.9", "10.0.0.1", Transport::udp(67, 68)), new, true),
        ("ARP for it", to, arp(OTHER, OTHER, "10.0.0.9"), new, true),
    ] {
        assert_eq!(passes(&host, "xapi1", direction, &packet, connection), wanted, "{what}");
        assert!(!passes(&host, "xapi2", direction, &packet, connection), "{what}, on another bridge");
    }
    // What is spoken in a family in which there is no XAPI, passes nothing.
    host.lifelines = [v4_only].into();
    assert!(passes(&host, "xapi1", out, &ask, new));
    assert!(!passes(&host, "xapi1", out, &solicitation, Connection::Untracked));
}

#[test]
fn a_port_without_groups_has_only_what_it_needs() {
    let mut case = Case::new();
    case.port.groups.clear();
    case.expect(Direction::Egress, &packet(OWN, "10.0.0.1", "192.0.2.9", Transport::tcp(1, 80)), false, "E7");
    case.expect(Direction::Egress, &arp(OWN, OWN, "10.0.0.1"), true, "E2");
    case.expect(
        Direction::Ingress,
        &packet(OTHER, "192.0.2.9", "10.0.0.1", Transport::tcp(1, 80)),
        false,
        "I6",
    );
}
