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
    /// The plugin's own rules in `raw`, behind which `dwb-raw` stands.
    pub boundary: Boundary,
    /// Bridges of XAPI's from which dom0 routes.
    pub routed: Vec<String>,
    /// How full dom0's connection tracking is, if it tracks anything.
    pub conntrack: Option<ConntrackFill>,
    /// `filter`
    pub filter: ObservedTable,
    /// `raw`
    pub raw: ObservedTable,
}

/// How the plugin's boundary stands (`dom0-plugin/src/authorise/boundary.rs`): it keeps guests' frames out of dom0's own
/// connection tracking, and is put right by every write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boundary {
    /// As it should.
    Stands,
    /// Nothing leads to it.
    #[default]
    Missing,
    /// Another rule of PREROUTING comes first.
    Preceded,
    /// Its rules are not the plugin's.
    Altered,
}

/// dom0's connection tracking, all zones together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConntrackFill {
    /// Connections tracked.
    pub tracked: u64,
    /// `nf_conntrack_max`: how many can be.
    pub most: u64,
}

impl ConntrackFill {
    /// Whether so many are tracked that a burst could keep dom0 from beginning connections: 70 in a hundred.
    #[must_use]
    pub fn is_high(self) -> bool {
        self.tracked.saturating_mul(10) >= self.most.saturating_mul(7)
    }
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
            let known = |rules: Vec<Rule>| rules.into_iter().map(ObservedRule::Known).collect();
            let chains = chains.into_iter().map(|(chain, rules)| (chain, known(rules))).collect();
            let hook = |rule| HookJump {
                chain: table.hook().to_owned(),
                position: 1,
                rule: ObservedRule::Known(rule),
            };
            let hooks = compile::hook(table)?.map(hook).into_iter().collect();
            Ok::<_, InvalidId>(ObservedTable { chains, hooks })
        };
        let Ruleset { family: _, filter, raw } = ruleset;
        Ok(Self {
            bridge_netfilter: BridgeNetfilter::On,
            boundary: Boundary::Stands,
            routed: Vec::new(),
            conntrack: None,
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
