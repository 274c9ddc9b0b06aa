//! What makes no sense in an entity by itself, whatever else the store holds, and its canonical form.

use std::net::IpAddr;

use ipnet::IpNet;
use ruleset::model::{AddressPair, Family, Remote, Rule};

use crate::convert::canonical_service;
use crate::edit::EditError;
use crate::ids::RESERVED_PREFIX;
use crate::model::{AddressSet, Entity, Group, GroupRule, Port, PortTarget, Project, ProviderRule};

/// Longest name, in characters (neutron's `NAME_FIELD_SIZE`).
const NAME: usize = 255;
/// Longest description.
const DESCRIPTION: usize = 1024;

/// Checks an entity and brings it into its canonical form: lists sorted and without repetition, prefixes without host
/// bits.
pub(crate) fn canonical(entity: Entity) -> Result<Entity, EditError> {
    reachable(&entity)?;
    Ok(match entity {
        Entity::Project(project) => {
            let Project { id: _, name, description, default_group } = &project;
            texts(name, description)?;
            reserved(default_group.as_str())?;
            Entity::Project(project)
        }
        Entity::Group(group) => {
            let Group { id, project: _, name, description, on_rule_removal: _ } = &group;
            reserved(id.as_str())?;
            texts(name, description)?;
            Entity::Group(group)
        }
        Entity::Rule(GroupRule { group, rule }) => {
            Entity::Rule(GroupRule { group, rule: canonical_rule(rule)? })
        }
        Entity::ProviderRule(ProviderRule { position, action, rule }) => {
            Entity::ProviderRule(ProviderRule { position, action, rule: canonical_rule(rule)? })
        }
        Entity::Set(mut set) => {
            let AddressSet { id: _, project: _, name, description, addresses } = &mut set;
            texts(name, description)?;
            for net in addresses.iter_mut() {
                *net = net.trunc();
            }
            sort(addresses);
            Entity::Set(set)
        }
        Entity::Port(port) => Entity::Port(port.canonical()?),
        Entity::GuardedNetwork(name) => {
            label("name", &name)?;
            Entity::GuardedNetwork(name)
        }
        Entity::Adoption => Entity::Adoption,
    })
}

/// Refuses what no URL can name: `.` and `..` are steps, however they are encoded.
fn reachable(entity: &Entity) -> Result<(), EditError> {
    let field = if matches!(entity, Entity::GuardedNetwork(_)) { "name" } else { "id" };
    match entity.key().id() {
        id @ ("." | "..") => {
            Err(EditError::BadText { field, reason: format!("is {id:?}, which no URL can name") })
        }
        _ => Ok(()),
    }
}

fn canonical_rule(mut rule: Rule) -> Result<Rule, EditError> {
    text("description", &rule.description, DESCRIPTION)?;
    rule.service = canonical_service(rule.family, rule.service).map_err(EditError::Service)?;
    if let Remote::Prefix(net) = &mut rule.remote {
        *net = net.trunc();
        if Family::of(net) != rule.family {
            return Err(EditError::FamilyMismatch { family: rule.family, net: *net });
        }
    }
    Ok(rule)
}

impl Port {
    /// Its canonical form.
    ///
    /// # Errors
    /// [`EditError`] if its VM has no name that XAPI could give, or an address is none of a guest's.
    pub fn canonical(mut self) -> Result<Self, EditError> {
        let Self { id: _, project: _, target, addresses, pairs, groups, security: _ } = &mut self;
        if let PortTarget::Device { vm, device: _ } = target {
            label("vm", vm)?;
        }
        for (index, address) in addresses.iter().enumerate() {
            if address.is_multicast() || address.is_unspecified() || is_broadcast(*address) {
                let field = format!("addresses/{index}");
                return Err(EditError::NotAGuestsAddress { field, address: IpNet::from(*address) });
            }
        }
        for (index, AddressPair { mac: _, net }) in pairs.iter_mut().enumerate() {
            *net = net.trunc();
            if net.network().is_multicast() {
                return Err(EditError::NotAGuestsAddress {
                    field: format!("address_pairs/{index}"),
                    address: *net,
                });
            }
        }
        sort(addresses);
        sort(pairs);
        sort(groups);
        Ok(self)
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

fn sort<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}

fn reserved(id: &str) -> Result<(), EditError> {
    if id.starts_with(RESERVED_PREFIX) { Err(EditError::ReservedId { id: id.to_owned() }) } else { Ok(()) }
}

fn texts(name: &str, description: &str) -> Result<(), EditError> {
    text("name", name, NAME)?;
    text("description", description, DESCRIPTION)
}

/// A text that names something of XAPI's: not empty.
fn label(field: &'static str, value: &str) -> Result<(), EditError> {
    if value.is_empty() {
        return Err(EditError::BadText { field, reason: "is empty".to_owned() });
    }
    text(field, value, DESCRIPTION)
}

fn text(field: &'static str, value: &str, most: usize) -> Result<(), EditError> {
    if value.chars().count() > most {
        return Err(EditError::BadText { field, reason: format!("is longer than {most} characters") });
    }
    // PostgreSQL stores no NUL; the others would only deceive whoever reads a list on a terminal.
    if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(EditError::BadText { field, reason: "has control characters".to_owned() });
    }
    Ok(())
}
