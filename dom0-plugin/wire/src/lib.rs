//! What the dom0 plugin, the driver and the mock must agree on to the byte.
//!
//! Reading order: [`call`] (functions and arguments), [`auth`] (who may call), [`payload`] and [`stage`] (input that
//! is large), [`reply`] and [`code`] (what comes back), [`limits`]. Feature `client` adds the caller's side.
#![forbid(unsafe_code)]

pub mod auth;
pub mod call;
#[cfg(feature = "client")]
mod client;
pub mod code;
pub mod contention;
pub mod flow;
pub mod generation;
pub mod key;
pub mod limits;
pub mod payload;
pub mod reply;
pub mod stage;
pub mod xmlrpc;

pub use call::{Family, Function};
#[cfg(feature = "client")]
pub use client::{EncodeError, Invocation, Signer, generate_keypair, signed_calls};
pub use code::{Code, Refusal};
#[cfg(feature = "client")]
pub use key::PrivateKeyText;
pub use key::{KeyId, PublicKey, PublicKeyLine};
#[cfg(feature = "client")]
pub use reply::{Reply, ReplyError};

/// The version both ends report. Driver and plugin of one release agree on everything here.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The plugin's file name in `/etc/xapi.d/plugins`, which is the name `host.call_plugin` takes.
pub const PLUGIN_NAME: &str = "drawbridge";

mod hex;
