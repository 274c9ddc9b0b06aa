//! Stale writers are refused: the generation of a write never falls.

use crate::paths::Paths;
use crate::{Code, Refusal, Result, state};

/// Refuses an older generation than one already seen, and remembers this one. Call with the write lock held.
///
/// # Errors
/// [`Code::StaleGeneration`].
pub(crate) fn advance(paths: &Paths, generation: u64) -> Result<()> {
    let path = paths.in_state("generation");
    match seen(paths)? {
        Some(seen) if generation < seen => {
            Err(Refusal::new(Code::StaleGeneration).detail(generation).detail(seen))
        }
        Some(seen) if generation == seen => Ok(()),
        _ => state::replace(&path, format!("{generation}\n").as_bytes()),
    }
}

/// The newest generation seen since the boot.
pub(crate) fn seen(paths: &Paths) -> Result<Option<u64>> {
    state::read_number(&paths.in_state("generation"))
}
