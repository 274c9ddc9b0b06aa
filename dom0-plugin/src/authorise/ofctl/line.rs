//! One line of `ovs-ofctl`'s input: a flow that comes, or which ones go.

use drawbridge_wire::flow;

use super::super::grammar::{hex, number};
use super::actions::{self, Action};
use super::matches::Match;

/// A flow that comes.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) table: u8,
    pub(crate) priority: u16,
    pub(crate) matches: Match,
    /// None means `drop`.
    pub(crate) actions: Vec<Action>,
    pub(crate) cookie: u64,
}

/// Flows that go: of these cookies.
#[derive(Clone, Debug)]
pub(crate) struct Deletion {
    pub(crate) cookie: u64,
    pub(crate) mask: u64,
    pub(crate) which: Which,
}

/// Which of them.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// All.
    All,
    /// Those of a table.
    Table(u8),
    /// The one with this priority and match.
    One { table: u8, priority: u16, matches: Match },
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Add(Flow),
    Delete(Deletion),
}

/// Why a line is refused.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It reaches others' flows.
    Cookie(String),
    /// Anything else.
    Other(String),
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Other(problem)
    }
}

impl From<&str> for Problem {
    fn from(problem: &str) -> Self {
        Self::Other(problem.to_owned())
    }
}

/// What a line is where it does not say so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `add-flows`
    Add,
    /// `del-flows`
    Delete,
    /// `--strict del-flows`
    DeleteStrict,
}

const FLOW_DEFAULT_PRIORITY: u16 = 32_768;

/// Reads a line. `None`: it is empty, or a comment.
pub(crate) fn parse(line: &str, command: Command) -> Result<Option<Line>, Problem> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (command, rest) = match (command, line.split_once(' ')) {
        (Command::Add, Some(("add", rest))) => (Command::Add, rest),
        (Command::Add, Some(("delete", rest))) => (Command::Delete, rest),
        (Command::Add, Some(("delete_strict", rest))) => (Command::DeleteStrict, rest),
        (command, _) => (command, line),
    };
    if rest.contains(' ') {
        return Err("a space inside a flow".into());
    }
    let (fields, does) = match rest.split_once("actions=") {
        Some((fields, does)) => {
            (fields.strip_suffix(',').ok_or("expected a comma before actions=")?, Some(does))
        }
        None => (rest, None),
    };
    let (mut cookie, mut table, mut priority) = (None, None, None);
    let mut matched = Vec::new();
    for field in fields.split(',') {
        let slot = match field.split_once('=') {
            Some(("cookie", value)) => (&mut cookie, value),
            Some(("table", value)) => (&mut table, value),
            Some(("priority", value)) => (&mut priority, value),
            _ => {
                matched.push(field);
                continue;
            }
        };
        if slot.0.replace(slot.1).is_some() {
            return Err("a field stands twice".into());
        }
    }
    let matches = Match::parse(matched.into_iter())?;
    let text = cookie.ok_or_else(|| Problem::Cookie("no cookie".to_owned()))?;
    let ours = |(cookie, mask)| super::is_ours(cookie, mask);
    let foreign =
        || Problem::Cookie(format!("the cookie is not within {:#x}/{:#x}", flow::COOKIE, flow::COOKIE_MASK));
    let table = table.map(|text| small("table", text, 254)).transpose()?.map(|n| n.to_le_bytes()[0]);
    let priority = priority.map(|text| small("priority", text, u16::MAX)).transpose()?;
    if command == Command::Add {
        let cookie = hex(text).filter(|cookie| ours((*cookie, u64::MAX))).ok_or_else(foreign)?;
        let table = table.ok_or("a flow must name its table")?;
        place(table, priority)?;
        let actions = actions::parse(does.ok_or("a flow without actions")?)?;
        if let Some(name) = matches.lacks() {
            return Err(format!("{name:?} without the protocol it belongs to").into());
        }
        let priority = priority.unwrap_or(FLOW_DEFAULT_PRIORITY);
        return Ok(Some(Line::Add(Flow { table, priority, matches, actions, cookie })));
    }
    let (cookie, mask) = masked_cookie(text).filter(|cookie| ours(*cookie)).ok_or_else(foreign)?;
    if does.is_some() {
        return Err("a deletion with actions".into());
    }
    let which = match (command, table) {
        (Command::DeleteStrict, Some(table)) => {
            Which::One { table, priority: priority.unwrap_or(FLOW_DEFAULT_PRIORITY), matches }
        }
        // A switch looks in table 0 then, or nowhere.
        (Command::DeleteStrict, None) => return Err("a deletion of one flow must name its table".into()),
        _ if priority.is_some() || !matches.fields().is_empty() => {
            return Err("a deletion of more than one flow names a cookie, and a table, only".into());
        }
        (_, Some(table)) => Which::Table(table),
        (_, None) => Which::All,
    };
    Ok(Some(Line::Delete(Deletion { cookie, mask, which })))
}

fn small(key: &str, text: &str, max: u16) -> Result<u16, String> {
    let number = number(text).and_then(|n| u16::try_from(n).ok()).filter(|n| *n <= max);
    number.ok_or_else(|| format!("{key}: expected a number up to {max}"))
}

/// Where a flow that comes may stand.
fn place(table: u8, priority: Option<u16>) -> Result<(), String> {
    match (table, priority) {
        (0, Some(priority)) if flow::HOOK_PRIORITIES.contains(&priority.into()) => Ok(()),
        (0, _) => Err(format!("in table 0 only the priorities {:?} are ours", flow::HOOK_PRIORITIES)),
        (table, _) if flow::TABLES.contains(&table.into()) => Ok(()),
        _ => Err(format!("only table 0 and the tables {:?} are ours", flow::TABLES)),
    }
}

/// `0x…` (every bit counts), `0x…/0x…`, or `0x…/-1`.
pub(crate) fn masked_cookie(text: &str) -> Option<(u64, u64)> {
    match text.split_once('/') {
        None => Some((hex(text)?, u64::MAX)),
        Some((cookie, "-1")) => Some((hex(cookie)?, u64::MAX)),
        Some((cookie, mask)) => Some((hex(cookie)?, hex(mask)?)),
    }
}
