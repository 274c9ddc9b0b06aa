//! What a child gives up between fork and exec. All is made ready before the fork: after it only system calls happen, which
//! may follow a fork of whatever process.

use std::ffi::CString;
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::mounts::{Change, Mounts};
use super::{capabilities, check, filter, limit_both};

/// Most memory a child may ask for. For the largest input iptables-legacy needs 120 MiB, iptables-nft 410 MiB.
const ADDRESS_SPACE: u64 = 1024 * 1024 * 1024;

/// What a child keeps.
#[derive(Clone, Debug)]
pub(crate) struct Keeps<'a> {
    /// Its capabilities, as the kernel numbers them.
    pub(crate) capabilities: &'a [u32],
    /// Folders it may write to; everything else is read-only.
    pub(crate) writable: &'a [PathBuf],
    /// A folder in those that it may not write to all the same.
    pub(crate) read_only: &'a Path,
    /// A descriptor that stays open in it.
    pub(crate) open: Option<BorrowedFd<'a>>,
    /// How much of a processor's time it may use.
    pub(crate) time: Duration,
}

/// Why a child was not started: the step that failed is known only to the child, who writes it to a pipe.
#[derive(Debug)]
pub(crate) struct Report(PipeReader);

impl Report {
    /// The step that failed, if one did. Call when the child was not started.
    pub(crate) fn step(mut self) -> Option<&'static str> {
        let mut number = [0];
        let read = self.0.read(&mut number).ok()?;
        (read == 1).then(|| STEPS.get(usize::from(number[0])).copied()).flatten()
    }
}

/// The steps in their order, as [`Report::step`] says them.
const STEPS: [&str; 6] =
    ["limits", "mount namespace", "read-only mounts", "capabilities", "end of the plugin", "system calls"];

/// Has `command` start a child that keeps nothing but `keeps`.
///
/// # Errors
/// What has to be known beforehand could not be found out.
pub(crate) fn confine(command: &mut Command, keeps: &Keeps<'_>) -> io::Result<Report> {
    let (reader, report) = io::pipe()?;
    let prepared = Prepared {
        // SAFETY: getpid cannot fail.
        parent: unsafe { libc::getpid() },
        mounts: Mounts::read(keeps.writable, keeps.read_only)?,
        capabilities: keeps.capabilities.iter().fold(0, |set, number| set | 1 << number),
        filter: filter::program(),
        open: keeps.open.map(|fd| fd.as_raw_fd()),
        seconds: keeps.time.as_secs() + 1,
        report,
    };
    // SAFETY: `Prepared::apply` allocates nothing, takes no lock and runs no destructor: it makes system calls.
    unsafe { command.pre_exec(move || prepared.apply()) };
    Ok(Report(reader))
}

struct Prepared {
    parent: libc::pid_t,
    mounts: Mounts,
    capabilities: u64,
    filter: Vec<libc::sock_filter>,
    open: Option<RawFd>,
    seconds: u64,
    report: PipeWriter,
}

impl Prepared {
    /// In the child.
    fn apply(&self) -> io::Result<()> {
        let steps: [&dyn Fn() -> io::Result<()>; STEPS.len()] = [
            &|| self.limit(),
            &leave_mounts,
            &|| self.mounts.apply(),
            &|| capabilities::keep(self.capabilities),
            &|| self.end_with_parent(),
            &|| filter::install(&self.filter),
        ];
        for (number, step) in (0_u8..).zip(steps) {
            if let Err(error) = step() {
                // SAFETY: the pipe is open, and one byte is readable.
                unsafe { libc::write(self.report.as_raw_fd(), (&raw const number).cast(), 1) };
                return Err(error);
            }
        }
        Ok(())
    }

    /// No RLIMIT_NPROC: the kernel does not count root's processes.
    fn limit(&self) -> io::Result<()> {
        limit_both(libc::RLIMIT_CPU, self.seconds)?;
        limit_both(libc::RLIMIT_AS, ADDRESS_SPACE)?;
        let Some(fd) = self.open else { return Ok(()) };
        // SAFETY: the descriptor is open; the one in the parent keeps its flag.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })
    }

    /// The kernel kills the child when the plugin is gone, and sees to that from here on: whether it was gone before has to be
    /// looked at. After the capabilities: whoever gains some loses this.
    fn end_with_parent(&self) -> io::Result<()> {
        // SAFETY: PR_SET_PDEATHSIG takes a signal's number.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // SAFETY: getppid cannot fail.
        match unsafe { libc::getppid() } == self.parent {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }
}

/// From here on the child's mounts are its own.
fn leave_mounts() -> io::Result<()> {
    // SAFETY: unshare takes flags. The child has one thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE)
}

/// `mount(2)` without a type.
fn mount(source: Option<&std::ffi::CStr>, target: &std::ffi::CStr, flags: libc::c_ulong) -> io::Result<()> {
    let source = source.map_or(std::ptr::null(), std::ffi::CStr::as_ptr);
    // SAFETY: both are strings that end with NUL, or null where the flags make the kernel ignore them.
    check(unsafe { libc::mount(source, target.as_ptr(), std::ptr::null(), flags, std::ptr::null()) })
}

impl Mounts {
    /// In the child, which has left its parent's mounts.
    fn apply(&self) -> io::Result<()> {
        for folder in &self.bind {
            mount(Some(folder), folder, libc::MS_BIND)?;
        }
        for (point, change) in &self.changes {
            let done = match change {
                Change::ReadOnly(kept) => {
                    mount(None, point, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | kept)
                }
                // SAFETY: the path ends with NUL.
                Change::Detach => check(unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) }),
            };
            match done.map_err(|e| (e.raw_os_error(), e)) {
                // Another mount hides it: from the child, too.
                Err((Some(libc::ENOENT | libc::ENOTDIR | libc::EINVAL), _)) | Ok(()) => {}
                Err((_, error)) => return Err(error),
            }
        }
        mount(Some(&self.protected), &self.protected, libc::MS_BIND)?;
        mount(None, &self.protected, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY)
    }
}

/// A path for a system call.
pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
