//! What the chains that were read back do with a packet, by iptables' own semantics.
//!
//! This works on [`Observed`], that is on text from `iptables-save`, and knows nothing of how chains are compiled. It
//! answers "what would the host do" for `explain --live`, and it is what compiled chains are tested through.

pub(super) mod u32;

use std::collections::BTreeMap;

use super::mark::MARK_MASK;
use super::observed::{Boundary, Observed, ObservedRule};
use super::rule::{CtDirection, CtStates, IfPattern, Match, Rule, Target};
use super::{BridgeNetfilter, Table};
use crate::ids::ChainName;
use crate::model::{Family, Icmp};
use crate::packet::{Packet, Transport};

/// A packet on its way across a bridge, with what the kernel knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Transit<'a> {
    /// The packet; one that is not IP is never shown to iptables.
    pub packet: &'a Packet,
    /// The bridge.
    pub bridge: &'a str,
    /// The bridge's port it came in by.
    pub input: &'a str,
    /// The bridge's port it goes out by; not known yet in `PREROUTING`.
    pub output: Option<&'a str>,
    /// Whether its destination is an address of dom0's.
    pub for_dom0: bool,
    /// Its connection.
    pub conntrack: Conntrack,
}

/// What connection tracking says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conntrack {
    /// It has no connection: `INVALID` or `UNTRACKED`.
    None(CtStates),
    /// It belongs to one.
    Some {
        /// `NEW`, `ESTABLISHED` or `RELATED`.
        state: CtStates,
        /// Its direction.
        direction: CtDirection,
        /// The connection's mark, all 32 bits.
        mark: u32,
    },
}

/// What becomes of a packet in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// `ACCEPT`
    Accepted,
    /// `DROP`
    Dropped,
    /// Our chains said nothing; dom0's own rules are asked next.
    NotDecided,
}

/// A table's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The packet's fate.
    pub fate: Fate,
    /// The connection's mark afterwards; `None` if there is no connection.
    pub mark: Option<u32>,
    /// The conntrack zone it was put into, if any.
    pub zone: Option<u16>,
    /// The rules that matched, in order.
    pub steps: Vec<Step<'a>>,
}

/// A rule that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Its chain; `None` for the jump from the built-in chain.
    pub chain: Option<&'a ChainName>,
    /// The rule.
    pub rule: &'a Rule,
}

/// Why no answer can be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum InterpretError {
    #[error("bridged packets do not reach iptables on this host")]
    NotBridged,
    #[error("the plugin's boundary does not stand in raw")]
    NoBoundary,
    #[error("another rule stands before our jump in {0}")]
    NotFirst(&'static str),
    #[error("chain {chain} has a rule that is not ours: {rule}")]
    Foreign { chain: String, rule: String },
    #[error("chain {0} does not exist")]
    NoChain(ChainName),
    #[error("the u32 test {0:?} cannot be read")]
    U32(String),
    #[error("the chains lead in a circle")]
    Circle,
}

/// The kernel refuses chains that lead in a circle when they are loaded; a dump is only text.
const MOST_STEPS: usize = 100_000;

/// What `observed` does with a packet in one table's hook. A host without our jump decides nothing.
///
/// # Errors
/// [`InterpretError`] when that cannot be said.
pub fn traverse<'a>(
    observed: &'a Observed,
    table: Table,
    transit: &Transit<'_>,
) -> Result<Outcome<'a>, InterpretError> {
    let content = observed.table(table);
    let mut walk = Walk {
        chains: &content.chains,
        transit,
        mark: match transit.conntrack {
            Conntrack::Some { mark, .. } => Some(mark),
            Conntrack::None(_) => None,
        },
        // Whatever others wrote there must not matter.
        packet_mark: u32::MAX,
        zone: None,
        steps: Vec::new(),
        u32_bytes: None,
    };
    if observed.bridge_netfilter != BridgeNetfilter::On {
        return Err(InterpretError::NotBridged);
    }
    if table == Table::Raw {
        // The plugin's boundary leads there, for what came in by a bridge port and is not for dom0.
        if observed.boundary != Boundary::Stands {
            return Err(InterpretError::NoBoundary);
        }
        if !transit.for_dom0 {
            walk.chain(&ChainName::ours("raw").map_err(|_| InterpretError::NoBoundary)?)?;
        }
        return Ok(Outcome { fate: Fate::NotDecided, mark: walk.mark, zone: walk.zone, steps: walk.steps });
    }
    let mut jumps: Vec<_> = content.hooks.iter().filter(|jump| jump.chain == table.hook()).collect();
    jumps.sort_by_key(|jump| jump.position);
    let mut fate = Fate::NotDecided;
    for (place, jump) in (1..).zip(jumps) {
        if jump.position != place {
            return Err(InterpretError::NotFirst(table.hook()));
        }
        let rule = known(table.hook(), &jump.rule)?;
        if let (true, Some(chain)) = (walk.matches(rule)?, rule.target.chain()) {
            walk.steps.push(Step { chain: None, rule });
            fate = walk.chain(chain)?;
            // A chain that was gone to from a built-in chain ends in that chain's policy; one jumped to comes back.
            if fate != Fate::NotDecided || matches!(rule.target, Target::Goto(_)) {
                break;
            }
        }
    }
    Ok(Outcome { fate, mark: walk.mark, zone: walk.zone, steps: walk.steps })
}

fn known<'a>(chain: &str, rule: &'a ObservedRule) -> Result<&'a Rule, InterpretError> {
    match rule {
        ObservedRule::Known(rule) => Ok(rule),
        ObservedRule::Foreign(rule) => {
            Err(InterpretError::Foreign { chain: chain.to_owned(), rule: rule.clone() })
        }
    }
}

struct Walk<'a, 't> {
    chains: &'a BTreeMap<ChainName, Vec<ObservedRule>>,
    transit: &'t Transit<'t>,
    mark: Option<u32>,
    packet_mark: u32,
    zone: Option<u16>,
    steps: Vec<Step<'a>>,
    u32_bytes: Option<Vec<u8>>,
}

impl<'a> Walk<'a, '_> {
    /// From the start of a chain to a verdict, or back out of it.
    fn chain(&mut self, first: &ChainName) -> Result<Fate, InterpretError> {
        let mut current = self.open(first)?;
        let mut callers = Vec::new();
        for _ in 0..MOST_STEPS {
            let Some((rule, rest)) = current.1.split_first() else {
                match callers.pop() {
                    Some(caller) => current = caller,
                    None => return Ok(Fate::NotDecided),
                }
                continue;
            };
            let chain = current.0;
            current.1 = rest;
            let rule = known(chain.as_str(), rule)?;
            if !self.matches(rule)? {
                continue;
            }
            self.steps.push(Step { chain: Some(chain), rule });
            match &rule.target {
                Target::Accept => return Ok(Fate::Accepted),
                Target::Drop => return Ok(Fate::Dropped),
                Target::Return => current.1 = &[],
                Target::Jump(next) => callers.push(std::mem::replace(&mut current, self.open(next)?)),
                Target::Goto(next) => current = self.open(next)?,
                Target::SetMark(mark) => {
                    if let Some(old) = &mut self.mark {
                        *old = (*old & !MARK_MASK) | mark.value();
                    }
                }
                Target::SetPacketMark(mark) => self.packet_mark = mark.put_on(self.packet_mark),
                Target::Zone(zone) => self.zone = Some(*zone),
            }
        }
        Err(InterpretError::Circle)
    }

    fn open(&self, chain: &ChainName) -> Result<(&'a ChainName, &'a [ObservedRule]), InterpretError> {
        let (name, rules) =
            self.chains.get_key_value(chain).ok_or_else(|| InterpretError::NoChain(chain.clone()))?;
        Ok((name, rules))
    }

    fn matches(&mut self, rule: &Rule) -> Result<bool, InterpretError> {
        for condition in rule.matches() {
            if !self.holds(condition)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds(&mut self, condition: &Match) -> Result<bool, InterpretError> {
        let packet = self.transit.packet;
        let (Some(family), Some((source, destination)), Some(transport)) =
            (packet.family(), packet.addresses(), packet.transport())
        else {
            return Ok(false);
        };
        Ok(match condition {
            Match::Source(net) => net.contains(&source),
            Match::Destination(net) => net.contains(&destination),
            Match::InBridge(bridge) => bridge.as_str() == self.transit.bridge,
            Match::OutBridge(bridge) => {
                self.transit.output.is_some() && bridge.as_str() == self.transit.bridge
            }
            Match::Protocol(protocol) => packet.protocol() == Some(*protocol),
            Match::SourcePorts(wanted, range) => matches!(transport,
                Transport::Ports { protocol, source, .. } if protocol == wanted && range.contains(*source)),
            Match::DestinationPorts(wanted, range) => matches!(transport,
                Transport::Ports { protocol, destination, .. } if protocol == wanted && range.contains(*destination)),
            // The kernel takes type 255 for "any" in IPv4, and only there (icmp_type_code_match).
            Match::Icmp(icmp) => family == Family::Ipv4 && is_icmp(transport, *icmp, icmp.kind == u8::MAX),
            Match::Icmpv6(icmp) => family == Family::Ipv6 && is_icmp(transport, *icmp, false),
            Match::NotForDom0 => !self.transit.for_dom0,
            Match::PhysdevIn(pattern) => pattern.matches(self.transit.input),
            Match::PhysdevOut(pattern) => {
                self.transit.output.is_some_and(|name| IfPattern::matches(pattern, name))
            }
            Match::IsBridged => true,
            Match::Conntrack(states, wanted) => match self.transit.conntrack {
                // Without a connection the kernel does not come to ask for the direction.
                Conntrack::None(state) => states.contains(state),
                Conntrack::Some { state, direction, .. } => {
                    states.contains(state) && wanted.is_none_or(|wanted| wanted == direction)
                }
            },
            // Without a connection it is no match, negated or not (xt_connmark).
            Match::ConnMark { negated, mark } => {
                self.mark.is_some_and(|found| (found & MARK_MASK == mark.value()) != *negated)
            }
            Match::PacketMark { negated, mark } => mark.is_on(self.packet_mark) != *negated,
            Match::MacSource(mac) => packet.source == *mac,
            Match::U32(test) => {
                let bytes = self.u32_bytes.get_or_insert_with(|| packet.ip_bytes());
                u32::holds(test, bytes).ok_or_else(|| InterpretError::U32(test.clone()))?
            }
        })
    }
}

fn is_icmp(transport: &Transport, wanted: Icmp, any: bool) -> bool {
    matches!(transport, Transport::Icmp { kind, code, .. }
        if any || (*kind == wanted.kind && wanted.code.is_none_or(|wanted| wanted == *code)))
}

#[cfg(test)]
mod tests;
