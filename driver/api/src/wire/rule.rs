//! Rules of groups and of the operator.

use std::fmt;

use ruleset::ids::{GroupId, RuleId};
use ruleset::model::{self, Family, PortRange, Remote, Service};
use serde::{Deserialize, Serialize};
use store::{GroupRule, RuleDocument, new_id};
use utoipa::ToSchema;

use super::group::prefix;
use super::words::{Action, Direction, Ethertype};
use super::{invalid, parse, parse_optional};
use crate::problem::Problem;

/// An IP protocol, by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a protocol's name or number")]
pub enum Protocol {
    /// 0 to 255.
    #[schema(value_type = u8)]
    Number(i64),
    /// A name of neutron's list (`tcp`, `udp`, `icmp`, …), or a number.
    Name(String),
}

/// One port, or a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a port or a range like \"8000-8100\"")]
pub enum Ports {
    /// One port.
    #[schema(value_type = u16)]
    One(i64),
    /// One port, or first and last with a hyphen: `8000-8080`.
    Range(String),
}

/// What is said of a rule stands here once, for groups' rules and the operator's: as it is read, as it is asked for, and how
/// one becomes the other and the store's. (serde's `flatten` would switch off the refusal of unknown fields, and lose the place
/// of a mistake.)
macro_rules! rules {
    (
        $(#[$doc:meta])*
        $output:ident of $row:ty { $($own:ident: $own_type:ty,)* }
        $(#[$input_doc:meta])*
        $input:ident { $($(#[$asked_doc:meta])* $asked:ident: $asked_type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "as in the input")]
        pub struct $output {
            pub id: String,
            $(pub $own: $own_type,)*
            pub direction: Direction,
            pub ethertype: Ethertype,
            pub protocol: Option<String>,
            pub ports: Option<String>,
            pub icmp_type: Option<u8>,
            pub icmp_code: Option<u8>,
            pub remote_cidr: Option<String>,
            pub remote_group: Option<String>,
            pub remote_set: Option<String>,
            pub description: String,
            /// The generation that changed it last.
            pub revision: u64,
        }

        $(#[$input_doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $input {
            $($(#[$asked_doc])* pub $asked: $asked_type,)*
            /// Unique among all of its kind; made up if not given.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
            pub id: Option<String>,
            /// Seen from the guest.
            pub direction: Direction,
            /// If it is not given, the family of `remote_cidr`; in a document without that, one rule of each.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub ethertype: Option<Ethertype>,
            /// Absent: any.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub protocol: Option<Protocol>,
            /// Absent: all. With tcp, udp, udplite, sctp and dccp only.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub ports: Option<Ports>,
            /// Absent: all.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(maximum = 255)]
            pub icmp_type: Option<u8>,
            /// Absent: all. Needs a type.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(maximum = 255)]
            pub icmp_code: Option<u8>,
            /// Whom it admits: an address or a prefix. Without any of the three: anybody.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub remote_cidr: Option<String>,
            /// Whom it admits: the members of a group.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
            pub remote_group: Option<String>,
            /// Whom it admits: an address set.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
            pub remote_set: Option<String>,
            /// For people.
            #[serde(default, skip_serializing_if = "String::is_empty")]
            #[schema(max_length = 1024)]
            pub description: String,
        }

        impl From<(&$row, u64)> for $output {
            fn from((row, revision): (&$row, u64)) -> Self {
                let model::Rule { id, direction, family, service, remote, description } = &row.rule;
                let (protocol, ports, icmp) = match *service {
                    Service::Any => (None, None, None),
                    Service::Protocol(p) => (Some(p), None, None),
                    Service::Ports(p, range) => (Some(p), Some(range), None),
                    Service::Icmp(p, icmp) => (Some(p), None, Some(icmp)),
                };
                let (cidr, group, set) = match remote {
                    Remote::Any => (None, None, None),
                    Remote::Prefix(net) => (Some(net), None, None),
                    Remote::Group(id) => (None, Some(id), None),
                    Remote::Set(id) => (None, None, Some(id)),
                };
                Self {
                    id: id.to_string(),
                    $($own: row.$own.clone().into(),)*
                    direction: (*direction).into(),
                    ethertype: (*family).into(),
                    protocol: protocol.map(|protocol| protocol.to_string()),
                    ports: ports.map(|range| range.to_string()),
                    icmp_type: icmp.map(|icmp| icmp.kind),
                    icmp_code: icmp.and_then(|icmp| icmp.code),
                    remote_cidr: cidr.map(ToString::to_string),
                    remote_group: group.map(ToString::to_string),
                    remote_set: set.map(ToString::to_string),
                    description: description.clone(),
                    revision,
                }
            }
        }

        impl From<$output> for $input {
            fn from(rule: $output) -> Self {
                Self {
                    $($asked: rule.$asked.into(),)*
                    id: Some(rule.id),
                    direction: rule.direction,
                    ethertype: Some(rule.ethertype),
                    protocol: rule.protocol.map(Protocol::Name),
                    ports: rule.ports.map(Ports::Range),
                    icmp_type: rule.icmp_type,
                    icmp_code: rule.icmp_code,
                    remote_cidr: rule.remote_cidr,
                    remote_group: rule.remote_group,
                    remote_set: rule.remote_set,
                    description: rule.description,
                }
            }
        }

        impl $input {
            /// The rules it means: two, if it names no family and no prefix. Then the family is added to the id.
            pub(crate) fn expand(self) -> Result<Vec<RuleDocument>, Problem> {
                let remote = remote(self.remote_cidr, self.remote_group, self.remote_set)?;
                let families = families(self.ethertype, &remote)?;
                let protocol = self.protocol.map(|protocol| parse(&protocol.to_string(), "/protocol")).transpose()?;
                let ports = self.ports.map(|ports| ports.range()).transpose()?;
                let id: Option<RuleId> = parse_optional(self.id.as_deref(), "/id")?;
                let rules = families.iter().map(|family| {
                    let service = Service::new(*family, protocol, ports, self.icmp_type, self.icmp_code);
                    let id = match &id {
                        Some(id) if families.len() > 1 => Some(parse(&format!("{id}-{family}"), "/id")?),
                        other => other.clone(),
                    };
                    let rule = model::Rule {
                        id: id.clone().unwrap_or_else(new_id),
                        direction: self.direction.into(),
                        family: *family,
                        service: service.map_err(|error| invalid("", error))?,
                        remote: remote.clone(),
                        description: self.description.clone(),
                    };
                    Ok(RuleDocument { id, rule })
                });
                rules.collect()
            }

            /// The one rule it means.
            pub(crate) fn rule(self) -> Result<model::Rule, Problem> {
                let mut rules = self.expand()?;
                let (Some(RuleDocument { id: _, rule }), None) = (rules.pop(), rules.pop()) else {
                    let message = "ethertype is needed, ipv4 or ipv6: no remote_cidr tells it";
                    return Err(invalid("/ethertype", message));
                };
                Ok(rule)
            }
        }
    };
}

rules! {
    /// A rule of a group.
    Rule of GroupRule { group: String, }
    /// A rule, to be made or changed. It allows what it describes.
    RuleInput {}
}

rules! {
    /// A rule of the operator's, for every filtered port, before the groups' rules.
    ProviderRule of store::ProviderRule { position: u32, action: Action, }
    /// A provider rule, to be made or changed.
    ProviderRuleInput {
        /// Place in the order, lowest first; among equals the id decides. If it is not given: behind all others (in a document:
        /// ten times its place in the list).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<u32>,
        /// What happens to a packet that matches.
        action: Action,
    }
}

impl RuleInput {
    /// One rule of a group.
    pub(crate) fn group_rule(self, group: &GroupId) -> Result<GroupRule, Problem> {
        Ok(GroupRule { group: group.clone(), rule: self.rule()? })
    }
}

fn remote(cidr: Option<String>, group: Option<String>, set: Option<String>) -> Result<Remote, Problem> {
    Ok(match (cidr, group, set) {
        (None, None, None) => Remote::Any,
        (Some(cidr), None, None) => Remote::Prefix(prefix(&cidr, "/remote_cidr")?),
        (None, Some(group), None) => Remote::Group(parse(&group, "/remote_group")?),
        (None, None, Some(set)) => Remote::Set(parse(&set, "/remote_set")?),
        _ => return Err(invalid("", "only one of remote_cidr, remote_group and remote_set can be given")),
    })
}

fn families(ethertype: Option<Ethertype>, remote: &Remote) -> Result<Vec<Family>, Problem> {
    Ok(match (ethertype.map(Family::from), remote) {
        (Some(family), Remote::Prefix(net)) if Family::of(net) != family => {
            return Err(invalid("/remote_cidr", format_args!("ethertype is {family}, but {net} is not")));
        }
        (Some(family), _) => vec![family],
        (None, Remote::Prefix(net)) => vec![Family::of(net)],
        (None, _) => Family::ALL.to_vec(),
    })
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Ports {
    fn range(&self) -> Result<PortRange, Problem> {
        let port = |text: &str| {
            let port = text.trim().parse::<u16>();
            port.map_err(|_| invalid("/ports", format_args!("{text:?} is no port from 1 to 65535")))
        };
        let (first, last) = match self {
            Self::One(number) => {
                let port = port(&number.to_string())?;
                (port, port)
            }
            Self::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                (port(first)?, port(last)?)
            }
        };
        PortRange::new(first, last).map_err(|error| invalid("/ports", error))
    }
}
