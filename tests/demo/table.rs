//! The table, one line a probe. Colour on a terminal only.

use std::io::{self, Write};

use e2e::probe::Outcome;

/// Lines printed so far, and how.
#[derive(Debug)]
pub(crate) struct Table {
    colour: bool,
    lines: usize,
    wrong: usize,
    step: String,
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";

impl Table {
    pub(crate) const fn new(colour: bool) -> Self {
        Self { colour, lines: 0, wrong: 0, step: String::new() }
    }

    pub(crate) const fn lines(&self) -> usize {
        self.lines
    }

    pub(crate) const fn wrong(&self) -> usize {
        self.wrong
    }

    pub(crate) fn header(&self) {
        print(&format!("{:<11} {:<36} {:<9} {:<9} {}", "step", "probe", "expected", "seen", "ok"));
    }

    pub(crate) fn line(&mut self, step: &str, outcome: &Outcome) {
        self.lines += 1;
        let (word, colour) = if outcome.ok() {
            ("yes", GREEN)
        } else {
            self.wrong += 1;
            ("NO", RED)
        };
        // The step's name once, so that the eye finds where the next begins.
        let shown = if self.step == step { "" } else { step };
        step.clone_into(&mut self.step);
        let word = if self.colour { format!("{colour}{word}{PLAIN}") } else { word.to_owned() };
        let Outcome { probe, expected, seen } = outcome;
        print(&format!(
            "{shown:<11} {:<36} {:<9} {:<9} {word}",
            probe.to_string(),
            expected.to_string(),
            seen.to_string()
        ));
    }

    pub(crate) fn footer(&self, text: &str) {
        print("");
        print(text);
    }
}

/// A line on stdout. Whoever stops reading has seen enough; the exit code tells the rest.
fn print(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// A line on stderr.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
