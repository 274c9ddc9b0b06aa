//! First of all, before any input is looked at: nothing inherited stays.

use std::os::fd::RawFd;
use std::panic;

use drawbridge_wire::reply::encode_failure;

use crate::{Code, Refusal, Result, process};

/// Files a child may write at most: the lock files and little else. The reply itself goes to a file of XAPI's.
const FILE_BYTES: u64 = 256 * 1024 * 1024;

/// More than the plugin and its children use.
const OPEN_FILES: u64 = 256;

/// Makes the process's surroundings known: descriptors, environment, umask, limits, privileges, working directory.
pub(crate) fn process() -> Result<()> {
    close_inherited();
    process::clear_environment();
    process::restrict_umask();
    let fail = |what: &str, e: std::io::Error| Refusal::new(Code::Internal).detail(format!("{what}: {e}"));
    process::limit(libc::RLIMIT_CORE, 0).map_err(|e| fail("core limit", e))?;
    process::limit(libc::RLIMIT_NOFILE, OPEN_FILES).map_err(|e| fail("file limit", e))?;
    process::limit(libc::RLIMIT_FSIZE, FILE_BYTES).map_err(|e| fail("file size limit", e))?;
    process::no_new_privileges().map_err(|e| fail("no_new_privs", e))?;
    std::env::set_current_dir("/").map_err(|e| fail("working directory", e))
}

/// A panic answers as a failure too, and exits with 0. It never shows the panic's own text: that may hold input.
pub(crate) fn answer_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        crate::serve::print(&encode_failure(&Refusal::new(Code::Internal).detail(place)));
        process::exit_now();
    }));
}

/// Closes every descriptor above standard error. XAPI leaves none open, but others may start us.
fn close_inherited() {
    // Kernel 4.19 has no close_range. Collected first: the listing has a descriptor of its own.
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = listing
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    open.into_iter().for_each(process::close_inherited);
}
