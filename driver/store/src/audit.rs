//! The audit: who did what, when, from where; the row before and after as JSON.

use serde_json::{Value, json};

use crate::convert::RuleColumns;
use crate::model::{AddressSet, Entity, Group, GroupRule, Port, PortTarget, Project, ProviderRule};

/// Who edits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// Who: `uid 0`, `token`, `driver`.
    pub actor: String,
    /// From where: `unix`, an address and port, a file.
    pub origin: String,
}

/// A line of the audit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AuditRow {
    /// The transaction's generation.
    pub generation: u64,
    /// Its place in the transaction, from 0.
    pub seq: u64,
    /// When, milliseconds since 1970.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// From where.
    pub origin: String,
    /// What: the kind in words.
    pub kind: String,
    /// Which.
    pub id: String,
    /// The row before; none if it was made.
    pub before: Option<Value>,
    /// The row after; none if it was removed.
    pub after: Option<Value>,
}

/// An entity as the audit shows it.
pub(crate) fn to_json(entity: &Entity) -> Value {
    match entity {
        Entity::Project(Project { id, name, description, default_group }) => {
            json!({"id": id, "name": name, "description": description, "default_group": default_group})
        }
        Entity::Group(Group { id, project, name, description, on_rule_removal }) => {
            json!({"id": id, "project": project, "name": name, "description": description, "on_rule_removal": on_rule_removal})
        }
        Entity::Rule(GroupRule { group, rule }) => {
            json!({"id": rule.id, "group": group, "rule": RuleColumns::new(rule)})
        }
        Entity::Set(AddressSet { id, project, name, description, addresses }) => {
            json!({"id": id, "project": project, "name": name, "description": description, "addresses": addresses})
        }
        Entity::Port(Port { id, project, target, addresses, pairs, groups, security }) => {
            let mut port = json!({
                "id": id, "project": project, "addresses": addresses, "pairs": pairs, "groups": groups,
                "security": security,
            });
            match target {
                PortTarget::Device { vm, device } => {
                    port["vm"] = json!(vm);
                    port["device"] = json!(device);
                }
                PortTarget::Vif(vif) => port["vif"] = json!(vif),
            }
            port
        }
        Entity::ProviderRule(ProviderRule { position, action, rule }) => {
            json!({"id": rule.id, "position": position, "action": action, "rule": RuleColumns::new(rule)})
        }
        Entity::GuardedNetwork(name) => json!({"name": name}),
        Entity::Adoption => json!({"adopted": true}),
    }
}
