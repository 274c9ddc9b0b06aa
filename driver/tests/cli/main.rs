//! The program as a process, over a real socket, with a real store and an engine that is a fake.
#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod daemon;
mod hooks;
mod nouns;
mod policy;
mod status;
mod way;
