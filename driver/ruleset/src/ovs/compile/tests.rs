use super::*;
use crate::model::{Direction, PortRange, PortSecurity, Protocol, Remote, Service};
use crate::ovs::fixtures::{bridge, host, rule, switch};
use crate::ovs::flow::{OfPort, Zone};
use crate::ovs::host::{PortKind, SwitchPort};
use crate::ovs::{HOOK_PRIORITIES, table};

fn compiled(host: &HostPolicy, switch: &OvsHost) -> Compiled {
    compile(host, switch, &bridge(), Epoch::seeded(0)).unwrap()
}

fn text(compiled: &Compiled) -> String {
    compiled.flows.iter().map(|flow| format!("{flow}\n")).collect()
}

#[test]
fn golden() {
    insta::assert_snapshot!(text(&compiled(&host(), &switch())));
}

#[test]
fn golden_guarded_hooks_and_an_open_port() {
    let mut host = host();
    host.attachments[1].port.security = PortSecurity::Off;
    host.guarded.insert("xapi5".parse().unwrap());
    let flows = text(&compiled(&host, &switch()));
    let hooks: String = flows
        .lines()
        .filter(|l| l.starts_with("table=0,") || l.starts_with("table=87,"))
        .map(|l| format!("{l}\n"))
        .collect();
    insta::assert_snapshot!(hooks);
}

#[test]
fn equal_input_gives_equal_flows_whatever_the_order() {
    let mut other = host();
    other.attachments.reverse();
    for group in other.groups.values_mut() {
        group.rules.reverse();
    }

    let shuffled = compiled(&other, &switch());
    assert_eq!(text(&shuffled), text(&compiled(&host(), &switch())));
    assert!(shuffled.flows.windows(2).all(|pair| pair[0].key != pair[1].key));
}

#[test]
fn flows_stand_where_the_plugin_lets_them() {
    for flow in compiled(&host(), &switch()).flows {
        match flow.key.table {
            table::HOOK => {
                assert!(HOOK_PRIORITIES.contains(&flow.key.priority), "{flow}");
                assert!(!flow.actions.contains(&Action::Normal), "{flow}");
            }
            table => assert!((60..=99).contains(&table), "{flow}"),
        }
        assert!(flow.to_string().len() < MOST_BYTES, "{flow}");
    }
}

/// What dom0's plugin asks of every flow: no circles, and connections in a zone that is a network's and not dom0's.
#[test]
fn flows_lead_upwards_and_tracking_is_last() {
    let mut host = host();
    host.guarded.extend(["xapi5", "xenbr0"].map(|name| name.parse::<Interface>().unwrap()));
    for flow in compiled(&host, &switch()).flows {
        for (at, action) in flow.actions.iter().enumerate() {
            let next = match action {
                Action::Resubmit(next) => Some(*next),
                Action::Track { next, .. } => {
                    assert_eq!(at, flow.actions.len() - 1, "{flow}");
                    Some(*next)
                }
                _ => None,
            };
            assert!(next.is_none_or(|next| next > flow.key.table), "{flow}");
            if let Action::Track { zone, .. } | Action::Commit { zone, .. } = action {
                let Zone::Is(number) = zone else { panic!("{flow}") };
                let network = (table::NETWORK, u32::from(number.get()));
                assert!(flow.key.matches.registers.contains(&network), "{flow}");
            }
        }
    }
}

#[test]
fn a_new_openflow_number_changes_only_hook_and_output() {
    let mut moved = switch();
    moved
        .ports
        .values_mut()
        .flatten()
        .filter(|p| p.name == "vif1.0")
        .for_each(|p| p.ofport = OfPort::Number(77));
    let (old, new) = (compiled(&host(), &switch()).flows, compiled(&host(), &moved).flows);
    let changed: Vec<&Flow> = new.iter().filter(|flow| !old.contains(flow)).collect();
    assert!(changed.iter().all(|f| [table::HOOK, table::OUTPUT].contains(&f.key.table)), "{changed:?}");
    assert_eq!(changed.len(), 3);
}

#[test]
fn what_cannot_be_done_is_said() {
    let mut udplite = host();
    let service = Service::Ports(Protocol::UDPLITE, PortRange::new(5, 5).unwrap());
    let group = udplite.groups.values_mut().next().unwrap();
    group.rules.push(rule("lite", Direction::Ingress, service, Remote::Any));
    assert!(compiled(&udplite, &switch()).complaints[0].contains("rule lite"));

    let mut bonded = switch();
    bonded.ports.values_mut().flatten().filter(|p| p.name == "eth0").for_each(|p| {
        p.kind = PortKind::Wire { bonded: true };
    });
    assert!(compiled(&host(), &bonded).complaints[0].contains("has a bond"));

    let mut unplugged = switch();
    unplugged.ports.values_mut().for_each(|ports| ports.retain(|port| port.name != "vif2.0"));
    assert_eq!(compiled(&host(), &unplugged).missing, ["vif-2".parse().unwrap()]);

    let mut nowhere = host();
    nowhere.attachments[0].bridge = "xapi9".parse().unwrap();
    let refused = |host: &HostPolicy, bridge: &str| {
        compile(host, &switch(), &bridge.parse().unwrap(), Epoch::seeded(0)).unwrap_err().to_string()
    };
    assert!(refused(&nowhere, "xenbr0").contains("xapi9"));
    assert!(refused(&host(), "xenbr7").contains("xenbr7"));
}

#[test]
fn a_flow_too_long_for_the_plugin_is_refused_here() {
    let mut crowded = switch();
    let crowd = (100..900).map(|n| SwitchPort {
        name: format!("vif{n}.0"),
        ofport: OfPort::Number(n),
        tag: Some(5),
        kind: PortKind::Guest { vif: None, mac: None, locked: false },
    });
    crowded.ports.values_mut().for_each(|ports| ports.extend(crowd.clone()));
    let refused = compile(&host(), &crowded, &bridge(), Epoch::seeded(0));
    assert!(matches!(refused, Err(CompileError::Long { table: table::REST_OUTPUT | table::WIRE, .. })));
}

/// XAPI lets whoever creates a VIF choose its MAC, and pairs name any.
#[test]
fn a_guest_with_dom0s_mac_gets_nothing_of_dom0s() {
    let own = "02:00:00:00:00:01";
    let mut host = host();
    host.attachments[0].port.mac = own.parse().unwrap();
    let compiled = compiled(&host, &switch());
    let to = |flow: &&Flow| flow.to_string().contains(&format!("dl_dst={own}"));
    let to: Vec<String> = compiled.flows.iter().filter(to).map(|flow| flow.to_string()).collect();
    assert!(
        to.iter().all(|flow| flow.ends_with("actions=NORMAL") || flow.ends_with("actions=output:2")),
        "{to:#?}"
    );
    assert!(compiled.complaints[0].contains(own), "{:?}", compiled.complaints);
}

#[test]
fn a_bridge_with_nothing_to_enforce_has_no_flows() {
    assert_eq!(compiled(&HostPolicy::default(), &switch()).flows, []);
}

#[test]
fn numbers_are_stable_and_never_shared() {
    let narrow = |names: &[&'static str]| numbers(names.iter().copied(), |_| 6, 7);
    let three = narrow(&["a", "b", "c"]);
    assert_eq!(three.into_iter().collect::<Vec<_>>(), [("a", 6), ("b", 7), ("c", 1)]);
    assert_eq!(narrow(&["b"])["b"], 6);
    let wide = |names: &[&'static str]| numbers(names.iter().copied(), |n| digest(&[n]), u32::MAX);
    assert_eq!(wide(&["a", "b"])["b"], wide(&["b", "z"])["b"]);
}

#[test]
fn open_vswitch_2_5_has_the_registers() {
    let text = text(&compiled(&host(), &switch()));
    assert!(text.contains("reg7=") && text.contains("->NXM_NX_REG2[]"), "{text}");
    for number in 8..=15 {
        assert!(
            !text.contains(&format!("reg{number}=")) && !text.contains(&format!("REG{number}[")),
            "{number}"
        );
    }
}

#[test]
fn who_makes_a_flow_too_long_is_named() {
    let mut greedy = host();
    let groups = (0..200).map(|n| format!("g{n}").parse().unwrap());
    greedy.attachments[1].port.groups.extend(groups);
    for id in &greedy.attachments[1].port.groups {
        let group = greedy.groups.values().next().unwrap().clone();
        greedy.groups.entry(id.clone()).or_insert(group);
    }
    let Err(CompileError::Long { culprits, .. }) = compile(&greedy, &switch(), &bridge(), Epoch::seeded(0))
    else {
        panic!("200 groups fit into a line")
    };
    assert_eq!(culprits, BTreeSet::from(["vif-2".parse().unwrap()]));

    // So many claim the first guest's MAC: they, not it.
    let mut crowded = host();
    let mac = crowded.attachments[0].port.mac;
    for n in 0..200 {
        let mut attachment = crowded.attachments[1].clone();
        attachment.port.vif = format!("claims-{n}").parse().unwrap();
        attachment
            .port
            .pairs
            .push(crate::model::AddressPair { mac: Some(mac), net: "10.0.0.2/32".parse().unwrap() });
        crowded.attachments.push(attachment);
    }
    let Err(CompileError::Long { culprits, .. }) = compile(&crowded, &switch(), &bridge(), Epoch::seeded(0))
    else {
        panic!("200 receivers fit into a line")
    };
    assert_eq!(culprits.len(), 200);
    assert!(!culprits.contains(&"vif-1".parse().unwrap()));
}

/// The VIF that was plugged a moment ago: no flow knows its number.
#[test]
fn where_all_networks_are_guarded_a_stranger_says_nothing() {
    // A port of dom0's on a VLAN that is no network of XAPI's.
    let mut switch = switch();
    let own = PortKind::Internal { mac: None };
    let elsewhere =
        SwitchPort { name: "vlan7".to_owned(), ofport: OfPort::Number(6), tag: Some(7), kind: own };
    switch.ports.values_mut().for_each(|ports| ports.push(elsewhere.clone()));
    let from_strangers = |guarded: &[&str]| {
        let mut host = host();
        host.guarded.extend(guarded.iter().map(|name| name.parse::<Interface>().unwrap()));
        let text = text(&compiled(&host, &switch));
        let speaks =
            |port: &str| text.contains(&format!("table=0,priority=45100,in_port={port},actions=NORMAL"));
        (
            text.contains("table=0,priority=45000,actions=drop"),
            ["1", "2", "LOCAL", "6"].map(speaks),
            speaks("5"),
        )
    };
    assert_eq!(from_strangers(&["xapi5", "xenbr0"]), (true, [true; 4], false));
    assert_eq!(from_strangers(&["xapi5"]), (false, [false; 4], false));
}

/// A VM that restarts has a port that no flow knows, and its driver cannot tell: the switch delivers its calls.
#[test]
fn golden_the_drivers_own_vm() {
    let mut host = host();
    host.guarded.extend(["xapi5", "xenbr0"].map(|name| name.parse::<Interface>().unwrap()));
    let hosts = ["192.0.2.7".parse().unwrap()].into();
    let (bridge, mac) = ("xapi5".parse().unwrap(), host.attachments[0].port.mac);
    let before = text(&compiled(&host, &switch()));
    host.lifelines.insert(crate::resolve::Lifeline { bridge, mac, hosts });
    let after = text(&compiled(&host, &switch()));
    let new: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    insta::assert_snapshot!(new.join("\n"));
}
