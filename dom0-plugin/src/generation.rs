//! Stale writers are refused: the generation of a write never falls.

use std::time::{SystemTime, UNIX_EPOCH};

use drawbridge_wire::generation::latest;

use crate::paths::Paths;
use crate::{Code, Refusal, Result, horizon, state};

/// Refuses one that no honest writer can have: see [`drawbridge_wire::generation`].
///
/// # Errors
/// [`Code::BadValue`]
pub(crate) fn check(generation: u64) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if generation <= latest(now) {
        return Ok(());
    }
    Err(Refusal::new(Code::BadValue).detail("generation").detail("too far ahead of dom0's clock"))
}

/// Refuses an older generation than one already seen, and remembers this one. Call from one's [`crate::turn`].
///
/// # Errors
/// [`Code::StaleGeneration`].
pub(crate) fn advance(paths: &Paths, generation: u64) -> Result<()> {
    let seen = seen(paths)?;
    let newest = seen.unwrap_or(horizon::known(paths)?.generation);
    if generation < newest {
        return Err(Refusal::new(Code::StaleGeneration).detail(generation).detail(newest));
    }
    match seen == Some(generation) {
        true => Ok(()),
        false => state::replace(&paths.in_state("generation"), format!("{generation}\n").as_bytes()),
    }
}

/// The newest generation seen since the boot.
pub(crate) fn seen(paths: &Paths) -> Result<Option<u64>> {
    state::read_number(&paths.in_state("generation"))
}
