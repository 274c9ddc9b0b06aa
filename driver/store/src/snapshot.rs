//! What the daemon enforces, at one generation.

use std::net::IpAddr;

use ruleset::ids::GroupId;
use ruleset::model::{self, AddressPair, Policy, PortSecurity};

use crate::ids::PortId;
use crate::model::{AddressSet, Entity, Group, Kind, OnRuleRemoval, Port, PortTarget, ProviderRule};
use crate::state::State;

/// A port, for whoever binds it to a VIF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The port's id.
    pub id: PortId,
    /// Which VIF it is.
    pub target: PortTarget,
    /// Its groups.
    pub groups: Vec<GroupId>,
    /// Fixed addresses.
    pub addresses: Vec<IpAddr>,
    /// Allowed address pairs.
    pub pairs: Vec<AddressPair>,
    /// Filtered at all?
    pub security: PortSecurity,
}

/// Everything that has to be enforced, as of one generation.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The generation.
    pub generation: u64,
    /// Whether the store was adopted; if not, nothing may be taken away from a host.
    pub adopted: bool,
    /// Groups, sets and the operator's rules in their order.
    pub policy: Policy,
    /// Ports, by id.
    pub ports: Vec<PortSpec>,
    /// Guarded networks by name or uuid.
    pub guarded_networks: Vec<String>,
}

impl State {
    /// What has to be enforced.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot =
            Snapshot { generation: self.generation(), adopted: self.adopted(), ..Snapshot::default() };
        let Snapshot { policy, ports, guarded_networks, .. } = &mut snapshot;
        for row in self.rows(Kind::Group, None) {
            let Entity::Group(Group { id, project, name, description, on_rule_removal }) = &row.entity else {
                continue;
            };
            let rules = self.rules_of(id).filter_map(|row| match &row.entity {
                Entity::Rule(rule) => Some(rule.rule.clone()),
                _ => None,
            });
            if *on_rule_removal == OnRuleRemoval::Keep {
                policy.keep.insert(id.clone());
            }
            let group = model::Group {
                id: id.clone(),
                name: name.clone(),
                description: description.clone(),
                project: project.as_ref().map(ToString::to_string).unwrap_or_default(),
                rules: rules.collect(),
            };
            policy.groups.insert(id.clone(), group);
        }
        for row in self.rows(Kind::Set, None) {
            if let Entity::Set(AddressSet { id, addresses, .. }) = &row.entity {
                policy.sets.insert(id.clone(), addresses.clone());
            }
        }
        let rules = self.provider_rules().into_iter();
        policy.provider = rules
            .map(|ProviderRule { action, rule, .. }| model::ProviderRule {
                action: *action,
                rule: rule.clone(),
            })
            .collect();
        for row in self.rows(Kind::Port, None) {
            if let Entity::Port(Port { id, target, addresses, pairs, groups, security, .. }) = &row.entity {
                ports.push(PortSpec {
                    id: id.clone(),
                    target: target.clone(),
                    groups: groups.clone(),
                    addresses: addresses.clone(),
                    pairs: pairs.clone(),
                    security: *security,
                });
            }
        }
        for row in self.rows(Kind::GuardedNetwork, None) {
            if let Entity::GuardedNetwork(name) = &row.entity {
                guarded_networks.push(name.clone());
            }
        }
        snapshot
    }

    /// The operator's rules in the order in which they are asked.
    #[must_use]
    pub fn provider_rules(&self) -> Vec<&ProviderRule> {
        let rows = self.rows(Kind::ProviderRule, None);
        let mut rules: Vec<_> = rows
            .filter_map(|row| match &row.entity {
                Entity::ProviderRule(rule) => Some(rule),
                _ => None,
            })
            .collect();
        // They come by id, which is what decides among equals.
        rules.sort_by_key(|rule| rule.position);
        rules
    }
}
