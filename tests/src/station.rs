//! A place in the network one can send from and listen at: a guest, a host, something outside.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};

use crate::frame::Mac;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, for loops.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A network namespace, held open.
///
/// Holding it keeps the namespace alive, not its links to others: what the other end removes is gone here too.
#[derive(Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// The calling thread's.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(Arc::new).map(Self)
    }

    /// Runs `job` on a thread of its own inside.
    ///
    /// # Panics
    /// The new thread panics when it may not enter (not root).
    #[expect(clippy::expect_used, reason = "a job must never run in the wrong namespace")]
    pub fn spawn<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = Arc::clone(&self.0);
        thread::spawn(move || {
            setns(&*namespace, CloneFlags::CLONE_NEWNET).expect("entering a network namespace needs root");
            job()
        })
    }

    /// Runs `job` inside and waits for its answer.
    pub fn enter<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(job).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Namespace")
    }
}

/// A namespace with a name for people and the addresses others reach it by.
#[derive(Debug, Clone)]
pub struct Station {
    /// What messages call it.
    pub name: String,
    /// Where it lives.
    pub namespace: Namespace,
    /// The interface it speaks through.
    pub interface: String,
    /// The interface's hardware address.
    pub mac: Mac,
    /// Its IPv4 address, if it has one.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address, if it has one.
    pub ipv6: Option<Ipv6Addr>,
}

impl Station {
    /// Its address of one family.
    #[must_use]
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.ipv4.map(IpAddr::V4),
            Family::V6 => self.ipv6.map(IpAddr::V6),
        }
    }
}
