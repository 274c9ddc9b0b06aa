//! The pool as a client sees it, over the wire.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by ending")]

mod client;
mod data_plane;
mod events;
mod faults;
mod http;
mod incidents;
mod json;
mod lifecycle;
mod plugins;
mod program;
mod records;
mod sessions;
mod vifs;
