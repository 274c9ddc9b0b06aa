//! A declarative document: what should be, whatever is. Turned into edits against a state, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use ruleset::ids::{GroupId, RuleId};
use ruleset::model::Rule;

use crate::edit::{Edit, EditError};
use crate::ids::{PortId, ProjectId, new_id};
use crate::model::{AddressSet, Entity, Group, GroupRule, Key, Kind, Port, Project, ProviderRule};
use crate::state::{Change, State};

/// What should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Projects.
    pub projects: Vec<ProjectDocument>,
    /// Address sets.
    pub sets: Vec<AddressSet>,
    /// Groups, each with all of its rules: a rule that is not here goes.
    pub groups: Vec<GroupDocument>,
    /// Ports.
    pub ports: Vec<PortDocument>,
    /// The operator's rules; one that means both families is two.
    pub provider_rules: Vec<Vec<ProviderRule>>,
    /// Guarded networks, by name or uuid.
    pub guarded_networks: Vec<String>,
}

/// A project of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectDocument {
    /// Id.
    pub id: ProjectId,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// The id its default group shall have when it is made; if none is given, the one it has, or a new one.
    pub default_group: Option<GroupId>,
}

/// A group of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDocument {
    /// The group.
    pub group: Group,
    /// All of its rules; one that means both families is two.
    pub rules: Vec<Vec<RuleDocument>>,
}

/// A rule of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleDocument {
    /// Its id; without one, the rule of the group that says the same is meant.
    pub id: Option<RuleId>,
    /// Everything else; its own id is not looked at.
    pub rule: Rule,
}

/// A port of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDocument {
    /// Its id; without one, the port of this VIF is meant.
    pub id: Option<PortId>,
    /// Everything else; its own id is not looked at.
    pub port: Port,
}

/// What applying a document changes, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rows made.
    pub created: BTreeSet<Key>,
    /// Rows changed.
    pub changed: BTreeSet<Key>,
    /// Rows removed.
    pub removed: BTreeSet<Key>,
}

/// Why a document is refused. Nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {error}")]
pub struct DocumentRefused {
    /// A JSON pointer into the document; empty for what `prune` wants to remove.
    pub path: String,
    /// Why.
    pub error: EditError,
}

impl Plan {
    /// The difference that changes make, row by row.
    pub(crate) fn of(changes: &[Change]) -> Self {
        let mut rows: BTreeMap<&Key, (Option<&Entity>, Option<&Entity>)> = BTreeMap::new();
        for change in changes {
            let after = change.after.as_ref().map(|row| &row.entity);
            let before = || change.before.as_ref().map(|row| &row.entity);
            rows.entry(&change.key).or_insert_with(|| (before(), None)).1 = after;
        }
        let mut plan = Self::default();
        for (key, (before, after)) in rows {
            let set = match (before, after) {
                (None, None) => continue,
                (None, Some(_)) => &mut plan.created,
                (Some(_), None) => &mut plan.removed,
                (Some(before), Some(after)) if before == after => continue,
                (Some(_), Some(_)) => &mut plan.changed,
            };
            set.insert(key.clone());
        }
        plan
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { created, changed, removed } = self;
        created.is_empty() && changed.is_empty() && removed.is_empty()
    }
}

impl State {
    /// The state after a document; with `prune`, whatever it does not name is removed.
    ///
    /// # Errors
    /// [`DocumentRefused`] for the first thing that is refused.
    pub(crate) fn apply(
        &self,
        document: &Document,
        prune: bool,
    ) -> Result<(Self, Vec<Change>), DocumentRefused> {
        let mut planner = Planner {
            state: self.clone(),
            generation: self.generation() + 1,
            changes: Vec::new(),
            named: BTreeSet::new(),
        };
        planner.document(document, prune)?;
        let Planner { mut state, generation, changes, .. } = planner;
        // What was taken out and put back as it was is no change.
        if Plan::of(&changes).is_empty() {
            return Ok((self.clone(), Vec::new()));
        }
        state.set_generation(generation);
        Ok((state, changes))
    }
}

/// Each rule with the place of what it was said by.
fn each<T>(rules: &[Vec<T>]) -> impl Iterator<Item = (usize, &T)> {
    rules.iter().enumerate().flat_map(|(index, rules)| rules.iter().map(move |rule| (index, rule)))
}

struct Planner {
    state: State,
    generation: u64,
    changes: Vec<Change>,
    /// What the document names.
    named: BTreeSet<Key>,
}

impl Planner {
    fn document(&mut self, document: &Document, prune: bool) -> Result<(), DocumentRefused> {
        let Document { projects, sets, groups, ports, provider_rules, guarded_networks } = document;
        for (index, project) in projects.iter().enumerate() {
            self.project(project, &format!("/projects/{index}"))?;
        }
        for (index, set) in sets.iter().enumerate() {
            self.put(Entity::Set(set.clone()), &format!("/sets/{index}"))?;
        }
        // Groups may refer to each other in any order: first all of them, then their rules.
        for (index, GroupDocument { group, rules: _ }) in groups.iter().enumerate() {
            self.put(Entity::Group(group.clone()), &format!("/groups/{index}"))?;
        }
        let mut rules = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            self.match_rules(group, &format!("/groups/{index}/rules"), &mut rules)?;
        }
        // All that go before the first that comes, so that two may change places.
        for (index, group) in groups.iter().enumerate() {
            self.remove_rules(&group.group.id, &rules, &format!("/groups/{index}/rules"))?;
        }
        for (rule, path) in rules {
            self.put_if_new(Entity::Rule(rule), &path)?;
        }
        let ports = self.match_ports(ports)?;
        if prune {
            self.prune(Kind::Port)?;
        }
        for (port, path) in &ports {
            self.clear_target(port, path)?;
        }
        for (port, path) in ports {
            self.put_if_new(Entity::Port(port), &path)?;
        }
        for (index, rule) in each(provider_rules) {
            self.put(Entity::ProviderRule(rule.clone()), &format!("/provider_rules/{index}"))?;
        }
        for (index, name) in guarded_networks.iter().enumerate() {
            self.put(Entity::GuardedNetwork(name.clone()), &format!("/guarded_networks/{index}"))?;
        }
        if prune {
            self.prune_rules()?;
            for kind in [Kind::ProviderRule, Kind::Group, Kind::Set, Kind::Project, Kind::GuardedNetwork] {
                self.prune(kind)?;
            }
        }
        Ok(())
    }

    fn project(&mut self, project: &ProjectDocument, path: &str) -> Result<(), DocumentRefused> {
        let ProjectDocument { id, name, description, default_group } = project;
        let existing = match self.state.row(&Key::Project(id.clone())).map(|row| &row.entity) {
            Some(Entity::Project(project)) => Some(project.default_group.clone()),
            _ => None,
        };
        let default_group = default_group.clone().or(existing).unwrap_or_else(new_id);
        let (name, description) = (name.clone(), description.clone());
        self.put(Entity::Project(Project { id: id.clone(), name, description, default_group }), path)
    }

    /// Gives every rule its id: its own, that of the rule which says the same, or a new one.
    fn match_rules(
        &mut self,
        document: &GroupDocument,
        path: &str,
        found: &mut Vec<(GroupRule, String)>,
    ) -> Result<(), DocumentRefused> {
        let group = &document.group.id;
        for (index, RuleDocument { id, rule }) in each(&document.rules) {
            let path = format!("{path}/{index}");
            let mut rule = rule.clone();
            rule.id = id.clone().unwrap_or_else(new_id);
            let entity = crate::validate::canonical(Entity::Rule(GroupRule { group: group.clone(), rule }))
                .map_err(|error| DocumentRefused { path: path.clone(), error })?;
            let Entity::Rule(mut rule) = entity else { continue };
            if id.is_none()
                && let Some(like) = self.state.rule_like(&rule)
            {
                rule.rule.id = like.clone();
            }
            self.name(Key::Rule(rule.rule.id.clone()), &path)?;
            found.push((rule, path));
        }
        Ok(())
    }

    /// Removes the rules of a group that the document has not, or has differently.
    fn remove_rules(
        &mut self,
        group: &GroupId,
        wanted: &[(GroupRule, String)],
        path: &str,
    ) -> Result<(), DocumentRefused> {
        let rows: Vec<_> = self.state.rules_of(group).cloned().collect();
        let wanted: BTreeMap<&RuleId, &GroupRule> =
            wanted.iter().map(|(rule, _)| (&rule.rule.id, rule)).collect();
        for row in rows {
            if let Entity::Rule(rule) = &row.entity
                && wanted.get(&rule.rule.id).is_none_or(|wanted| *wanted != rule)
            {
                self.edit(&Edit::Delete { key: row.entity.key(), expected: None }, path)?;
            }
        }
        Ok(())
    }

    fn match_ports(&mut self, ports: &[PortDocument]) -> Result<Vec<(Port, String)>, DocumentRefused> {
        let mut found = Vec::new();
        for (index, PortDocument { id, port }) in ports.iter().enumerate() {
            let path = format!("/ports/{index}");
            let mut port = port.clone();
            port.id = match (id, self.state.port_of(&port.target)) {
                (Some(id), _) => id.clone(),
                (None, Some(id)) => id.clone(),
                (None, None) => new_id(),
            };
            self.name(Key::Port(port.id.clone()), &path)?;
            found.push((port, path));
        }
        Ok(found)
    }

    /// Removes the port if it moves to another VIF, so that two may change places.
    fn clear_target(&mut self, port: &Port, path: &str) -> Result<(), DocumentRefused> {
        let key = Key::Port(port.id.clone());
        match self.state.row(&key).map(|row| &row.entity) {
            Some(Entity::Port(old)) if old.target != port.target => {
                self.edit(&Edit::Delete { key, expected: None }, path)
            }
            _ => Ok(()),
        }
    }

    fn prune_rules(&mut self) -> Result<(), DocumentRefused> {
        let groups: Vec<_> = self.unnamed(Kind::Group).collect();
        let rules: Vec<_> = groups
            .iter()
            .filter_map(|key| match key {
                Key::Group(id) => Some(id),
                _ => None,
            })
            .flat_map(|id| self.state.rules_of(id))
            .map(|row| row.entity.key())
            .collect();
        for key in rules {
            self.edit(&Edit::Delete { key, expected: None }, "")?;
        }
        Ok(())
    }

    fn prune(&mut self, kind: Kind) -> Result<(), DocumentRefused> {
        let keys: Vec<_> = self.unnamed(kind).collect();
        for key in keys {
            self.edit(&Edit::Delete { key, expected: None }, "")?;
        }
        Ok(())
    }

    /// Rows of a kind that the document does not name. A default group is named by its project.
    fn unnamed(&self, kind: Kind) -> impl Iterator<Item = Key> {
        let keys = self.state.rows(kind, None).map(|row| row.entity.key());
        keys.filter(|key| {
            let default = match key {
                Key::Group(id) => self.state.is_default_group(id),
                _ => false,
            };
            !default && !self.named.contains(key)
        })
    }

    /// Notes that the document names a row; it may do so once.
    fn name(&mut self, key: Key, path: &str) -> Result<(), DocumentRefused> {
        if self.named.contains(&key) {
            let error = EditError::NamedTwice { key };
            return Err(DocumentRefused { path: path.to_owned(), error });
        }
        self.named.insert(key);
        Ok(())
    }

    fn put(&mut self, entity: Entity, path: &str) -> Result<(), DocumentRefused> {
        self.name(entity.key(), path)?;
        self.put_if_new(entity, path)
    }

    /// Makes a row, or brings it to this form.
    fn put_if_new(&mut self, entity: Entity, path: &str) -> Result<(), DocumentRefused> {
        let edit = match self.state.row(&entity.key()) {
            None => Edit::Create(entity),
            Some(_) => Edit::Replace { entity, expected: None },
        };
        self.edit(&edit, path)
    }

    fn edit(&mut self, edit: &Edit, path: &str) -> Result<(), DocumentRefused> {
        let done = self.state.edit(edit, self.generation, &mut self.changes);
        done.map_err(|error| DocumentRefused { path: path.to_owned(), error })
    }
}
