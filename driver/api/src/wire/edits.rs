//! Several edits in one transaction.

use serde::{Deserialize, Serialize};
use store::{Edit, Entity, Key, State};
use utoipa::ToSchema;

use super::document::KeyName;
use super::group::{AddressSetInput, GroupInput, GuardedNetworkInput, ProjectInput};
use super::object::object;
use super::port::PortInput;
use super::rule::{ProviderRuleInput, RuleInput};
use super::{invalid, parse};
use crate::problem::{Code, Problem};

/// Edits that are done in order, all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditsInput {
    /// The edits.
    pub edits: Vec<EditInput>,
}

/// One edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EditInput {
    /// Make something.
    Create(Thing),
    /// Change something: it becomes what is said here. Its id is needed.
    #[serde(deserialize_with = "object")]
    Replace(Replacement),
    /// Remove something.
    #[serde(deserialize_with = "object")]
    Delete(Deletion),
}

/// Something to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// As it should be.
    pub to: Thing,
    /// The revision that was read; if it has another by now, nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// Something to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deletion {
    /// What.
    pub what: KeyInput,
    /// The revision that was read; if it has another by now, nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// Something the store can hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the types say it")]
pub enum Thing {
    #[serde(deserialize_with = "object")]
    Project(ProjectInput),
    #[serde(deserialize_with = "object")]
    Group(GroupInput),
    #[serde(deserialize_with = "object")]
    Rule(RuleOfGroup),
    #[serde(deserialize_with = "object")]
    Set(AddressSetInput),
    #[serde(deserialize_with = "object")]
    Port(PortInput),
    #[serde(deserialize_with = "object")]
    ProviderRule(ProviderRuleInput),
    #[serde(deserialize_with = "object")]
    GuardedNetwork(GuardedNetworkInput),
}

/// A rule and the group it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleOfGroup {
    /// The rule's group.
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub group: String,
    /// The rule.
    #[serde(deserialize_with = "object")]
    pub rule: RuleInput,
}

/// The id of something the store holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum KeyInput {
    Project(String),
    Group(String),
    Rule(String),
    Set(String),
    Port(String),
    ProviderRule(String),
    GuardedNetwork(String),
}

/// What became of the edits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditsAnswer {
    /// The generation that contains them.
    pub generation: u64,
    /// What each edit was about, in order: here are the ids that were made up.
    pub edited: Vec<KeyName>,
}

impl Thing {
    fn id(&self) -> Option<&String> {
        match self {
            Self::Project(input) => input.id.as_ref(),
            Self::Group(input) => input.id.as_ref(),
            Self::Rule(input) => input.rule.id.as_ref(),
            Self::Set(input) => input.id.as_ref(),
            Self::Port(input) => input.id.as_ref(),
            Self::ProviderRule(input) => input.id.as_ref(),
            Self::GuardedNetwork(input) => Some(&input.name),
        }
    }

    /// What it says, in view of what is there.
    fn entity(self, state: &State) -> Result<Entity, Problem> {
        Ok(match self {
            Self::Project(input) => {
                let existing = match input.id.as_deref().map(|id| parse(id, "/id")).transpose()? {
                    Some(id) => state.row(&Key::Project(id)),
                    None => None,
                };
                let existing = existing.and_then(|row| match &row.entity {
                    Entity::Project(project) => Some(project),
                    _ => None,
                });
                Entity::Project(input.project(existing)?)
            }
            Self::Group(input) => Entity::Group(input.group()?),
            Self::Rule(RuleOfGroup { group, rule }) => {
                Entity::Rule(rule.group_rule(&parse(&group, "/group")?).map_err(|p| p.under("/rule"))?)
            }
            Self::Set(input) => Entity::Set(input.set()?),
            Self::Port(input) => Entity::Port(input.port()?),
            Self::ProviderRule(input) => Entity::ProviderRule(provider_rule(input, state)?),
            Self::GuardedNetwork(GuardedNetworkInput { name }) => Entity::GuardedNetwork(name),
        })
    }

    /// The field that holds it on the wire.
    fn field(&self) -> &'static str {
        match self {
            Self::Project(_) => "/project",
            Self::Group(_) => "/group",
            Self::Rule(_) => "/rule",
            Self::Set(_) => "/set",
            Self::Port(_) => "/port",
            Self::ProviderRule(_) => "/provider_rule",
            Self::GuardedNetwork(_) => "/guarded_network",
        }
    }
}

/// A provider rule; without a position it comes behind all others, or stays where it is.
pub(crate) fn provider_rule(input: ProviderRuleInput, state: &State) -> Result<store::ProviderRule, Problem> {
    let (position, action) = (input.position, input.action.into());
    let rule = input.rule()?;
    let rules = state.provider_rules();
    let there = rules.iter().find(|r| r.rule.id == rule.id).map(|r| r.position);
    let behind = || rules.last().map_or(0, |last| last.position).saturating_add(10);
    Ok(store::ProviderRule { position: position.or(there).unwrap_or_else(behind), action, rule })
}

impl KeyInput {
    fn key(self) -> Result<Key, Problem> {
        Ok(match self {
            Self::Project(id) => Key::Project(parse(&id, "/project")?),
            Self::Group(id) => Key::Group(parse(&id, "/group")?),
            Self::Rule(id) => Key::Rule(parse(&id, "/rule")?),
            Self::Set(id) => Key::Set(parse(&id, "/set")?),
            Self::Port(id) => Key::Port(parse(&id, "/port")?),
            Self::ProviderRule(id) => Key::ProviderRule(parse(&id, "/provider_rule")?),
            Self::GuardedNetwork(name) => Key::GuardedNetwork(name),
        })
    }
}

impl EditsInput {
    /// The store's edits, each with the place of the one it comes from, and what each was about.
    pub(crate) fn edits(self, state: &State) -> Result<Edits, Problem> {
        let mut all = Edits::default();
        for (index, edit) in self.edits.into_iter().enumerate() {
            let place = format!("/edits/{index}");
            let (edits, field) = edit.edits(state).map_err(|problem| problem.under(&place))?;
            let Some(first) = edits.first() else { continue };
            all.edited.push(KeyName::from(&match first {
                Edit::Create(entity) | Edit::Replace { entity, .. } => entity.key(),
                Edit::Delete { key, .. } => key.clone(),
            }));
            all.places.extend(edits.iter().map(|_| format!("{place}{field}")));
            all.edits.extend(edits);
        }
        Ok(all)
    }
}

/// Edits of a request.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    pub(crate) edits: Vec<Edit>,
    pub(crate) places: Vec<String>,
    pub(crate) edited: Vec<KeyName>,
}

impl EditInput {
    fn edits(self, state: &State) -> Result<(Vec<Edit>, String), Problem> {
        match self {
            Self::Create(thing) => {
                let field = format!("/create{}", thing.field());
                let edits = match thing {
                    Thing::Group(group) => group.create(),
                    other => other.entity(state).map(|entity| vec![Edit::Create(entity)]),
                };
                Ok((edits.map_err(|problem| problem.under(&field))?, field))
            }
            Self::Replace(Replacement { to, revision }) => {
                let field = format!("/replace/to{}", to.field());
                if to.id().is_none() {
                    return Err(invalid("/id", "to change something its id is needed").under(&field));
                }
                let entity = to.entity(state).map_err(|problem| problem.under(&field))?;
                if let Entity::GuardedNetwork(_) = entity {
                    let detail = "a guarded network has nothing that can be changed";
                    return Err(Problem::new(Code::Immutable, detail).under(&field));
                }
                Ok((vec![Edit::Replace { entity, expected: revision }], field))
            }
            Self::Delete(Deletion { what, revision }) => {
                let field = "/delete/what".to_owned();
                let key = what.key().map_err(|problem| problem.under(&field))?;
                Ok((vec![Edit::Delete { key, expected: revision }], field))
            }
        }
    }
}
