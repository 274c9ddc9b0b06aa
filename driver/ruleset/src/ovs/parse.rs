//! `ovs-ofctl dump-flows` text back into flows. What is not understood is an error, never left out.

mod flow;

use super::flow::Flow;
use super::{COOKIE, COOKIE_MASK};

/// A flow as the switch has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObservedFlow {
    /// The flow.
    pub flow: Flow,
    /// Its cookie.
    pub cookie: u64,
}

/// Our flows of one bridge, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The flows.
    pub flows: Vec<ObservedFlow>,
}

impl Observed {
    /// Whether nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("dump-flows, line {line}: {problem}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What was not understood.
    pub problem: String,
}

/// Reads what `ovs-ofctl dump-flows` printed for our cookie, with or without statistics, OVS 2.5 to 3.x.
///
/// # Errors
/// The first line that is not understood, is not ours, or could not have been printed by a switch (the same match twice).
/// A text without the switch's reply line is an error too, unless it has flows: an empty text is not "no flows".
pub fn parse_dump_flows(text: &str) -> Result<Observed, ParseError> {
    let mut flows = Vec::new();
    let mut replied = None;
    for (at, line) in text.lines().enumerate() {
        let error = |problem: String| ParseError { line: at + 1, problem };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if let Some(part) = reply(line) {
            replied = Some(part);
            continue;
        }
        let observed = flow::parse(line).map_err(error)?;
        if observed.cookie & COOKIE_MASK != COOKIE {
            return Err(error(format!("the cookie {:#x} is not ours", observed.cookie)));
        }
        flows.push(observed);
    }
    let end = text.lines().count();
    let problem = match replied {
        None if flows.is_empty() => Some("no reply of the switch in it"),
        Some(Part::More) => Some("the switch's reply breaks off"),
        None | Some(Part::Last) => None,
    };
    if let Some(problem) = problem {
        return Err(ParseError { line: end, problem: problem.to_owned() });
    }
    flows.sort_unstable();
    if let Some(pair) = flows.windows(2).find(|pair| pair[0].flow.key == pair[1].flow.key) {
        return Err(ParseError { line: end, problem: format!("{} stands twice", pair[0].flow.key) });
    }
    Ok(Observed { flows })
}

/// A reply comes in parts.
enum Part {
    More,
    Last,
}

/// `NXST_FLOW reply (xid=0x4):`, `OFPST_FLOW reply (OF1.4) (xid=0x2):`; of a reply in parts, all but the last have
/// ` flags=[more]` behind.
fn reply(line: &str) -> Option<Part> {
    let rest = line.strip_prefix("NXST_FLOW reply").or_else(|| line.strip_prefix("OFPST_FLOW reply"))?;
    let (rest, part) = match rest.strip_suffix(" flags=[more]") {
        Some(rest) => (rest, Part::More),
        None => (rest, Part::Last),
    };
    (rest.ends_with(':') && rest.contains("(xid=")).then_some(part)
}

#[cfg(test)]
mod tests;
