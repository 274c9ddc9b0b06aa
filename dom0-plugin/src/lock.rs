//! Waiting for others, with a bound. Locks belong to open files: a plugin that is killed leaves none behind.

use std::fs::{File, TryLockError};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Code, Refusal, Result, state};

/// Between two attempts.
pub(crate) const STEP: Duration = Duration::from_millis(5);

/// Held until dropped; if this process is killed, until the children that have the descriptor are gone, too.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// For a child that is to hold the lock, too.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Said, not left to the end of the descriptor: what a program left running in the background may have that as well. It
        // cannot fail for a file that is open.
        let _ = self.file.unlock();
    }
}

/// Takes the lock file `path`, which is created if need be.
///
/// # Errors
/// [`Code::Busy`] if somebody else holds it for longer than `patience`.
pub(crate) fn acquire(path: &Path, patience: Duration) -> Result<Lock> {
    acquire_shared(path, Share::Alone, patience)
}

/// With whom a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// With nobody.
    Alone,
    /// With others that say so.
    WithReaders,
}

/// Likewise, perhaps together with others.
///
/// # Errors
/// [`Code::Busy`]
pub(crate) fn acquire_shared(path: &Path, share: Share, patience: Duration) -> Result<Lock> {
    let started = Instant::now();
    loop {
        match attempt(path, share)? {
            Some(lock) => return Ok(lock),
            None if started.elapsed() < patience => std::thread::sleep(STEP),
            None => return Err(busy(patience)),
        }
    }
}

/// The same, `None` if somebody else holds it now.
///
/// # Errors
/// [`Code::StateIo`]
pub(crate) fn attempt(path: &Path, share: Share) -> Result<Option<Lock>> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|e| state::failed(path, &e))?;
    let attempted = match share {
        Share::Alone => file.try_lock(),
        Share::WithReaders => file.try_lock_shared(),
    };
    match attempted {
        Ok(()) => Ok(Some(Lock { file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(state::failed(path, &e)),
    }
}

/// iptables' own locks, for an `iptables-restore` that cannot wait for them itself (iptables 1.4.21 as first shipped).
/// Old versions of `iptables` bind an abstract socket, Red Hat's backport and newer ones lock a file: take both.
#[derive(Debug)]
pub(crate) struct XtablesLock {
    _file: Lock,
    _socket: UnixListener,
}

/// Takes both.
///
/// # Errors
/// [`Code::Busy`] if somebody else holds one for longer than `patience`.
pub(crate) fn acquire_xtables(path: &Path, patience: Duration) -> Result<XtablesLock> {
    let started = Instant::now();
    let lock = acquire(path, patience)?;
    let fail = |e: std::io::Error| Refusal::new(Code::StateIo).detail("socket @xtables").detail(e);
    let address = SocketAddr::from_abstract_name("xtables").map_err(fail)?;
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(socket) => return Ok(XtablesLock { _file: lock, _socket: socket }),
            Err(e) if e.kind() != std::io::ErrorKind::AddrInUse => return Err(fail(e)),
            Err(_) if started.elapsed() < patience => std::thread::sleep(STEP),
            Err(_) => return Err(busy(patience)),
        }
    }
}

fn busy(patience: Duration) -> Refusal {
    Refusal::new(Code::Busy).detail(patience.as_secs())
}
