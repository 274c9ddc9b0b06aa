//! The one place where the mock starts programs.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};

use super::space::{Space, on_thread};
use crate::dataplane::{Exit, PluginRun};

/// `PATH` of whatever the mock starts; also the whole environment of a plugin.
const PATH: &str = "/sbin:/usr/sbin:/bin:/usr/bin";

/// Where xapi looks for plugins.
pub(super) const PLUGINS_DIR: &str = "/etc/xapi.d/plugins";

/// Where xapi's fork helper keeps a plugin's output.
const OUTPUT_DIR: &str = "/run/nonpersistent/forkexecd";

#[expect(clippy::disallowed_methods, reason = "the mock's process module")]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH);
    command
}

/// A program to be run, found along [`PATH`].
#[derive(Debug)]
pub(super) struct Program<'a> {
    name: &'a str,
    args: &'a [&'a str],
    stdin: &'a [u8],
}

impl<'a> Program<'a> {
    pub(super) fn new(name: &'a str, args: &'a [&'a str]) -> Self {
        Self { name, args, stdin: b"" }
    }

    pub(super) fn stdin(self, stdin: &'a [u8]) -> Self {
        Self { stdin, ..self }
    }

    /// Runs it to its end.
    pub(super) fn output(&self) -> io::Result<Output> {
        self.start()?.wait_with_output()
    }

    /// Starts it; it is killed when the answer is dropped.
    pub(super) fn spawn(&self) -> io::Result<Running> {
        self.start().map(|child| Running { child: Some(child) })
    }

    fn start(&self) -> io::Result<Child> {
        command(self.name)
            .args(self.args)
            .env("LC_ALL", "C")
            .current_dir("/")
            .process_group(0)
            .stdin(self.input()?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))
    }

    /// A file, not a pipe: nobody has to write while somebody reads.
    fn input(&self) -> io::Result<Stdio> {
        if self.stdin.is_empty() {
            return Ok(Stdio::null());
        }
        let mut file = File::from(memfd_create("stdin", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(self.stdin)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file.into())
    }
}

/// The output of a program that ended well.
///
/// # Errors
/// It did not; the message holds what it wrote to standard error.
pub(super) fn success<'a>(name: &str, output: &'a Output) -> io::Result<&'a [u8]> {
    if output.status.success() {
        return Ok(&output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{name}: {}: {}", output.status, said.trim())))
}

/// A program that runs in a namespace; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// Its output cannot be read.
    pub fn wait(mut self) -> io::Result<Output> {
        match self.child.take() {
            Some(child) => child.wait_with_output(),
            None => Err(io::Error::other("waited for already")),
        }
    }

    /// Kills it and hands over what it wrote.
    ///
    /// # Errors
    /// Its output cannot be read.
    pub fn stop(mut self) -> io::Result<Output> {
        if let Some(child) = &mut self.child {
            child.kill()?;
        }
        self.wait()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn is_running(&mut self) -> io::Result<bool> {
        self.child.as_mut().map_or(Ok(false), |child| child.try_wait().map(|status| status.is_none()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only if it has ended.
            let _ended = child.kill();
            let _status = child.wait();
        }
    }
}

/// A process namespace. Its first process ends with this value, at the latest when this process is gone, and the
/// kernel then kills every other one in it, daemons included.
#[derive(Debug)]
pub(super) struct ProcessSpace {
    namespace: File,
    first: Mutex<(Child, Option<ChildStdin>)>,
}

impl ProcessSpace {
    pub(super) fn new() -> io::Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWPID)?;
            // `cat` reads a pipe whose other end only this process holds. It waits for no child, so the kernel
            // is told to: a daemon that ended would stay a zombie.
            let mut first = command("env")
                .args(["--ignore-signal=CHLD", "cat"])
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()?;
            let namespace = File::open(format!("/proc/{}/ns/pid", first.id()))?;
            let pipe = first.stdin.take();
            Ok(Self { namespace, first: Mutex::new((first, pipe)) })
        })
    }

    /// The namespace's descriptor.
    pub(super) fn descriptor(&self) -> RawFd {
        self.namespace.as_raw_fd()
    }

    /// Puts what the calling thread starts from now on into the namespace, no signal blocked.
    pub(super) fn enter(&self) -> io::Result<()> {
        SigSet::empty().thread_set_mask()?;
        Ok(setns(&self.namespace, CloneFlags::CLONE_NEWPID)?)
    }

    /// Kills everything in it.
    pub(super) fn end(&self) {
        let mut guard = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, pipe) = &mut *guard;
        drop(pipe.take());
        // It is gone when all others are, and those go when whoever started them has waited for them.
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(first.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for ProcessSpace {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a plugin as xapi does (`xapi_plugins.ml`, `forkhelpers.ml`, `vfork_helper.c`).
pub(super) fn run_plugin(host: &Space, name: &str, method_call: &str) -> io::Result<PluginRun> {
    let path = format!("{PLUGINS_DIR}/{name}");
    host.alone(|| {
        if let Some(code) = refusal(Path::new(&path)) {
            return Ok(PluginRun { exit: Exit::Code(code), stdout: Vec::new(), stderr: Vec::new() });
        }
        umask(Mode::from_bits_truncate(0o022));
        let stdout = OutputFile::create("stdout")?;
        let stderr = OutputFile::create("stderr")?;
        // std gives children the default SIGPIPE; xapi's have it ignored.
        let status = command("env")
            .args(["--default-signal", "--ignore-signal=PIPE", "setsid", &path, method_call])
            .current_dir("/")
            .stdin(OpenOptions::new().write(true).open("/dev/null")?)
            .stdout(stdout.writer.try_clone()?)
            .stderr(stderr.writer.try_clone()?)
            .status()?;
        let mut stderr = stderr.read()?;
        if stderr.starts_with(b"setsid: failed to execute ") {
            stderr.clear();
        }
        Ok(PluginRun { exit: exit(status), stdout: stdout.read()?, stderr })
    })
}

/// The exit code of xapi's helper for what `execve` would refuse. `setsid` looks more kindly on such a file: it would
/// hand a script without an interpreter line to a shell.
fn refusal(path: &Path) -> Option<i32> {
    let mut start = [0; 4];
    let length = match File::open(path).and_then(|mut file| file.read(&mut start)) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(127),
        Err(_) => return Some(126),
    };
    let known = start[..length].starts_with(b"#!") || start[..length] == *b"\x7fELF";
    let executable = fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    (!known || !executable).then_some(126)
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(number)) => Exit::Signal(
            Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |it| it.as_str().to_owned()),
        ),
        (None, None) => Exit::Code(status.into_raw()),
    }
}

/// A regular file that takes a plugin's output, opened for writing only, as xapi does.
struct OutputFile {
    writer: File,
    path: String,
}

impl OutputFile {
    fn create(stream: &str) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(OUTPUT_DIR)?;
        fs::set_permissions(OUTPUT_DIR, Permissions::from_mode(0o700))?;
        let path = format!("{OUTPUT_DIR}/{stream}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let writer = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { writer, path })
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        fs::read(&self.path)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        // The directory goes with the host.
        let _gone = fs::remove_file(&self.path);
    }
}
