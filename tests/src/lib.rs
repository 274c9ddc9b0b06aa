//! The Lab: what needs real packets, or several parts of Drawbridge at once.
//!
//! Reading order: [`frame`] builds packets byte by byte, [`tap`] puts them on a link and takes them off,
//! [`station`] is a place in the network one can send from, [`service`] answers there, [`probe`] asks one
//! question ("does a TCP connection from here to there come up?"), [`flow`] keeps asking while rules change. [`lab`] is a whole pool with plugin and driver,
//! [`scenario`] the small cloud most tests run in it, [`traffic`] what goes on there meanwhile. [`crowd`] is a pool of any size, [`load`] many who
//! edit at once, [`usage`] what a process takes. [`fuzz`] stands apart: laws that hold for any bytes.

pub mod crowd;
pub mod flow;
pub mod frame;
pub mod fuzz;
pub mod lab;
pub mod load;
pub mod postgres;
pub mod probe;
pub mod process;
pub mod scenario;
pub mod service;
pub mod station;
pub mod tap;
pub mod traffic;
pub mod usage;

#[cfg(test)]
mod testing;
