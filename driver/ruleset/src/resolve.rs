//! From the policy of all hosts to what one host needs: its ports by interface, the groups they use, the members
//! those groups refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::ids::{GroupId, Interface, Mac, SetId, VifUuid};
use crate::model::{Direction, Family, Group, Policy, Port, ProviderRule, Remote};

/// A port where it is plugged on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The port.
    pub port: Port,
    /// The domain's id on this host.
    pub domid: u32,
    /// The VIF's device number.
    pub device: u32,
    /// The bridge it is on.
    pub bridge: Interface,
}

impl Attachment {
    /// Names under which the guest's packets appear in dom0: the paravirtual interface and, for guests that still
    /// use the emulated card, the tap (xenopsd `device.ml`).
    #[must_use]
    pub fn interfaces(&self) -> [String; 2] {
        [format!("vif{}.{}", self.domid, self.device), format!("tap{}.{}", self.domid, self.device)]
    }
}

/// A port that is about to arrive on this host: the destination of a migration, or of a start, is known before the guest's
/// domain and the names of its interfaces are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The port.
    pub port: Port,
    /// The bridge it will be on.
    pub bridge: Interface,
}

/// The ports of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Those that are plugged.
    pub attachments: Vec<Attachment>,
    /// Those that are about to be. One that is plugged already may be, too: a guest can move to a new domain on its own host.
    pub expected: Vec<Expected>,
}

impl From<Vec<Attachment>> for Places {
    fn from(attachments: Vec<Attachment>) -> Self {
        Self { attachments, expected: Vec::new() }
    }
}

/// XAPI's port.
pub const XAPI: u16 = 443;

/// What keeps the driver's own VM from being cut off: on this guarded bridge a VIF without rules that has this MAC reaches
/// XAPI, since a driver that does not could never give it rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifeline {
    /// The bridge.
    pub bridge: Interface,
    /// One of the driver's own MACs.
    pub mac: Mac,
    /// The addresses of every host of the pool.
    pub hosts: BTreeSet<IpAddr>,
}

impl Lifeline {
    /// Whether a host has an address of this family. If none has, nothing of the family passes.
    #[must_use]
    pub fn speaks(&self, family: Family) -> bool {
        self.hosts.iter().any(|host| Family::of(&IpNet::from(*host)) == family)
    }
}

/// What a rule's remote refers to, when it is not written in the rule itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerSet {
    /// A group's members.
    Group(GroupId),
    /// An address set.
    Set(SetId),
}

/// One host's share of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPolicy {
    /// Ports on this host.
    pub attachments: Vec<Attachment>,
    /// Ports that are about to arrive, sorted by VIF.
    pub expected: Vec<Expected>,
    /// The groups those ports use.
    pub groups: BTreeMap<GroupId, Group>,
    /// Those of them whose connections live on when their rule goes.
    pub keep: BTreeSet<GroupId>,
    /// What those groups and the provider rules refer to: sorted, merged prefixes. An empty list means nobody.
    pub peers: BTreeMap<PeerSet, Vec<IpNet>>,
    /// The same, sorted and each once, but not merged: where a prefix is one entry of its own, one member that comes or
    /// goes is one entry, whoever its neighbours are.
    pub members: BTreeMap<PeerSet, Vec<IpNet>>,
    /// The operator's rules.
    pub provider: Vec<ProviderRule>,
    /// Bridges of guarded networks: a VIF there that is no port of ours passes nothing.
    pub guarded: BTreeSet<Interface>,
    /// The exceptions to that.
    pub lifelines: BTreeSet<Lifeline>,
}

/// A policy that refers to what it does not define.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ResolveError {
    #[error("port {port} is in group {group}, which the policy does not define")]
    UnknownGroup { port: String, group: GroupId },
    #[error("rule {rule} refers to address set {set}, which the policy does not define")]
    UnknownSet { rule: String, set: SetId },
}

/// The share of one host, without lifelines.
///
/// `live` are all ports that run anywhere in the pool: they are the members of groups. `places` are those of this host;
/// attachments alone will do.
///
/// # Errors
/// [`ResolveError`] for a dangling reference. (A rule whose remote *group* is undefined admits nobody: the group may
/// belong to another policy source and have no ports.)
pub fn resolve<'a>(
    policy: &Policy,
    live: impl IntoIterator<Item = &'a Port>,
    places: impl Into<Places>,
    guarded: BTreeSet<Interface>,
) -> Result<HostPolicy, ResolveError> {
    let Places { mut attachments, mut expected } = places.into();
    let mut groups = BTreeMap::new();
    for port in attachments.iter().map(|a| &a.port).chain(expected.iter().map(|e| &e.port)) {
        for id in &port.groups {
            let group = policy.groups.get(id).ok_or_else(|| ResolveError::UnknownGroup {
                port: port.vif.to_string(),
                group: id.clone(),
            })?;
            groups.entry(id.clone()).or_insert_with(|| group.clone());
        }
    }
    let mut members: BTreeMap<PeerSet, Vec<IpNet>> = BTreeMap::new();
    let group_rules = groups.values().flat_map(|g: &Group| &g.rules);
    for rule in group_rules.chain(policy.provider.iter().map(|p| &p.rule)) {
        match &rule.remote {
            Remote::Any | Remote::Prefix(_) => {}
            Remote::Group(id) => {
                members.entry(PeerSet::Group(id.clone())).or_default();
            }
            Remote::Set(id) => {
                let nets = policy
                    .sets
                    .get(id)
                    .ok_or_else(|| ResolveError::UnknownSet { rule: rule.id.to_string(), set: id.clone() })?;
                let nets = || nets.iter().map(IpNet::trunc).collect();
                members.entry(PeerSet::Set(id.clone())).or_insert_with(nets);
            }
        }
    }
    for port in live {
        for id in &port.groups {
            if let Some(members) = members.get_mut(&PeerSet::Group(id.clone())) {
                members.extend(port.member_addresses());
            }
        }
    }
    let mut peers = BTreeMap::new();
    for (set, nets) in &mut members {
        nets.sort_unstable();
        nets.dedup();
        let mut merged = IpNet::aggregate(nets);
        merged.sort_unstable();
        peers.insert(set.clone(), merged);
    }
    attachments.sort_by_key(|a| (a.domid, a.device));
    expected.sort_by(|a, b| (&a.port.vif, &a.bridge).cmp(&(&b.port.vif, &b.bridge)));
    let keep = policy.keep.iter().filter(|id| groups.contains_key(*id)).cloned().collect();
    let provider = policy.provider.clone();
    let lifelines = BTreeSet::new();
    Ok(HostPolicy { attachments, expected, groups, keep, peers, members, provider, guarded, lifelines })
}

impl HostPolicy {
    /// Whether nothing is to be enforced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attachments.is_empty() && self.expected.is_empty() && self.guarded.is_empty()
    }

    /// Whether the network of this bridge is guarded.
    #[must_use]
    pub fn is_guarded(&self, bridge: &str) -> bool {
        self.guarded.iter().any(|guarded| guarded.as_str() == bridge)
    }

    /// The lifelines on a bridge.
    pub fn lifelines_on(&self, bridge: &str) -> impl Iterator<Item = &Lifeline> {
        self.lifelines.iter().filter(move |line| line.bridge.as_str() == bridge)
    }

    /// Every port of this host, those that are about to arrive last.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.attachments.iter().map(|a| &a.port).chain(self.expected.iter().map(|e| &e.port))
    }

    /// The same with these ports closed: in no group and with no pairs, so that only what every guest needs passes. Groups
    /// that no other port uses go with them.
    #[must_use]
    pub fn closing(&self, ports: &BTreeSet<VifUuid>) -> Self {
        let mut closed = self.clone();
        let here = closed.attachments.iter_mut().map(|a| &mut a.port);
        let all = here.chain(closed.expected.iter_mut().map(|e| &mut e.port));
        for port in all.filter(|port| ports.contains(&port.vif)) {
            port.groups.clear();
            port.pairs.clear();
        }
        let used: BTreeSet<GroupId> = closed.ports().flat_map(|port| port.groups.iter().cloned()).collect();
        closed.groups.retain(|id, _| used.contains(id));
        closed.keep.retain(|id| used.contains(id));
        closed
    }

    /// The peer sets that rules of this direction and family refer to.
    #[must_use]
    pub fn peers_used(&self, direction: Direction, family: Family) -> BTreeSet<PeerSet> {
        let rules = self.groups.values().flat_map(|g| &g.rules).chain(self.provider.iter().map(|p| &p.rule));
        rules
            .filter(|r| r.direction == direction && r.family == family)
            .filter_map(|r| match &r.remote {
                Remote::Group(id) => Some(PeerSet::Group(id.clone())),
                Remote::Set(id) => Some(PeerSet::Set(id.clone())),
                Remote::Any | Remote::Prefix(_) => None,
            })
            .collect()
    }
}
