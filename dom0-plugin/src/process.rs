//! The system calls that the standard library does not offer. The only module with `unsafe` in it.
#![expect(unsafe_code, reason = "the one module that calls libc directly")]

pub(crate) mod capabilities;
pub(crate) mod confine;
mod filter;
mod mounts;

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, RawFd};
use std::sync::OnceLock;
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

/// Sets both limits of a resource, for this process and its children, to this or to what may be had.
pub(crate) fn limit_both(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let value = value.min(most(resource)?);
    limit(resource, value, value)
}

/// Sets the limit of a resource for this process. Children may raise it again.
pub(crate) fn limit_own(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let most = most(resource)?;
    limit(resource, value.min(most), most)
}

fn most(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writing.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok(limit.rlim_max)
}

fn limit(resource: libc::__rlimit_resource_t, own: u64, most: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: own, rlim_max: most };
    // SAFETY: `limit` is a valid rlimit for the time of the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// No signal is blocked or ignored, whatever was inherited: an ignored SIGCHLD would keep us from learning how a child ended.
/// SIGPIPE stays ignored, as the standard library has it; it gives children the default.
pub(crate) fn reset_signals() {
    for number in (1..=64).filter(|number| *number != libc::SIGPIPE) {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: asks only, and sets no handler. `action` is valid for writing, and all zeros are a valid one. Numbers that
        // cannot be asked for (libc's own) only give EINVAL.
        unsafe {
            libc::sigaction(number, std::ptr::null(), action.as_mut_ptr());
            if action.assume_init().sa_sigaction == libc::SIG_IGN {
                libc::signal(number, libc::SIG_DFL);
            }
        }
    }
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset makes `none` a valid set, which sigprocmask reads.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// A file without a name that holds `content`, from its start on, and that nobody can change any more.
pub(crate) fn sealed(content: &[u8]) -> io::Result<File> {
    // SAFETY: the name ends with NUL.
    let fd = unsafe { libc::memfd_create(c"input".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    check(fd)?;
    // SAFETY: just opened, and nobody else's.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(content)?;
    file.rewind()?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_SEAL;
    // SAFETY: the descriptor is open.
    check(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) })?;
    Ok(file)
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

/// Waits until there is something to read, or the end, on one of `fds`, or for `timeout`. Spurious returns are possible.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
    let poll = |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = fds.iter().map(poll).collect();
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or_default();
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `polled` holds `count` valid entries for the time of the call.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), count, milliseconds) }) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

/// What is printed should this process abort: where memory ends, the runtime does.
static LAST_WORDS: OnceLock<String> = OnceLock::new();

/// From now on an abort prints this, and ends the process with success, as [`exit_now`] does.
pub(crate) fn on_abort(document: String) {
    if LAST_WORDS.set(document).is_ok() {
        let handler: extern "C" fn(libc::c_int) = speak;
        // SAFETY: `speak` does only what a handler may.
        unsafe { libc::signal(libc::SIGABRT, handler as *const () as libc::sighandler_t) };
    }
}

/// Reads what was set before the handler was, writes, ends.
extern "C" fn speak(_: libc::c_int) {
    if let Some(document) = LAST_WORDS.get() {
        // SAFETY: the text is valid for its length, and never changes.
        unsafe { libc::write(libc::STDOUT_FILENO, document.as_ptr().cast(), document.len()) };
    }
    exit_now();
}

/// Ends the process at once with success: XAPI loses the answer of a plugin that exits with anything else.
pub(crate) fn exit_now() -> ! {
    // SAFETY: _exit never returns and runs no handlers.
    unsafe { libc::_exit(0) }
}
