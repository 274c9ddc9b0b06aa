//! A policy and hosts for this module's tests.

use std::collections::BTreeSet;

use crate::model::{
    Action, AddressPair, Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol,
    ProviderRule, Remote, Rule, Service,
};
use crate::resolve::{Attachment, HostPolicy, resolve};

pub(crate) fn rule(id: &str, direction: Direction, family: Family, service: Service, remote: Remote) -> Rule {
    Rule { id: id.parse().unwrap(), direction, family, service, remote, description: String::new() }
}

fn group(id: &str, rules: Vec<Rule>) -> Group {
    Group { id: id.parse().unwrap(), rules }
}

pub(crate) fn tcp(port: u16) -> Service {
    Service::Ports(Protocol::TCP, PortRange::new(port, port).unwrap())
}

/// `web` admits tcp 80 from everybody and tcp 22 from `admins`, v4 and v6; both groups may send anything.
pub(crate) fn policy() -> Policy {
    let mut policy = Policy::default();
    let open = |id: &str| {
        Family::ALL.map(|f| rule(&format!("{id}-out-{f}"), Direction::Egress, f, Service::Any, Remote::Any))
    };
    let mut web: Vec<Rule> = open("web").into();
    for family in Family::ALL {
        web.push(rule(&format!("http-{family}"), Direction::Ingress, family, tcp(80), Remote::Any));
        web.push(rule(
            &format!("ssh-{family}"),
            Direction::Ingress,
            family,
            tcp(22),
            Remote::Group("admins".parse().unwrap()),
        ));
        web.push(rule(
            &format!("dns-{family}"),
            Direction::Egress,
            family,
            Service::Protocol(Protocol::UDP),
            Remote::Set("resolvers".parse().unwrap()),
        ));
    }
    web.push(rule(
        "lan",
        Direction::Ingress,
        Family::Ipv4,
        Service::Protocol(Protocol::ICMP),
        Remote::Prefix("10.0.0.5/24".parse().unwrap()),
    ));
    policy.groups.insert("web".parse().unwrap(), group("web", web));
    policy.groups.insert("admins".parse().unwrap(), group("admins", open("admins").into()));
    policy.sets.insert(
        "resolvers".parse().unwrap(),
        vec!["192.0.2.53/32".parse().unwrap(), "2001:db8::53/128".parse().unwrap()],
    );
    let smtp = rule("no-smtp", Direction::Egress, Family::Ipv4, tcp(25), Remote::Any);
    policy.provider.push(ProviderRule { action: Action::Deny, rule: smtp });
    policy
}

/// Guest `n` (from 1) has domid `n`; guest 1 is in `web`, the others in `admins` too.
pub(crate) fn attachment(n: u32) -> Attachment {
    let [.., a, b] = n.to_be_bytes();
    let mac = format!("00:16:3e:00:{a:02x}:{b:02x}").parse().unwrap();
    let pairs = if n == 2 {
        vec![AddressPair {
            mac: Some("00:16:3e:ff:00:01".parse().unwrap()),
            net: "10.9.0.0/24".parse().unwrap(),
        }]
    } else {
        vec![]
    };
    let groups: &[&str] = if n == 1 { &["web"] } else { &["web", "admins"] };
    Attachment {
        port: Port {
            vif: format!("vif-{n}").parse().unwrap(),
            mac,
            addresses: vec![
                format!("10.0.{a}.{b}").parse().unwrap(),
                format!("2001:db8::{n:x}").parse().unwrap(),
            ],
            pairs,
            groups: groups.iter().map(|g| g.parse().unwrap()).collect(),
            security: PortSecurity::On,
        },
        domid: n,
        device: 0,
        bridge: "xapi1".parse().unwrap(),
    }
}

pub(crate) fn host(policy: &Policy, guests: u32) -> HostPolicy {
    let attachments: Vec<_> = (1..=guests).map(attachment).collect();
    let live: Vec<_> = attachments.iter().map(|a| a.port.clone()).collect();
    resolve(policy, &live, attachments, BTreeSet::new()).unwrap()
}
