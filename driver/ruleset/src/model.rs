//! The policy: security groups, rules, address sets, ports. What neutron's API means by them (design §3).

mod group;
mod port;
mod protocol;
mod service;

pub use group::{Direction, Family, Group, Remote, Rule, prefix};
pub use port::{AddressPair, Port, PortSecurity, link_local_sources};
pub use protocol::{InvalidProtocol, Protocol};
pub use service::{Icmp, InvalidService, PortRange, Service};

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::ids::{GroupId, SetId};

/// Everything that decides what passes, for all hosts.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The security groups.
    pub groups: BTreeMap<GroupId, Group>,
    /// Named sets of prefixes.
    pub sets: BTreeMap<SetId, Vec<IpNet>>,
    /// The groups whose connections live on when the rule that allowed them goes. Those of other groups are cut.
    pub keep: BTreeSet<GroupId>,
    /// The operator's rules, for all filtered ports, in order, before the groups'.
    pub provider: Vec<ProviderRule>,
}

/// A rule of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRule {
    /// What happens to a packet that matches.
    pub action: Action,
    /// The same matching part as a group's rule.
    pub rule: Rule,
}

/// What a provider rule does. Group rules only allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The packet passes this side's rules.
    Allow,
    /// The packet is dropped.
    Deny,
}
