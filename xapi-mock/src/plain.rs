//! The data plane `none`: no packets, and plugins run in the mock's own file system.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::dataplane::{DataPlane, Exit, HostSpec, PluginRun, VifPort};

/// A plugin's whole environment.
const PATH: &str = "/sbin:/usr/sbin:/bin:/usr/bin";

/// Plugins from one directory, and nothing else.
#[derive(Debug)]
pub(crate) struct Plain {
    plugins: Option<PathBuf>,
    running: Mutex<Option<BTreeSet<i32>>>,
}

impl Plain {
    pub(crate) fn new(plugins: Option<&Path>) -> Self {
        Self { plugins: plugins.map(Path::to_owned), running: Mutex::new(Some(BTreeSet::new())) }
    }

    fn running(&self) -> MutexGuard<'_, Option<BTreeSet<i32>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the program in a session of its own and waits for it, known to [`DataPlane::shut_down`] meanwhile.
    fn run(&self, path: &Path, method_call: &str, stdout: &File, stderr: &File) -> io::Result<ExitStatus> {
        let mut running = self.running();
        let Some(pids) = running.as_mut() else { return Err(io::Error::other("the pool is shut down")) };
        // std gives children the default SIGPIPE; xapi's have it ignored.
        #[expect(clippy::disallowed_methods, reason = "without namespaces this is where plugins start")]
        let mut child = Command::new("env")
            .args(["--ignore-signal=PIPE", "setsid"])
            .arg(path)
            .arg(method_call)
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(OpenOptions::new().write(true).open("/dev/null")?)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        pids.insert(pid);
        drop(running);
        let status = child.wait();
        if let Some(pids) = self.running().as_mut() {
            pids.remove(&pid);
        }
        status
    }
}

impl DataPlane for Plain {
    fn add_host(&self, _: &HostSpec) -> io::Result<()> {
        Ok(())
    }

    fn create_domain(&self, _: &str, _: &str, _: &[VifPort]) -> io::Result<()> {
        Ok(())
    }

    fn run_guest(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn pause_guest(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn destroy_domain(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn plug(&self, _: &str, _: &VifPort) -> io::Result<()> {
        Ok(())
    }

    fn unplug(&self, _: &str, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn set_locking(&self, _: &str, _: &VifPort) -> io::Result<()> {
        Ok(())
    }

    fn receive_domain(&self, _: &str, _: &str, _: &[VifPort]) -> io::Result<()> {
        Ok(())
    }

    fn hand_over(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn refuse_domain(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn reset_host(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn plugins(&self, _: &str) -> io::Result<Vec<String>> {
        let Some(folder) = &self.plugins else { return Ok(Vec::new()) };
        let names =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn run_plugin(&self, _: &str, plugin: &str, method_call: &str) -> io::Result<PluginRun> {
        let folder = self.plugins.as_deref().unwrap_or_else(|| Path::new("/"));
        let path = std::path::absolute(folder.join(plugin))?;
        if let Some(code) = refusal(&path) {
            return Ok(PluginRun { exit: Exit::Code(code), stdout: Vec::new(), stderr: Vec::new() });
        }
        let mut stdout = File::from(memfd_create("stdout", MFdFlags::MFD_CLOEXEC)?);
        let mut stderr = File::from(memfd_create("stderr", MFdFlags::MFD_CLOEXEC)?);
        let status = self.run(&path, method_call, &stdout, &stderr)?;
        Ok(PluginRun { exit: exit(status), stdout: read_all(&mut stdout)?, stderr: read_all(&mut stderr)? })
    }

    fn shut_down(&self) {
        for pid in self.running().take().unwrap_or_default() {
            // Until `setsid` has run there is no such group; then the process itself is meant.
            if killpg(Pid::from_raw(pid), Signal::SIGKILL).is_err() {
                let _ended = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// What xapi's fork helper exits with when `execve` refuses the file. Asked beforehand, since `setsid` would hand a
/// script without an interpreter line to a shell.
fn refusal(path: &Path) -> Option<i32> {
    let mut start = Vec::new();
    match File::open(path).and_then(|file| file.take(4).read_to_end(&mut start)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(127),
        Err(_) => return Some(126),
        Ok(_) => {}
    }
    let known = start.starts_with(b"#!") || start == b"\x7fELF";
    let executable = fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    (!known || !executable).then_some(126)
}

fn exit(status: ExitStatus) -> Exit {
    let Some(number) = status.signal() else { return Exit::Code(status.code().unwrap_or_default()) };
    let name =
        Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |it| it.as_str().to_owned());
    Exit::Signal(name)
}

fn read_all(file: &mut File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut content)?;
    Ok(content)
}
