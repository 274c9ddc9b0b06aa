//! The file as TOML has it. Everything here is text with a place; what it means is decided in `convert`.

use ruleset::model::{Action, Direction, Family};
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub guarded_networks: Vec<String>,
    #[serde(default)]
    pub group: Vec<Spanned<Group>>,
    #[serde(default)]
    pub set: Vec<Spanned<Set>>,
    #[serde(default)]
    pub port: Vec<Spanned<Port>>,
    #[serde(default)]
    pub provider_rule: Vec<Spanned<ProviderRule>>,
}

/// The rules a group has without being told.
#[derive(Clone, Copy, Default, Deserialize)]
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
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnRuleRemoval {
    /// It is cut by its next packet.
    #[default]
    Cut,
    /// It lives on until it ends by itself.
    Keep,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub id: Spanned<String>,
    pub name: Option<String>,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub project: String,
    #[serde(default)]
    pub implicit_rules: ImplicitRules,
    #[serde(default)]
    pub on_rule_removal: OnRuleRemoval,
    #[serde(default)]
    pub rule: Vec<Spanned<Rule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub id: Option<Spanned<String>>,
    pub direction: Direction,
    pub ethertype: Option<Family>,
    pub protocol: Option<Spanned<Protocol>>,
    pub ports: Option<Spanned<Ports>>,
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
    pub remote_cidr: Option<Spanned<String>>,
    pub remote_group: Option<Spanned<String>>,
    pub remote_set: Option<Spanned<String>>,
    #[serde(default)]
    pub description: String,
}

/// A provider rule: a rule with an action. (No `flatten`: it would switch off the refusal of unknown fields.)
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderRule {
    pub action: Action,
    pub id: Option<Spanned<String>>,
    pub direction: Direction,
    pub ethertype: Option<Family>,
    pub protocol: Option<Spanned<Protocol>>,
    pub ports: Option<Spanned<Ports>>,
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
    pub remote_cidr: Option<Spanned<String>>,
    pub remote_group: Option<Spanned<String>>,
    pub remote_set: Option<Spanned<String>>,
    #[serde(default)]
    pub description: String,
}

impl ProviderRule {
    pub(super) fn split(self) -> (Action, Rule) {
        let Self {
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
#[derive(Deserialize)]
#[serde(untagged, expecting = "a protocol's name or number")]
pub(super) enum Protocol {
    Name(String),
    Number(i64),
}

/// `ports = 80` or `ports = "8000-8100"`
#[derive(Deserialize)]
#[serde(untagged, expecting = "a port or a range like \"8000-8100\"")]
pub(super) enum Ports {
    One(i64),
    Range(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    pub id: Spanned<String>,
    pub addresses: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub vm: String,
    pub device: u32,
    #[serde(default)]
    pub groups: Vec<Spanned<String>>,
    #[serde(default)]
    pub addresses: Vec<Spanned<String>>,
    #[serde(default)]
    pub address_pairs: Vec<Spanned<Pair>>,
    #[serde(default = "yes")]
    pub port_security: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    pub mac: Option<String>,
    pub address: String,
}

fn yes() -> bool {
    true
}
