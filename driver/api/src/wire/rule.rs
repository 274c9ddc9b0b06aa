//! Rules of groups and of the operator.

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
#[serde(untagged)]
pub enum Protocol {
    /// 0 to 255.
    Number(u8),
    /// A name of neutron's list (`tcp`, `udp`, `icmp`, …), or a number.
    Name(String),
}

/// One port, or a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Ports {
    /// One port.
    One(u16),
    /// One port, or first and last with a hyphen: `8000-8080`.
    Range(String),
}

/// A rule of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in the input")]
pub struct Rule {
    pub id: String,
    pub group: String,
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

/// A rule, to be made or changed. It allows what it describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleInput {
    /// Unique among all rules; made up if not given.
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
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: String,
}

/// A rule of the operator's, for every filtered port, before the groups' rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in the input")]
pub struct ProviderRule {
    pub id: String,
    pub position: u32,
    pub action: Action,
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

/// A provider rule, to be made or changed. (No `flatten`: it would switch off the refusal of unknown fields.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in a group's rule")]
pub struct ProviderRuleInput {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub id: Option<String>,
    /// Place in the order, lowest first; among equals the id decides. If it is not given: behind all others (in a document:
    /// ten times its place in the list).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// What happens to a packet that matches.
    pub action: Action,
    pub direction: Direction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ethertype: Option<Ethertype>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 255)]
    pub icmp_type: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 255)]
    pub icmp_code: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_cidr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub remote_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub remote_set: Option<String>,
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub description: String,
}

impl From<(&GroupRule, u64)> for Rule {
    fn from((GroupRule { group, rule }, revision): (&GroupRule, u64)) -> Self {
        let model::Rule { id, direction, family, service, remote, description } = rule;
        let Parts { protocol, ports, icmp_type, icmp_code } = parts(*service);
        let (remote_cidr, remote_group, remote_set) = remotes(remote);
        Self {
            id: id.to_string(),
            group: group.to_string(),
            direction: (*direction).into(),
            ethertype: (*family).into(),
            protocol,
            ports,
            icmp_type,
            icmp_code,
            remote_cidr,
            remote_group,
            remote_set,
            description: description.clone(),
            revision,
        }
    }
}

impl From<(&store::ProviderRule, u64)> for ProviderRule {
    fn from((rule, revision): (&store::ProviderRule, u64)) -> Self {
        let store::ProviderRule { position, action, rule } = rule;
        let model::Rule { id, direction, family, service, remote, description } = rule;
        let Parts { protocol, ports, icmp_type, icmp_code } = parts(*service);
        let (remote_cidr, remote_group, remote_set) = remotes(remote);
        Self {
            id: id.to_string(),
            position: *position,
            action: (*action).into(),
            direction: (*direction).into(),
            ethertype: (*family).into(),
            protocol,
            ports,
            icmp_type,
            icmp_code,
            remote_cidr,
            remote_group,
            remote_set,
            description: description.clone(),
            revision,
        }
    }
}

impl ProviderRuleInput {
    /// Its matching part.
    pub(crate) fn rule(self) -> RuleInput {
        let Self {
            id,
            position: _,
            action: _,
            direction,
            ethertype,
            protocol,
            ports,
            icmp_type,
            icmp_code,
            remote_cidr,
            remote_group,
            remote_set,
            description,
        } = self;
        RuleInput {
            id,
            direction,
            ethertype,
            protocol,
            ports,
            icmp_type,
            icmp_code,
            remote_cidr,
            remote_group,
            remote_set,
            description,
        }
    }
}

impl RuleInput {
    /// One rule of a group.
    pub(crate) fn group_rule(self, group: &GroupId) -> Result<GroupRule, Problem> {
        Ok(GroupRule { group: group.clone(), rule: self.rule()? })
    }

    /// One rule.
    pub(crate) fn rule(self) -> Result<model::Rule, Problem> {
        let mut rules = self.expand()?;
        let (Some(rule), None) = (rules.pop(), rules.pop()) else {
            return Err(invalid("/ethertype", "ethertype is needed, ipv4 or ipv6: no remote_cidr tells it"));
        };
        let RuleDocument { id, direction, family, service, remote, description } = rule;
        Ok(model::Rule { id: id.unwrap_or_else(new_id), direction, family, service, remote, description })
    }

    /// The rules it means: two, if it names no family and no prefix. Then the family is added to the id.
    pub(crate) fn expand(self) -> Result<Vec<RuleDocument>, Problem> {
        let Self {
            id,
            direction,
            ethertype,
            protocol,
            ports,
            icmp_type,
            icmp_code,
            remote_cidr,
            remote_group,
            remote_set,
            description,
        } = self;
        let remote = match (remote_cidr, remote_group, remote_set) {
            (None, None, None) => Remote::Any,
            (Some(cidr), None, None) => Remote::Prefix(prefix(&cidr, "/remote_cidr")?),
            (None, Some(group), None) => Remote::Group(parse(&group, "/remote_group")?),
            (None, None, Some(set)) => Remote::Set(parse(&set, "/remote_set")?),
            _ => {
                return Err(invalid("", "only one of remote_cidr, remote_group and remote_set can be given"));
            }
        };
        let families = match (ethertype.map(Family::from), &remote) {
            (Some(family), Remote::Prefix(net)) if Family::of(net) != family => {
                return Err(invalid("/remote_cidr", format_args!("ethertype is {family}, but {net} is not")));
            }
            (Some(family), _) => vec![family],
            (None, Remote::Prefix(net)) => vec![Family::of(net)],
            (None, _) => Family::ALL.to_vec(),
        };
        let protocol = protocol.map(|p| protocol_number(&p)).transpose()?;
        let ports = ports.map(|p| port_range(&p)).transpose()?;
        let id: Option<RuleId> = parse_optional(id.as_deref(), "/id")?;
        let both = families.len() > 1;
        let rules = families.into_iter().map(|family| {
            let service = Service::new(family, protocol, ports, icmp_type, icmp_code);
            let id = match &id {
                Some(id) if both => Some(parse(&format!("{id}-{family}"), "/id")?),
                other => other.clone(),
            };
            Ok(RuleDocument {
                id,
                direction: direction.into(),
                family,
                service: service.map_err(|error| invalid("", error))?,
                remote: remote.clone(),
                description: description.clone(),
            })
        });
        rules.collect()
    }
}

fn protocol_number(protocol: &Protocol) -> Result<model::Protocol, Problem> {
    match protocol {
        Protocol::Number(number) => Ok(model::Protocol(*number)),
        Protocol::Name(name) => parse(name, "/protocol"),
    }
}

fn port_range(ports: &Ports) -> Result<PortRange, Problem> {
    let port = |text: &str| {
        let port = text.trim().parse::<u16>();
        port.map_err(|_| invalid("/ports", format_args!("{text:?} is no port from 1 to 65535")))
    };
    let (first, last) = match ports {
        Ports::One(number) => (*number, *number),
        Ports::Range(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            (port(first)?, port(last)?)
        }
    };
    PortRange::new(first, last).map_err(|error| invalid("/ports", error))
}

struct Parts {
    protocol: Option<String>,
    ports: Option<String>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
}

fn parts(service: Service) -> Parts {
    let (protocol, ports, icmp) = match service {
        Service::Any => (None, None, None),
        Service::Protocol(p) => (Some(p), None, None),
        Service::Ports(p, range) => (Some(p), Some(range), None),
        Service::Icmp(p, icmp) => (Some(p), None, Some(icmp)),
    };
    Parts {
        protocol: protocol.map(|p| p.to_string()),
        ports: ports.map(|range| range.to_string()),
        icmp_type: icmp.map(|icmp| icmp.kind),
        icmp_code: icmp.and_then(|icmp| icmp.code),
    }
}

fn remotes(remote: &Remote) -> (Option<String>, Option<String>, Option<String>) {
    match remote {
        Remote::Any => (None, None, None),
        Remote::Prefix(net) => (Some(net.to_string()), None, None),
        Remote::Group(id) => (None, Some(id.to_string()), None),
        Remote::Set(id) => (None, None, Some(id.to_string())),
    }
}
