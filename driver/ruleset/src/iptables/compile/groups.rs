//! Group rules, once per host; members of remote groups and sets, once per host; the operator's rules
//! (design §3, egress 5 and 6, ingress 4 and 5).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{CompileError, Names};
use crate::ids::{ChainName, GroupId, InvalidId};
use crate::iptables::Chains;
use crate::iptables::rule::{Match, Rule, Target};
use crate::iptables::tree::PrefixTree;
use crate::model::{self, Action, Direction, Family, Icmp, Protocol, Remote, Service};
use crate::resolve::{HostPolicy, PeerSet};

/// 16 hex digits that stand for a name of any length in a chain's name.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut hash = hmac_sha256::Hash::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let [a, b, c, d, e, f, g, h, ..] = hash.finalize();
    format!("{:016x}", u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// The chains with a group's rules.
pub(super) struct GroupChains {
    egress: ChainName,
    ingress: ChainName,
}

impl GroupChains {
    /// The names for a group.
    pub(super) fn of(group: &GroupId) -> Result<Self, InvalidId> {
        let digest = digest(&[group.as_str()]);
        Ok(Self {
            egress: ChainName::ours(&format!("go-{digest}"))?,
            ingress: ChainName::ours(&format!("gi-{digest}"))?,
        })
    }

    /// The rules of one direction.
    pub(super) fn chain(&self, direction: Direction) -> &ChainName {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }
}

fn peer_key(peers: &PeerSet) -> (&'static str, &str) {
    match peers {
        PeerSet::Group(id) => ("group", id.as_str()),
        PeerSet::Set(id) => ("set", id.as_str()),
    }
}

/// Whose a chain is, by kind and name.
type Owner<'a> = (&'static str, &'a str);

/// Remembers who got which chain, so that two names never share one.
#[derive(Default)]
struct Owners<'a>(BTreeMap<ChainName, Owner<'a>>);

impl<'a> Owners<'a> {
    fn claim(&mut self, chain: &ChainName, owner: Owner<'a>) -> Result<(), CompileError> {
        let text = |(kind, name): Owner<'_>| format!("{kind} {name}");
        match self.0.insert(chain.clone(), owner) {
            Some(first) if first != owner => {
                Err(CompileError::Collision { first: text(first), second: text(owner), chain: chain.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// Writes all of it.
pub(super) fn write(
    host: &HostPolicy,
    family: Family,
    names: &Names,
    groups: &BTreeMap<&GroupId, GroupChains>,
    settled: &BTreeSet<&GroupId>,
    chains: &mut Chains,
) -> Result<(), CompileError> {
    for direction in [Direction::Egress, Direction::Ingress] {
        let passed = |keep: bool| match (direction, keep) {
            (Direction::Egress, false) => &names.pass,
            (Direction::Egress, true) => &names.keep_pass,
            (Direction::Ingress, false) => &names.accept,
            (Direction::Ingress, true) => &names.keep_accept,
        };
        // The sets that rules refer to, each with the chain its tree begins with.
        let mut referred: BTreeMap<Referred, ChainName> = BTreeMap::new();
        let mut owners = Owners::default();
        for ((id, group), (_, names)) in host.groups.iter().zip(groups) {
            let chain = names.chain(direction);
            owners.claim(chain, ("group", id.as_str()))?;
            let keep = host.keep.contains(id);
            let is_settled = settled.contains(id);
            let mut compiled = Vec::with_capacity(if is_settled { 0 } else { group.rules.len() });
            for rule in group.rules.iter().filter(|r| r.direction == direction && r.family == family) {
                if is_settled && matches!(rule.remote, Remote::Any | Remote::Prefix(_)) {
                    continue;
                }
                let target = match Referred::by(&rule.remote, keep) {
                    None => Target::Goto(passed(keep).clone()),
                    Some(set) => Target::Jump(match referred.entry(set) {
                        Entry::Occupied(root) => root.get().clone(),
                        Entry::Vacant(empty) => {
                            let root = empty.key().chain(direction, None)?;
                            empty.insert(root).clone()
                        }
                    }),
                };
                compiled.push(group_rule(rule, target));
            }
            // Rules only allow: order means nothing, twice means once.
            compiled.sort_unstable();
            compiled.dedup();
            chains.insert(chain.clone(), compiled);
        }
        for (set, root) in &referred {
            let nets = host.peers.get(&set.peers).into_iter().flatten();
            let nets: Vec<IpNet> = nets.copied().filter(|n| Family::of(n) == family).collect();
            let inner = |net: IpNet| set.chain(direction, Some(net));
            let tree = PrefixTree {
                root: root.clone(),
                inner: &inner,
                condition: remote_condition(direction),
                rules: &|net| {
                    vec![Rule::new(
                        [remote_condition(direction)(net)],
                        Target::Goto(passed(set.keep).clone()),
                    )]
                },
            };
            let mut written = Chains::new();
            tree.write(&nets, &mut written)?;
            for (chain, rules) in written {
                owners.claim(&chain, peer_key(&set.peers))?;
                chains.insert(chain, rules);
            }
        }
        let provider = match direction {
            Direction::Egress => &names.provider_egress,
            Direction::Ingress => &names.provider_ingress,
        };
        let rules = provider_rules(host, direction, family, passed(false), &names.deny);
        chains.insert(provider.clone(), rules);
    }
    Ok(())
}

/// A peer set as the rules of some groups refer to it: what passes goes on differently where connections are kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Referred {
    peers: PeerSet,
    keep: bool,
}

impl Referred {
    /// The set a rule's remote refers to, if it is not written in the rule itself.
    fn by(remote: &Remote, keep: bool) -> Option<Self> {
        let peers = match remote {
            Remote::Any | Remote::Prefix(_) => return None,
            Remote::Group(id) => PeerSet::Group(id.clone()),
            Remote::Set(id) => PeerSet::Set(id.clone()),
        };
        Some(Self { peers, keep })
    }

    /// The chain of its tree that selects a prefix, or the root: as senders for ingress, as receivers for egress.
    fn chain(&self, direction: Direction, prefix: Option<IpNet>) -> Result<ChainName, InvalidId> {
        let label = match (direction, self.keep) {
            (Direction::Egress, false) => "md",
            (Direction::Egress, true) => "kd",
            (Direction::Ingress, false) => "ms",
            (Direction::Ingress, true) => "ks",
        };
        let (kind, id) = peer_key(&self.peers);
        let digest = match prefix {
            None => digest(&[kind, id]),
            Some(net) => digest(&[kind, id, &net.to_string()]),
        };
        ChainName::ours(&format!("{label}-{digest}"))
    }
}

fn remote_condition(direction: Direction) -> fn(IpNet) -> Match {
    match direction {
        Direction::Egress => Match::Destination,
        Direction::Ingress => Match::Source,
    }
}

fn group_rule(rule: &model::Rule, target: Target) -> Rule {
    let mut matches = service(rule.service);
    if let Remote::Prefix(net) = &rule.remote {
        matches.push(remote_condition(rule.direction)(net.trunc()));
    }
    Rule::new(matches, target)
}

/// The operator's rules keep their order; a set is written out, since a member's chain can only lead to a pass.
fn provider_rules(
    host: &HostPolicy,
    direction: Direction,
    family: Family,
    passed: &ChainName,
    deny: &ChainName,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for provider in host.provider.iter().filter(|p| p.rule.direction == direction && p.rule.family == family)
    {
        let target = Target::Goto(match provider.action {
            Action::Allow => passed.clone(),
            Action::Deny => deny.clone(),
        });
        let matches = service(provider.rule.service);
        let peers = match &provider.rule.remote {
            Remote::Any => {
                rules.push(Rule::new(matches, target));
                continue;
            }
            Remote::Prefix(net) => vec![net.trunc()],
            Remote::Group(id) => host.peers.get(&PeerSet::Group(id.clone())).cloned().unwrap_or_default(),
            Remote::Set(id) => host.peers.get(&PeerSet::Set(id.clone())).cloned().unwrap_or_default(),
        };
        for net in peers.into_iter().filter(|n| Family::of(n) == family) {
            let remote = remote_condition(direction)(net);
            rules.push(Rule::new(matches.iter().cloned().chain([remote]), target.clone()));
        }
    }
    rules
}

/// The matches for a service, with room for a remote's.
fn service(service: Service) -> Vec<Match> {
    let mut matches = Vec::with_capacity(3);
    match service {
        Service::Any => {}
        Service::Protocol(p) => matches.push(Match::Protocol(p)),
        Service::Ports(p, range) => {
            matches.extend([Match::Protocol(p), Match::DestinationPorts(p, range)]);
        }
        Service::Icmp(p, icmp) if p == Protocol::ICMPV6 => {
            matches.extend([Match::Protocol(p), Match::Icmpv6(icmp)]);
        }
        Service::Icmp(p, icmp) if icmp.kind == u8::MAX => {
            matches.extend([Match::Protocol(p), Match::U32(icmp_255(icmp))]);
        }
        Service::Icmp(p, icmp) => matches.extend([Match::Protocol(p), Match::Icmp(icmp)]),
    }
    matches
}

/// ICMP type 255, which the `icmp` match takes for "any type": the first byte, or two, after the IP header.
fn icmp_255(icmp: Icmp) -> String {
    let after_header = "0x0>>0x16&0x3c@0x0";
    match icmp.code {
        None => format!("{after_header}>>0x18={:#x}", icmp.kind),
        Some(code) => format!("{after_header}>>0x10={:#x}", u16::from_be_bytes([icmp.kind, code])),
    }
}
