//! The XAPI plugin that enforces security groups in dom0.
//!
//! XAPI starts it once per call with the whole call as `argv[1]` and reads its answer from standard output. [`run`] is
//! the pipeline, in this order: sanitise the process, decode the call, authenticate the caller, make room, authorise what it
//! asks, wait for its turn, run one of four programs with no more than it needs, reply, write one audit line.
//!
//! [`boot()`] is the one run that XAPI does not start: it keeps guarded networks closed until the first call after a boot of
//! dom0, or of its Open vSwitch ([`boot_flows`]).
//!
//! What may run is a value: only [`authorise`] makes an [`authorise::Approved`], and the module `exec` runs nothing else.

mod audit;
mod authenticate;
pub mod authorise;
mod boot;
mod bridge_nf;
mod bridges;
pub mod budget;
mod config;
mod conntrack;
mod exec;
pub mod filter;
mod generation;
mod guarded;
mod horizon;
mod lock;
pub mod paths;
mod perform;
mod process;
mod request;
mod room;
mod sanitise;
mod serve;
mod stage;
mod state;
mod switch;
mod trusted;
mod turn;

pub use boot::{boot, boot_flows, zone};
pub use serve::{run, serve};

/// Every refusal, with its documented code.
pub(crate) use drawbridge_wire::{Code, Refusal};

/// Short for what every step returns.
pub(crate) type Result<T, E = Refusal> = std::result::Result<T, E>;
