//! What a command says, for people and for programs, and how it gets out.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::Value;

use super::exit;
use super::failure::Failure;
use crate::report::chain;

/// What a command says.
#[derive(Debug)]
pub(super) struct Said {
    /// Whether everything is as it should be; otherwise the exit code is 1.
    pub ok: bool,
    /// For people.
    pub people: String,
    /// For programs.
    pub programs: Value,
}

impl Said {
    /// That all is well.
    pub(super) fn well(people: String, programs: &impl Serialize) -> Self {
        // Only maps with keys that are no text have no JSON, and nothing here has such.
        Self { ok: true, people, programs: serde_json::to_value(programs).unwrap_or_default() }
    }

    /// Says it.
    pub(super) fn print(&self, json: bool) -> ExitCode {
        if json { print(&to_json(&self.programs), self.ok) } else { print(&self.people, self.ok) }
    }
}

/// Prints; who cannot be heard has not done it well.
pub(super) fn print(text: &str, ok: bool) -> ExitCode {
    if write(text) && ok { ExitCode::SUCCESS } else { ExitCode::from(exit::INCOMPLETE) }
}

/// Prints why a command could not do what was asked.
pub(super) fn fail(failure: &Failure, json: bool) -> ExitCode {
    if json {
        write(&to_json(&failure.to_json()));
    } else {
        // Nothing is left to do if even this cannot be written.
        let _ = writeln!(std::io::stderr(), "drawbridge: {}", chain(failure));
    }
    ExitCode::from(failure.exit_code())
}

pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value)
        .map_or_else(|error| format!("{{\"error\":\"{error}\"}}\n"), |text| text + "\n")
}

/// Writes to stdout; false if nobody reads there any more.
pub(super) fn write(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
