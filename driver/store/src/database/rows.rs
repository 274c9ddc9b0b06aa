//! The tables and what a row puts into their columns.

use serde_json::json;

use super::signed;
use crate::convert::{RuleColumns, word};
use crate::model::{ADOPTED, Entity, Kind, Port, PortTarget, Row};

/// A table, as far as writing goes; its first column is the key that is removed by.
#[derive(Debug)]
pub(super) struct Table {
    name: &'static str,
    columns: &'static [&'static [&'static str]],
    /// Whether a row takes the place of the one of the same first column.
    replaces: bool,
}

const fn rows(name: &'static str, columns: &'static [&'static [&'static str]]) -> Table {
    Table { name, columns, replaces: true }
}

const PROJECTS: Table = rows("projects", &[&["id", "revision", "name", "description", "default_group"]]);
const GROUPS: Table =
    rows("groups", &[&["id", "revision", "project", "name", "description", "on_rule_removal"]]);
const SETS: Table = rows("sets", &[&["id", "revision", "project", "name", "description", "addresses"]]);
/// The columns of every rule, as `rule` fills them.
const RULE: &[&str] = &[
    "id",
    "revision",
    "direction",
    "ethertype",
    "protocol",
    "port_first",
    "port_last",
    "icmp_type",
    "icmp_code",
    "remote",
    "remote_prefix",
    "remote_group",
    "remote_set",
    "description",
];
const RULES: Table = rows("rules", &[RULE, &["group_id"]]);
const PROVIDER_RULES: Table = rows("provider_rules", &[RULE, &["position", "action"]]);
const PORTS: Table =
    rows("ports", &[&["id", "revision", "project", "vm", "device", "vif", "addresses", "pairs", "security"]]);
const GUARDED_NETWORKS: Table = rows("guarded_networks", &[&["name", "revision"]]);
const ADOPTION: Table = rows("adoption", &[&["id", "revision"]]);

/// Which port is in which group.
pub(super) const PORT_GROUPS: Table =
    Table { name: "port_groups", columns: &[&["port_id", "group_id"]], replaces: false };
/// Who did what.
pub(super) const AUDIT: Table = Table {
    name: "audit",
    columns: &[
        &["generation", "seq", "at", "actor", "origin", "writer"],
        &["kind", "id", "before_value", "after_value"],
    ],
    replaces: false,
};

/// The table of a kind.
pub(super) fn table(kind: Kind) -> &'static Table {
    match kind {
        Kind::Project => &PROJECTS,
        Kind::Group => &GROUPS,
        Kind::Rule => &RULES,
        Kind::Set => &SETS,
        Kind::Port => &PORTS,
        Kind::ProviderRule => &PROVIDER_RULES,
        Kind::GuardedNetwork => &GUARDED_NETWORKS,
        Kind::Adoption => &ADOPTION,
    }
}

impl Table {
    /// Puts `rows` rows in. Everything in it is this file's.
    pub(super) fn insert(&self, rows: usize) -> String {
        let columns = self.columns.concat();
        let width = columns.len();
        let row = |row: usize| {
            let places: Vec<_> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
            format!("({})", places.join(", "))
        };
        let places: Vec<_> = (0..rows).map(row).collect();
        let mut text =
            format!("INSERT INTO {} ({}) VALUES {}", self.name, columns.join(", "), places.join(", "));
        if let ([key, rest @ ..], true) = (columns.as_slice(), self.replaces) {
            let set: Vec<_> = rest.iter().map(|column| format!("{column} = excluded.{column}")).collect();
            text.push_str(&format!(" ON CONFLICT ({key}) DO UPDATE SET {}", set.join(", ")));
        }
        text
    }

    /// Removes the rows of `ids` keys.
    pub(super) fn delete(&self, ids: usize) -> String {
        let places: Vec<_> = (1..=ids).map(|place| format!("${place}")).collect();
        let key = self.columns.concat().first().copied().unwrap_or_default();
        format!("DELETE FROM {} WHERE {key} IN ({})", self.name, places.join(", "))
    }
}

/// What a column holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
}

impl Value {
    pub(super) fn text(value: &(impl ToString + ?Sized)) -> Self {
        Self::Text(Some(value.to_string()))
    }

    fn optional(value: Option<impl ToString>) -> Self {
        Self::Text(value.map(|value| value.to_string()))
    }

    pub(super) fn number(value: u64) -> Self {
        Self::Number(Some(signed(value)))
    }
}

/// A row, in the order of its table's columns.
pub(super) fn values(row: &Row) -> Vec<Value> {
    let revision = Value::number(row.revision);
    match &row.entity {
        Entity::Project(p) => vec![
            Value::text(&p.id),
            revision,
            Value::text(&p.name),
            Value::text(&p.description),
            Value::text(&p.default_group),
        ],
        Entity::Group(g) => vec![
            Value::text(&g.id),
            revision,
            Value::optional(g.project.as_ref()),
            Value::text(&g.name),
            Value::text(&g.description),
            Value::text(&word(&g.on_rule_removal)),
        ],
        Entity::Set(s) => vec![
            Value::text(&s.id),
            revision,
            Value::optional(s.project.as_ref()),
            Value::text(&s.name),
            Value::text(&s.description),
            Value::text(&json!(s.addresses)),
        ],
        Entity::Rule(r) => {
            let mut values = rule(&r.rule, revision);
            values.push(Value::text(&r.group));
            values
        }
        Entity::ProviderRule(p) => {
            let mut values = rule(&p.rule, revision);
            values.push(Value::number(p.position.into()));
            values.push(Value::text(&word(&p.action)));
            values
        }
        Entity::Port(p) => port(p, revision),
        Entity::GuardedNetwork(name) => vec![Value::text(name), revision],
        Entity::Adoption => vec![Value::text(ADOPTED), revision],
    }
}

fn rule(rule: &ruleset::model::Rule, revision: Value) -> Vec<Value> {
    let RuleColumns {
        direction,
        ethertype,
        protocol,
        port_first,
        port_last,
        icmp_type,
        icmp_code,
        remote,
        remote_prefix,
        remote_group,
        remote_set,
        description,
    } = RuleColumns::new(rule);
    vec![
        Value::text(&rule.id),
        revision,
        Value::text(&direction),
        Value::text(&ethertype),
        Value::Number(protocol),
        Value::Number(port_first),
        Value::Number(port_last),
        Value::Number(icmp_type),
        Value::Number(icmp_code),
        Value::text(&remote),
        Value::Text(remote_prefix),
        Value::Text(remote_group),
        Value::Text(remote_set),
        Value::Text(Some(description)),
    ]
}

fn port(port: &Port, revision: Value) -> Vec<Value> {
    let Port { id, project, target, addresses, pairs, groups: _, security } = port;
    let (vm, device, vif) = match target {
        PortTarget::Device { vm, device } => (Some(vm), Some(i64::from(*device)), None),
        PortTarget::Vif(vif) => (None, None, Some(vif)),
    };
    vec![
        Value::text(id),
        revision,
        Value::optional(project.as_ref()),
        Value::optional(vm),
        Value::Number(device),
        Value::optional(vif),
        Value::text(&json!(addresses)),
        Value::text(&json!(pairs)),
        Value::text(&word(security)),
    ]
}
