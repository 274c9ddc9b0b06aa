//! The security contract (docs/security.md), proven for the Open vSwitch back end: what the compiler makes decides as the
//! reference verdict does, for random policies and packets, and changes never open what they should not.

#![expect(clippy::unwrap_used, reason = "tests")]

mod agree;
mod arriving;
mod change;
#[path = "../contract/generate/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the other back end's tests, which use all of it")]
mod generate;
mod lifeline;
mod switch;
mod trace;
