//! Runs a program: the only place in dom0 where one is started.

use std::io::{self, ErrorKind, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use drawbridge_wire::contention::is_contention;
use drawbridge_wire::limits;

use crate::authorise::{Approved, Program};
use crate::paths::Paths;
use crate::process::{self, Interest};
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
/// # Errors
/// A refusal if the program did not come to an end of its own, or wrote too much. A non-zero exit is no error.
pub(crate) fn run(approved: &Approved, paths: &Paths, limit: Duration) -> Result<Output> {
    let program = approved.program();
    let path = paths.program(program).ok_or_else(|| Refusal::new(Code::ProgramMissing).detail(program))?;
    #[expect(clippy::disallowed_methods, reason = "the one place where the plugin starts a program")]
    let mut command = Command::new(path);
    command
        .args(approved.args())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(if approved.stdin().is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command.spawn().map_err(|e| failed(program, &e))?;
    let running = Running { child, program };
    let output = running.attend(approved.stdin(), Instant::now() + limit, limit)?;
    refuse_contention(program, &output)?;
    Ok(output)
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
    fn attend(mut self, input: &[u8], deadline: Instant, limit: Duration) -> Result<Output> {
        let program = self.program;
        let mut pipes = Pipes::open(&mut self.child, input).map_err(|e| failed(program, &e))?;
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

/// The child's three pipes, fed and drained together so that neither side waits for the other for ever.
struct Pipes<'a> {
    stdin: Option<ChildStdin>,
    unsent: &'a [u8],
    stdout: Drain<ChildStdout>,
    stderr: Drain<ChildStderr>,
}

impl<'a> Pipes<'a> {
    fn open(child: &mut Child, input: &'a [u8]) -> io::Result<Self> {
        let pipes = Self {
            stdin: child.stdin.take(),
            unsent: input,
            stdout: Drain::new(child.stdout.take(), "standard output", limits::OUTPUT_BYTES),
            stderr: Drain::new(child.stderr.take(), "standard error", limits::ERROR_OUTPUT_BYTES),
        };
        let fds = [
            pipes.stdin.as_ref().map(|p| p.as_fd()),
            pipes.stdout.pipe.as_ref().map(|p| p.as_fd()),
            pipes.stderr.pipe.as_ref().map(|p| p.as_fd()),
        ];
        fds.into_iter().flatten().try_for_each(process::set_nonblocking)?;
        Ok(pipes)
    }

    fn are_open(&self) -> bool {
        self.stdout.pipe.is_some() || self.stderr.pipe.is_some()
    }

    fn wait(&self, timeout: Duration) -> io::Result<()> {
        let fds = [
            self.stdin.as_ref().map(|p| (p.as_fd(), Interest::Write)),
            self.stdout.pipe.as_ref().map(|p| (p.as_fd(), Interest::Read)),
            self.stderr.pipe.as_ref().map(|p| (p.as_fd(), Interest::Read)),
        ];
        process::wait_ready(&fds.into_iter().flatten().collect::<Vec<_>>(), timeout)
    }

    fn pump(&mut self) -> Result<(), Stop> {
        self.stdout.drain()?;
        self.stderr.drain()?;
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        loop {
            match stdin.write(self.unsent) {
                Ok(sent) => self.unsent = &self.unsent[sent..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // It ended, or reads no more. Its exit code says whether it had enough.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => self.unsent = &[],
                Err(e) => return Err(Stop::Io(e)),
            }
            if self.unsent.is_empty() {
                self.stdin = None;
                return Ok(());
            }
        }
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
