//! What honest policies cost is far inside the budget.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "what it costs is for people to see, and no reason to fail")]

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Instant;

use dom0_plugin::budget::Load;
use drawbridge_wire::limits::WALK_RULES;
use ruleset::iptables::{Observed, plan};
use ruleset::model::{
    Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, Remote, Rule, Service,
};
use ruleset::resolve::{Attachment, HostPolicy, Places, resolve};

/// VIFs in as many groups of their own, each of so many rules.
fn host(vifs: u16, groups: u16, rules: u16) -> HostPolicy {
    let mut policy = Policy::default();
    let mut attachments = Vec::new();
    for n in 0..vifs {
        let ids: Vec<ruleset::ids::GroupId> =
            (0..groups).map(|g| format!("g{n}-{g}").parse().unwrap()).collect();
        for id in &ids {
            let rule = |at: u16| Rule {
                id: format!("r{at}").parse().unwrap(),
                direction: if at.is_multiple_of(2) { Direction::Egress } else { Direction::Ingress },
                family: Family::Ipv4,
                service: Service::Ports(Protocol::TCP, PortRange::new(at + 1, at + 1).unwrap()),
                remote: Remote::Prefix("192.0.2.0/24".parse().unwrap()),
                description: String::new(),
            };
            policy.groups.insert(id.clone(), Group { id: id.clone(), rules: (0..rules).map(rule).collect() });
        }
        let [a, b] = n.to_be_bytes();
        let port = Port {
            vif: format!("v{n}").parse().unwrap(),
            mac: format!("00:16:3e:00:{a:02x}:{b:02x}").parse().unwrap(),
            addresses: vec![Ipv4Addr::new(10, 0, a, b).into()],
            pairs: Vec::new(),
            groups: ids,
            security: PortSecurity::On,
        };
        attachments.push(Attachment {
            port,
            domid: u32::from(n) + 1,
            device: 0,
            bridge: "xapi1".parse().unwrap(),
        });
    }
    let live: Vec<Port> = attachments.iter().map(|a| a.port.clone()).collect();
    resolve(&policy, &live, Places { attachments, expected: Vec::new() }, ["xapi1".parse().unwrap()].into())
        .unwrap()
}

/// The input of a first write, as a dump shows it then.
fn dump(input: &str) -> String {
    let mut dump = String::new();
    for line in input.lines() {
        // Writing to a String cannot fail.
        let _ = writeln!(dump, "{line}");
    }
    dump
}

#[test]
fn large_hosts_are_inside_it() {
    for (vifs, groups, rules) in [(1, 1, 10), (200, 1, 100), (500, 1, 100), (200, 5, 100), (20, 20, 250)] {
        let host = host(vifs, groups, rules);
        let input = plan(&host, Family::Ipv4, &Observed::default(), 1).unwrap().input.unwrap();
        let dump = dump(&input);
        let started = Instant::now();
        let load = Load::of(&dump);
        let read = started.elapsed();
        let again = Load::from_text(&load.to_text()).unwrap();
        let (walk, checked) = (load.longest_walk().unwrap(), again.after("*filter\nCOMMIT\n").check());
        println!(
            "{vifs} VIFs in {groups} groups of {rules} rules: {} lines, longest walk {walk}; a dump taken in in {read:?}, \
             remembered, read, worked in and checked in {:?}",
            dump.lines().count(),
            started.elapsed() - read
        );
        assert_eq!(checked, Ok(()));
        assert_eq!(Load::default().after(&input).longest_walk(), Ok(walk), "input counts as what it leaves");
    }
}

/// A port in groups of more rules than a packet may meet is refused, and so closed by the driver alone.
#[test]
fn a_port_with_too_many_rules_is_refused() {
    let host = host(1, 1, 65_000);
    let input = plan(&host, Family::Ipv4, &Observed::default(), 1).unwrap().input.unwrap();
    let excess = Load::default().after(&input).check().unwrap_err();
    assert!(excess.ends_with(&format!("at most {WALK_RULES} may be")), "{excess}");
}
