//! The driver: decides what dom0 enforces and has the plugin do it.
//!
//! ```text
//! intake ─► desired ─► ruleset ─► reconcile ─► dom0 (the plugin, through XAPI)
//! ```
//!
//! `plan`, `apply` and every hook end in [`reconcile::reconcile`]; there is no other way to write rules.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod desired;
pub mod dom0;
pub mod explain;
pub mod intake;
pub mod locking;
mod quarantine;
pub mod reconcile;
pub mod report;
pub mod run;
pub mod serve;
