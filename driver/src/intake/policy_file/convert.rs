//! From a document to what is enforced, without a store: what it refers to must stand in it.

use std::collections::{BTreeMap, BTreeSet};

use api::wire::DocumentInput;
use api::{Code, Problem};
use ruleset::model::{Direction, Group, Policy, ProviderRule, Remote, Rule};
use store::{
    AddressSet, Document, GroupDocument, OnRuleRemoval, Port, PortDocument, RESERVED_PREFIX, RuleDocument,
};

use super::{Origin, PolicyFile, PortSpec};

/// A mistake and its place in the document.
fn mistake<T>(pointer: &str, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::new(Code::InvalidValue, message).at(pointer))
}

/// What only a store keeps is forgotten, and each rule gets an id for people to know it by.
pub(super) fn without_a_store(document: &mut DocumentInput) {
    document.projects.clear();
    document.sets.iter_mut().for_each(|set| set.project = None);
    for port in &mut document.ports {
        (port.id, port.project) = (None, None);
    }
    for group in &mut document.groups {
        group.project = None;
        for (index, rule) in group.rules.iter_mut().enumerate() {
            rule.id.get_or_insert_with(|| format!("rule-{}", index + 1));
        }
    }
}

/// The policy that a document describes; `origin` says where each of its ports stands.
///
/// # Errors
/// What makes no sense, with its place in the document.
pub(super) fn policy(
    document: DocumentInput,
    origin: impl Fn(usize, &Port) -> Origin,
) -> Result<PolicyFile, Problem> {
    let Document { projects: _, sets, groups, ports, provider_rules, guarded_networks } =
        document.try_into()?;
    let mut policy = Policy::default();
    for (index, AddressSet { id, addresses, .. }) in sets.into_iter().enumerate() {
        if policy.sets.contains_key(&id) {
            return mistake(&format!("/sets/{index}/id"), format!("address set {id} stands twice"));
        }
        policy.sets.insert(id, addresses);
    }
    // Groups may refer to each other in any order: first all of them, then their rules.
    for (index, GroupDocument { group, rules: _ }) in groups.iter().enumerate() {
        let id = group.id.clone();
        let at = format!("/groups/{index}/id");
        if id.as_str().starts_with(RESERVED_PREFIX) {
            return mistake(&at, format!("ids that begin with {RESERVED_PREFIX} are the driver's own"));
        }
        if policy.groups.contains_key(&id) {
            return mistake(&at, format!("group {id} stands twice"));
        }
        if group.on_rule_removal == OnRuleRemoval::Keep {
            policy.keep.insert(id.clone());
        }
        policy.groups.insert(id.clone(), Group { id, rules: Vec::new() });
    }
    for (index, GroupDocument { group, rules }) in groups.into_iter().enumerate() {
        let rules = rules_of(&policy, rules, &format!("/groups/{index}/rules"))?;
        policy.groups.entry(group.id).and_modify(|group| group.rules = rules);
    }
    let mut provider: Vec<_> = placed(provider_rules).collect();
    // Among equals the place decides.
    provider.sort_by_key(|(_, rule)| rule.position);
    for (index, store::ProviderRule { position: _, action, rule }) in provider {
        refers_to_known(&policy, &rule, &format!("/provider_rules/{index}"))?;
        policy.provider.push(ProviderRule { action, rule });
    }
    let ports = ports_of(&policy, ports, origin)?;
    Ok(PolicyFile { policy, ports, guarded_networks })
}

/// Each rule with the place of what it was said by.
fn placed<T>(rules: Vec<Vec<T>>) -> impl Iterator<Item = (usize, T)> {
    rules.into_iter().enumerate().flat_map(|(index, rules)| rules.into_iter().map(move |rule| (index, rule)))
}

fn rules_of(policy: &Policy, rules: Vec<Vec<RuleDocument>>, at: &str) -> Result<Vec<Rule>, Problem> {
    let mut found: Vec<Rule> = Vec::new();
    let mut ids = BTreeSet::new();
    // The rules that a group has without being told are those without an id; they come first.
    let mut rules: Vec<_> = placed(rules).collect();
    rules.sort_by_key(|(_, rule)| rule.id.is_some());
    for (index, RuleDocument { id, mut rule }) in rules {
        let at = format!("{at}/{index}");
        let side = if rule.direction == Direction::Egress { "egress" } else { "ingress" };
        let implicit = || format!("implicit-{side}-{}", rule.family).parse();
        rule.id = id.map_or_else(implicit, Ok).or_else(|error| mistake(&at, error.to_string()))?;
        refers_to_known(policy, &rule, &at)?;
        if !ids.insert(rule.id.clone()) {
            return mistake(&at, format!("rule {} stands twice in this group", rule.id));
        }
        found.push(rule);
    }
    Ok(found)
}

fn refers_to_known(policy: &Policy, rule: &Rule, at: &str) -> Result<(), Problem> {
    match &rule.remote {
        Remote::Group(id) if !policy.groups.contains_key(id) => {
            mistake(&format!("{at}/remote_group"), format!("there is no group {id} in this file"))
        }
        Remote::Set(id) if !policy.sets.contains_key(id) => {
            mistake(&format!("{at}/remote_set"), format!("there is no address set {id} in this file"))
        }
        _ => Ok(()),
    }
}

fn ports_of(
    policy: &Policy,
    ports: Vec<PortDocument>,
    origin: impl Fn(usize, &Port) -> Origin,
) -> Result<Vec<PortSpec>, Problem> {
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, PortDocument { id: _, port }) in ports.into_iter().enumerate() {
        let at = format!("/ports/{index}");
        if let Some(place) = port.groups.iter().position(|id| !policy.groups.contains_key(id)) {
            let id = &port.groups[place];
            return mistake(&format!("{at}/groups/{place}"), format!("there is no group {id} in this file"));
        }
        let port = port.canonical().map_err(|error| Problem::from(error).under(&at))?;
        let origin = origin(index, &port);
        if let Some(before) = seen.insert(port.target.clone(), origin.clone()) {
            return mistake(&at, format!("{} stands in {before} already", port.target));
        }
        found.push(PortSpec { port, origin });
    }
    Ok(found)
}
