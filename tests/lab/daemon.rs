//! `drawbridge serve` over a pool that lives, and that breaks.

mod life;
