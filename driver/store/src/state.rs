//! The state at one generation: rows and what is needed to check an edit without looking at all of them.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use ruleset::ids::{GroupId, RuleId};
use ruleset::model::{Direction, Family, Remote, Rule, Service};

use crate::ids::PortId;
use crate::model::{Entity, GroupRule, Key, Kind, Port, PortTarget, Row};

/// What of a rule must not stand twice in its group (neutron: the description does not count).
type Content = (GroupId, Direction, Family, Service, Remote);

/// Everything the store holds at one generation. A clone costs the same whatever its size.
#[derive(Clone, Debug, Default)]
pub struct State {
    generation: u64,
    /// By kind.
    rows: [OrdMap<Key, Arc<Row>>; Kind::COUNT],
    /// Who refers to a row: whatever [`Entity::references`] says.
    users: OrdMap<Key, OrdSet<Key>>,
    /// Rules by group: the same rows.
    rules: OrdMap<GroupId, OrdMap<RuleId, Arc<Row>>>,
    contents: OrdMap<Content, RuleId>,
    targets: OrdMap<PortTarget, PortId>,
}

/// A row made, changed or removed.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub key: Key,
    pub before: Option<Arc<Row>>,
    pub after: Option<Arc<Row>>,
}

impl State {
    /// The number of transactions that made this state; 0 for a new store.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the store was adopted. Until then nothing may be taken away from a host in its name.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.row(&Key::Adoption).is_some()
    }

    /// One row.
    #[must_use]
    pub fn row(&self, key: &Key) -> Option<&Arc<Row>> {
        self.rows[key.kind() as usize].get(key)
    }

    /// All rows of a kind, by id, from the one behind `after`.
    pub fn rows(&self, kind: Kind, after: Option<&Key>) -> impl Iterator<Item = &Arc<Row>> {
        let from: Bound<&Key> = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows[kind as usize].range::<_, Key>((from, Bound::Unbounded)).map(|(_, row)| row)
    }

    /// How many rows of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.rows[kind as usize].len()
    }

    /// The rules of a group, by id.
    pub fn rules_of(&self, group: &GroupId) -> impl Iterator<Item = &Arc<Row>> {
        self.rules.get(group).into_iter().flatten().map(|(_, row)| row)
    }

    /// Who refers to this row, its own rules and a project's groups included.
    pub fn users(&self, of: &Key) -> impl Iterator<Item = &Key> {
        self.users.get(of).into_iter().flatten()
    }

    /// The port of a VIF, if it has one.
    #[must_use]
    pub fn port_of(&self, target: &PortTarget) -> Option<&PortId> {
        self.targets.get(target)
    }

    pub(crate) fn rule_like(&self, rule: &GroupRule) -> Option<&RuleId> {
        self.contents.get(&content(rule))
    }

    pub(crate) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Puts a row in, in place of the one of the same key.
    pub(crate) fn insert(&mut self, row: Arc<Row>) {
        let key = row.entity.key();
        self.remove(&key);
        for used in row.entity.references() {
            self.users.entry(used).or_default().insert(key.clone());
        }
        match &row.entity {
            Entity::Rule(rule) => {
                self.rules.entry(rule.group.clone()).or_default().insert(rule.rule.id.clone(), row.clone());
                self.contents.insert(content(rule), rule.rule.id.clone());
            }
            Entity::Port(Port { id, target, .. }) => {
                self.targets.insert(target.clone(), id.clone());
            }
            _ => {}
        }
        self.rows[key.kind() as usize].insert(key, row);
    }

    /// Takes a row out.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Row>> {
        let row = self.rows[key.kind() as usize].remove(key)?;
        for used in row.entity.references() {
            if let Some(users) = self.users.get_mut(&used) {
                users.remove(key);
                if users.is_empty() {
                    self.users.remove(&used);
                }
            }
        }
        match &row.entity {
            Entity::Rule(rule) => {
                if let Some(rules) = self.rules.get_mut(&rule.group) {
                    rules.remove(&rule.rule.id);
                    if rules.is_empty() {
                        self.rules.remove(&rule.group);
                    }
                }
                self.contents.remove(&content(rule));
            }
            Entity::Port(Port { target, .. }) => {
                self.targets.remove(target);
            }
            _ => {}
        }
        Some(row)
    }
}

fn content(GroupRule { group, rule }: &GroupRule) -> Content {
    let Rule { id: _, direction, family, service, remote, description: _ } = rule;
    (group.clone(), *direction, *family, *service, remote.clone())
}
