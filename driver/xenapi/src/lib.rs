//! XAPI, typed: references, records, errors and, with feature `client`, the client.
//!
//! Without the feature the crate does no I/O: it turns XML-RPC values into records and back, which is what both
//! the driver and a mock need. Field names and encodings follow XAPI's data model (xen-api `ocaml/idl`).
//!
//! Fields XAPI adds in later versions are ignored. A field that is needed and missing, or that has a value the
//! data model does not know, is an error naming class, object, field and what was found: never a default.
#![forbid(unsafe_code)]

mod cache;
#[cfg(feature = "client")]
pub mod client;
mod error;
mod event;
mod fields;
mod record;
mod reference;
#[cfg(feature = "client")]
mod watch;

pub use cache::{Before, Cache, Changed, Table};
pub use error::{ApiError, Kind};
pub use event::{Event, EventClass, Events, Token, Update};
pub use fields::{Problem, RecordError};
pub use record::host::{Backend, Host};
pub use record::network::{DefaultLockingMode, Network};
pub use record::pif::Pif;
pub use record::pool::Pool;
pub use record::vif::{LockingMode, Mac, Vif};
pub use record::vm::{PowerState, Vm};
pub use record::{Record, decode_records, encode_records};
pub use reference::{Bond, Class, HostMetrics, NetworkSriov, Ref, Uuid};

#[cfg(feature = "client")]
pub use client::{CallError, Client, ClientConfig, ConfigError, Fingerprint, Tls};
#[cfg(feature = "client")]
pub use watch::{FullRead, Watch, WatchConfig};
