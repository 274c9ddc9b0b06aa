//! Namespaces held by nothing but descriptors of this process.
//!
//! None is named under `/run/netns`: when the process ends, however it ends, the kernel takes them away with
//! everything in them. Work is done inside one by a thread that lives for that work only, so any number of jobs run
//! side by side.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};

use super::files::mount_at;
use super::process::{self, ProcessSpace, Program, Running};
use super::wait;

/// `BR_STATE_FORWARDING` of linux/if_bridge.h.
const FORWARDING: &str = "3";
/// The kernel may put off its look at the carrier for a second.
const FORWARDING_PATIENCE: Duration = Duration::from_secs(5);

/// A network namespace, on a host and the switch together with a mount namespace.
#[derive(Debug)]
pub(super) struct Space {
    network: File,
    mount: Option<File>,
    processes: Arc<ProcessSpace>,
}

impl Space {
    /// A new network namespace; `tune` runs in it first.
    pub(super) fn network(
        processes: &Arc<ProcessSpace>,
        tune: impl FnOnce() -> io::Result<()> + Send,
    ) -> io::Result<Self> {
        let network = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            tune()?;
            File::open("/proc/thread-self/ns/net")
        })?;
        Ok(Self { network, mount: None, processes: Arc::clone(processes) })
    }

    /// A new network and mount namespace; `furnish` runs in them first.
    pub(super) fn with_files(
        processes: &Arc<ProcessSpace>,
        furnish: impl FnOnce() -> io::Result<()> + Send,
    ) -> io::Result<Self> {
        let (network, mount) = on_thread(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
            let network = File::open("/proc/thread-self/ns/net")?;
            let mount = File::open("/proc/thread-self/ns/mnt")?;
            mount_at("", "/", "", MsFlags::MS_REC | MsFlags::MS_PRIVATE, "")?;
            mount_at("sysfs", "/sys", "sysfs", MsFlags::empty(), "")?;
            furnish()?;
            Ok((network, mount))
        })?;
        let space = Self { network, mount: Some(mount), processes: Arc::clone(processes) };
        // Only a process inside the process namespace can mount its /proc.
        let mounted = space.program(&Program::new("mount", &["-t", "proc", "proc", "/proc"]))?;
        process::success("mount", &mounted)?;
        Ok(space)
    }

    /// The network namespace that `ip netns add` has made here under this name.
    pub(super) fn named(&self, name: &str) -> io::Result<Self> {
        let network = self.inside(|| File::open(Path::new("/run/netns").join(name)))?;
        Ok(Self { network, mount: None, processes: Arc::clone(&self.processes) })
    }

    /// Runs `work` as [`inside_processes`](Self::inside_processes) with a table of descriptors of its own: what it
    /// starts gets the first three, whatever this process itself was started with.
    pub(super) fn alone<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let mut keep = vec![0, 1, 2, self.network.as_raw_fd(), self.processes.descriptor()];
        keep.extend(self.mount.as_ref().map(AsRawFd::as_raw_fd));
        on_thread(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_FILES)?;
            close_all_but(&keep)?;
            setns(&self.network, CloneFlags::CLONE_NEWNET)?;
            if let Some(mount) = &self.mount {
                setns(mount, CloneFlags::CLONE_NEWNS)?;
            }
            self.processes.enter()?;
            work()
        })
    }

    /// Runs `work` in the network namespace, and the machine's own file system.
    pub(super) fn in_network<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_thread(|| {
            setns(&self.network, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// Runs `work` in the network namespace and, on a host, its file system.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        self.in_network(|| {
            if let Some(mount) = &self.mount {
                unshare(CloneFlags::CLONE_FS)?;
                setns(mount, CloneFlags::CLONE_NEWNS)?;
            }
            work()
        })
    }

    /// Runs `work` as [`inside`](Self::inside); processes it starts die with the data plane. It cannot start threads.
    pub(super) fn inside_processes<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        self.inside(|| {
            self.processes.enter()?;
            work()
        })
    }

    /// Runs a program to its end.
    pub(super) fn program(&self, program: &Program<'_>) -> io::Result<Output> {
        self.inside_processes(|| program.output())
    }

    /// Starts a program.
    pub(super) fn spawn(&self, program: &Program<'_>) -> io::Result<Running> {
        self.inside_processes(|| program.spawn())
    }

    /// Runs lines of `ip`, all or up to the first that fails.
    pub(super) fn ip(&self, lines: &[String]) -> io::Result<()> {
        self.batch(lines).map(drop)
    }

    /// What lines of `ip` say, a line for each link they ask for.
    fn batch(&self, lines: &[String]) -> io::Result<String> {
        if lines.is_empty() {
            return Ok(String::new());
        }
        let mut batch = lines.join("\n");
        batch.push('\n');
        // With the machine's own /proc, where `address` leads somewhere.
        let output = self.in_network(|| {
            self.processes.enter()?;
            Program::new("ip", &["-oneline", "-batch", "-"]).stdin(batch.as_bytes()).output()
        })?;
        process::success("ip", &output).map(|said| String::from_utf8_lossy(said).into_owned())
    }

    /// Has packets leave through `link` with their checksums made and no longer than its MTU: who reads frames at
    /// its other end, as a switch in user space does, would else see what the kernel leaves to hardware.
    pub(super) fn send_whole(&self, link: &str) -> io::Result<()> {
        let output = self.program(&Program::new("ethtool", &["-K", link, "tx", "off"]))?;
        process::success("ethtool", &output).map(drop)
    }

    /// Waits until `link` forwards, its other end being up: the bridge sees the carrier a moment later. A link that is
    /// on no bridge is not waited for. Needs a `/sys` of its own.
    pub(super) fn await_forwarding(&self, link: &str) -> io::Result<()> {
        let port = format!("/sys/class/net/{link}/brport");
        self.inside(|| {
            forwards(link, || {
                Ok(!Path::new(&port).exists()
                    || fs::read_to_string(format!("{port}/state"))?.trim() == FORWARDING)
            })
        })
    }

    /// Sets links up whose other ends are, and waits until they send what they are given: before the kernel has looked
    /// at the carrier, it throws that away without a word. Who asks for one link by netlink, as `ip` does here, is
    /// answered after that look (`linkwatch_sync_dev` in net/core/rtnetlink.c).
    pub(super) fn raise(&self, links: &[String]) -> io::Result<()> {
        let up = links.iter().map(|link| format!("link set dev {link} up"));
        let lines: Vec<_> = up.chain(links.iter().map(|link| format!("link show dev {link}"))).collect();
        forwards(&links.join(", "), || Ok(self.batch(&lines)?.matches(" state UP ").count() == links.len()))
    }

    /// Waits until `link`, both ends of which are up, sends what it is given. Needs a `/sys` of its own.
    pub(super) fn await_carrier(&self, link: &str) -> io::Result<()> {
        let file = |name: &str| fs::read_to_string(format!("/sys/class/net/{link}/{name}"));
        self.inside(|| {
            forwards(link, || {
                // Who reads this has the kernel look at the carrier; the other file says what it has seen.
                file("carrier")?;
                Ok(file("operstate")?.trim() == "up")
            })
        })
    }

    /// What `ip … netns` takes to move a link here.
    pub(super) fn address(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd())
    }
}

fn forwards(link: &str, is_so: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    wait::until(FORWARDING_PATIENCE, format!("{link} does not forward"), is_so)
}

/// Runs `work` on a thread of its own, so that what it does to its namespaces ends with it.
pub(super) fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Closes descriptors in the calling thread's own table. None may stay open there: a connection this process closes
/// would otherwise last until the thread ends.
fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let open: Vec<RawFd> = fs::read_dir("/proc/thread-self/fd")?
        .map(|entry| entry?.file_name().to_string_lossy().parse().map_err(io::Error::other))
        .collect::<io::Result<_>>()?;
    for descriptor in open.into_iter().filter(|it| !keep.contains(it)) {
        // Only the listing's own is gone by now.
        let _closed = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// An index for one end of a veth, far from those the kernel gives the other. Were the two equal by chance, the kernel
/// would take the link for one without a peer and look at its carrier up to a second later.
pub(super) fn next_index() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(10_000);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// Sets a kernel parameter of the calling thread's network namespace; `key` as below `/proc/sys/net`.
pub(super) fn sysctl(key: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/{key}"), value)
        .map_err(|error| io::Error::new(error.kind(), format!("net/{key}={value}: {error}")))
}
