//! Group rules, once per host; members of remote groups and sets, once per host; the operator's rules
//! (design §3, egress 5 and 6, ingress 4 and 5).

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
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The chain with a group's rules of one direction.
pub(super) fn chain(direction: Direction, group: &GroupId) -> Result<ChainName, InvalidId> {
    let label = match direction {
        Direction::Egress => "go",
        Direction::Ingress => "gi",
    };
    ChainName::ours(&format!("{label}-{}", digest(&[group.as_str()])))
}

fn peer_key(peers: &PeerSet) -> (&'static str, &str) {
    match peers {
        PeerSet::Group(id) => ("group", id.as_str()),
        PeerSet::Set(id) => ("set", id.as_str()),
    }
}

/// Remembers who got which chain, so that two names never share one.
#[derive(Default)]
struct Owners(BTreeMap<ChainName, String>);

impl Owners {
    fn claim(&mut self, chain: &ChainName, owner: String) -> Result<(), CompileError> {
        match self.0.insert(chain.clone(), owner.clone()) {
            Some(first) if first != owner => {
                Err(CompileError::Collision { first, second: owner, chain: chain.clone() })
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
    chains: &mut Chains,
) -> Result<(), CompileError> {
    let mut owners = Owners::default();
    for direction in [Direction::Egress, Direction::Ingress] {
        let passed = |keep: bool| match (direction, keep) {
            (Direction::Egress, false) => &names.pass,
            (Direction::Egress, true) => &names.keep_pass,
            (Direction::Ingress, false) => &names.accept,
            (Direction::Ingress, true) => &names.keep_accept,
        };
        let mut referred = BTreeSet::new();
        for (id, group) in &host.groups {
            let chain = chain(direction, id)?;
            owners.claim(&chain, format!("group {id}"))?;
            let keep = host.keep.contains(id);
            let mut compiled = Vec::new();
            for rule in group.rules.iter().filter(|r| r.direction == direction && r.family == family) {
                let remote = peers(&rule.remote).map(|peers| Referred { peers, keep });
                compiled.push(group_rule(rule, passed(keep), remote.as_ref())?);
                referred.extend(remote);
            }
            // Rules only allow: order means nothing, twice means once.
            compiled.sort_unstable();
            compiled.dedup();
            chains.insert(chain, compiled);
        }
        for set in referred {
            let nets = host.peers.get(&set.peers).into_iter().flatten();
            let nets: Vec<IpNet> = nets.copied().filter(|n| Family::of(n) == family).collect();
            let (kind, id) = peer_key(&set.peers);
            let inner = |net: IpNet| set.chain(direction, Some(net));
            let tree = PrefixTree {
                root: set.chain(direction, None)?,
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
                owners.claim(&chain, format!("{kind} {id}"))?;
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

/// The set a rule's remote refers to, if it is not written in the rule itself.
fn peers(remote: &Remote) -> Option<PeerSet> {
    match remote {
        Remote::Any | Remote::Prefix(_) => None,
        Remote::Group(id) => Some(PeerSet::Group(id.clone())),
        Remote::Set(id) => Some(PeerSet::Set(id.clone())),
    }
}

fn remote_condition(direction: Direction) -> fn(IpNet) -> Match {
    match direction {
        Direction::Egress => Match::Destination,
        Direction::Ingress => Match::Source,
    }
}

fn group_rule(rule: &model::Rule, passed: &ChainName, remote: Option<&Referred>) -> Result<Rule, InvalidId> {
    let mut matches = service(rule.service);
    if let Remote::Prefix(net) = &rule.remote {
        matches.push(remote_condition(rule.direction)(net.trunc()));
    }
    let target = match remote {
        None => Target::Goto(passed.clone()),
        Some(set) => Target::Jump(set.chain(rule.direction, None)?),
    };
    Ok(Rule::new(matches, target))
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

fn service(service: Service) -> Vec<Match> {
    match service {
        Service::Any => Vec::new(),
        Service::Protocol(p) => vec![Match::Protocol(p)],
        Service::Ports(p, range) => vec![Match::Protocol(p), Match::DestinationPorts(p, range)],
        Service::Icmp(p, icmp) if p == Protocol::ICMPV6 => vec![Match::Protocol(p), Match::Icmpv6(icmp)],
        Service::Icmp(p, icmp) if icmp.kind == u8::MAX => {
            vec![Match::Protocol(p), Match::U32(icmp_255(icmp))]
        }
        Service::Icmp(p, icmp) => vec![Match::Protocol(p), Match::Icmp(icmp)],
    }
}

/// ICMP type 255, which the `icmp` match takes for "any type": the first byte, or two, after the IP header.
fn icmp_255(icmp: Icmp) -> String {
    let after_header = "0x0>>0x16&0x3c@0x0";
    match icmp.code {
        None => format!("{after_header}>>0x18={:#x}", icmp.kind),
        Some(code) => format!("{after_header}>>0x10={:#x}", u16::from_be_bytes([icmp.kind, code])),
    }
}
