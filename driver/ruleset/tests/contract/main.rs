//! The security contract (docs/security.md), proven: what the compiler makes decides as the reference verdict does, for
//! random policies and packets, and so do the changes from one policy to the next.
//!
//! `--features soak` runs the same for ten million decisions.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agree;
mod amend;
mod conntrack;
mod depth;
mod generate;
mod laws;
mod sequences;
mod strays;
mod tables;
