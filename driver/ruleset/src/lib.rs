//! Security groups to packet filter rules and back.
//!
//! ```text
//! model::Policy + HostPorts ──resolve──► HostPolicy ──iptables::compile──► Ruleset ─┐
//!                                                                                  ├─ iptables::diff ─► Plan
//!                            iptables-save text ──iptables::parse──► Observed ─────┘
//! ```
//!
//! Everything here is a pure function of its arguments: no clock, no environment, no I/O crate.
#![forbid(unsafe_code)]

pub mod ids;
pub mod iptables;
pub mod model;
pub mod resolve;
