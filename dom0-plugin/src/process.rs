//! The system calls that the standard library does not offer. The only module with `unsafe` in it.
#![expect(unsafe_code, reason = "the one module that calls libc directly")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes a descriptor that was inherited and that nothing in this process owns.
pub(crate) fn close_inherited(fd: RawFd) {
    // SAFETY: called before anything opened a descriptor, so no owner in this process loses it. A number that is not
    // open only gives EBADF.
    unsafe { libc::close(fd) };
}

/// Empties this process's environment.
pub(crate) fn clear_environment() {
    // SAFETY: called while the process has one thread.
    unsafe { libc::clearenv() };
}

/// New files get no permission bits for anybody but the owner.
pub(crate) fn restrict_umask() {
    // SAFETY: umask takes any value and cannot fail.
    unsafe { libc::umask(0o077) };
}

/// Sets both limits of a resource, for this process and its children.
pub(crate) fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` is a valid rlimit for the time of the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// No child gains privileges by executing a file.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes 1 and three zeros.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Time since the kernel started, suspended time included.
pub(crate) fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing. CLOCK_BOOTTIME exists since Linux 2.6.39, so this cannot fail; if it did,
    // zero would be returned, which refuses every call signed before now.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default())
}

/// Kills a child and everything it started in its process group.
pub(crate) fn kill_group(leader: u32) {
    if let Ok(leader @ 2..) = libc::pid_t::try_from(leader) {
        // SAFETY: a negative number above 1 names a process group; the leader is our own child, not yet waited for,
        // so the number is not reused.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
    }
}

/// Reads and writes on `fd` return at once.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `fd` is open for as long as it is borrowed.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    check(flags)?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
}

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// There is something to read, or the end.
    Read,
    /// Something can be written, or nobody reads any more.
    Write,
}

/// Waits until one of `fds` is ready, or for `timeout`. Spurious returns are possible.
pub(crate) fn wait_ready(fds: &[(BorrowedFd<'_>, Interest)], timeout: Duration) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|(fd, interest)| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: match interest {
                Interest::Read => libc::POLLIN,
                Interest::Write => libc::POLLOUT,
            },
            revents: 0,
        })
        .collect();
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or_default();
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `polled` holds `count` valid entries for the time of the call.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), count, milliseconds) }) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

/// Ends the process at once with success: XAPI loses the answer of a plugin that exits with anything else.
pub(crate) fn exit_now() -> ! {
    // SAFETY: _exit never returns and runs no handlers.
    unsafe { libc::_exit(0) }
}
