//! Whom a change concerns, so that only those hosts are looked at.

use std::collections::BTreeSet;

use ruleset::ids::GroupId;

use crate::model::{Entity, Group, Key, Port, PortTarget};
use crate::state::{Change, State};

/// What changed in meaning between two generations. Names and descriptions do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Groups whose rules mean something else: hosts with ports of these groups are concerned.
    pub groups: BTreeSet<GroupId>,
    /// Groups whose members or addresses changed: hosts whose rules refer to them are concerned.
    pub members: BTreeSet<GroupId>,
    /// VIFs whose port changed: their hosts are concerned.
    pub ports: BTreeSet<PortTarget>,
    /// Everybody is concerned.
    pub everything: bool,
}

impl Touched {
    /// Every host is concerned.
    #[must_use]
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Whether no host is concerned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { groups, members, ports, everything } = self;
        groups.is_empty() && members.is_empty() && ports.is_empty() && !everything
    }

    /// Adds what another change touched.
    pub fn merge(&mut self, other: &Self) {
        let Self { groups, members, ports, everything } = other;
        self.groups.extend(groups.iter().cloned());
        self.members.extend(members.iter().cloned());
        self.ports.extend(ports.iter().cloned());
        self.everything |= everything;
    }

    /// What these changes touched; `state` is the one they led to.
    pub(crate) fn by(changes: &[Change], state: &State) -> Self {
        let mut touched = Self::default();
        for change in changes {
            let before = change.before.as_ref().map(|row| &row.entity);
            let after = change.after.as_ref().map(|row| &row.entity);
            touched.add(&change.key, before, after, state);
        }
        touched
    }

    fn add(&mut self, key: &Key, before: Option<&Entity>, after: Option<&Entity>, state: &State) {
        match (before, after) {
            (None, None) => {}
            (Some(Entity::Group(before)), Some(Entity::Group(after))) => {
                if before.on_rule_removal != after.on_rule_removal {
                    self.groups.insert(after.id.clone());
                }
            }
            (Some(Entity::Rule(before)), Some(Entity::Rule(after))) => {
                let mut same_words = before.clone();
                same_words.rule.description.clone_from(&after.rule.description);
                if same_words != *after {
                    self.groups.insert(after.group.clone());
                }
            }
            (Some(Entity::Set(before)), Some(Entity::Set(after))) => {
                if before.addresses != after.addresses {
                    self.set(key, state);
                }
            }
            (Some(Entity::Port(before)), Some(Entity::Port(after))) => self.port(before, after),
            (Some(one), None) | (None, Some(one)) => self.whole(one),
            (Some(_), Some(_)) => self.everything |= !matches!(key, Key::Project(_)),
        }
    }

    /// Something came or went.
    fn whole(&mut self, entity: &Entity) {
        match entity {
            // Nobody refers to a project's name, nor to a set that has just come or is about to go.
            Entity::Project(_) | Entity::Set(_) => {}
            Entity::Group(Group { id, .. }) => {
                self.groups.insert(id.clone());
            }
            Entity::Rule(rule) => {
                self.groups.insert(rule.group.clone());
            }
            Entity::Port(port) => {
                self.ports.insert(port.target.clone());
                self.members.extend(port.groups.iter().cloned());
            }
            Entity::ProviderRule(_) | Entity::GuardedNetwork(_) | Entity::Adoption => self.everything = true,
        }
    }

    fn set(&mut self, key: &Key, state: &State) {
        for user in state.users(key) {
            match state.row(user).map(|row| &row.entity) {
                Some(Entity::Rule(rule)) => {
                    self.groups.insert(rule.group.clone());
                }
                _ => self.everything = true,
            }
        }
    }

    fn port(&mut self, before: &Port, after: &Port) {
        let Port { id: _, project: _, target, addresses, pairs, groups, security } = after;
        let same_place = before.target == *target && before.security == *security;
        let same_addresses = before.addresses == *addresses && before.pairs == *pairs;
        if same_place && same_addresses && before.groups == *groups {
            return;
        }
        self.ports.insert(before.target.clone());
        self.ports.insert(target.clone());
        let (old, new): (BTreeSet<_>, BTreeSet<_>) =
            (before.groups.iter().collect(), groups.iter().collect());
        if same_place && same_addresses {
            self.members.extend(old.symmetric_difference(&new).map(|group| (*group).clone()));
        } else {
            self.members.extend(old.union(&new).map(|group| (*group).clone()));
        }
    }
}
