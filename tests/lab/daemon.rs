//! `drawbridge serve` over a pool that lives, and that breaks.

mod callers;
mod commands;
mod editor;
mod edits;
mod faults;
mod hooks;
mod hosts;
mod life;
mod load;
mod service;
mod standing;
mod start;
mod storage;

pub(crate) use editor::{any_below, some_time};
pub(crate) use faults::ROUNDS;
