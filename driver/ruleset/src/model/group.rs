//! Security groups and their rules. Rules only allow.

use std::fmt;
use std::net::{AddrParseError, IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::service::Service;
use crate::ids::{GroupId, RuleId, SetId};

/// IPv4 or IPv6: neutron's "ethertype".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4
    #[serde(rename = "ipv4", alias = "IPv4")]
    Ipv4,
    /// IPv6
    #[serde(rename = "ipv6", alias = "IPv6")]
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of a prefix.
    #[must_use]
    pub fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::Ipv4,
            IpNet::V6(_) => Self::Ipv6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// A prefix, or an address, which is a prefix of full length. Host bits are cleared (neutron `normalized_cidr`).
///
/// # Errors
/// If the text is neither.
pub fn prefix(text: &str) -> Result<IpNet, AddrParseError> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| net.trunc())
}

/// Seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the guest.
    Ingress,
    /// From the guest.
    Egress,
}

/// Whom a rule admits: the sender of ingress, the receiver of egress.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote {
    /// Everybody.
    Any,
    /// Addresses in a prefix.
    Prefix(IpNet),
    /// The addresses of a group's ports, wherever they run.
    Group(GroupId),
    /// A named set of prefixes.
    Set(SetId),
}

/// One rule of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique within the group.
    pub id: RuleId,
    /// Direction, seen from the guest.
    pub direction: Direction,
    /// Address family.
    pub family: Family,
    /// Protocol and ports.
    pub service: Service,
    /// Whom it admits; a prefix is of the rule's family.
    pub remote: Remote,
    /// For people.
    pub description: String,
}

/// A security group, as far as it decides what passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Id, unique in the policy.
    pub id: GroupId,
    /// Its rules; order has no meaning.
    pub rules: Vec<Rule>,
}
