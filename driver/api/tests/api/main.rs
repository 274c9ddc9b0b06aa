//! The API over a real unix socket and over TLS, with a daemon that is a fake.
#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod access;
mod document;
mod engine;
mod fake;
mod rows;
mod sequences;
mod together;
