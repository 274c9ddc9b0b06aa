//! A guest that is about to arrive: silent until its port is seen, judged by its port from then on, and reached where it
//! still is until it has come.

use std::collections::BTreeSet;

use ruleset::ids::{GroupId, Mac};
use ruleset::iptables::Mark;
use ruleset::model::{
    Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, Remote, Rule, Service,
};
use ruleset::ovs::interpret::{Arrival, Outcome, Tables};
use ruleset::ovs::{CtState, OfPort, OvsHost, PortKind, SwitchPort, plan};
use ruleset::packet::{Packet, Transport};
use ruleset::resolve::{Attachment, Expected, Places, resolve};

use crate::generate::Random;
use crate::switch::{Model, OTHERS, TAG, parent, switch};

fn mac(n: u8) -> Mac {
    Mac([0, 0x16, 0x3e, 0, 0, n])
}

/// 10.0.0.n in a group that lets everything out and ssh in.
fn port(n: u8) -> Port {
    Port {
        vif: format!("v{n}").parse().unwrap(),
        mac: mac(n),
        addresses: vec![[10, 0, 0, n].into()],
        pairs: Vec::new(),
        groups: vec!["g".parse().unwrap()],
        security: PortSecurity::On,
    }
}

fn policy() -> Policy {
    let rule = |id: &str, direction, service| Rule {
        id: id.parse().unwrap(),
        direction,
        family: Family::Ipv4,
        service,
        remote: Remote::Any,
        description: String::new(),
    };
    let ssh = Service::Ports(Protocol::TCP, PortRange::new(22, 22).unwrap());
    let rules = vec![rule("out", Direction::Egress, Service::Any), rule("ssh", Direction::Ingress, ssh)];
    let id: GroupId = "g".parse().unwrap();
    let group = Group { id: id.clone(), rules };
    Policy { groups: [(id, group)].into(), ..Policy::default() }
}

/// Port 1 is here, port 2 is about to arrive; on the switch it is, or is not yet, as `vif30000.0`.
fn host(seen: bool) -> (OvsHost, Model) {
    let bridge = || "xapi1".parse().unwrap();
    let places = Places {
        attachments: vec![Attachment { port: port(1), domid: 1, device: 0, bridge: bridge() }],
        expected: vec![Expected { port: port(2), bridge: bridge() }],
    };
    let live = [port(1), port(2)];
    let host = resolve(&policy(), &live, places, BTreeSet::new()).unwrap();
    let mut switch = switch(&mut Random(1), &host);
    let ports = switch.ports.get_mut(&parent()).unwrap();
    ports.retain(|port| port.name != NEW && port.name != "tap1.0");
    if seen {
        let kind = PortKind::Guest { vif: Some(port(2).vif), mac: Some(mac(2)), locked: false };
        ports.push(SwitchPort { name: NEW.to_owned(), ofport: STRANGER, tag: Some(TAG), kind });
    }
    let mut model = Model::default();
    model.apply(&plan(&host, &switch, &parent(), &model.observed(), 77).unwrap().bundle());
    (switch, model)
}

const NEW: &str = "vif30000.0";
const STRANGER: OfPort = OfPort::Number(900);

fn packet(from: u8, to: u8, port: u16) -> Packet {
    let addresses = ([10, 0, 0, from].into(), [10, 0, 0, to].into());
    Packet::ip((mac(from), mac(to)), addresses, Transport::tcp(1024, port)).unwrap()
}

fn send(model: &Model, packet: &Packet, in_port: OfPort, vlan: Option<u16>) -> Outcome {
    let observed = model.observed();
    let arrival = Arrival { packet, in_port, vlan, state: CtState::NEW, mark: 0 };
    Tables::new(&observed).send(arrival).unwrap()
}

fn number(switch: &OvsHost, name: &str) -> OfPort {
    switch.ports[&parent()].iter().find(|port| port.name == name).unwrap().ofport
}

#[test]
fn a_guest_whose_port_nobody_has_seen_says_nothing() {
    let (switch, model) = host(false);
    for to in [1, 9] {
        let outcome = send(&model, &packet(2, to, 22), STRANGER, None);
        assert!(outcome.outputs.is_empty() && !outcome.normal, "{outcome:?}");
    }
    let mut to_many = packet(2, 255, 22);
    to_many.destination = Mac([0xff; 6]);
    let outcome = send(&model, &to_many, STRANGER, None);
    assert!(outcome.outputs.is_empty() && !outcome.normal, "{outcome:?}");

    // Where it still is it is heard; so is whoever has its MAC among those known, and everybody else.
    let here = number(&switch, "vif1.0");
    let wire = number(&switch, "eth0");
    assert_eq!(send(&model, &packet(2, 1, 22), wire, Some(TAG)).outputs, [(here, None)]);
    assert!(send(&model, &packet(2, 9, 22), number(&switch, OTHERS[3].0), None).normal);
    assert!(send(&model, &packet(7, 9, 22), STRANGER, None).normal);
    // And it is reached there, as if nobody waited for it.
    assert!(send(&model, &packet(1, 2, 22), here, None).outputs.contains(&(wire, Some(TAG))));
}

#[test]
fn a_port_that_was_seen_is_judged_before_its_guest_runs_there() {
    let (switch, model) = host(true);
    let (here, wire) = (number(&switch, "vif1.0"), number(&switch, "eth0"));
    assert_eq!(send(&model, &packet(2, 1, 22), STRANGER, None).outputs, [(here, None)]);
    assert_eq!(send(&model, &packet(2, 1, 23), STRANGER, None).outputs, []);
    let mut spoofed = packet(3, 1, 22);
    spoofed.source = mac(2);
    assert_eq!(send(&model, &spoofed, STRANGER, None).outputs, []);

    // To where it is, and to where it will be.
    let allowed = send(&model, &packet(1, 2, 22), here, None);
    assert!(allowed.outputs.contains(&(STRANGER, None)) && allowed.outputs.contains(&(wire, Some(TAG))));
    let refused = send(&model, &packet(1, 2, 23), here, None);
    assert!(!refused.outputs.contains(&(STRANGER, None)), "{refused:?}");
    assert!(refused.outputs.contains(&(wire, Some(TAG))), "{refused:?}");
    let from_wire = send(&model, &packet(9, 2, 23), wire, Some(TAG));
    assert!(!from_wire.outputs.contains(&(STRANGER, None)), "{from_wire:?}");
}

/// What goes on to where the guest still is must not have the connection remembered as allowed here.
#[test]
fn a_connection_refused_at_the_new_port_stays_cut() {
    let (switch, model) = host(true);
    let observed = model.observed();
    let epoch = observed.epoch().unwrap();
    let packet = packet(1, 2, 23);
    let arrival = Arrival {
        packet: &packet,
        in_port: number(&switch, "vif1.0"),
        vlan: None,
        state: CtState::EST,
        mark: epoch.next().mark().value(),
    };
    let outcome = Tables::new(&observed).send(arrival).unwrap();
    assert_eq!(outcome.commit, Some(Mark::REVOKED.value()), "{outcome:?}");
}
