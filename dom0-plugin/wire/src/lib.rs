//! What the dom0 plugin, the driver and the mock must agree on to the byte.
#![forbid(unsafe_code)]

pub mod xmlrpc;
