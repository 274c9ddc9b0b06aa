//! What a flow does, from a closed list: what the compiler says (`ruleset`, `ovs/render.rs`), word for word.

use std::num::NonZeroU16;

use super::super::grammar::{hex, is_number, number};
use super::matches::{self, LOCAL};

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// As a learning switch would.
    Normal,
    /// To a port, which may be [`LOCAL`].
    Output(u16),
    /// To a table, and back.
    Resubmit(u8),
    /// A number into a register.
    Load(u8, u32),
    /// Through connection tracking and on in a table, with a copy of the packet.
    Track {
        /// Never 0, which is dom0's own.
        zone: NonZeroU16,
        /// The table.
        next: u8,
    },
    /// The connection is remembered, with a mark.
    Commit {
        /// Never 0, which is dom0's own.
        zone: NonZeroU16,
    },
    /// One dimension of a conjunction.
    Conjunction(u32),
    /// Takes the VLAN header off.
    Pop,
    /// Puts one on, with this id.
    Push(u16),
}

/// Reads a list of actions; none means `drop`.
///
/// # Errors
/// The first that is not allowed.
pub(crate) fn parse(text: &str) -> Result<Vec<Action>, String> {
    if text == "drop" {
        return Ok(Vec::new());
    }
    let mut actions = Vec::new();
    let mut words = split(text)?.into_iter();
    while let Some(word) = words.next() {
        let action = match word {
            // A header comes in two actions: an empty one, then its id.
            "push_vlan:0x8100" => words.next().and_then(id).map(Action::Push),
            word => action(word),
        };
        actions.push(action.ok_or_else(|| format!("{word:.60} is not an allowed action"))?);
    }
    Ok(actions)
}

fn action(word: &str) -> Option<Action> {
    match word {
        "NORMAL" | "normal" => return Some(Action::Normal),
        "LOCAL" => return Some(Action::Output(LOCAL)),
        "pop_vlan" | "strip_vlan" => return Some(Action::Pop),
        _ => {}
    }
    if let Some(port) = word.strip_prefix("output:") {
        return matches::port(port).filter(|port| *port != LOCAL).map(Action::Output);
    }
    if let Some(load) = word.strip_prefix("load:") {
        let (value, field) = load.split_once("->")?;
        let register = number(field.strip_prefix("NXM_NX_REG")?.strip_suffix("[]")?).filter(|r| *r < 8)?;
        return Some(Action::Load(u8::try_from(register).ok()?, u32::try_from(hex(value)?).ok()?));
    }
    let (name, inner) = word.strip_suffix(')')?.split_once('(')?;
    match name {
        "resubmit" => inner.strip_prefix(',').and_then(table).map(Action::Resubmit),
        "conjunction" => {
            let (id, dimension) = inner.split_once(',')?;
            let id = number(id).and_then(|id| u32::try_from(id).ok())?;
            matches!(dimension, "1/2" | "2/2").then_some(Action::Conjunction(id))
        }
        "ct" => track(inner),
        _ => None,
    }
}

/// `table=T,zone=Z`, or `commit,zone=Z,exec(load:M->NXM_NX_CT_MARK[8..31])`: a zone always, in so many words, and never dom0's.
fn track(inner: &str) -> Option<Action> {
    match split(inner).ok()?.as_slice() {
        [next, zone] => {
            Some(Action::Track { zone: self::zone(zone)?, next: table(next.strip_prefix("table=")?)? })
        }
        ["commit", zone, mark] => {
            let mark = mark.strip_prefix("exec(load:")?.strip_suffix("->NXM_NX_CT_MARK[8..31])")?;
            hex(mark).filter(|mark| *mark < 1 << 24)?;
            Some(Action::Commit { zone: self::zone(zone)? })
        }
        _ => None,
    }
}

fn zone(text: &str) -> Option<NonZeroU16> {
    number(text.strip_prefix("zone=")?).and_then(|zone| u16::try_from(zone).ok()).and_then(NonZeroU16::new)
}

fn table(text: &str) -> Option<u8> {
    is_number(text, u8::MAX.into()).then(|| text.parse().ok())?
}

/// `set_field:4101->vlan_vid`: the id, and a bit that says "there is a header".
fn id(text: &str) -> Option<u16> {
    let id = number(text.strip_prefix("set_field:")?.strip_suffix("->vlan_vid")?)?;
    u16::try_from(id).ok().filter(|id| (0x1000..0x2000).contains(id)).map(|id| id & 0x0fff)
}

/// Splits at the commas outside parentheses.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let mut items = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1).ok_or("parentheses do not match")?,
            b',' if depth == 0 => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err("parentheses do not match".to_owned());
    }
    items.push(&text[start..]);
    Ok(items)
}
