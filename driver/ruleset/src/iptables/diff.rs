//! The fewest changes that turn what stands into what should stand, as one iptables-restore input.

use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;

use similar::{Algorithm, DiffOp};

use super::compile;
use super::observed::{Boundary, BridgeNetfilter, HookJump, Observed, ObservedRule, ObservedTable};
use super::rule::{Rule, Target};
use super::{Chains, Ruleset, Table};
use crate::ids::{ChainName, InvalidId};

/// What is to be sent, and what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Input for `iptables-restore --noflush`; `None`: nothing is to be written.
    pub input: Option<String>,
    /// The same for people and programs.
    pub changes: Vec<Change>,
    /// What is wrong on the host and not ours to change.
    pub complaints: Vec<String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A chain comes, with so many rules.
    AddChain {
        /// Table.
        table: &'static str,
        /// Chain.
        chain: String,
        /// Number of its rules.
        rules: usize,
    },
    /// A chain goes.
    RemoveChain {
        /// Table.
        table: &'static str,
        /// Chain.
        chain: String,
    },
    /// A rule comes.
    AddRule {
        /// Table.
        table: &'static str,
        /// Chain.
        chain: String,
        /// The rule, without `-A chain`.
        rule: String,
    },
    /// A rule goes.
    RemoveRule {
        /// Table.
        table: &'static str,
        /// Chain.
        chain: String,
        /// The rule, without `-A chain`.
        rule: String,
    },
    /// Our jump is put first into the built-in chain.
    Hook {
        /// Table.
        table: &'static str,
        /// Built-in chain.
        chain: &'static str,
    },
    /// Bridged packets are made to reach iptables.
    BridgeNetfilter,
    /// The plugin puts its boundary right.
    Boundary,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddChain { table, chain, rules } => write!(f, "+ {table} chain {chain} ({rules} rules)"),
            Self::RemoveChain { table, chain } => write!(f, "- {table} chain {chain}"),
            Self::AddRule { table, chain, rule } => write!(f, "+ {table} {chain}: {rule}"),
            Self::RemoveRule { table, chain, rule } => write!(f, "- {table} {chain}: {rule}"),
            Self::Hook { table, chain } => write!(f, "+ {table} {chain}: our jump, first"),
            Self::BridgeNetfilter => f.write_str("+ bridged packets pass through iptables"),
            Self::Boundary => f.write_str("+ raw PREROUTING: the plugin's boundary"),
        }
    }
}

/// How sure it is that what is compared with stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// It was read a moment ago.
    Read,
    /// It was read some time ago. What is written must not come to mean something else where another hand was at the chains
    /// since: it takes out rules by what they say, and writes chains anew in which a rule's place counts.
    Remembered,
}

/// Compares.
///
/// Whenever something that let packets pass goes away or something that stops them comes, the epoch is raised,
/// so that connections are judged again.
///
/// # Errors
/// None in practice: chain names are constants or were checked when compiled.
pub(super) fn diff(observed: &Observed, mut desired: Ruleset, basis: Basis) -> Result<Plan, InvalidId> {
    let mut changed =
        Table::ALL.map(|table| (table, Changed::of(observed.table(table), desired.chains(table))));
    for (table, changed) in &mut changed {
        if let (Table::Filter, Some(epoch)) = (*table, observed.epoch())
            && narrows(&observed.filter, &desired.filter, changed)
        {
            changed.differing.extend(compile::set_epoch(&mut desired.filter, epoch.next())?);
        }
    }
    let mut plan = Plan::default();
    let mut input = String::new();
    for (table, changed) in &changed {
        let (found, wanted) = (observed.table(*table), desired.chains(*table));
        let body = table_diff(*table, found, wanted, changed, basis, &mut plan)?;
        if !body.is_empty() {
            let _ = write!(input, "*{}\n{body}COMMIT\n", table.name());
        }
    }
    let by_the_plugin = [
        (observed.bridge_netfilter != BridgeNetfilter::On, Change::BridgeNetfilter),
        (observed.boundary != Boundary::Stands, Change::Boundary),
    ];
    let needed: Vec<Change> =
        by_the_plugin.into_iter().filter(|(needed, _)| *needed).map(|(_, change)| change).collect();
    // It does so after any write.
    if !needed.is_empty() && input.is_empty() {
        input.push_str("*filter\nCOMMIT\n");
    }
    plan.changes.extend(needed);
    plan.complaints.extend(observed.routed.iter().map(|bridge| routes(bridge)));
    plan.input = (!input.is_empty()).then_some(input);
    Ok(plan)
}

/// A table's chains that are not as they should be.
struct Changed {
    /// Those to be added or altered.
    differing: BTreeSet<ChainName>,
    /// Those that stand and are not wanted.
    gone: Vec<ChainName>,
}

impl Changed {
    /// Looks at every rule once.
    fn of(observed: &ObservedTable, desired: &Chains) -> Self {
        let same = |found: &Vec<ObservedRule>, wanted: &Vec<Rule>| {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(f, w)| matches!(f, ObservedRule::Known(f) if f == w))
        };
        let differs = |(chain, wanted): &(&ChainName, &Vec<Rule>)| {
            !observed.chains.get(*chain).is_some_and(|found| same(found, wanted))
        };
        let differing = desired.iter().filter(differs).map(|(chain, _)| chain.clone()).collect();
        let gone = observed.chains.keys().filter(|chain| !desired.contains_key(*chain)).cloned().collect();
        Self { differing, gone }
    }
}

fn routes(bridge: &str) -> String {
    format!(
        "dom0 routes packets from {bridge} (net.ipv4.conf.{bridge}.forwarding=1, or ipv6): connections that it forwards from \
         there are not tracked with its own, so its NAT and stateful rules do not see them; turn forwarding off for {bridge}"
    )
}

fn table_diff(
    table: Table,
    observed: &ObservedTable,
    desired: &Chains,
    changed: &Changed,
    basis: Basis,
    plan: &mut Plan,
) -> Result<String, InvalidId> {
    let mut declared = String::new();
    let mut rules = String::new();
    let mut removed = String::new();
    let name = table.name();
    for (chain, wanted) in changed.differing.iter().filter_map(|chain| desired.get_key_value(chain)) {
        if let Some(found) = observed.chains.get(chain) {
            chain_diff(table, chain, found, wanted, basis, &mut rules, &mut plan.changes);
        } else {
            let _ = writeln!(declared, ":{chain} - [0:0]");
            append(chain, wanted, &mut rules);
            plan.changes.push(Change::AddChain {
                table: name,
                chain: chain.to_string(),
                rules: wanted.len(),
            });
        }
    }
    hook_diff(table, observed, &mut rules, plan)?;
    for chain in &changed.gone {
        let _ = writeln!(removed, "-F {chain}");
    }
    for chain in &changed.gone {
        let _ = writeln!(removed, "-X {chain}");
        plan.changes.push(Change::RemoveChain { table: name, chain: chain.to_string() });
    }
    Ok(declared + &rules + &removed)
}

fn append(chain: &ChainName, wanted: &[Rule], out: &mut String) {
    for rule in wanted {
        let _ = writeln!(out, "-A {chain} {rule}");
    }
}

fn chain_diff(
    table: Table,
    chain: &ChainName,
    found: &[ObservedRule],
    wanted: &[Rule],
    basis: Basis,
    out: &mut String,
    changes: &mut Vec<Change>,
) {
    let anew = basis == Basis::Remembered && !compile::is_unordered(chain);
    if anew {
        let _ = writeln!(out, "-F {chain}");
        append(chain, wanted, out);
    }
    let wanted: Vec<ObservedRule> = wanted.iter().cloned().map(ObservedRule::Known).collect();
    // Positions as they are when iptables comes to the line: it carries the lines out one after the other.
    let mut position = 1;
    for op in similar::capture_diff_slices(Algorithm::Myers, found, &wanted) {
        let (old, new) = (op.old_range(), op.new_range());
        if let DiffOp::Equal { len, .. } = op {
            position += len;
            continue;
        }
        for rule in &found[old] {
            let text = rule.text();
            let _ = match basis {
                _ if anew => Ok(()),
                Basis::Read => writeln!(out, "-D {chain} {position}"),
                Basis::Remembered => writeln!(out, "-D {chain} {text}"),
            };
            changes.push(Change::RemoveRule { table: table.name(), chain: chain.to_string(), rule: text });
        }
        for rule in &wanted[new] {
            let text = rule.text();
            if !anew {
                let _ = writeln!(out, "-I {chain} {position} {text}");
            }
            changes.push(Change::AddRule { table: table.name(), chain: chain.to_string(), rule: text });
            position += 1;
        }
    }
}

fn hook_diff(
    table: Table,
    observed: &ObservedTable,
    out: &mut String,
    plan: &mut Plan,
) -> Result<(), InvalidId> {
    let is = |jump: &&HookJump, rule: Option<&Rule>| {
        jump.chain == table.hook() && matches!(&jump.rule, ObservedRule::Known(found) if Some(found) == rule)
    };
    let (hook, former) = (compile::hook(table)?, compile::former_hook(table)?);
    let (right, other): (Vec<_>, Vec<_>) = observed.hooks.iter().partition(|jump| is(jump, hook.as_ref()));
    let (former, wrong): (Vec<_>, Vec<_>) = other.into_iter().partition(|jump| is(jump, former.as_ref()));
    for jump in former {
        let rule = jump.rule.text();
        let _ = writeln!(out, "-D {} {rule}", table.hook());
        let chain = table.hook().to_owned();
        plan.changes.push(Change::RemoveRule { table: table.name(), chain, rule });
    }
    for jump in wrong {
        plan.complaints.push(format!(
            "{} {} {}: {} leads to a chain of ours and was not put there by Drawbridge; remove it by hand",
            table.name(),
            jump.chain,
            jump.position,
            jump.rule.text()
        ));
    }
    let Some(hook) = hook.filter(|_| !matches!(right.as_slice(), [only] if only.position == 1)) else {
        return Ok(());
    };
    for _ in &right {
        let _ = writeln!(out, "-D {} {hook}", table.hook());
    }
    let _ = writeln!(out, "-I {} 1 {hook}", table.hook());
    plan.changes.push(Change::Hook { table: table.name(), chain: table.hook() });
    Ok(())
}

/// Whether a packet that passed may not pass any more.
///
/// Only rules added to lists of permissions are known to be harmless. Anything else counts, a change of order too, because
/// judging a connection once more costs little.
fn narrows(observed: &ObservedTable, desired: &Chains, changed: &Changed) -> bool {
    let narrowed = |chain: &ChainName| {
        let (Some(found), Some(wanted)) = (observed.chains.get(chain), desired.get(chain)) else {
            return false;
        };
        let mut missing = found.iter().peekable();
        let added_harmlessly = wanted.iter().all(|rule| {
            let stood = missing.next_if(|found| matches!(found, ObservedRule::Known(found) if found == rule));
            let permits = matches!(rule.target, Target::Goto(_) | Target::Jump(_) | Target::Return);
            stood.is_some() || (compile::is_permission_list(chain) && permits)
        });
        !added_harmlessly || missing.next().is_some()
    };
    !changed.gone.is_empty() || changed.differing.iter().any(narrowed)
}

#[cfg(test)]
mod tests;
