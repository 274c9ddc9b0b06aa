//! E5 to E7 and I4 to I6: the operator's rules and the groups'.
//!
//! A group's rules stand once, with the group in a register; a port's flow asks its groups one after the other. A remote
//! group or set is a conjunction: its members are one dimension, the services that admit it the other. Since the group
//! asked stands in a register, one id per set is enough, and a member is one flow whoever refers to it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::site::Layout;
use super::{Builder, CompileError, digest, ether, numbers, of_ether};
use crate::ids::GroupId;
use crate::model::{self, Direction, Family, Icmp, Protocol, Remote, Service};
use crate::ovs::flow::{Action, Match};
use crate::ovs::ports::masks;
use crate::ovs::table;
use crate::resolve::{HostPolicy, PeerSet};

/// The first provider rule's priority; the others follow below.
const FIRST_PROVIDER: u16 = 40_000;

/// Provider rules that fit between that and the table's last flow.
const MOST_PROVIDER: usize = 39_000;

/// One side's tables.
struct Side {
    direction: Direction,
    provider: u8,
    groups: u8,
    rules: u8,
    judged: u8,
    port: u8,
}

const SIDES: [Side; 2] = [
    Side {
        direction: Direction::Egress,
        provider: table::PROVIDER_EGRESS,
        groups: table::GROUPS_EGRESS,
        rules: table::RULES_EGRESS,
        judged: table::JUDGED_EGRESS,
        port: table::FROM,
    },
    Side {
        direction: Direction::Ingress,
        provider: table::PROVIDER_INGRESS,
        groups: table::GROUPS_INGRESS,
        rules: table::RULES_INGRESS,
        judged: table::JUDGED_INGRESS,
        port: table::TO,
    },
];

impl Side {
    /// What happens to a packet that passes.
    fn pass(&self) -> Vec<Action> {
        match self.direction {
            Direction::Egress => {
                vec![Action::Load(table::WAY, table::way::RULES), Action::Resubmit(table::DELIVER)]
            }
            Direction::Ingress => vec![Action::Resubmit(table::ACCEPT)],
        }
    }

    /// The match on whom the guest speaks with.
    fn remote(&self, matches: Match, net: IpNet) -> Match {
        match self.direction {
            Direction::Egress => Match { destination: Match::net(net), ..matches },
            Direction::Ingress => Match { source: Match::net(net), ..matches },
        }
    }
}

pub(super) fn write(host: &HostPolicy, layout: &Layout<'_>, out: &mut Builder) -> Result<(), CompileError> {
    if host.provider.len() > MOST_PROVIDER {
        return Err(CompileError::ProviderRules { most: MOST_PROVIDER });
    }
    let used: BTreeSet<&GroupId> = layout.ports.iter().flat_map(|site| &site.port.groups).collect();
    let groups = numbers(host.groups.keys(), |id| digest(&["group", id.as_str()]), u32::MAX);
    let sets = numbers(
        host.members.keys(),
        |peers| match peers {
            PeerSet::Group(id) => digest(&["members", id.as_str()]),
            PeerSet::Set(id) => digest(&["set", id.as_str()]),
        },
        u32::MAX,
    );
    for side in &SIDES {
        provider_rules(host, side, out);
        out.otherwise(side.provider, [Action::Resubmit(side.groups)]);

        let mut referred: BTreeSet<(&PeerSet, Family)> = BTreeSet::new();
        for (id, number) in groups.iter().filter(|(id, _)| used.contains(**id)) {
            let Some(group) = host.groups.get(id) else { continue };
            for rule in group.rules.iter().filter(|rule| rule.direction == side.direction) {
                let peers = host.members.keys().find(|peers| refers_to(&rule.remote, peers));
                group_rule(rule, *number, peers.and_then(|p| sets.get(p)).copied(), side, out);
                referred.extend(peers.map(|peers| (peers, rule.family)));
            }
        }
        for (peers, family) in referred {
            if let (Some(id), Some(nets)) = (sets.get(peers), host.members.get(peers)) {
                members(*id, nets, family, (side.rules, 50), side, &passed(), out);
            }
        }
        out.otherwise(side.rules, super::default_verdict());

        for site in &layout.ports {
            let mut actions = vec![Action::Load(table::PASSED, 0)];
            let own: BTreeSet<&GroupId> = site.port.groups.iter().collect();
            for number in own.into_iter().filter_map(|id| groups.get(id)) {
                actions.extend([Action::Load(table::GROUP, *number), Action::Resubmit(side.rules)]);
            }
            actions.push(Action::Resubmit(side.judged));
            out.add(side.groups, 50, Match::default().register(side.port, site.id), actions);
        }
        out.otherwise(side.groups, super::default_verdict());
        let passed = Match::default().register(table::PASSED, 1);
        out.add(side.judged, 50, passed, side.pass());
        out.otherwise(side.judged, [Action::Resubmit(table::DENY)]);
    }
    Ok(())
}

fn passed() -> Vec<Action> {
    vec![Action::Load(table::PASSED, 1)]
}

fn refers_to(remote: &Remote, peers: &PeerSet) -> bool {
    match (remote, peers) {
        (Remote::Group(id), PeerSet::Group(other)) => id == other,
        (Remote::Set(id), PeerSet::Set(other)) => id == other,
        _ => false,
    }
}

fn group_rule(rule: &model::Rule, group: u32, set: Option<u32>, side: &Side, out: &mut Builder) {
    let services = services(rule, out);
    for service in services {
        let service = service.register(table::GROUP, group);
        match (&rule.remote, set) {
            (Remote::Any, _) => out.add(side.rules, 100, service, passed()),
            (Remote::Prefix(net), _) => out.add(side.rules, 100, side.remote(service, *net), passed()),
            (Remote::Group(_) | Remote::Set(_), Some(id)) => {
                out.add(side.rules, 50, service, [Action::Conjunction { id, dimension: 1 }]);
            }
            // Nobody.
            (Remote::Group(_) | Remote::Set(_), None) => {}
        }
    }
}

/// The members' dimension of a conjunction, and what follows when both are met.
fn members(
    id: u32,
    nets: &[IpNet],
    family: Family,
    (table, priority): (u8, u16),
    side: &Side,
    then: &[Action],
    out: &mut Builder,
) {
    for net in nets.iter().filter(|net| Family::of(net) == family) {
        let member = side.remote(of_ether(ether(family)), *net);
        out.add(table, priority, member, [Action::Conjunction { id, dimension: 2 }]);
    }
    let both = Match { conj_id: Some(id), ..of_ether(ether(family)) };
    out.add(table, priority, both, then.iter().cloned());
}

/// The first that matches decides: every rule has a priority, and a conjunction, of its own.
fn provider_rules(host: &HostPolicy, side: &Side, out: &mut Builder) {
    let ids: BTreeMap<(&str, &str), u32> =
        numbers(host.provider.iter().map(name), |(action, id)| digest(&["provider", action, id]), u32::MAX);
    let rules = (0..).zip(&host.provider).filter(|(_, p)| p.rule.direction == side.direction);
    for (at, provider) in rules {
        let rule = &provider.rule;
        let priority = FIRST_PROVIDER - at;
        let then = match provider.action {
            model::Action::Allow => side.pass(),
            model::Action::Deny => vec![Action::Resubmit(table::DENY)],
        };
        let peers = host.members.iter().find(|(peers, _)| refers_to(&rule.remote, peers));
        // A member that is everybody: its flow would match what the service's does, and one flow counts for one dimension.
        let whole = |net: &IpNet| Family::of(net) == rule.family && net.prefix_len() == 0;
        let everybody = peers.is_some_and(|(_, nets)| nets.iter().any(whole));
        let peers = peers.filter(|_| !everybody);
        for service in services(rule, out) {
            match (&rule.remote, ids.get(&name(provider))) {
                _ if everybody => out.add(side.provider, priority, service, then.clone()),
                (Remote::Any, _) => out.add(side.provider, priority, service, then.clone()),
                (Remote::Prefix(net), _) => {
                    out.add(side.provider, priority, side.remote(service, *net), then.clone());
                }
                (Remote::Group(_) | Remote::Set(_), Some(id)) if peers.is_some() => {
                    let dimension = Action::Conjunction { id: *id, dimension: 1 };
                    out.add(side.provider, priority, service, [dimension]);
                }
                (Remote::Group(_) | Remote::Set(_), _) => {}
            }
        }
        if let (Some((_, nets)), Some(id)) = (peers, ids.get(&name(provider))) {
            members(*id, nets, rule.family, (side.provider, priority), side, &then, out);
        }
    }
}

/// What its conjunction's id is made of. A rule that turns from one action to the other gets another conjunction: flows that
/// deny never become flows that allow while others of theirs are still to come or to go.
fn name(provider: &model::ProviderRule) -> (&str, &str) {
    let action = match provider.action {
        model::Action::Allow => "allow",
        model::Action::Deny => "deny",
    };
    (action, provider.rule.id.as_str())
}

/// The matches of a rule's service; none if the switch cannot tell such packets apart.
fn services(rule: &model::Rule, out: &mut Builder) -> Vec<Match> {
    let family = of_ether(ether(rule.family));
    match rule.service {
        Service::Any => vec![family],
        Service::Protocol(protocol) => vec![Match { nw_proto: Some(protocol.0), ..family }],
        Service::Icmp(protocol, Icmp { kind, code }) => {
            vec![Match { nw_proto: Some(protocol.0), icmp_type: Some(kind), icmp_code: code, ..family }]
        }
        Service::Ports(protocol, range) if has_ports(protocol) => masks(range.first(), range.last())
            .into_iter()
            .map(|ports| Match { nw_proto: Some(protocol.0), tp_dst: Some(ports), ..family.clone() })
            .collect(),
        Service::Ports(protocol, _) => {
            out.complaints.push(format!(
                "rule {}: Open vSwitch cannot match ports of {protocol}; the rule has no effect on this host",
                rule.id
            ));
            Vec::new()
        }
    }
}

/// The protocols whose ports OpenFlow can match.
fn has_ports(protocol: Protocol) -> bool {
    [Protocol::TCP, Protocol::UDP, Protocol::SCTP].contains(&protocol)
}
