//! Whose turn it is: writers one at a time, and nobody who is older than the newest that has written, or has read in order to.

use std::time::{Duration, Instant};

use crate::lock::{self, Lock, Share};
use crate::paths::Paths;
use crate::{Result, generation};

/// Waits until it is the caller's turn, at most `patience`, refuses one that is older than another seen, and from then on refuses
/// all that are older than this one. What is returned is held to the end of the call.
///
/// Whoever reads in order to write (`writes` is false) shares the lock with others that do: none of them changes anything. It
/// excludes writers, so that no older one is in the middle of its write, and none begins: each is asked for its generation
/// when it has the lock, and by then ours has been seen.
///
/// The gate is passed by one at a time. Who has it waits for the lock, so that a writer does not wait for ever while reads come
/// and go; it also guards the generation against two that share the lock.
///
/// # Errors
/// [`crate::Code::Busy`], [`crate::Code::StaleGeneration`], [`crate::Code::BadValue`]
pub(crate) fn take(paths: &Paths, generation: u64, writes: bool, patience: Duration) -> Result<Lock> {
    generation::check(generation)?;
    let started = Instant::now();
    let _gate = lock::acquire(&paths.in_state("gate"), patience)?;
    let left = patience.saturating_sub(started.elapsed());
    let share = if writes { Share::Alone } else { Share::WithReaders };
    let lock = lock::acquire_shared(&paths.in_state("lock"), share, left)?;
    generation::advance(paths, generation)?;
    Ok(lock)
}
