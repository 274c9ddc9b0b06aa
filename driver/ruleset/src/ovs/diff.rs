//! The fewest changes that turn what stands into what should stand.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;

use serde::ser::SerializeMap as _;

use super::compile::{CompileError, compile};
use super::dialect::Dialect;
use super::flow::{Action, Flow, Key};
use super::host::OvsHost;
use super::parse::{Observed, ObservedFlow};
use super::{COOKIE, COOKIE_MASK, FLOW_COOKIE, table};
use crate::ids::{Interface, VifUuid};
use crate::iptables::{Epoch, Mark};
use crate::resolve::HostPolicy;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A flow comes.
    Add(Flow),
    /// A flow gets other actions (or an older layout's cookie goes).
    Replace {
        /// What stands.
        old: ObservedFlow,
        /// What should.
        new: Flow,
    },
    /// A flow goes.
    Remove(ObservedFlow),
}

impl serde::Serialize for Change {
    /// As a map: what kind of change, the flow, and what it did before.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (change, flow, was) = match self {
            Self::Add(flow) => ("add-flow", flow, None),
            Self::Replace { old, new } => {
                ("replace-flow", new, Some(super::render::Actions(&old.flow.actions).to_string()))
            }
            Self::Remove(old) => ("remove-flow", &old.flow, None),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("change", change)?;
        map.serialize_entry("flow", &flow.to_string())?;
        if let Some(was) = was {
            map.serialize_entry("was", &was)?;
        }
        map.end()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(flow) => write!(f, "+ {flow}"),
            Self::Replace { old, new } => {
                write!(f, "~ {new} (was {})", super::render::Actions(&old.flow.actions))
            }
            Self::Remove(old) => write!(f, "- {}", old.flow),
        }
    }
}

/// What is to be changed on one bridge, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowPlan {
    /// The changes, in the order of tables.
    pub changes: Vec<Change>,
    /// See [`super::Compiled::complaints`].
    pub complaints: Vec<String>,
    /// See [`super::Compiled::missing`].
    pub missing: Vec<VifUuid>,
    /// Conjunctions that deny, before or after; also where only one of their dimensions changes.
    pub denying: BTreeSet<u32>,
    /// What stands behind the hooks is of another layout: a table's number means something else there.
    pub relaid: bool,
}

impl FlowPlan {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Input for [`Dialect::write`] that has the switch read every flow that comes, in a table that no packet is sent to.
    /// `None` if no flow comes.
    #[must_use]
    pub fn trial(&self) -> Option<String> {
        let coming = self.changes.iter().filter_map(|change| match change {
            Change::Add(new) | Change::Replace { new, .. } => Some(new),
            Change::Remove(_) => None,
        });
        let mut text = String::new();
        // Flows of different tables may be alike in all else; a priority of its own keeps each.
        for (at, new) in coming.enumerate() {
            let priority = u16::try_from(at % usize::from(u16::MAX)).unwrap_or_default();
            let key = Key { table: table::TRIAL, priority, matches: new.key.matches.clone() };
            add(&key, &new.actions, &mut text);
        }
        (!text.is_empty()).then_some(text)
    }

    /// Input for [`Dialect::write`] that takes out what trials left. Not at the trial's end: a deletion does not see what
    /// its own bundle has added (`classifier_defer`).
    #[must_use]
    pub fn end_of_trial() -> String {
        format!("delete cookie={COOKIE:#x}/{COOKIE_MASK:#x},table={}\n", table::TRIAL)
    }

    /// Input for [`Dialect::write`].
    #[must_use]
    pub fn input(&self, dialect: Dialect) -> String {
        if dialect.bundle { self.bundle() } else { self.ordered() }
    }

    /// Input for `ovs-ofctl --bundle add-flows BRIDGE -`: all or nothing, at once.
    #[must_use]
    pub fn bundle(&self) -> String {
        let mut text = String::new();
        for change in &self.changes {
            match change {
                Change::Add(new) | Change::Replace { new, .. } => add(&new.key, &new.actions, &mut text),
                Change::Remove(old) => delete(old.cookie, &old.flow.key, &mut text),
            }
        }
        text
    }

    /// The same for a switch without bundles, which carries out `add-flows` line by line: at no moment does anything
    /// pass that passes neither before nor after.
    ///
    /// 1. All but the hooks narrows, until every packet meets in every table what it meets there before and after, or
    ///    less. So at no moment does more pass than before.
    /// 2. The hooks change. Those of high priority come first and go last, so a packet is led by its old hook or by its
    ///    new one; and behind either it meets no more than what belongs to it.
    /// 3. All else widens to what it is to be. So at no moment does more pass than after.
    ///
    /// What narrows and what widens depends on the table. Where flows judge, what lies below one that lets pass lets pass no
    /// more than it: it goes in the first step and comes in the last, and one that stops the other way round. Where flows
    /// only say who receives (`LEADS`), what lies below is another way: every flow that changes drops in between, but for
    /// the copies that are sent before and after.
    ///
    /// Within a step the order means nothing to packets. The flows that remember a connection go first of those that judge,
    /// so that a write which is cut off after a permission has gone leaves no epoch to go on with: the next one begins
    /// another.
    ///
    /// Flows that are the same for every policy come and go only with the first hook and the last; before or after, all
    /// is the switch's own.
    ///
    /// From one layout to another a table's number means something else, and nothing behind the hooks is the same before and
    /// after. So all of the old goes, then the hooks change, then all of the new comes: what is to be led by our flows drops
    /// meanwhile. In one table low priorities go first and come last, so a packet meets what belongs to it, or nothing.
    #[must_use]
    pub fn ordered(&self) -> String {
        if self.relaid {
            return self.rebuilt();
        }
        let stops = |flow: &Flow| restricts(flow, &self.denying);
        let hooks = |flow: &Flow| flow.key.table == table::HOOK;
        let leads = |flow: &Flow| LEADS.contains(&flow.key.table);
        let (mut narrow, mut wide) = (String::new(), String::new());
        let (mut arriving, mut leaving) = (Vec::new(), Vec::new());
        for change in self.changes.iter().rev() {
            match change {
                Change::Add(new) | Change::Replace { new, .. } if hooks(new) => arriving.push(new),
                Change::Remove(old) if hooks(&old.flow) => leaving.push(old),

                Change::Add(new) if leads(new) => {
                    add(&new.key, &[], &mut narrow);
                    add(&new.key, &new.actions, &mut wide);
                }
                Change::Replace { old, new } if leads(new) => {
                    add(&new.key, &common(&old.flow.actions, &new.actions), &mut narrow);
                    add(&new.key, &new.actions, &mut wide);
                }
                Change::Remove(old) if leads(&old.flow) => {
                    add(&old.flow.key, &[], &mut narrow);
                    delete(FLOW_COOKIE, &old.flow.key, &mut wide);
                }

                // Half of one denial and half of another deny nothing.
                Change::Replace { old, new } if stops(&old.flow) && stops(new) => {
                    add(&new.key, &[], &mut narrow);
                    add(&new.key, &new.actions, &mut wide);
                }
                Change::Add(new) | Change::Replace { new, .. } if stops(new) => {
                    add(&new.key, &new.actions, &mut narrow);
                }
                Change::Add(new) => add(&new.key, &new.actions, &mut wide),
                Change::Replace { old, new } => {
                    if !stops(&old.flow) {
                        delete(old.cookie, &old.flow.key, &mut narrow);
                    }
                    add(&new.key, &new.actions, &mut wide);
                }
                Change::Remove(old) => {
                    let text = if stops(&old.flow) { &mut wide } else { &mut narrow };
                    delete(old.cookie, &old.flow.key, text);
                }
            }
        }
        narrow + &change_hooks(arriving, leaving) + &wide
    }

    /// [`Self::ordered`], from one layout to another.
    fn rebuilt(&self) -> String {
        let is_hook = |flow: &&Flow| flow.key.table == table::HOOK;
        let coming = self.changes.iter().filter_map(|change| match change {
            Change::Add(new) | Change::Replace { new, .. } => Some(new),
            Change::Remove(_) => None,
        });
        let (arriving, mut coming): (Vec<&Flow>, Vec<&Flow>) = coming.partition(is_hook);
        let leaving = self.changes.iter().filter_map(|change| match change {
            Change::Remove(old) => Some(old),
            Change::Replace { old, .. } => Some(old).filter(|old| !is_hook(&&old.flow)),
            Change::Add(_) => None,
        });
        let (leaving, mut going): (Vec<&ObservedFlow>, Vec<&ObservedFlow>) =
            leaving.partition(|old| is_hook(&&old.flow));
        // Within a priority the tables behind come first: what leads there finds them whole. They go first, too, and with
        // them what remembers a connection.
        going.sort_by_key(|old| (old.flow.key.priority, std::cmp::Reverse(old.flow.key.table)));
        coming.sort_by_key(|new| std::cmp::Reverse((new.key.table, new.key.priority)));
        let (mut narrow, mut wide) = (String::new(), String::new());
        going.into_iter().for_each(|old| delete(old.cookie, &old.flow.key, &mut narrow));
        coming.into_iter().for_each(|new| add(&new.key, &new.actions, &mut wide));
        narrow + &change_hooks(arriving, leaving) + &wide
    }
}

/// Those of high priority come first and go last.
fn change_hooks(mut arriving: Vec<&Flow>, mut leaving: Vec<&ObservedFlow>) -> String {
    arriving.sort_by_key(|new| std::cmp::Reverse(new.key.priority));
    leaving.sort_by_key(|old| old.flow.key.priority);
    let mut hooks = String::new();
    arriving.into_iter().for_each(|new| add(&new.key, &new.actions, &mut hooks));
    leaving.into_iter().for_each(|old| delete(old.cookie, &old.flow.key, &mut hooks));
    hooks
}

fn add(key: &Key, actions: &[Action], text: &mut String) {
    let _ = writeln!(text, "add cookie={FLOW_COOKIE:#x},{key},actions={}", super::render::Actions(actions));
}

fn delete(cookie: u64, key: &Key, text: &mut String) {
    let _ = writeln!(text, "delete_strict cookie={cookie:#x}/-1,{key}");
}

/// What both do with a packet, where both have come to the same VLAN header.
fn common(old: &[Action], new: &[Action]) -> Vec<Action> {
    let steps = |actions| -> Vec<(Vec<&Action>, &[Action])> {
        let mut header = Vec::new();
        let steps = <[Action]>::split_inclusive(actions, |action| !matches!(action, Action::Load(..)));
        let with_header = steps.map(|step| {
            header.extend(step.iter().filter(|a| matches!(a, Action::PopVlan | Action::PushVlan(_))));
            (header.clone(), step)
        });
        with_header.collect()
    };
    let new = steps(new);
    let both = steps(old).into_iter().filter(|step| new.contains(step));
    both.flat_map(|(_, step)| step).cloned().collect()
}

/// What is to be changed on one real bridge.
///
/// `seed` is a number that only grows, such as a clock's seconds: it becomes the epoch of a bridge that has none.
///
/// # Errors
/// [`CompileError`]
pub fn plan(
    host: &HostPolicy,
    switch: &OvsHost,
    bridge: &Interface,
    observed: &Observed,
    seed: u64,
) -> Result<FlowPlan, CompileError> {
    let standing = observed.epoch();
    let old: Vec<&Flow> = observed.flows.iter().map(|observed| &observed.flow).collect();
    let mut compiled = compile(host, switch, bridge, standing.unwrap_or_else(|| Epoch::seeded(seed)))?;
    let denying = denying_conjunctions(old.iter().copied().chain(&compiled.flows));
    let relaid = observed.has_another_layout();
    if let Some(epoch) = standing
        && (relaid || narrows(&old, &compiled.flows, &denying))
    {
        compiled = compile(host, switch, bridge, epoch.next())?;
    }
    let changes = diff(observed, &compiled.flows);
    Ok(FlowPlan { changes, complaints: compiled.complaints, missing: compiled.missing, denying, relaid })
}

/// Both lists are sorted by key.
pub(super) fn diff(observed: &Observed, desired: &[Flow]) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut old, mut new) = (observed.flows.iter().peekable(), desired.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => old.flow.key.cmp(&new.key),
        };
        match order {
            std::cmp::Ordering::Less => changes.extend(old.next().cloned().map(Change::Remove)),
            std::cmp::Ordering::Greater => changes.extend(new.next().cloned().map(Change::Add)),
            std::cmp::Ordering::Equal => {
                if let (Some(old), Some(new)) = (old.next(), new.next())
                    && (old.flow.actions != new.actions || old.cookie != FLOW_COOKIE)
                {
                    changes.push(Change::Replace { old: old.clone(), new: new.clone() });
                }
            }
        }
    }
}

impl Observed {
    /// The epoch under which connections are remembered now.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        // By what they do, not by where they stand: another layout has them elsewhere.
        self.flows.iter().flat_map(|observed| &observed.flow.actions).find_map(|action| match action {
            Action::Commit { mark, .. } => Epoch::from_mark(Mark::new(*mark)?),
            _ => None,
        })
    }

    /// Whether flows behind the hooks are of another layout. Those that dom0 itself writes at boot are not: they stand in
    /// table 0, and say which networks are guarded.
    fn has_another_layout(&self) -> bool {
        let behind = |flow: &Flow| (table::SOURCE..=table::WIRE).contains(&flow.key.table);
        self.flows.iter().any(|observed| observed.cookie != FLOW_COOKIE && behind(&observed.flow))
    }
}

/// The tables whose flows are the policy's rules.
const RULES: [u8; 6] = [
    table::PROVIDER_EGRESS,
    table::GROUPS_EGRESS,
    table::RULES_EGRESS,
    table::PROVIDER_INGRESS,
    table::GROUPS_INGRESS,
    table::RULES_INGRESS,
];

/// The tables behind the hooks whose flows lead a packet to its receivers and judge nothing.
const LEADS: [u8; 8] = [
    table::UNTAGGED,
    table::OURS,
    table::WIRE,
    table::DELIVER,
    table::MANY,
    table::BUCKET,
    table::OUTPUT,
    table::REST_OUTPUT,
];

/// Whether a packet that passed may not pass any more, so that connections must be judged again: a permission goes, a
/// denial comes, or a port is filtered that was not.
fn narrows(old: &[&Flow], desired: &[Flow], denying: &BTreeSet<u32>) -> bool {
    let loses = |old: &&Flow| {
        let new = desired.binary_search_by(|new| new.key.cmp(&old.key)).ok().and_then(|at| desired.get(at));
        RULES.contains(&old.key.table)
            && match new {
                None => !restricts(old, denying),
                Some(new) => !old.actions.iter().all(|action| new.actions.contains(action)),
            }
    };
    let stops = |new: &Flow| {
        let is_new = || old.binary_search_by(|old| old.key.cmp(&new.key)).is_err();
        match new.key.table {
            table::HOOK => is_new(),
            rules if RULES.contains(&rules) => restricts(new, denying) && is_new(),
            _ => false,
        }
    };
    old.iter().any(loses) || desired.iter().any(stops)
}

/// Conjunctions that end in a denial.
fn denying_conjunctions<'a>(flows: impl Iterator<Item = &'a Flow>) -> BTreeSet<u32> {
    let deny = |flow: &&Flow| flow.actions == [Action::Resubmit(table::DENY)];
    flows.filter(deny).filter_map(|flow| flow.key.matches.conj_id).collect()
}

/// Whether a flow can only make fewer packets pass.
fn restricts(flow: &Flow, denying: &BTreeSet<u32>) -> bool {
    flow.actions.iter().all(|action| match action {
        Action::Conjunction { id, .. } => denying.contains(id),
        Action::Resubmit(next) => *next == table::DENY,
        _ => false,
    })
}

#[cfg(test)]
mod tests;
