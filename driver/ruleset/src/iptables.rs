//! The iptables back end: compile a host's policy into chains, read chains back from iptables-save, and find the
//! smallest restore input that turns one into the other.

mod compile;
mod diff;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod interpret;
mod mark;
mod observed;
mod parse;
mod render;
mod rule;
mod tree;

pub use compile::{CompileError, compile};
pub use diff::{Change, Plan};
pub use mark::{Epoch, MARK_MASK, Mark, PACKET_MASK, PacketMark};
pub use observed::{
    Boundary, BridgeNetfilter, ConntrackFill, HookJump, Observed, ObservedRule, ObservedTable,
};
pub use parse::{ParseError, parse_save};
pub use rule::{CtDirection, CtStates, IfPattern, Match, Rule, Target};

use std::collections::{BTreeMap, BTreeSet};

use self::compile::compile_but;
use self::diff::Basis;
use crate::ids::{ChainName, GroupId};
use crate::model::{Direction, Family, Group, Remote, Service};
use crate::resolve::HostPolicy;

/// The tables that hold chains of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Conntrack zones.
    Raw,
    /// What passes.
    Filter,
}

impl Table {
    /// Both, in the order in which a restore commits them.
    pub const ALL: [Self; 2] = [Self::Raw, Self::Filter];

    /// iptables' name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Filter => "filter",
        }
    }

    /// The built-in chain from which packets come to ours.
    #[must_use]
    pub fn hook(self) -> &'static str {
        match self {
            Self::Raw => "PREROUTING",
            Self::Filter => "FORWARD",
        }
    }
}

/// Chains with their rules.
pub type Chains = BTreeMap<ChainName, Vec<Rule>>;

/// What one host's kernel should hold, for one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Address family.
    pub family: Family,
    /// Our chains in `filter`; empty when the host has nothing to enforce.
    pub filter: Chains,
    /// Our chains in `raw`.
    pub raw: Chains,
}

impl Ruleset {
    /// The chains of one table.
    #[must_use]
    pub fn chains(&self, table: Table) -> &Chains {
        match table {
            Table::Raw => &self.raw,
            Table::Filter => &self.filter,
        }
    }
}

/// What is to be changed on a host for one family.
///
/// `seed` is a number that only grows, such as a clock's seconds: it becomes the epoch of a host that has none. A host
/// on which we have nothing and nothing to enforce is left alone; one that we were on keeps the frame of chains, since
/// taking our jump away would hand every guest to dom0's own `REJECT`.
///
/// # Errors
/// [`CompileError`]
pub fn plan(host: &HostPolicy, family: Family, observed: &Observed, seed: u64) -> Result<Plan, CompileError> {
    if host.is_empty() && observed.is_empty() {
        return Ok(Plan::default());
    }
    let epoch = observed.epoch().unwrap_or_else(|| Epoch::seeded(seed));
    Ok(diff::diff(observed, compile(host, family, epoch)?, Basis::Read)?)
}

/// What is to be changed for one family where the chains of `before` stood when the host was last read, with connections
/// judged in `epoch`.
///
/// Another hand may have been at them since. Then either the whole input is refused, for it names a chain or a rule that is
/// gone; or each chain it names holds what was compiled, and of those that hold nothing but permissions each has lost and
/// got just those it should. What was done to other chains stays, until the host is read.
///
/// # Errors
/// [`CompileError`]
pub fn amend(
    before: &HostPolicy,
    after: &HostPolicy,
    family: Family,
    epoch: Epoch,
) -> Result<Plan, CompileError> {
    let stays = |id: &GroupId, group: &Group| {
        before.groups.get(id).is_some_and(|was| said(was, family).eq(said(group, family)))
            && before.keep.contains(id) == after.keep.contains(id)
    };
    let settled: BTreeSet<&GroupId> =
        after.groups.iter().filter(|(id, group)| stays(id, group)).map(|(id, _)| id).collect();
    // As of one family where an edit was about the other.
    if settled.iter().copied().eq(before.groups.keys())
        && settled.len() == after.groups.len()
        && beside_groups(before) == beside_groups(after)
    {
        return Ok(Plan::default());
    }
    let stood = Observed::of(compile_but(before, family, epoch, &settled)?)?;
    Ok(diff::diff(&stood, compile_but(after, family, epoch, &settled)?, Basis::Remembered)?)
}

/// What the chains of a group are made of. Not a rule's id: looking at those alone would cost as much as all the rest.
fn said(group: &Group, family: Family) -> impl Iterator<Item = (Direction, Service, &Remote)> {
    let rules = group.rules.iter().filter(move |rule| rule.family == family);
    rules.map(|rule| (rule.direction, rule.service, &rule.remote))
}

/// What chains are made of beside groups.
fn beside_groups(host: &HostPolicy) -> impl PartialEq {
    let HostPolicy {
        attachments,
        expected,
        groups: _,
        keep,
        peers,
        members: _,
        provider,
        guarded,
        lifelines,
    } = host;
    (attachments, expected, keep, peers, provider, guarded, lifelines)
}
