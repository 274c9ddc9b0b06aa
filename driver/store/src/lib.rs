//! What should hold, and lasts: projects, groups, rules, address sets, ports, the operator's rules, guarded networks.
//!
//! One task writes. It checks every edit against the state in memory, puts waiting edits into one database transaction
//! and answers each after the commit; an answered edit survives whatever happens to the process. The state in memory is
//! a persistent data structure: a reader takes a copy of constant cost and is never in anybody's way.
//!
//! SQLite and PostgreSQL share every statement ([`Store::open`] takes the URL). Who else writes to the same database is
//! noticed by the generation number and read again.

mod audit;
mod convert;
mod database;
mod document;
mod edit;
mod ids;
mod model;
mod snapshot;
mod state;
mod store;
mod touched;
mod validate;
mod writer;

pub use audit::{AuditRow, By};
pub use database::DatabaseError;
pub use document::{
    Document, DocumentRefused, GroupDocument, Plan, PortDocument, ProjectDocument, RuleDocument,
};
pub use edit::{Edit, EditError, EditFailed, Receipt};
pub use ids::{PortId, ProjectId, RESERVED_PREFIX, new_id};
pub use model::{
    AddressSet, Entity, Group, GroupRule, ImplicitRules, Key, Kind, OnRuleRemoval, Port, PortTarget, Project,
    ProviderRule, Row, implicit_rules,
};
pub use snapshot::Snapshot;
pub use state::State;
pub use store::{Applied, Store, StoreError};
pub use touched::Touched;
