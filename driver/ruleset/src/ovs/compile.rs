//! From a host's policy to the flows of one bridge. The layout is drawn in [`super`]; the security contract it carries out
//! is docs/security.md, whose rules the comments name.

mod deliver;
mod hooks;
mod lifeline;
mod rules;
mod site;
mod source;
mod state;

use std::collections::BTreeSet;

use super::flow::{Action, Ether, Flow, Key, Match};
use super::host::OvsHost;
use crate::ids::{Interface, VifUuid};
use crate::iptables::Epoch;
use crate::model::Family;
use crate::resolve::HostPolicy;

/// The flows of one bridge, and what could not be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The flows, sorted, no two alike in table, priority and match.
    pub flows: Vec<Flow>,
    /// What is weaker or stricter than the policy says, for people.
    pub complaints: Vec<String>,
    /// Ports of the policy that the switch has no OpenFlow number for.
    pub missing: Vec<VifUuid>,
}

/// The plugin takes lines of 8,192 bytes; what is not the flow itself is short.
const MOST_BYTES: usize = 8_000;

/// A policy that has no flows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum CompileError {
    #[error("the host has no bridge {0}")]
    NoBridge(Interface),
    #[error("port {vif} is on {bridge}, which the switch does not have")]
    NoNetwork { vif: VifUuid, bridge: Interface },
    #[error("more than {most} provider rules cannot be told apart by priority")]
    ProviderRules { most: usize },
    #[error("a flow of table {table} has {bytes} bytes; a line to the plugin may have {MOST_BYTES}")]
    Long {
        table: u8,
        bytes: usize,
        /// The ports without whose groups and pairs it would be short.
        culprits: BTreeSet<VifUuid>,
    },
    #[error("more than {most} filtered ports on network {network} would make a broadcast's flow too long")]
    Receivers { network: Interface, most: usize },
}

/// The flows of one real bridge, with connections judged in `epoch`. Empty if it has nothing to enforce.
///
/// # Errors
/// [`CompileError`]
pub fn compile(
    host: &HostPolicy,
    switch: &OvsHost,
    bridge: &Interface,
    epoch: Epoch,
) -> Result<Compiled, CompileError> {
    let layout = site::Layout::new(host, switch, bridge)?;
    let mut out = Builder::default();
    let mut compiled = Compiled { missing: layout.missing.clone(), ..Compiled::default() };
    if layout.has_nothing_to_enforce() {
        return Ok(compiled);
    }
    hooks::write(&layout, &mut out);
    hooks::note_guarded(&layout, &mut out);
    lifeline::write(host, &layout, &mut out);
    for port in &layout.ports {
        source::of_port(port, &mut out);
    }
    source::shared(&layout.nets, &mut out);
    state::write(epoch, &mut out);
    rules::write(host, &layout, &mut out)?;
    deliver::write(&layout, epoch, &mut out)?;
    compiled.complaints.clone_from(&layout.complaints);
    compiled.complaints.append(&mut out.complaints);
    compiled.complaints.sort_unstable();
    compiled.complaints.dedup();
    compiled.flows = out.finish();
    for flow in compiled.flows.iter().filter(|flow| flow.actions.len() > 30) {
        let bytes = flow.to_string().len();
        if bytes > MOST_BYTES {
            return Err(CompileError::Long { table: flow.key.table, bytes, culprits: layout.culprits(flow) });
        }
    }
    Ok(compiled)
}

/// Collects flows.
#[derive(Default)]
struct Builder {
    flows: Vec<Flow>,
    complaints: Vec<String>,
}

impl Builder {
    fn add(&mut self, table: u8, priority: u16, matches: Match, actions: impl IntoIterator<Item = Action>) {
        let key = Key { table, priority, matches };
        self.flows.push(Flow { key, actions: actions.into_iter().collect() });
    }

    /// What becomes of a packet that no flow of a table speaks of.
    fn otherwise(&mut self, table: u8, actions: impl IntoIterator<Item = Action>) {
        self.add(table, 0, Match::default(), actions);
    }

    /// Sorted; a flow asked for twice stands once. Equal keys have equal actions by construction, but for dimensions of
    /// conjunctions, which add up.
    fn finish(mut self) -> Vec<Flow> {
        self.flows.sort_unstable();
        self.flows.dedup_by(|next, first| {
            if next.key != first.key {
                return false;
            }
            for action in next.actions.drain(..) {
                if !first.actions.contains(&action) {
                    first.actions.push(action);
                }
            }
            true
        });
        self.flows
    }
}

/// The action for what no rule speaks of: the crate's default verdict.
fn default_verdict() -> Vec<Action> {
    match crate::DEFAULT_VERDICT {
        crate::model::Action::Allow => vec![Action::Normal],
        crate::model::Action::Deny => Vec::new(),
    }
}

fn ether(family: Family) -> Ether {
    match family {
        Family::Ipv4 => Ether::Ipv4,
        Family::Ipv6 => Ether::Ipv6,
    }
}

fn of_ether(ether: Ether) -> Match {
    Match { ether: Some(ether), ..Match::default() }
}

/// Names for numbers: taken from a digest of the name, so that they stay the same whatever else is there; two names that
/// want the same number are told apart by their order.
fn numbers<K: Ord>(
    names: impl IntoIterator<Item = K>,
    digest: impl Fn(&K) -> u32,
    most: u32,
) -> std::collections::BTreeMap<K, u32> {
    let names: BTreeSet<K> = names.into_iter().collect();
    let mut taken = BTreeSet::new();
    let mut numbers = std::collections::BTreeMap::new();
    for name in names {
        let mut number = (digest(&name) % most).max(1);
        while !taken.insert(number) {
            number = if number == most { 1 } else { number + 1 };
        }
        numbers.insert(name, number);
    }
    numbers
}

/// 32 bits that stand for a name of any length.
fn digest(parts: &[&str]) -> u32 {
    let mut hash = hmac_sha256::Hash::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let [a, b, c, d, ..] = hash.finalize();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests;
