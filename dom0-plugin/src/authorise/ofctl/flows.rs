//! The flows on `ovs-ofctl`'s standard input, one a line: our cookie, our tables, their shapes; and nothing about a bridge that
//! is not for flows of guests' ports to decide.

use std::collections::HashMap;

use drawbridge_wire::{flow, limits};

use super::super::grammar::is_number;
use super::super::refuse_line;
use super::bridge::Bridge;
use super::line::{self, Command, Deletion, Line, Problem, Which};
use super::matches::Match;
use super::standing::Standing;
use super::{NAME, is_ours, pipeline};
use crate::authorise::refuse_argument;
use crate::{Code, Refusal, Result};

/// The match for `dump-flows`: the caller's, and our cookie in any case.
pub(super) fn dump_filter(filter: &str) -> Result<String> {
    let refuse = |problem: &str| refuse_argument(NAME, 2, problem);
    let mut table = None;
    let mut cookie = None;
    for field in filter.split(',').filter(|_| !filter.is_empty()) {
        match field.split_once('=') {
            Some(("table", value)) if table.is_none() && is_number(value, 254) => table = Some(value),
            Some(("cookie", value)) if cookie.is_none() => {
                if !line::masked_cookie(value).is_some_and(|(cookie, mask)| is_ours(cookie, mask)) {
                    return Err(Refusal::new(Code::ForeignCookie)
                        .detail(1)
                        .detail("the filter reaches other cookies"));
                }
                cookie = Some(value);
            }
            _ => return Err(refuse("expected a filter of cookie= and table= only")),
        }
    }
    let ours = format!("{:#x}/{:#x}", flow::COOKIE, flow::COOKIE_MASK);
    let cookie = cookie.unwrap_or(&ours);
    Ok(table.map_or_else(|| format!("cookie={cookie}"), |table| format!("cookie={cookie},table={table}")))
}

/// An input as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// What a line is that does not say so.
    pub(super) command: Command,
    /// All of it is done at once, or else line by line.
    pub(super) bundle: bool,
}

impl<'a> Input<'a> {
    /// Of `add-flows`.
    #[must_use]
    pub fn added(bytes: &'a [u8], bundle: bool) -> Self {
        Self { bytes, command: Command::Add, bundle }
    }

    /// Each line that is a flow, by its position from 0; never all of them at once.
    fn lines(self) -> impl Iterator<Item = Result<(usize, &'a str, Line)>> {
        let read = move |(at, line): (usize, &'a [u8])| {
            let text = match text(line) {
                _ if at >= limits::FLOW_LINES => Err(format!("more than {} lines", limits::FLOW_LINES)),
                text => text,
            };
            let text = text.map_err(|problem| refuse_line(at, problem))?;
            match line::parse(text, self.command) {
                Ok(line) => Ok(line.map(|line| (at, text, line))),
                Err(Problem::Cookie(problem)) => {
                    Err(Refusal::new(Code::ForeignCookie).detail(at + 1).detail(problem))
                }
                Err(Problem::Other(problem)) => Err(refuse_line(at, problem)),
            }
        };
        let body = self.bytes.strip_suffix(b"\n").unwrap_or(self.bytes);
        body.split(|&b| b == b'\n').enumerate().map(read).filter_map(Result::transpose)
    }

    /// What can be said of it without a switch.
    ///
    /// # Errors
    /// The first line that is not allowed.
    pub(super) fn check(self) -> Result<()> {
        if !self.bytes.ends_with(b"\n") {
            let last = self.bytes.iter().filter(|&&b| b == b'\n').count();
            return Err(refuse_line(last, "the input does not end with a newline"));
        }
        let mut sweeps = 0;
        for line in self.lines() {
            match line? {
                (at, _, Line::Add(flow)) => {
                    pipeline::check(&flow).map_err(|problem| refuse_line(at, problem))?;
                }
                (at, _, Line::Delete(deletion)) => {
                    sweeps += usize::from(!matches!(deletion.which, Which::One { .. }));
                    if sweeps > limits::FLOW_SWEEPS {
                        return Err(refuse_line(
                            at,
                            format!("more than {} deletions of whole tables", limits::FLOW_SWEEPS),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether it deletes something of this table.
    pub(super) fn reaches(self, table: u8) -> bool {
        let of = |line: Result<(usize, &str, Line)>| match line {
            Ok((_, _, Line::Delete(deletion))) => match deletion.which {
                Which::All => true,
                Which::Table(its) | Which::One { table: its, .. } => its == table,
            },
            _ => false,
        };
        self.lines().any(of)
    }
}

/// Printable ASCII only, and not too long.
fn text(line: &[u8]) -> Result<&str, String> {
    if let Some(b) = line.iter().find(|b| !matches!(b, b' '..=b'~')) {
        return Err(format!("the byte 0x{b:02x}, which is not printable ASCII"));
    }
    if line.len() > limits::FLOW_LINE_BYTES {
        return Err(format!("longer than {} bytes", limits::FLOW_LINE_BYTES));
    }
    std::str::from_utf8(line).map_err(|_| "not ASCII".to_owned())
}

/// Whether input may be carried out on a bridge as it is now, on which these flows stand (a dump of all of them, whose ever they
/// are).
///
/// # Errors
/// The first line that decides about what is no guest's, or after which (after the last of them, if all is done at once) flows
/// stand that do.
pub fn check_against(bridge: &Bridge, standing: &str, input: Input<'_>) -> Result<()> {
    input.check()?;
    let mut standing = Standing::read(standing, bridge);
    // What may stand for a moment only, and has to be gone when all is done.
    let mut passing: HashMap<(u8, u16, Match), (usize, String, u64)> = HashMap::new();
    let (mut last, mut adds) = (0, false);
    for line in input.lines() {
        let (at, text, line) = line?;
        let mismatch = |problem| mismatch(at, problem);
        match line {
            Line::Add(flow) => {
                adds = true;
                bridge.check(&flow, !input.bundle).map_err(mismatch)?;
                standing.add(&flow, text.len(), bridge).map_err(mismatch)?;
                let lasting = bridge.check(&flow, false);
                let place = (flow.table, flow.priority, flow.matches);
                match lasting {
                    Ok(()) => drop(passing.remove(&place)),
                    Err(problem) => drop(passing.insert(place, (at, problem, flow.cookie))),
                }
            }
            Line::Delete(deletion) => {
                standing.delete(&deletion);
                let Deletion { cookie, mask, which } = deletion;
                let stays = |its: u64| its & mask != cookie & mask;
                match which {
                    Which::One { table, priority, matches } => {
                        let place = (table, priority, matches);
                        if passing.get(&place).is_some_and(|(_, _, its)| !stays(*its)) {
                            passing.remove(&place);
                        }
                    }
                    Which::Table(gone) => {
                        passing.retain(|(table, _, _), (_, _, its)| *table != gone || stays(*its));
                    }
                    Which::All => passing.retain(|_, (_, _, its)| stays(*its)),
                }
            }
        }
        if !input.bundle {
            standing.check(bridge).map_err(mismatch)?;
        }
        if !input.bundle && adds {
            standing.fit().map_err(|problem| refuse_line(at, problem))?;
        }
        last = at;
    }
    if let Some((at, problem, _)) = passing.into_values().min() {
        return Err(mismatch(at, format!("{problem}, and is not taken back")));
    }
    standing.check(bridge).map_err(|problem| mismatch(last, problem))?;
    standing.check_leads(bridge).map_err(|problem| mismatch(last, problem))?;
    // What only goes is never too much.
    if adds { standing.fit().map_err(|problem| refuse_line(last, problem)) } else { Ok(()) }
}

fn mismatch(at: usize, problem: String) -> Refusal {
    Refusal::new(Code::SwitchMismatch).detail(at + 1).detail(problem)
}

/// The plugin's own flows, which it writes at boot: confined to our places and words, as a caller's are.
///
/// # Errors
/// The first line that is not.
pub(super) fn check_own(bytes: &[u8]) -> Result<()> {
    Input::added(bytes, false).lines().try_for_each(|line| line.map(drop))
}
