//! Regression: a guest whose connection to a neighbour was cut sent a packet of it to somebody else's MAC, and had the connection
//! marked as allowed again.

use std::collections::BTreeSet;

use ruleset::iptables::{Observed, parse_save};
use ruleset::model::{
    AddressPair, Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, Remote, Rule,
    Service,
};
use ruleset::packet::{Packet, Transport};
use ruleset::resolve::{Attachment, HostPolicy, resolve};

use crate::agree::carry_out;
use crate::conntrack::Tracker;
use crate::generate::Way;
use crate::tables::Tables;

/// 10.0.0.1 may send anything; 10.0.0.2 admits ssh if `admitted`; 10.0.0.3 admits everything, 10.0.0.4 is not filtered, and
/// 10.0.0.5 admits everything and may use all of 10.0.0.0/24.
fn host(admitted: bool, keep: bool) -> HostPolicy {
    let rule = |id: &str, direction, service| Rule {
        id: id.parse().unwrap(),
        direction,
        family: Family::Ipv4,
        service,
        remote: Remote::Any,
        description: String::new(),
    };
    let ssh = Service::Ports(Protocol::TCP, PortRange::new(22, 22).unwrap());
    let mut policy = Policy::default();
    for (id, rules) in [
        ("out", vec![rule("out", Direction::Egress, Service::Any)]),
        ("ssh", if admitted { vec![rule("ssh", Direction::Ingress, ssh)] } else { Vec::new() }),
        ("in", vec![rule("in", Direction::Ingress, Service::Any)]),
    ] {
        let id: ruleset::ids::GroupId = id.parse().unwrap();
        let group = Group { id: id.clone(), rules };
        policy.groups.insert(id.clone(), group);
        // Where the sender's group keeps connections and the receiver's does not, they are cut all the same.
        if keep && id.as_str() == "out" {
            policy.keep.insert(id);
        }
    }
    let attachment = |n: u8, group: &str, security, pairs: Vec<AddressPair>| Attachment {
        port: Port {
            vif: format!("v{n}").parse().unwrap(),
            mac: ruleset::ids::Mac([0, 0x16, 0x3e, 0, 0, n]),
            addresses: vec![[10, 0, 0, n].into()],
            pairs,
            groups: vec![group.parse().unwrap()],
            security,
        },
        domid: n.into(),
        device: 0,
        bridge: "xapi1".parse().unwrap(),
    };
    let all = AddressPair { mac: None, net: "10.0.0.0/24".parse().unwrap() };
    let attachments = vec![
        attachment(1, "out", PortSecurity::On, Vec::new()),
        attachment(2, "ssh", PortSecurity::On, Vec::new()),
        attachment(3, "in", PortSecurity::On, Vec::new()),
        attachment(4, "in", PortSecurity::Off, Vec::new()),
        attachment(5, "in", PortSecurity::On, vec![all]),
    ];
    let live: Vec<Port> = attachments.iter().map(|a| a.port.clone()).collect();
    resolve(&policy, &live, attachments, BTreeSet::new()).unwrap()
}

/// From 10.0.0.1 to 10.0.0.2's ssh, or back.
fn packet(answer: bool) -> Packet {
    let mac = |n| ruleset::ids::Mac([0, 0x16, 0x3e, 0, 0, n]);
    let (macs, addresses) = ((mac(1), mac(2)), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
    if answer {
        Packet::ip((macs.1, macs.0), (addresses.1, addresses.0), Transport::tcp(22, 1024)).unwrap()
    } else {
        Packet::ip(macs, addresses, Transport::tcp(1024, 22)).unwrap()
    }
}

fn way(input: &str, output: &str) -> Way {
    Way { bridge: "xapi1".to_owned(), input: input.to_owned(), output: output.to_owned() }
}

#[test]
fn a_cut_connection_is_not_washed_by_another_mac() {
    for keep in [false, true] {
        for (washer, first) in ["eth0", "vif3.0", "vif4.0"].iter().zip([true, false, true]) {
            let (mut tables, mut tracker) = (Tables::new(), Tracker::default());
            let mut put = |host: &HostPolicy| -> Observed {
                carry_out(&mut tables, host, Family::Ipv4);
                parse_save(&tables.save()).unwrap()
            };
            let (there, back, astray) =
                (way("vif1.0", "vif2.0"), way("vif2.0", "vif1.0"), way("vif1.0", washer));
            let allowed = put(&host(true, keep));
            assert!(tracker.pass(&allowed, &there, &packet(false), None));
            assert!(tracker.pass(&allowed, &back, &packet(true), None));

            let refused = put(&host(false, keep));
            if first {
                assert!(!tracker.pass(&refused, &there, &packet(false), None));
            }
            for _ in 0..2 {
                // It harms nobody there, and changes nothing.
                assert!(tracker.pass(&refused, &astray, &packet(false), None), "to {washer}");
                assert!(
                    !tracker.pass(&refused, &there, &packet(false), None),
                    "after {washer}, keep: {keep}"
                );
                assert!(!tracker.pass(&refused, &back, &packet(true), None), "after {washer}, keep: {keep}");
            }
        }
    }
}

/// The other way round: a receiver that refuses what was flooded to it does not cut a connection that is not its own.
#[test]
fn a_connection_is_not_cut_by_somebody_it_is_not_for() {
    let (mut tables, mut tracker) = (Tables::new(), Tracker::default());
    let mut put = |host: &HostPolicy| -> Observed {
        carry_out(&mut tables, host, Family::Ipv4);
        parse_save(&tables.save()).unwrap()
    };
    let (there, back) = (way("eth0", "vif2.0"), way("vif2.0", "eth0"));
    let allowed = put(&host(true, false));
    assert!(tracker.pass(&allowed, &there, &packet(false), None));
    assert!(tracker.pass(&allowed, &back, &packet(true), None));
    // Something is taken away, so that everything is judged again; the neighbour's copy comes first.
    let mut other = host(true, false);
    other.attachments.retain(|a| a.domid != 3);
    let again = put(&other);
    assert!(!tracker.pass(&again, &way("eth0", "vif1.0"), &packet(false), None));
    assert!(tracker.pass(&again, &back, &packet(true), None));
    assert!(tracker.pass(&again, &there, &packet(false), None));
}

/// Who may use a whole prefix has every address in it: what it refuses is cut.
#[test]
fn a_port_with_a_prefix_is_whom_its_packets_are_for() {
    let (mut tables, mut tracker) = (Tables::new(), Tracker::default());
    let mut put = |host: &HostPolicy| -> Observed {
        carry_out(&mut tables, host, Family::Ipv4);
        parse_save(&tables.save()).unwrap()
    };
    let (there, back) = (way("vif1.0", "vif5.0"), way("vif5.0", "vif1.0"));
    let mut answer = packet(true);
    answer.source = ruleset::ids::Mac([0, 0x16, 0x3e, 0, 0, 5]);
    let allowed = put(&host(true, false));
    assert!(tracker.pass(&allowed, &there, &packet(false), None));
    assert!(tracker.pass(&allowed, &back, &answer, None));
    let mut closed = host(true, false);
    closed.groups.get_mut(&"in".parse().unwrap()).unwrap().rules.clear();
    let refused = put(&closed);
    assert!(!tracker.pass(&refused, &there, &packet(false), None));
    assert!(!tracker.pass(&refused, &back, &answer, None));
}
