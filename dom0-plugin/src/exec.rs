//! Runs a program: the only place in dom0 where one is started.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use drawbridge_wire::contention::is_contention;
use drawbridge_wire::limits;

use crate::authorise::{Approved, Program};
use crate::lock::Lock;
use crate::paths::Paths;
use crate::process;
use crate::process::capabilities::{NET_ADMIN, NET_RAW};
use crate::process::confine::{Keeps, confine};
use crate::{Code, Refusal, Result};

/// How long a descendant may keep the output open after the program itself is gone.
const LINGER: Duration = Duration::from_millis(200);

/// Longest sleep while waiting, so that an exit is noticed although a descendant keeps the output open.
const TICK: Duration = Duration::from_millis(50);

/// What a program left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) exit_code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs what was approved, for at most `limit`.
///
/// `lock`: held by whoever asks for it. The program holds it, too: should this process be killed, the next one to write waits
/// until the program is gone.
///
/// # Errors
/// A refusal if the program did not come to an end of its own, or wrote too much. A non-zero exit is no error.
pub(crate) fn run(
    approved: &Approved,
    lock: Option<&Lock>,
    paths: &Paths,
    limit: Duration,
) -> Result<Output> {
    let program = approved.program();
    let path = paths.program(program).ok_or_else(|| Refusal::new(Code::ProgramMissing).detail(program))?;
    #[expect(clippy::disallowed_methods, reason = "the one place where the plugin starts a program")]
    let mut command = Command::new(path);
    // A file, not a pipe: nobody has to write while the program runs, and nobody can change it while it is read.
    let input = match approved.stdin() {
        [] => Stdio::null(),
        input => process::sealed(input).map_err(|e| failed(program, &e))?.into(),
    };
    command
        .args(approved.args())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let keeps = Keeps {
        capabilities: capabilities(program),
        writable: &paths.writable,
        read_only: &paths.state,
        open: lock.map(Lock::descriptor),
        time: limit,
    };
    let report = confine(&mut command, &keeps).map_err(|e| unconfined(program, "preparations", &e))?;
    let spawned = command.spawn();
    // The report ends with the last of those who could write to it.
    drop(command);
    let child = spawned.map_err(|e| match report.step() {
        Some(step) => unconfined(program, step, &e),
        None => failed(program, &e),
    })?;
    let output = Running { child, program }.attend(Instant::now() + limit, limit)?;
    refuse_contention(program, &output)?;
    Ok(output)
}

/// What a program needs of root's powers. Those of Open vSwitch only speak to the switch, by sockets that are root's.
fn capabilities(program: Program) -> &'static [u32] {
    match program {
        Program::Save(_) | Program::Restore(_) => &[NET_ADMIN, NET_RAW],
        Program::Ofctl | Program::Vsctl => &[],
    }
}

/// Nothing runs with more than it needs: where that cannot be had, it does not run.
fn unconfined(program: Program, step: &str, error: &io::Error) -> Refusal {
    Refusal::new(Code::NotConfined).detail(program).detail(step).detail(error)
}

/// What a program says that waited in vain for the xtables lock is not about its input. Passed on as an exit code it would be
/// taken for a refusal of the rules.
fn refuse_contention(program: Program, output: &Output) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    match program {
        Program::Save(_) | Program::Restore(_) if is_contention(output.exit_code, &stderr) => {
            Err(Refusal::new(Code::Busy).detail(program).detail(stderr.trim_ascii()))
        }
        _ => Ok(()),
    }
}

fn failed(program: Program, error: &io::Error) -> Refusal {
    Refusal::new(Code::ProgramFailed).detail(program).detail(error)
}

/// A child that is killed with all it started unless it ended.
struct Running {
    child: Child,
    program: Program,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            process::kill_group(self.child.id());
            let _ = self.child.wait();
        }
    }
}

impl Running {
    fn attend(mut self, deadline: Instant, limit: Duration) -> Result<Output> {
        let program = self.program;
        let mut pipes = Pipes::open(&mut self.child).map_err(|e| failed(program, &e))?;
        let mut gone_since: Option<Instant> = None;
        while pipes.are_open() {
            let now = Instant::now();
            if now >= deadline {
                return Err(timeout(program, limit));
            }
            if gone_since.is_none() && self.child.try_wait().map_err(|e| failed(program, &e))?.is_some() {
                gone_since = Some(now);
            }
            if gone_since.is_some_and(|gone| now - gone > LINGER) {
                break;
            }
            pipes.wait((deadline - now).min(TICK)).map_err(|e| failed(program, &e))?;
            pipes.pump().map_err(|stop| match stop {
                Stop::Io(e) => failed(program, &e),
                Stop::TooMuch(stream, bytes) => {
                    Refusal::new(Code::OutputTooLarge).detail(program).detail(stream).detail(bytes)
                }
            })?;
        }
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(|e| failed(program, &e))? {
                break status;
            }
            if Instant::now() >= deadline {
                return Err(timeout(program, limit));
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        let (stdout, stderr) = (pipes.stdout.bytes, pipes.stderr.bytes);
        match (status.code(), status.signal()) {
            (Some(exit_code), _) => Ok(Output { exit_code, stdout, stderr }),
            (None, signal) => {
                Err(Refusal::new(Code::ProgramKilled).detail(program).detail(signal.unwrap_or_default()))
            }
        }
    }
}

fn timeout(program: Program, limit: Duration) -> Refusal {
    Refusal::new(Code::ProgramTimeout).detail(program).detail(limit.as_secs())
}

/// Why attending ended early.
enum Stop {
    Io(io::Error),
    TooMuch(&'static str, usize),
}

/// The child's two pipes, drained together so that it never waits for us.
struct Pipes {
    stdout: Drain<ChildStdout>,
    stderr: Drain<ChildStderr>,
}

impl Pipes {
    fn open(child: &mut Child) -> io::Result<Self> {
        let pipes = Self {
            stdout: Drain::new(child.stdout.take(), "standard output", limits::OUTPUT_BYTES),
            stderr: Drain::new(child.stderr.take(), "standard error", limits::ERROR_OUTPUT_BYTES),
        };
        pipes.descriptors().into_iter().try_for_each(process::set_nonblocking)?;
        Ok(pipes)
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let both =
            [self.stdout.pipe.as_ref().map(|p| p.as_fd()), self.stderr.pipe.as_ref().map(|p| p.as_fd())];
        both.into_iter().flatten().collect()
    }

    fn are_open(&self) -> bool {
        self.stdout.pipe.is_some() || self.stderr.pipe.is_some()
    }

    fn wait(&self, timeout: Duration) -> io::Result<()> {
        process::wait_readable(&self.descriptors(), timeout)
    }

    fn pump(&mut self) -> Result<(), Stop> {
        self.stdout.drain()?;
        self.stderr.drain()
    }
}

/// One stream of the child's output.
struct Drain<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
    stream: &'static str,
    limit: usize,
}

impl<R: Read> Drain<R> {
    fn new(pipe: Option<R>, stream: &'static str, limit: usize) -> Self {
        Self { pipe, bytes: Vec::new(), stream, limit }
    }

    fn drain(&mut self) -> Result<(), Stop> {
        let mut chunk = [0; 16 * 1024];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(count) if self.bytes.len() + count > self.limit => {
                    return Err(Stop::TooMuch(self.stream, self.limit));
                }
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Stop::Io(e)),
            }
        }
        Ok(())
    }
}
