//! Security groups to packet filter rules and back.
//!
//! ```text
//! model::Policy + HostPorts ──resolve──► HostPolicy ──iptables::compile──► Ruleset ─┐
//!                                                                                  ├─ iptables::diff ─► Plan
//!                            iptables-save text ──iptables::parse──► Observed ─────┘
//! ```
//!
//! [`verdict`] is the specification: what passes, of [`packet`]s as data. Compilers are tested against it.
//!
//! Everything here is a pure function of its arguments: no clock, no environment, no I/O crate.
#![forbid(unsafe_code)]

pub mod ids;
pub mod iptables;
pub mod model;
pub mod ovs;
pub mod packet;
pub mod resolve;
pub mod verdict;

/// What becomes of a packet that no rule speaks of. The one place that says so.
pub const DEFAULT_VERDICT: model::Action = model::Action::Deny;
