//! What a host's kernel holds of ours, as read back.

use std::collections::BTreeMap;

use super::mark::Epoch;
use super::rule::{Rule, Target};
use super::{Chains, Ruleset, Table, compile};
use crate::ids::{ChainName, InvalidId};

/// One address family's tables, cut to what is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether bridged packets reach iptables.
    pub bridge_netfilter: BridgeNetfilter,
    /// `filter`
    pub filter: ObservedTable,
    /// `raw`
    pub raw: ObservedTable,
}

/// `/proc/sys/net/bridge/bridge-nf-call-iptables` (or `-ip6tables`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgeNetfilter {
    /// 1: our chains see guests' packets.
    On,
    /// 0: they do not.
    #[default]
    Off,
    /// The file is not there: `br_netfilter` is not loaded.
    Absent,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedTable {
    /// Our chains.
    pub chains: BTreeMap<ChainName, Vec<ObservedRule>>,
    /// Jumps to our chains from built-in ones.
    pub hooks: Vec<HookJump>,
}

/// A rule as found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObservedRule {
    /// One that we could have written.
    Known(Rule),
    /// One that we could not: somebody else's hand, word for word. It never equals a desired rule.
    Foreign(String),
}

impl ObservedRule {
    /// Its text without `-A chain`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Known(rule) => rule.to_string(),
            Self::Foreign(text) => text.clone(),
        }
    }
}

/// A jump to one of our chains from a built-in chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookJump {
    /// The built-in chain.
    pub chain: String,
    /// Its position there, from 1.
    pub position: u32,
    /// The rule.
    pub rule: ObservedRule,
}

impl Observed {
    /// What is read where a ruleset stands and nothing else of ours.
    ///
    /// # Errors
    /// None in practice: the names are constants.
    pub(super) fn of(ruleset: Ruleset) -> Result<Self, InvalidId> {
        let table = |table: Table, chains: Chains| {
            let rule = ObservedRule::Known(compile::hook(table)?);
            let known = |rules: Vec<Rule>| rules.into_iter().map(ObservedRule::Known).collect();
            let chains = chains.into_iter().map(|(chain, rules)| (chain, known(rules))).collect();
            let hooks = vec![HookJump { chain: table.hook().to_owned(), position: 1, rule }];
            Ok::<_, InvalidId>(ObservedTable { chains, hooks })
        };
        let Ruleset { family: _, filter, raw } = ruleset;
        Ok(Self {
            bridge_netfilter: BridgeNetfilter::On,
            filter: table(Table::Filter, filter)?,
            raw: table(Table::Raw, raw)?,
        })
    }

    /// One of the tables.
    #[must_use]
    pub fn table(&self, table: Table) -> &ObservedTable {
        match table {
            Table::Raw => &self.raw,
            Table::Filter => &self.filter,
        }
    }

    /// Whether nothing on the host is ours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.raw, &self.filter].iter().all(|table| table.chains.is_empty() && table.hooks.is_empty())
    }

    /// The epoch that stands in the kernel: what `dwb-accept` writes into a connection's mark.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        let accept = self.filter.chains.iter().find(|(name, _)| name.as_str() == compile::ACCEPT)?;
        accept.1.iter().find_map(|rule| match rule {
            ObservedRule::Known(Rule { target: Target::SetMark(mark), .. }) => Epoch::from_mark(*mark),
            _ => None,
        })
    }
}
