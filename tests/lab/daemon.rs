//! `drawbridge serve` over a pool that lives, and that breaks.

mod editor;
mod faults;
mod hooks;
mod hosts;
mod life;
mod service;
mod start;
mod storage;
