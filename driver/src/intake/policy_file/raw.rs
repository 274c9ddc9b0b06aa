//! The file as TOML has it. Everything here is text with a place; what it means is decided in `convert`.

use ruleset::model::{Action, Direction, Family};
use serde::{Deserialize, Serialize};
use toml::Spanned;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guarded_networks: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub project: Vec<Spanned<Project>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<Spanned<Group>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Spanned<Set>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port: Vec<Spanned<Port>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provider_rule: Vec<Spanned<ProviderRule>>,
}

/// A project: the daemon makes it, with its default group. Without a daemon it is a mere word.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Project {
    pub id: Spanned<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_group: Option<Spanned<String>>,
}

/// The rules a group has without being told.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ImplicitRules {
    /// A new group: egress to anybody.
    #[default]
    Egress,
    /// A project's default group: also ingress from itself.
    DefaultGroup,
    /// Just the rules listed.
    None,
}

/// What becomes of a connection when the rule that allowed it goes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnRuleRemoval {
    /// It is cut by its next packet.
    #[default]
    Cut,
    /// It lives on until it ends by itself.
    Keep,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub id: Spanned<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub implicit_rules: ImplicitRules,
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_rule_removal: OnRuleRemoval,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rule: Vec<Spanned<Rule>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Spanned<String>>,
    pub direction: Direction,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ethertype: Option<Family>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Spanned<Protocol>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Spanned<Ports>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_cidr: Option<Spanned<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_group: Option<Spanned<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_set: Option<Spanned<String>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A provider rule: a rule with an action. (No `flatten`: it would switch off the refusal of unknown fields.)
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderRule {
    /// Place in the order; ten times its place in the file if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    pub action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Spanned<String>>,
    pub direction: Direction,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ethertype: Option<Family>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Spanned<Protocol>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Spanned<Ports>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_cidr: Option<Spanned<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_group: Option<Spanned<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_set: Option<Spanned<String>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl ProviderRule {
    /// The action and the matching part.
    pub(super) fn split(self) -> (Action, Rule) {
        let Self {
            position: _,
            action,
            id,
            direction,
            ethertype,
            protocol,
            ports,
            icmp_type,
            icmp_code,
            remote_cidr,
            remote_group,
            remote_set,
            description,
        } = self;
        let rule = Rule {
            id,
            direction,
            ethertype,
            protocol,
            ports,
            icmp_type,
            icmp_code,
            remote_cidr,
            remote_group,
            remote_set,
            description,
        };
        (action, rule)
    }
}

/// `protocol = "tcp"` or `protocol = 47`
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a protocol's name or number")]
pub(super) enum Protocol {
    Name(String),
    Number(i64),
}

/// `ports = 80` or `ports = "8000-8100"`
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a port or a range like \"8000-8100\"")]
pub(super) enum Ports {
    One(i64),
    Range(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    pub id: Spanned<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    pub addresses: Vec<Spanned<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vif: Option<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address_pairs: Vec<Spanned<Pair>>,
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub port_security: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    pub address: String,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_true(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
