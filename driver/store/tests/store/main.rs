//! The store against a real SQLite file and a real PostgreSQL server.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod edits;
mod model;
mod postgres;
mod sequences;
mod silence;
mod support;
