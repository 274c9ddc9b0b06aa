//! The table, one line a probe. Colour on a terminal only.

use std::collections::VecDeque;
use std::io::{self, Write};

use e2e::probe::{Outcome, Probe};

/// Lines printed so far, and how.
#[derive(Debug)]
pub(crate) struct Table {
    colour: bool,
    lines: usize,
    wrong: usize,
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";

impl Table {
    pub(crate) const fn new(colour: bool) -> Self {
        Self { colour, lines: 0, wrong: 0 }
    }

    pub(crate) const fn lines(&self) -> usize {
        self.lines
    }

    pub(crate) const fn wrong(&self) -> usize {
        self.wrong
    }

    pub(crate) fn header() {
        row("step", "probe", "", ["expected", "seen", "ok"]);
    }

    /// What happens next.
    pub(crate) fn step(step: &str, what: &str) {
        print(&format!("\n{step:<11} {what}"));
    }

    /// Something that was counted, not sent.
    pub(crate) fn fact(&mut self, what: &str, expected: &str, seen: &str) {
        self.line(what, "", expected, seen, expected == seen);
    }

    /// Probes of a step. What went alike over both families is one line.
    pub(crate) fn outcomes(&mut self, outcomes: Vec<Outcome>) {
        let mut rest: VecDeque<_> = outcomes.into();
        while let Some(outcome) = rest.pop_front() {
            let twin = rest.iter().position(|other| alike(&outcome, other)).and_then(|at| rest.remove(at));
            let families = match twin {
                Some(_) => "IPv4, IPv6".to_owned(),
                None => outcome.probe.family.to_string(),
            };
            let ok = outcome.ok();
            let Outcome { probe: Probe { from, to, what, .. }, expected, seen } = outcome;
            let probe = format!("{} → {} {what}", from.name, to.name);
            self.line(&probe, &families, &expected.to_string(), &seen.to_string(), ok);
        }
    }

    fn line(&mut self, probe: &str, families: &str, expected: &str, seen: &str, ok: bool) {
        self.lines += 1;
        self.wrong += usize::from(!ok);
        let (word, colour) = if ok { ("yes", GREEN) } else { ("NO", RED) };
        let word = if self.colour { format!("{colour}{word}{PLAIN}") } else { word.to_owned() };
        row("", probe, families, [expected, seen, &word]);
    }
}

fn row(step: &str, probe: &str, families: &str, [expected, seen, ok]: [&str; 3]) {
    print(&format!("{step:<11} {probe:<26} {families:<11} {expected:<9} {seen:<9} {ok}"));
}

/// The same question with the same answer, over the other family.
fn alike(one: &Outcome, other: &Outcome) -> bool {
    let question = |outcome: &Outcome| {
        let Probe { from, to, what, .. } = &outcome.probe;
        (from.name.clone(), to.name.clone(), what.clone(), outcome.expected)
    };
    question(one) == question(other) && one.seen == other.seen && one.probe.family != other.probe.family
}

/// A line on stdout. Whoever stops reading has seen enough; the exit code tells the rest.
pub(crate) fn print(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// A line on stderr.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
