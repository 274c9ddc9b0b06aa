//! Room for a call: what it decodes, and what its program says, is in memory, and XAPI starts as many plugins as it is asked for.

use std::time::{Duration, Instant};

use drawbridge_wire::limits;

use crate::lock::{self, Lock, Share};
use crate::paths::Paths;
use crate::{Code, Refusal, Result};

/// Takes one of the places for calls with input, or without. Each is a lock file, so whoever is killed leaves none behind.
/// Call after authentication: nobody else gets one.
///
/// # Errors
/// [`Code::Busy`] if none becomes free within `patience`.
pub(crate) fn take(paths: &Paths, has_input: bool, patience: Duration) -> Result<Lock> {
    let (name, places) = match has_input {
        true => ("room-with-input", limits::WRITERS_AT_ONCE),
        false => ("room", limits::READERS_AT_ONCE),
    };
    let started = Instant::now();
    loop {
        for place in 1..=places {
            if let Some(lock) = lock::attempt(&paths.in_state(format!("{name}-{place}")), Share::Alone)? {
                return Ok(lock);
            }
        }
        if started.elapsed() >= patience {
            return Err(Refusal::new(Code::Busy)
                .detail(patience.as_secs())
                .detail("too many calls at a time"));
        }
        std::thread::sleep(lock::STEP);
    }
}
