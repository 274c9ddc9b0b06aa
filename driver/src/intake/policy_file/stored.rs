//! What the store holds, as a policy file: to be printed, and to be reasoned about.

use std::collections::BTreeMap;
use std::path::Path;

use api::wire;
use toml::Spanned;

use super::{Origin, PolicyError, PolicyFile, convert, raw};

/// The rows of a store, as the daemon's API gives them.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the types say it")]
pub struct Rows {
    pub projects: Vec<wire::Project>,
    pub sets: Vec<wire::AddressSet>,
    pub groups: Vec<wire::Group>,
    pub rules: Vec<wire::Rule>,
    pub ports: Vec<wire::Port>,
    pub provider_rules: Vec<wire::ProviderRule>,
    pub guarded_networks: Vec<wire::GuardedNetwork>,
}

impl Rows {
    /// As a policy file's text. Applied to the same store it changes nothing.
    ///
    /// # Errors
    /// If TOML has no form for it, which no store's content leads to.
    pub fn to_toml(self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(&self.file())
    }

    /// As a policy, each port known by its id.
    ///
    /// # Errors
    /// [`PolicyError`] for what makes no sense, which no store holds.
    pub fn policy(self) -> Result<PolicyFile, PolicyError> {
        let ids: Vec<String> = self.ports.iter().map(|port| port.id.clone()).collect();
        let mut policy = convert::convert(self.file(), "").map_err(|mistake| PolicyError::Syntax {
            path: Path::new("the store").to_owned(),
            message: mistake.message,
        })?;
        for (port, id) in policy.ports.iter_mut().zip(ids) {
            port.origin = Origin::Stored(id);
        }
        Ok(policy)
    }

    fn file(self) -> raw::File {
        let Self { projects, sets, groups, rules, ports, mut provider_rules, guarded_networks } = self;
        let mut of_group: BTreeMap<String, Vec<Spanned<raw::Rule>>> = BTreeMap::new();
        for rule in rules {
            let (group, rule) = group_rule(rule);
            of_group.entry(group).or_default().push(rule);
        }
        // Among equals the id decides, by which they come.
        provider_rules.sort_by_key(|rule| rule.position);
        let group = |group: wire::Group| {
            let wire::Group { id, project, name, description, on_rule_removal, revision: _ } = group;
            here(raw::Group {
                rule: of_group.remove(&id).unwrap_or_default(),
                id: here(id),
                name: Some(name),
                description,
                project: project.unwrap_or_default(),
                implicit_rules: raw::ImplicitRules::None,
                on_rule_removal: on_rule_removal.into(),
            })
        };
        raw::File {
            guarded_networks: guarded_networks.into_iter().map(|network| network.name).collect(),
            project: projects.into_iter().map(project).collect(),
            group: groups.into_iter().map(group).collect(),
            set: sets.into_iter().map(set).collect(),
            port: ports.into_iter().map(port).collect(),
            provider_rule: provider_rules.into_iter().map(provider_rule).collect(),
        }
    }
}

/// A value from no file.
fn here<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn texts(list: Vec<String>) -> Vec<Spanned<String>> {
    list.into_iter().map(here).collect()
}

fn project(project: wire::Project) -> Spanned<raw::Project> {
    let wire::Project { id, name, description, default_group, revision: _ } = project;
    here(raw::Project { id: here(id), name, description, default_group: Some(here(default_group)) })
}

fn set(set: wire::AddressSet) -> Spanned<raw::Set> {
    let wire::AddressSet { id, project, name, description, addresses, revision: _ } = set;
    let (id, project, addresses) = (here(id), project.unwrap_or_default(), texts(addresses));
    here(raw::Set { id, name, description, project, addresses })
}

fn port(port: wire::Port) -> Spanned<raw::Port> {
    let wire::Port {
        id,
        project,
        vm,
        device,
        vif,
        addresses,
        address_pairs,
        groups,
        port_security,
        revision: _,
        state: _,
    } = port;
    let pair = |wire::AddressPair { mac, address }| here(raw::Pair { mac, address });
    here(raw::Port {
        id: Some(id),
        project: project.unwrap_or_default(),
        vm,
        device,
        vif: vif.map(here),
        groups: texts(groups),
        addresses: texts(addresses),
        address_pairs: address_pairs.into_iter().map(pair).collect(),
        port_security,
    })
}

/// The group and the rule.
fn group_rule(rule: wire::Rule) -> (String, Spanned<raw::Rule>) {
    let wire::Rule {
        id,
        group,
        direction,
        ethertype,
        protocol,
        ports,
        icmp_type,
        icmp_code,
        remote_cidr,
        remote_group,
        remote_set,
        description,
        revision: _,
    } = rule;
    let rule = raw::Rule {
        id: Some(here(id)),
        direction: direction.into(),
        ethertype: Some(ethertype.into()),
        protocol: protocol.map(raw::Protocol::Name).map(here),
        ports: ports.map(raw::Ports::Range).map(here),
        icmp_type,
        icmp_code,
        remote_cidr: remote_cidr.map(here),
        remote_group: remote_group.map(here),
        remote_set: remote_set.map(here),
        description,
    };
    (group, here(rule))
}

fn provider_rule(rule: wire::ProviderRule) -> Spanned<raw::ProviderRule> {
    let wire::ProviderRule {
        id,
        position,
        action,
        direction,
        ethertype,
        protocol,
        ports,
        icmp_type,
        icmp_code,
        remote_cidr,
        remote_group,
        remote_set,
        description,
        revision: _,
    } = rule;
    here(raw::ProviderRule {
        position: Some(position),
        action: action.into(),
        id: Some(here(id)),
        direction: direction.into(),
        ethertype: Some(ethertype.into()),
        protocol: protocol.map(raw::Protocol::Name).map(here),
        ports: ports.map(raw::Ports::Range).map(here),
        icmp_type,
        icmp_code,
        remote_cidr: remote_cidr.map(here),
        remote_group: remote_group.map(here),
        remote_set: remote_set.map(here),
        description,
    })
}

impl From<wire::OnRuleRemoval> for raw::OnRuleRemoval {
    fn from(on: wire::OnRuleRemoval) -> Self {
        match on {
            wire::OnRuleRemoval::Cut => Self::Cut,
            wire::OnRuleRemoval::Keep => Self::Keep,
        }
    }
}

#[cfg(test)]
mod tests;
