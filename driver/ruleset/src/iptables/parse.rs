//! Reading what the plugin's `iptables-save` answers (docs/architecture.md): iptables-save's syntax, cut to our
//! chains, with each jump from a built-in chain written `-I CHAIN position …`.
//!
//! Strict about the frame (a line that fits nowhere is an error, a missing table too), lenient about rules: one that we
//! could not have written is kept as [`ObservedRule::Foreign`].

mod names;
mod rule;

use super::Table;
use super::observed::{
    Boundary, BridgeNetfilter, ConntrackFill, HookJump, Observed, ObservedRule, ObservedTable,
};
use crate::ids::ChainName;

/// Why a dump could not be read. Never taken for an empty one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("iptables-save, line {line}: {problem}")]
pub struct ParseError {
    /// Line number, from 1; 0 for the dump as a whole.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a dump.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("table {0:?} is not one of raw and filter")]
    UnknownTable(String),
    #[error("table {0} stands twice")]
    TableTwice(&'static str),
    #[error("table {0} is missing")]
    TableMissing(&'static str),
    #[error("table {0} has no COMMIT: the dump is cut off")]
    NoCommit(&'static str),
    #[error("the line belongs to no table")]
    OutsideTable,
    #[error("{0}")]
    Chain(#[from] crate::ids::InvalidId),
    #[error("chain {0} is declared twice")]
    ChainTwice(ChainName),
    #[error("a rule for chain {0}, which is not declared")]
    UndeclaredChain(ChainName),
    #[error("the position {0:?} is no number from 1")]
    Position(String),
    #[error("unknown syntax")]
    Syntax,
    #[error("the line saying whether bridged packets reach iptables is missing")]
    NoBridgeNetfilter,
    #[error("the line saying how the plugin's boundary stands is missing")]
    NoBoundary,
}

/// What the plugin says of dom0 besides its rules, a line each, before them.
const SAID: &str = "# drawbridge ";

/// Reads a dump.
///
/// # Errors
/// [`ParseError`] names the line; nothing is guessed.
pub fn parse_save(text: &str) -> Result<Observed, ParseError> {
    let mut observed = Observed::default();
    let mut bridge_netfilter = None;
    let mut boundary = None;
    let mut seen: Vec<Table> = Vec::new();
    let mut open: Option<Table> = None;
    for (index, line) in text.lines().enumerate() {
        let fail = |problem| ParseError { line: index + 1, problem };
        if let Some(said) = line.strip_prefix(SAID) {
            match said.split_once('=').ok_or_else(|| fail(Problem::Syntax))? {
                ("bridge-nf-call", "1") => bridge_netfilter = Some(BridgeNetfilter::On),
                ("bridge-nf-call", "0") => bridge_netfilter = Some(BridgeNetfilter::Off),
                ("bridge-nf-call", "absent") => bridge_netfilter = Some(BridgeNetfilter::Absent),
                ("boundary", "stands") => boundary = Some(Boundary::Stands),
                ("boundary", "missing") => boundary = Some(Boundary::Missing),
                ("boundary", "preceded") => boundary = Some(Boundary::Preceded),
                ("boundary", "altered") => boundary = Some(Boundary::Altered),
                ("routes", bridge) => observed.routed.push(bridge.to_owned()),
                ("conntrack", fill) => {
                    let fill = fill.split_once('/').and_then(|(tracked, most)| {
                        Some(ConntrackFill { tracked: tracked.parse().ok()?, most: most.parse().ok()? })
                    });
                    observed.conntrack = Some(fill.ok_or_else(|| fail(Problem::Syntax))?);
                }
                _ => return Err(fail(Problem::Syntax)),
            }
        } else if line.is_empty() || line.starts_with('#') {
        } else if let Some(name) = line.strip_prefix('*') {
            let table = Table::ALL
                .into_iter()
                .find(|t| t.name() == name)
                .ok_or_else(|| fail(Problem::UnknownTable(name.chars().take(40).collect())))?;
            if let Some(unfinished) = open {
                return Err(fail(Problem::NoCommit(unfinished.name())));
            }
            if seen.contains(&table) {
                return Err(fail(Problem::TableTwice(table.name())));
            }
            seen.push(table);
            open = Some(table);
        } else {
            let table = open.ok_or_else(|| fail(Problem::OutsideTable))?;
            if line == "COMMIT" {
                open = None;
            } else {
                let content = match table {
                    Table::Raw => &mut observed.raw,
                    Table::Filter => &mut observed.filter,
                };
                table_line(line, content).map_err(fail)?;
            }
        }
    }
    let whole = |problem| ParseError { line: 0, problem };
    if let Some(unfinished) = open {
        return Err(whole(Problem::NoCommit(unfinished.name())));
    }
    if let Some(missing) = Table::ALL.into_iter().find(|t| !seen.contains(t)) {
        return Err(whole(Problem::TableMissing(missing.name())));
    }
    observed.bridge_netfilter = bridge_netfilter.ok_or_else(|| whole(Problem::NoBridgeNetfilter))?;
    observed.boundary = boundary.ok_or_else(|| whole(Problem::NoBoundary))?;
    Ok(observed)
}

fn table_line(line: &str, table: &mut ObservedTable) -> Result<(), Problem> {
    if let Some(declaration) = line.strip_prefix(':') {
        let name = declaration.split(' ').next().unwrap_or_default();
        let chain: ChainName = name.parse()?;
        return match table.chains.insert(chain.clone(), Vec::new()) {
            None => Ok(()),
            Some(_) => Err(Problem::ChainTwice(chain)),
        };
    }
    if let Some(rest) = line.strip_prefix("-A ") {
        let (name, spec) = rest.split_once(' ').unwrap_or((rest, ""));
        let chain: ChainName = name.parse()?;
        let rules = table.chains.get_mut(&chain).ok_or(Problem::UndeclaredChain(chain))?;
        rules.push(observed_rule(spec));
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix("-I ") {
        let mut parts = rest.splitn(3, ' ');
        let (Some(chain), Some(position), Some(spec)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Problem::Syntax);
        };
        let number =
            position.parse().ok().filter(|n| *n > 0).ok_or_else(|| Problem::Position(position.to_owned()))?;
        table.hooks.push(HookJump { chain: chain.to_owned(), position: number, rule: observed_rule(spec) });
        return Ok(());
    }
    Err(Problem::Syntax)
}

fn observed_rule(spec: &str) -> ObservedRule {
    rule::parse(spec).map_or_else(|| ObservedRule::Foreign(spec.to_owned()), ObservedRule::Known)
}

#[cfg(test)]
mod tests;
