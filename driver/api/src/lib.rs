//! The daemon's local API: the words both ends speak, the server, and the client that the command line uses.
//!
//! What is in the store is read and edited here; what needs the running engine is behind [`Control`].

pub mod control;

pub use control::Control;
