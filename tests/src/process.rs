//! The Lab's only place that starts programs. Never a shell.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Runs `program` to its end with `stdin` as input, in the calling thread's namespaces.
///
/// # Errors
/// The program could not be started (the message names it), or its input could not be written.
pub fn run(program: &Path, args: &[&str], stdin: &[u8]) -> io::Result<Output> {
    #[expect(clippy::disallowed_methods, reason = "the Lab's process module")]
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot start {}: {error}", program.display()))
    })?;
    // Written by a thread, so that a program that answers before it has read everything does not block both.
    let input = child.stdin.take().map(|mut pipe| {
        let stdin = stdin.to_vec();
        std::thread::spawn(move || pipe.write_all(&stdin))
    });
    let output = child.wait_with_output()?;
    match input.map(std::thread::JoinHandle::join) {
        // A program that does not read its input is no failure of ours.
        Some(Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(output),
    }
}

/// Starts `program` with this environment and no other, its output going to `log`. It is killed when the calling thread ends.
///
/// # Errors
/// It could not be started (the message names it).
pub fn spawn(
    program: &Path,
    args: &[&OsStr],
    environment: &BTreeMap<String, String>,
    log: File,
) -> io::Result<Child> {
    #[expect(clippy::disallowed_methods, reason = "the Lab's process module")]
    let mut command = Command::new("/usr/bin/setpriv");
    // setpriv becomes the program, so the child is the program.
    command.args(["--pdeathsig", "KILL"]).arg(program).args(args).env_clear().envs(environment);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", program.display())))
}
