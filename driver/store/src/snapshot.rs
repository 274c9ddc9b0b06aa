//! What the daemon enforces, at one generation.

use ruleset::model::{self, Policy};

use crate::model::{AddressSet, Entity, Group, Kind, OnRuleRemoval, Port, ProviderRule};
use crate::state::State;

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
    pub ports: Vec<Port>,
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
            let Entity::Group(Group { id, on_rule_removal, .. }) = &row.entity else { continue };
            let rules = self.rules_of(id).filter_map(|row| match &row.entity {
                Entity::Rule(rule) => Some(rule.rule.clone()),
                _ => None,
            });
            if *on_rule_removal == OnRuleRemoval::Keep {
                policy.keep.insert(id.clone());
            }
            policy.groups.insert(id.clone(), model::Group { id: id.clone(), rules: rules.collect() });
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
            if let Entity::Port(port) = &row.entity {
                ports.push(port.clone());
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
