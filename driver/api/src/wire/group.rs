//! Projects, groups, address sets, guarded networks.

use ipnet::IpNet;
use ruleset::model;
use serde::{Deserialize, Serialize};
use store::{Edit, Entity, implicit_rules};
use utoipa::ToSchema;

use super::words::{ImplicitRules, OnRuleRemoval};
use super::{given_or_new, invalid, parse_optional};
use crate::problem::Problem;

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in the input")]
pub struct Project {
    pub id: String,
    pub name: String,
    pub description: String,
    pub default_group: String,
    /// The generation that changed it last.
    pub revision: u64,
}

/// A project, to be made or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectInput {
    /// Made up if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub id: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 255)]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 1024)]
    pub description: String,
    /// The id of its default group, which is made with it; made up if not given. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub default_group: Option<String>,
}

impl From<(&store::Project, u64)> for Project {
    fn from((project, revision): (&store::Project, u64)) -> Self {
        let store::Project { id, name, description, default_group } = project.clone();
        Self { id: id.into(), name, description, default_group: default_group.into(), revision }
    }
}

impl From<Project> for ProjectInput {
    fn from(project: Project) -> Self {
        let Project { id, name, description, default_group, revision: _ } = project;
        Self { id: Some(id), name, description, default_group: Some(default_group) }
    }
}

impl ProjectInput {
    /// `existing` is the project that is to be changed.
    pub(crate) fn project(self, existing: Option<&store::Project>) -> Result<store::Project, Problem> {
        let Self { id, name, description, default_group } = self;
        let default_group = match (parse_optional(default_group.as_deref(), "/default_group")?, existing) {
            (Some(group), _) => group,
            (None, Some(existing)) => existing.default_group.clone(),
            (None, None) => store::new_id(),
        };
        Ok(store::Project { id: given_or_new(id.as_deref())?, name, description, default_group })
    }
}

/// A security group, without its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in the input")]
pub struct Group {
    pub id: String,
    pub project: Option<String>,
    pub name: String,
    pub description: String,
    pub on_rule_removal: OnRuleRemoval,
    /// The generation that changed it last; its rules have revisions of their own.
    pub revision: u64,
}

/// A group, to be made or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupInput {
    /// Made up if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub id: Option<String>,
    /// The project that owns it, if any. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub project: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 255)]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 1024)]
    pub description: String,
    /// What becomes of connections when their rule goes.
    #[serde(default)]
    pub on_rule_removal: OnRuleRemoval,
    /// The rules it is made with; of no meaning when it is changed.
    #[serde(default)]
    pub implicit_rules: ImplicitRules,
}

impl From<(&store::Group, u64)> for Group {
    fn from((group, revision): (&store::Group, u64)) -> Self {
        let store::Group { id, project, name, description, on_rule_removal } = group.clone();
        let (id, project) = (id.into(), project.map(Into::into));
        Self { id, project, name, description, on_rule_removal: on_rule_removal.into(), revision }
    }
}

impl GroupInput {
    pub(crate) fn group(self) -> Result<store::Group, Problem> {
        let Self { id, project, name, description, on_rule_removal, implicit_rules: _ } = self;
        Ok(store::Group {
            id: given_or_new(id.as_deref())?,
            project: parse_optional(project.as_deref(), "/project")?,
            name,
            description,
            on_rule_removal: on_rule_removal.into(),
        })
    }

    /// The edits that make it and its first rules.
    pub(crate) fn create(self) -> Result<Vec<Edit>, Problem> {
        let kind = self.implicit_rules.into();
        let group = self.group()?;
        let rules = implicit_rules(kind, &group.id).into_iter().map(Entity::Rule);
        Ok(std::iter::once(Entity::Group(group)).chain(rules).map(Edit::Create).collect())
    }
}

/// A named set of prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in the input")]
pub struct AddressSet {
    pub id: String,
    pub project: Option<String>,
    pub name: String,
    pub description: String,
    pub addresses: Vec<String>,
    /// The generation that changed it last.
    pub revision: u64,
}

/// An address set, to be made or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressSetInput {
    /// Made up if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub id: Option<String>,
    /// The project that owns it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub project: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 255)]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 1024)]
    pub description: String,
    /// Addresses and prefixes, such as `192.0.2.7` and `2001:db8::/32`; host bits are cleared.
    #[serde(default)]
    pub addresses: Vec<String>,
}

impl From<(&store::AddressSet, u64)> for AddressSet {
    fn from((set, revision): (&store::AddressSet, u64)) -> Self {
        let store::AddressSet { id, project, name, description, addresses } = set.clone();
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Self { id: id.into(), project: project.map(Into::into), name, description, addresses, revision }
    }
}

impl From<AddressSet> for AddressSetInput {
    fn from(set: AddressSet) -> Self {
        let AddressSet { id, project, name, description, addresses, revision: _ } = set;
        Self { id: Some(id), project, name, description, addresses }
    }
}

impl AddressSetInput {
    pub(crate) fn set(self) -> Result<store::AddressSet, Problem> {
        let Self { id, project, name, description, addresses } = self;
        let addresses = addresses.iter().enumerate();
        Ok(store::AddressSet {
            id: given_or_new(id.as_deref())?,
            project: parse_optional(project.as_deref(), "/project")?,
            name,
            description,
            addresses: addresses
                .map(|(index, text)| prefix(text, &format!("/addresses/{index}")))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// A guarded network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardedNetwork {
    /// Its name or uuid.
    pub name: String,
    /// The generation that guarded it.
    pub revision: u64,
}

/// A network to be guarded: a VIF without rules passes nothing on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardedNetworkInput {
    /// Its name or uuid.
    #[schema(min_length = 1, max_length = 1024)]
    pub name: String,
}

/// A prefix, or an address.
pub(crate) fn prefix(text: &str, pointer: &str) -> Result<IpNet, Problem> {
    model::prefix(text).map_err(|_| {
        invalid(pointer, format_args!("{text:?} is neither an address nor a prefix like 10.0.0.0/24"))
    })
}
