//! Edits: what may be asked, what is refused, what it changes. Pure: from a state to the next.

use std::sync::Arc;

use ipnet::IpNet;
use ruleset::ids::{GroupId, RuleId};
use ruleset::model::{Family, InvalidService};

use crate::ids::PortId;
use crate::model::{Entity, Group, ImplicitRules, Key, OnRuleRemoval, Project, Row, implicit_rules};
use crate::state::{Change, State};
use crate::validate::canonical;

/// The name that a project's default group has, and no other of its groups (neutron).
pub(crate) const DEFAULT_GROUP_NAME: &str = "default";

/// One edit. `expected` is the revision the editor saw: if the row is of another by now, the edit is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Makes a row that is not there. A project's default group is made with it.
    Create(Entity),
    /// Changes a row that is there. Without a difference nothing changes, the revision neither.
    Replace {
        /// The row as it should be.
        entity: Entity,
        /// The revision the editor saw.
        expected: Option<u64>,
    },
    /// Removes a row that nobody refers to; a group with its rules, a project with its default group.
    Delete {
        /// Which.
        key: Key,
        /// The revision the editor saw.
        expected: Option<u64>,
    },
}

/// What came of a transaction.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The generation that contains it; the one before, if nothing had to change.
    pub generation: u64,
    /// Everything as the transaction left it. [`Store::state`](crate::Store::state) may be of a later one by now.
    pub state: Arc<State>,
    /// How many rows it made, changed and removed.
    pub changes: usize,
}

/// Why an edit is refused; one variant per cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum EditError {
    #[error("{key} exists already")]
    Exists { key: Key },
    #[error("there is no {key}")]
    NotFound { key: Key },
    #[error("{key} has changed since you read it: it is of revision {actual}, not {expected}; read it again")]
    Conflict { key: Key, expected: u64, actual: u64 },
    #[error("there is no {reference}, which {key} refers to")]
    UnknownReference { key: Key, reference: Key },
    #[error("{key} is in use by {}", list(by, *more))]
    InUse { key: Key, by: Vec<Key>, more: usize },
    #[error("rule {existing} of group {group} says the same already")]
    DuplicateRule { group: GroupId, existing: RuleId },
    #[error("port {existing} is about the same VIF already")]
    DuplicateTarget { existing: PortId },
    #[error(
        "group {group} is the default group of project {project}: it goes with the project, and keeps its name"
    )]
    DefaultGroup { group: GroupId, project: String },
    #[error("the name \"default\" belongs to the default group that project {project} has already")]
    DefaultName { project: String },
    #[error("{field} of {key} cannot be changed: make a new one")]
    Immutable { key: Key, field: &'static str },
    #[error("{id}: ids that begin with \"drawbridge:\" are the driver's own")]
    ReservedId { id: String },
    #[error("{field} {reason}")]
    BadText { field: &'static str, reason: String },
    #[error("{address} cannot be a guest's address")]
    NotAGuestsAddress { field: String, address: IpNet },
    #[error("{key} stands twice")]
    NamedTwice { key: Key },
    #[error("{0}")]
    Service(InvalidService),
    #[error("the rule's ethertype is {family}, but its remote prefix {net} is not")]
    FamilyMismatch { family: Family, net: IpNet },
}

/// An edit of a transaction was refused, and so none of it was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct EditFailed {
    /// Which of the transaction, from 0.
    pub index: usize,
    /// Why.
    pub error: EditError,
}

fn list(keys: &[Key], more: usize) -> String {
    let mut text = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

impl State {
    /// The state after a transaction: all of the edits, in order, or none.
    ///
    /// # Errors
    /// [`EditFailed`] for the first edit that is refused.
    pub(crate) fn transact(&self, edits: &[Edit]) -> Result<(Self, Vec<Change>), EditFailed> {
        let generation = self.generation() + 1;
        let mut next = self.clone();
        let mut changes = Vec::new();
        for (index, edit) in edits.iter().enumerate() {
            next.edit(edit, generation, &mut changes).map_err(|error| EditFailed { index, error })?;
        }
        if !changes.is_empty() {
            next.set_generation(generation);
        }
        Ok((next, changes))
    }

    pub(crate) fn edit(
        &mut self,
        edit: &Edit,
        generation: u64,
        changes: &mut Vec<Change>,
    ) -> Result<(), EditError> {
        match edit {
            Edit::Create(entity) => {
                let entity = canonical(entity.clone())?;
                let key = entity.key();
                if self.row(&key).is_some() {
                    return Err(EditError::Exists { key });
                }
                let default_group = match &entity {
                    Entity::Project(project) => Some(default_group(project)),
                    _ => None,
                };
                self.check(&entity)?;
                self.put(entity, generation, changes);
                for entity in default_group.into_iter().flatten() {
                    let key = entity.key();
                    if self.row(&key).is_some() {
                        return Err(EditError::Exists { key });
                    }
                    self.put(entity, generation, changes);
                }
            }
            Edit::Replace { entity, expected } => {
                let entity = canonical(entity.clone())?;
                let row = self.expect(&entity.key(), *expected)?;
                if row.entity == entity {
                    return Ok(());
                }
                unchangeable(&row.entity, &entity)?;
                self.check(&entity)?;
                self.put(entity, generation, changes);
            }
            Edit::Delete { key, expected } => {
                let row = self.expect(key, *expected)?;
                match &row.entity {
                    Entity::Group(group) => {
                        if let Some(project) = self.project_of_default(group) {
                            let (group, project) = (group.id.clone(), project.id.to_string());
                            return Err(EditError::DefaultGroup { group, project });
                        }
                        self.delete_group(&group.id, changes)?;
                    }
                    Entity::Project(project) => {
                        self.unused(key, |user| *user == Key::Group(project.default_group.clone()))?;
                        self.delete_group(&project.default_group, changes)?;
                        self.take(key, changes);
                    }
                    _ => {
                        self.unused(key, |_| false)?;
                        self.take(key, changes);
                    }
                }
            }
        }
        Ok(())
    }

    fn expect(&self, key: &Key, expected: Option<u64>) -> Result<Arc<Row>, EditError> {
        let row = self.row(key).ok_or_else(|| EditError::NotFound { key: key.clone() })?;
        match expected {
            Some(expected) if expected != row.revision => {
                Err(EditError::Conflict { key: key.clone(), expected, actual: row.revision })
            }
            _ => Ok(row.clone()),
        }
    }

    /// What an entity must be in view of the others.
    fn check(&self, entity: &Entity) -> Result<(), EditError> {
        let key = entity.key();
        if let Some(reference) = entity.references().into_iter().find(|used| self.row(used).is_none()) {
            return Err(EditError::UnknownReference { key, reference });
        }
        match entity {
            Entity::Group(group) => self.check_name(group),
            Entity::Rule(rule) => match self.rule_like(rule) {
                Some(existing) if *existing != rule.rule.id => {
                    Err(EditError::DuplicateRule { group: rule.group.clone(), existing: existing.clone() })
                }
                _ => Ok(()),
            },
            Entity::Port(port) => match self.port_of(&port.target) {
                Some(existing) if *existing != port.id => {
                    Err(EditError::DuplicateTarget { existing: existing.clone() })
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn check_name(&self, group: &Group) -> Result<(), EditError> {
        let is_default = self.project_of_default(group);
        match (is_default, &group.project) {
            (Some(project), _) if group.name != DEFAULT_GROUP_NAME => {
                Err(EditError::DefaultGroup { group: group.id.clone(), project: project.id.to_string() })
            }
            (None, Some(project)) if group.name == DEFAULT_GROUP_NAME => {
                Err(EditError::DefaultName { project: project.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// The project whose default group this is.
    fn project_of_default(&self, group: &Group) -> Option<&Project> {
        let row = self.row(&Key::Project(group.project.clone()?))?;
        match &row.entity {
            Entity::Project(project) if project.default_group == group.id => Some(project),
            _ => None,
        }
    }

    /// Whether it is a project's default group.
    #[must_use]
    pub fn is_default_group(&self, id: &GroupId) -> bool {
        match self.row(&Key::Group(id.clone())).map(|row| &row.entity) {
            Some(Entity::Group(group)) => self.project_of_default(group).is_some(),
            _ => false,
        }
    }

    fn delete_group(&mut self, id: &GroupId, changes: &mut Vec<Change>) -> Result<(), EditError> {
        let key = Key::Group(id.clone());
        let rules: Vec<Key> = self.rules_of(id).map(|row| row.entity.key()).collect();
        self.unused(&key, |user| rules.binary_search(user).is_ok())?;
        for rule in &rules {
            self.take(rule, changes);
        }
        self.take(&key, changes);
        Ok(())
    }

    /// Refuses if somebody needs the row who does not go with it.
    fn unused(&self, key: &Key, goes_too: impl Fn(&Key) -> bool) -> Result<(), EditError> {
        let mut users = self.users(key).filter(|user| !goes_too(user));
        let by: Vec<Key> = users.by_ref().take(5).cloned().collect();
        if by.is_empty() {
            Ok(())
        } else {
            Err(EditError::InUse { key: key.clone(), by, more: users.count() })
        }
    }

    fn put(&mut self, entity: Entity, revision: u64, changes: &mut Vec<Change>) {
        let key = entity.key();
        let before = self.row(&key).cloned();
        let after = Arc::new(Row { revision, entity });
        self.insert(after.clone());
        changes.push(Change { key, before, after: Some(after) });
    }

    fn take(&mut self, key: &Key, changes: &mut Vec<Change>) {
        if let Some(before) = self.remove(key) {
            changes.push(Change { key: key.clone(), before: Some(before), after: None });
        }
    }
}

fn unchangeable(before: &Entity, after: &Entity) -> Result<(), EditError> {
    let field = match (before, after) {
        (Entity::Project(a), Entity::Project(b)) if a.default_group != b.default_group => "default_group",
        (Entity::Group(a), Entity::Group(b)) if a.project != b.project => "project",
        (Entity::Rule(a), Entity::Rule(b)) if a.group != b.group => "group",
        _ => return Ok(()),
    };
    Err(EditError::Immutable { key: after.key(), field })
}

/// A project's default group and its rules.
fn default_group(project: &Project) -> Vec<Entity> {
    let group = Group {
        id: project.default_group.clone(),
        project: Some(project.id.clone()),
        name: DEFAULT_GROUP_NAME.to_owned(),
        description: "Default security group".to_owned(),
        on_rule_removal: OnRuleRemoval::Cut,
    };
    let rules = implicit_rules(ImplicitRules::DefaultGroup, &group.id);
    std::iter::once(Entity::Group(group)).chain(rules.into_iter().map(Entity::Rule)).collect()
}
