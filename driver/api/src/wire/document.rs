//! A declarative document: what should be, whatever is.

use ruleset::model;
use serde::{Deserialize, Serialize};
use store::{
    Document, GroupDocument, GroupRule, Key, Plan, PortDocument, ProjectDocument, RuleDocument,
    implicit_rules,
};
use utoipa::ToSchema;

use super::group::{AddressSetInput, ProjectInput};
use super::object::objects;
use super::port::PortInput;
use super::rule::{ProviderRuleInput, RuleInput};
use super::words::{ImplicitRules, OnRuleRemoval};
use super::{invalid, parse, parse_optional};
use crate::problem::Problem;

/// What should be. A group's rules are all of its rules; what else is not named stays, unless `prune` says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentInput {
    /// Projects; each needs an id.
    #[serde(default, deserialize_with = "objects")]
    pub projects: Vec<ProjectInput>,
    /// Address sets; each needs an id.
    #[serde(default, deserialize_with = "objects")]
    pub sets: Vec<AddressSetInput>,
    /// Groups; each needs an id.
    #[serde(default, deserialize_with = "objects")]
    pub groups: Vec<GroupDocumentInput>,
    /// Ports; one without an id is the port of its VIF.
    #[serde(default, deserialize_with = "objects")]
    pub ports: Vec<PortInput>,
    /// The operator's rules, in order; one without an id gets one from its place.
    #[serde(default, deserialize_with = "objects")]
    pub provider_rules: Vec<ProviderRuleInput>,
    /// Guarded networks, by name or uuid.
    #[serde(default)]
    pub guarded_networks: Vec<String>,
}

/// A group with all of its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupDocumentInput {
    /// Its id.
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub id: String,
    /// The project that owns it, if any. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub project: Option<String>,
    /// For people; the id if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 255)]
    pub name: Option<String>,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: String,
    /// What becomes of connections when their rule goes.
    #[serde(default)]
    pub on_rule_removal: OnRuleRemoval,
    /// Rules it has beside those listed.
    #[serde(default)]
    pub implicit_rules: ImplicitRules,
    /// Its rules. One without an id is the rule of the group that says the same.
    #[serde(default, deserialize_with = "objects")]
    pub rules: Vec<RuleInput>,
}

/// What a document changed, or would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyAnswer {
    /// The generation that contains it; of a dry run, the one it was compared with.
    pub generation: u64,
    /// Made.
    pub created: Vec<KeyName>,
    /// Changed.
    pub changed: Vec<KeyName>,
    /// Removed.
    pub removed: Vec<KeyName>,
}

/// Something of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyName {
    /// `project`, `group`, `rule`, `address set`, `port`, `provider rule`, `guarded network`.
    pub kind: String,
    /// Its id; a guarded network's name.
    pub id: String,
}

impl From<&Key> for KeyName {
    fn from(key: &Key) -> Self {
        Self { kind: key.kind().name().to_owned(), id: key.id().to_owned() }
    }
}

impl ApplyAnswer {
    pub(crate) fn new(plan: &Plan, generation: u64) -> Self {
        let Plan { created, changed, removed } = plan;
        let names = |keys: &std::collections::BTreeSet<Key>| keys.iter().map(KeyName::from).collect();
        Self { generation, created: names(created), changed: names(changed), removed: names(removed) }
    }
}

/// Turns every element of a list, and says which one is wrong.
fn each<T, U>(
    list: Vec<T>,
    pointer: &str,
    convert: impl Fn(usize, T) -> Result<U, Problem>,
) -> Result<Vec<U>, Problem> {
    let items = list.into_iter().enumerate();
    items
        .map(|(index, item)| convert(index, item).map_err(|p| p.under(&format!("{pointer}/{index}"))))
        .collect()
}

fn with_id(id: Option<&String>) -> Result<(), Problem> {
    if id.is_none() { Err(invalid("/id", "in a document it needs an id")) } else { Ok(()) }
}

impl TryFrom<DocumentInput> for Document {
    type Error = Problem;

    fn try_from(input: DocumentInput) -> Result<Self, Problem> {
        let DocumentInput { projects, sets, groups, ports, provider_rules, guarded_networks } = input;
        Ok(Self {
            projects: each(projects, "/projects", |_, project| {
                with_id(project.id.as_ref())?;
                let named = project.default_group.is_some();
                let store::Project { id, name, description, default_group } = project.project(None)?;
                Ok(ProjectDocument { id, name, description, default_group: named.then_some(default_group) })
            })?,
            sets: each(sets, "/sets", |_, set| {
                with_id(set.id.as_ref())?;
                set.set()
            })?,
            groups: each(groups, "/groups", |_, group| group.document())?,
            ports: each(ports, "/ports", |_, port| {
                let id = parse_optional(port.id.as_deref(), "/id")?;
                Ok(PortDocument { id, port: port.port()? })
            })?,
            provider_rules: each(provider_rules, "/provider_rules", provider)?,
            guarded_networks,
        })
    }
}

impl GroupDocumentInput {
    fn document(self) -> Result<GroupDocument, Problem> {
        let Self { id, project, name, description, on_rule_removal, implicit_rules: implicit, rules } = self;
        let group = store::Group {
            project: parse_optional(project.as_deref(), "/project")?,
            name: name.unwrap_or_else(|| id.clone()),
            id: parse(&id, "/id")?,
            description,
            on_rule_removal: on_rule_removal.into(),
        };
        let mut rules = each(rules, "/rules", |_, rule| rule.expand())?;
        for GroupRule { group: _, rule } in implicit_rules(implicit.into(), &group.id) {
            // Who lists what is implied says it twice and means it once.
            if !rules.iter().flatten().any(|listed| says_the_same(&listed.rule, &rule)) {
                rules.push(vec![RuleDocument { id: None, rule }]);
            }
        }
        Ok(GroupDocument { group, rules })
    }
}

fn says_the_same(a: &model::Rule, b: &model::Rule) -> bool {
    let model::Rule { id: _, direction, family, service, remote, description: _ } = a;
    (*direction, *family, *service, remote) == (b.direction, b.family, b.service, &b.remote)
}

fn provider(index: usize, mut input: ProviderRuleInput) -> Result<Vec<store::ProviderRule>, Problem> {
    let place = u32::try_from(index + 1).unwrap_or(u32::MAX);
    let position = input.position.unwrap_or_else(|| place.saturating_mul(10));
    let action = input.action.into();
    input.id.get_or_insert_with(|| format!("provider-{place}"));
    let rules = input.expand()?.into_iter();
    Ok(rules.map(|rule| store::ProviderRule { position, action, rule: rule.rule }).collect())
}
