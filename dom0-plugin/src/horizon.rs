//! What is remembered of calls beyond a boot of dom0, so that none signed before is taken again after.
//!
//! Nonces go with `/run`. A call signed before the boot is older than the boot by dom0's clock, and refused for that; but a clock
//! may be set back while dom0 is down. So the time of the newest call that was taken is kept on disk, and the generation. Each
//! boot (the kernel numbers them) looks at what the one before has left.
//!
//! To write that down with each call would cost a wait for the disk each time. What is written is therefore [`STEP`] later than the
//! call, and good for all calls up to then: at most one write in that time. The price is paid once a boot: what is signed within
//! that time of the last call before it is refused. No host boots that fast.

use std::fs;
use std::path::PathBuf;

use crate::paths::Paths;
use crate::{Result, generation, state, trusted};

/// Seconds.
const STEP: u64 = 60;

/// What earlier boots have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// No call signed then, or earlier, is taken; seconds since 1970.
    pub(crate) newest: u64,
    /// No older writer is heard.
    pub(crate) generation: u64,
}

/// The record on disk.
struct Record {
    boot: String,
    left: Before,
}

/// Where the record is on disk.
fn lasting(paths: &Paths) -> PathBuf {
    paths.lasting.join("accepted")
}

/// Where it is kept from this boot's first call on.
fn kept(paths: &Paths) -> PathBuf {
    paths.in_state("before")
}

fn parse(text: &str) -> Option<Before> {
    let (newest, generation) = text.trim_ascii_end().split_once(' ')?;
    Some(Before { newest: newest.parse().ok()?, generation: generation.parse().ok()? })
}

/// `None`: there is none, or it cannot be read. The next call then writes one. To refuse all calls until somebody comes and removes
/// it would be worse than what it is for.
fn record(paths: &Paths) -> Option<Record> {
    let text = trusted::read(&lasting(paths)).ok()??;
    let (boot, left) = text.split_once(' ')?;
    Some(Record { boot: boot.to_owned(), left: parse(left)? })
}

fn this_boot(paths: &Paths) -> Result<String> {
    let text = fs::read_to_string(&paths.boot_id).map_err(|e| state::failed(&paths.boot_id, &e))?;
    Ok(text.trim_ascii().to_owned())
}

/// What earlier boots have left. Call with the lock of the nonces held, before [`reach`].
///
/// # Errors
/// [`crate::Code::StateIo`]
pub(crate) fn before(paths: &Paths) -> Result<Before> {
    if let Some(Record { boot, left }) = record(paths)
        && boot != this_boot(paths)?
    {
        state::replace(&kept(paths), format!("{} {}\n", left.newest, left.generation).as_bytes())?;
    }
    known(paths)
}

/// The same, where [`before`] was asked before.
///
/// # Errors
/// [`crate::Code::StateIo`]
pub(crate) fn known(paths: &Paths) -> Result<Before> {
    match fs::read_to_string(kept(paths)) {
        Ok(text) => Ok(parse(&text).unwrap_or_default()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Before::default()),
        Err(e) => Err(state::failed(&kept(paths), &e)),
    }
}

/// Makes sure that a call signed at this time is remembered beyond the boot. Call before it is taken.
///
/// # Errors
/// [`crate::Code::StateIo`]
pub(crate) fn reach(paths: &Paths, unix_seconds: u64) -> Result<()> {
    let boot = this_boot(paths)?;
    if record(paths).is_some_and(|record| record.boot == boot && unix_seconds <= record.left.newest) {
        return Ok(());
    }
    let newest = unix_seconds.saturating_add(STEP);
    let generation = generation::seen(paths)?.unwrap_or_default().max(known(paths)?.generation);
    // Where the disk is full, rules can still be written: a clock that is set back while dom0 boots is rarer.
    let _ = state::secure_dir(&paths.lasting).and_then(|()| {
        state::replace_for_good(&lasting(paths), format!("{boot} {newest} {generation}\n").as_bytes())
    });
    Ok(())
}
