//! What a test holds of a namespace.

use std::io;
use std::ops::Deref;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use serde::Deserialize;

use super::files;
use super::guest::Guest;
use super::host::Host;
use super::process::{self, Program, Running};
use super::space::Space;
use crate::dataplane::NetworkBackend;

/// A network namespace; on a host with its file system. It lasts as long as a handle does.
#[derive(Clone, Debug)]
pub struct NsHandle {
    pub(super) space: Arc<Space>,
}

/// A link as `ip` shows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Link {
    /// Its name, `vif5.0`.
    #[serde(rename = "ifname")]
    pub name: String,
    /// Its MAC, in lower case.
    #[serde(rename = "address", default)]
    pub mac: String,
    /// The bridge it is on.
    pub master: Option<String>,
    /// Bytes.
    pub mtu: u32,
    /// `UP`, `LOWER_UP`, `NO-CARRIER`, …
    pub flags: Vec<String>,
}

impl Link {
    /// Whether it was set up; it may still lack a carrier.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags.iter().any(|flag| flag == "UP")
    }
}

impl NsHandle {
    /// Runs `work` in the network namespace, on a thread of its own and with the machine's file system. Threads it
    /// starts and sockets it opens belong to the namespace.
    ///
    /// # Panics
    /// `work` does, or the system has no thread left.
    #[expect(
        clippy::expect_used,
        reason = "a handle's namespace is there, and a test without threads is over"
    )]
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.space.in_network(|| Ok(work())).expect("the namespace can be entered")
    }

    /// Runs a program to its end, found along dom0's `PATH`; on a host it sees the host's file system.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn command(&self, program: &str, args: &[&str], stdin: &[u8]) -> io::Result<Output> {
        self.space.program(&Program::new(program, args).stdin(stdin))
    }

    /// Starts a program as [`command`](Self::command) does; it is killed when the answer is dropped.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self, program: &str, args: &[&str]) -> io::Result<Running> {
        self.space.spawn(&Program::new(program, args))
    }

    /// Its links.
    ///
    /// # Errors
    /// `ip` cannot be run or understood.
    pub fn links(&self) -> io::Result<Vec<Link>> {
        let output = self.command("ip", &["-json", "link", "show"], b"")?;
        Ok(serde_json::from_slice(process::success("ip", &output)?)?)
    }
}

/// A host's dom0.
#[derive(Clone, Debug)]
pub struct HostHandle {
    pub(super) ns: NsHandle,
    pub(super) host: Arc<Host>,
}

impl HostHandle {
    /// `host.name_label`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// `host.uuid`.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.host.uuid
    }

    /// A network namespace of this dom0's, made there by `ip netns add`: a container, say.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn named_network(&self, name: &str) -> io::Result<NsHandle> {
        Ok(NsHandle { space: Arc::new(self.host.space.named(name)?) })
    }

    /// What switches packets in it.
    #[must_use]
    pub fn network_backend(&self) -> NetworkBackend {
        self.host.network_backend()
    }

    /// Kills `ovs-vswitchd` as a crash would and starts it again. OpenFlow flows and connections are forgotten,
    /// what is in OVSDB is not: bridges and ports come back and, as they stand alone, forward everything.
    ///
    /// # Errors
    /// The host has no Open vSwitch, or the system refused.
    pub fn restart_ovs(&self) -> io::Result<()> {
        self.kill_ovs()?;
        self.start_ovs()
    }

    /// Kills `ovs-vswitchd` and leaves it dead; `ovsdb-server` goes on. No packet is forwarded.
    ///
    /// # Errors
    /// The host has no Open vSwitch, or the system refused.
    pub fn kill_ovs(&self) -> io::Result<()> {
        self.host.vswitch()?.kill()
    }

    /// Ends `ovs-vswitchd` and `ovsdb-server`, as the service does when it is stopped.
    ///
    /// # Errors
    /// The host has no Open vSwitch, or the system refused.
    pub fn stop_ovs(&self) -> io::Result<()> {
        self.host.vswitch()?.stop()
    }

    /// Starts those of `ovsdb-server` and `ovs-vswitchd` that do not run, and waits until packets are forwarded.
    ///
    /// # Errors
    /// The host has no Open vSwitch, or the system refused.
    pub fn start_ovs(&self) -> io::Result<()> {
        self.host.vswitch()?.start()
    }

    /// What programs wrote to its `/dev/log`, oldest first, as they wrote it: `<85>drawbridge: …`.
    #[must_use]
    pub fn syslog(&self) -> Vec<String> {
        self.host.syslog()
    }

    /// Reads a file of the host.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        self.host.space.inside(|| std::fs::read(path))
    }

    /// Replaces a file of the host, owned by root. Its directory is made.
    ///
    /// # Errors
    /// The path is not private to the host, or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let path = path.as_ref();
        files::private(path)?;
        self.host.space.inside(|| files::write(path, mode, bytes))
    }

    /// Removes a file of the host.
    ///
    /// # Errors
    /// The path is not private to the host, or there is no such file.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        files::private(path)?;
        self.host.space.inside(|| std::fs::remove_file(path))
    }
}

/// A guest's network.
#[derive(Clone, Debug)]
pub struct GuestHandle {
    pub(super) ns: NsHandle,
    pub(super) guest: Arc<Guest>,
}

impl GuestHandle {
    /// `VM.uuid`.
    #[must_use]
    pub fn vm_uuid(&self) -> &str {
        self.guest.uuid.as_str()
    }

    /// The host it runs on.
    #[must_use]
    pub fn host(&self) -> HostHandle {
        HostHandle::of(&self.guest.host)
    }

    /// The names of its VIFs in dom0, by device; none once the domain is gone.
    #[must_use]
    pub fn vifs(&self) -> Vec<String> {
        self.guest.vifs()
    }
}

/// A machine outside the pool.
#[derive(Clone, Debug)]
pub struct StationHandle {
    pub(super) ns: NsHandle,
    pub(super) name: String,
}

impl StationHandle {
    /// What it was named.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl HostHandle {
    pub(super) fn of(host: &Arc<Host>) -> Self {
        Self { ns: NsHandle { space: Arc::clone(&host.space) }, host: Arc::clone(host) }
    }
}

impl GuestHandle {
    pub(super) fn of(guest: &Arc<Guest>) -> Self {
        Self { ns: NsHandle { space: Arc::clone(&guest.space) }, guest: Arc::clone(guest) }
    }
}

/// A host, a guest and a station are namespaces with more to say.
macro_rules! is_a_namespace {
    ($($handle:ty),*) => {$(
        impl Deref for $handle {
            type Target = NsHandle;

            fn deref(&self) -> &NsHandle {
                &self.ns
            }
        }
    )*};
}

is_a_namespace!(HostHandle, GuestHandle, StationHandle);
