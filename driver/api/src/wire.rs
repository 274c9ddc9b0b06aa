//! The words on the wire. Each input becomes the store's own type once, with a precise error and the place of it.

mod document;
mod edits;
mod group;
mod object;
mod port;
mod rule;
mod words;

pub use document::{ApplyAnswer, DocumentInput, GroupDocumentInput, KeyName};
pub use edits::{Deletion, EditInput, EditsAnswer, EditsInput, KeyInput, Replacement, RuleOfGroup, Thing};
pub(crate) use edits::{Edits, provider_rule};
pub use group::{
    AddressSet, AddressSetInput, Group, GroupInput, GuardedNetwork, GuardedNetworkInput, Project,
    ProjectInput,
};
pub(crate) use object::Object;
pub use port::{AddressPair, Port, PortInput};
pub use rule::{Ports, Protocol, ProviderRule, ProviderRuleInput, Rule, RuleInput};
pub use words::{Action, Direction, Ethertype, ImplicitRules, OnRuleRemoval};

use ruleset::ids::InvalidId;
use serde::{Deserialize, Serialize};
use store::new_id;
use utoipa::ToSchema;

use crate::problem::{Code, Problem};

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Page<T> {
    /// The items, by id.
    pub items: Vec<T>,
    /// Give it as `after` for what follows; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The store's generation.
    pub generation: u64,
}

/// What a mark for refresh says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refreshed {
    /// Names of the hosts that were marked, and no others were.
    pub hosts: Vec<String>,
}

/// What a compute driver says when something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HookInput {
    /// Name or uuid of the VM; needed but for `host-init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// Name or uuid of the host: for `host-init` the host that came up, for `pre-migrate` the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Longest time to wait, in seconds; 30 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 600)]
    pub deadline: Option<u16>,
}

/// Whether the store is what should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The store's generation.
    pub generation: u64,
    /// Whether the store was adopted. Until then nothing is taken away from a host.
    pub adopted: bool,
    /// How many of each there are.
    pub projects: usize,
    #[expect(missing_docs, reason = "as above")]
    pub groups: usize,
    #[expect(missing_docs, reason = "as above")]
    pub rules: usize,
    #[expect(missing_docs, reason = "as above")]
    pub sets: usize,
    #[expect(missing_docs, reason = "as above")]
    pub ports: usize,
    #[expect(missing_docs, reason = "as above")]
    pub provider_rules: usize,
    #[expect(missing_docs, reason = "as above")]
    pub guarded_networks: usize,
    /// What is wrong at the moment, one reason each.
    pub trouble: Vec<String>,
}

/// What happened behind a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchAnswer {
    /// The store's generation: give it as `after`.
    pub generation: u64,
    /// Counts the changes of hosts' and ports' states: give it as `engine`.
    pub engine: u64,
    /// Every host is concerned, or it is no longer known which.
    pub everything: bool,
    /// Groups whose rules changed.
    pub groups: Vec<String>,
    /// Groups whose members changed.
    pub members: Vec<String>,
    /// VIFs whose port changed: `vm#device`, or the VIF's uuid.
    pub ports: Vec<String>,
}

/// A line of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditLine {
    /// The transaction's generation.
    pub generation: u64,
    /// When, RFC 3339.
    pub at: String,
    /// Who.
    pub actor: String,
    /// From where.
    pub origin: String,
    /// What it was about: project, group, rule, …
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Before; null if it was made.
    pub before: Option<serde_json::Value>,
    /// After; null if it was removed.
    pub after: Option<serde_json::Value>,
}

/// A value that makes no sense, and where it stands.
pub(crate) fn invalid(pointer: impl Into<String>, message: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidValue, message.to_string()).at(pointer)
}

/// Text as a value of its type.
pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
    pointer: impl Into<String>,
) -> Result<T, Problem> {
    text.parse().map_err(|error| invalid(pointer, error))
}

pub(crate) fn parse_optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: Option<&str>,
    pointer: &str,
) -> Result<Option<T>, Problem> {
    text.map(|text| parse(text, pointer)).transpose()
}

/// The id that was given, or a new one.
pub(crate) fn given_or_new<T>(id: Option<&str>) -> Result<T, Problem>
where
    T: std::str::FromStr<Err = InvalidId> + TryFrom<String, Error = InvalidId>,
{
    id.map_or_else(|| Ok(new_id()), |id| parse(id, "/id"))
}
