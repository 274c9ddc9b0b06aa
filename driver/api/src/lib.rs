//! The daemon's local API: the words both ends speak, the server, and the client that the command line uses.
//!
//! What is in the store is read and edited here; what needs the running engine is behind [`Control`]. The routes, with
//! every error's code, are in docs/api.md; the OpenAPI document is generated from the code.

mod caller;
mod client;
pub mod control;
mod extract;
mod listen;
mod problem;
mod routes;
pub mod wire;

pub use caller::Caller;
pub use client::{ApiClient, ClientError, Versioned, segment};
pub use control::Control;
pub use listen::{Limits, ListenError, Server, TcpListen, UnixListen};
pub use problem::{Code, Problem};
pub use routes::{ApiState, openapi, router};
