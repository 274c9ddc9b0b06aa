//! A XAPI pool to test against: XML-RPC over HTTP and HTTPS, records, lifecycle, plugins, and a real data plane.
//!
//! ```text
//! http ──► calls ──► domain ──► dataplane ──► netns (bridges, vifs, guests) or plain (nothing)
//!            │          │
//!            └── db ◄───┘   records; made from config by inventory, described by schema
//! ```
#![forbid(unsafe_code)]

mod calls;
pub mod config;
pub mod dataplane;
mod db;
mod domain;
mod error;
pub mod faults;
mod http;
mod incidents;
mod inventory;
mod mock;
pub mod netns;
mod plain;
mod plugin;
mod pool;
mod rpc;
mod schema;
mod session;
mod tls;

pub use config::PoolConfig;
pub use incidents::{HostError, Incident, NoHost};
pub use mock::{HostInfo, Mock, StartError, VmError};
pub use tls::TlsError;
