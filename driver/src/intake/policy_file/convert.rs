//! From the file's words to the domain's types, each mistake with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;
use ruleset::ids::{GroupId, RuleId, SetId};
use ruleset::model::{
    AddressPair, Direction, Family, Group, PortRange, PortSecurity, Protocol, ProviderRule, Remote, Rule,
    Service,
};
use toml::Spanned;

use super::{Origin, PolicyFile, PortSpec, RESERVED_PREFIX, Target, position, raw};

/// A mistake at a byte offset of the file.
pub(super) struct Mistake {
    pub offset: usize,
    pub message: String,
}

trait At<T> {
    /// Puts a place to an error.
    fn at(self, offset: usize) -> Result<T, Mistake>;
}

impl<T, E: Display> At<T> for Result<T, E> {
    fn at(self, offset: usize) -> Result<T, Mistake> {
        self.map_err(|error| Mistake { offset, message: error.to_string() })
    }
}

fn mistake<T>(offset: usize, message: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake { offset, message: message.into() })
}

pub(super) fn convert(raw: raw::File, text: &str) -> Result<PolicyFile, Mistake> {
    // Projects are the daemon's: here a group's project is a word.
    let raw::File { guarded_networks, project: _, group, set, port, provider_rule } = raw;
    let mut file = PolicyFile { guarded_networks, ..PolicyFile::default() };
    for raw in set {
        let raw::Set { id, addresses, name: _, description: _, project: _ } = raw.into_inner();
        let offset = id.span().start;
        let id: SetId = id.into_inner().parse().at(offset)?;
        let addresses = addresses.iter().map(prefix).collect::<Result<Vec<_>, _>>()?;
        if file.policy.sets.insert(id.clone(), addresses).is_some() {
            return mistake(offset, format!("address set {id} stands twice"));
        }
    }
    // Groups may refer to each other in any order: the names first.
    let mut known = BTreeSet::new();
    for group in &group {
        let id = &group.get_ref().id;
        let name: GroupId = id.get_ref().parse().at(id.span().start)?;
        if name.as_str().starts_with(RESERVED_PREFIX) {
            return mistake(
                id.span().start,
                format!("ids that begin with {RESERVED_PREFIX} are the driver's own"),
            );
        }
        if !known.insert(name.clone()) {
            return mistake(id.span().start, format!("group {name} stands twice"));
        }
    }
    let names = Names { groups: &known, sets: &file.policy.sets };
    for raw in group {
        let raw = raw.into_inner();
        let keeps = raw.on_rule_removal == raw::OnRuleRemoval::Keep;
        let group = names.group(raw)?;
        if keeps {
            file.policy.keep.insert(group.id.clone());
        }
        file.policy.groups.insert(group.id.clone(), group);
    }
    for (index, raw) in in_order(provider_rule) {
        let offset = raw.span().start;
        let (action, rule) = raw.into_inner().split();
        let rules = names.rules(rule, offset, &format!("provider-{}", index + 1))?;
        file.policy.provider.extend(rules.into_iter().map(|rule| ProviderRule { action, rule }));
    }
    let mut seen: BTreeMap<Target, Origin> = BTreeMap::new();
    for raw in port {
        let offset = raw.span().start;
        let port = names.port(raw.into_inner(), offset, position(text, offset).0)?;
        if let Some(before) = seen.insert(port.target.clone(), port.origin.clone()) {
            return mistake(offset, format!("{} stands in {before} already", port.target));
        }
        file.ports.push(port);
    }
    Ok(file)
}

/// The operator's rules in the order in which they are asked, each with its place in the file.
fn in_order(rules: Vec<Spanned<raw::ProviderRule>>) -> Vec<(usize, Spanned<raw::ProviderRule>)> {
    let mut rules: Vec<_> = rules.into_iter().enumerate().collect();
    rules.sort_by_key(|(index, rule)| provider_position(*index, rule.get_ref()));
    rules
}

/// Where a rule of the operator's stands in the order.
pub(super) fn provider_position(index: usize, rule: &raw::ProviderRule) -> u32 {
    let place = || u32::try_from(index + 1).unwrap_or(u32::MAX).saturating_mul(10);
    rule.position.unwrap_or_else(place)
}

/// What may be referred to.
struct Names<'a> {
    groups: &'a BTreeSet<GroupId>,
    sets: &'a BTreeMap<SetId, Vec<IpNet>>,
}

impl Names<'_> {
    fn known_group(&self, name: &Spanned<String>) -> Result<GroupId, Mistake> {
        let offset = name.span().start;
        let id: GroupId = name.get_ref().parse().at(offset)?;
        if self.groups.contains(&id) {
            Ok(id)
        } else {
            mistake(offset, format!("there is no group {id} in this file"))
        }
    }

    fn group(&self, raw: raw::Group) -> Result<Group, Mistake> {
        let raw::Group { id, name, description, project, implicit_rules, on_rule_removal: _, rule } = raw;
        let id: GroupId = id.get_ref().parse().at(id.span().start)?;
        let mut rules = implicit(implicit_rules, &id);
        let mut ids = BTreeSet::new();
        for (index, raw) in rule.into_iter().enumerate() {
            let offset = raw.span().start;
            let named = self.rules(raw.into_inner(), offset, &format!("rule-{}", index + 1))?;
            for rule in named {
                if !ids.insert(rule.id.clone()) {
                    return mistake(offset, format!("rule {} stands twice in group {id}", rule.id));
                }
                rules.push(rule);
            }
        }
        Ok(Group { name: name.unwrap_or_else(|| id.to_string()), id, description, project, rules })
    }

    /// One rule, or two when it names no family and means both.
    fn rules(&self, raw: raw::Rule, offset: usize, default_id: &str) -> Result<Vec<Rule>, Mistake> {
        let raw::Rule {
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
        } = raw;
        let remote = match (remote_cidr, remote_group, remote_set) {
            (None, None, None) => Remote::Any,
            (Some(cidr), None, None) => Remote::Prefix(prefix(&cidr)?),
            (None, Some(group), None) => Remote::Group(self.known_group(&group)?),
            (None, None, Some(set)) => {
                let id: SetId = set.get_ref().parse().at(set.span().start)?;
                if !self.sets.contains_key(&id) {
                    return mistake(set.span().start, format!("there is no address set {id} in this file"));
                }
                Remote::Set(id)
            }
            _ => return mistake(offset, "only one of remote_cidr, remote_group and remote_set can be given"),
        };
        let families = match (&remote, ethertype) {
            (Remote::Prefix(net), Some(family)) if Family::of(net) != family => {
                return mistake(offset, format!("ethertype is {family}, but remote_cidr {net} is not"));
            }
            (_, Some(family)) => vec![family],
            (Remote::Prefix(net), None) => vec![Family::of(net)],
            (_, None) => Family::ALL.to_vec(),
        };
        let protocol = protocol.map(|p| protocol_number(&p)).transpose()?;
        let ports = ports.map(|p| port_range(&p)).transpose()?;
        let id: Option<(RuleId, usize)> = match id {
            Some(id) => Some((id.get_ref().parse().at(id.span().start)?, id.span().start)),
            None => None,
        };
        let both = families.len() > 1;
        let mut rules = Vec::new();
        for family in families {
            let service = Service::new(family, protocol, ports, icmp_type, icmp_code).at(offset)?;
            let base = id.as_ref().map_or(default_id, |(id, _)| id.as_str());
            let id = if both { format!("{base}-{family}") } else { base.to_owned() };
            let id: RuleId = id.parse().at(offset)?;
            rules.push(Rule {
                id,
                direction,
                family,
                service,
                remote: remote.clone(),
                description: description.clone(),
            });
        }
        Ok(rules)
    }

    fn port(&self, raw: raw::Port, offset: usize, line: usize) -> Result<PortSpec, Mistake> {
        let raw::Port { id: _, project: _, vm, device, vif, groups, addresses, address_pairs, port_security } =
            raw;
        let target = match (vm, device, vif) {
            (Some(vm), Some(device), None) => Target::Device { vm, device },
            (None, None, Some(vif)) => Target::Vif(vif.get_ref().parse().at(vif.span().start)?),
            _ => return mistake(offset, "a port is given by vm and device, or by vif"),
        };
        let groups = groups.iter().map(|g| self.known_group(g)).collect::<Result<_, _>>()?;
        let addresses = addresses.iter().map(address).collect::<Result<_, _>>()?;
        let pairs = address_pairs.iter().map(pair).collect::<Result<_, _>>()?;
        let security = if port_security { PortSecurity::On } else { PortSecurity::Off };
        let origin = Origin::Line(line);
        Ok(PortSpec { target, groups, addresses, pairs, security, origin })
    }
}

/// The rules of a new group, and of a project's default group (neutron `_ensure_default_security_group`).
fn implicit(kind: raw::ImplicitRules, group: &GroupId) -> Vec<Rule> {
    let directions: &[Direction] = match kind {
        raw::ImplicitRules::None => &[],
        raw::ImplicitRules::Egress => &[Direction::Egress],
        raw::ImplicitRules::DefaultGroup => &[Direction::Egress, Direction::Ingress],
    };
    let mut rules = Vec::new();
    for direction in directions {
        for family in Family::ALL {
            let (name, remote) = match direction {
                Direction::Egress => ("egress", Remote::Any),
                Direction::Ingress => ("ingress", Remote::Group(group.clone())),
            };
            // The words are within what a rule's id may be.
            let Ok(id) = format!("implicit-{name}-{family}").parse() else { continue };
            rules.push(Rule {
                id,
                direction: *direction,
                family,
                service: Service::Any,
                remote,
                description: String::new(),
            });
        }
    }
    rules
}

fn protocol_number(raw: &Spanned<raw::Protocol>) -> Result<Protocol, Mistake> {
    let offset = raw.span().start;
    match raw.get_ref() {
        raw::Protocol::Name(name) => name.parse().at(offset),
        raw::Protocol::Number(number) => number.to_string().parse().at(offset),
    }
}

fn port_range(raw: &Spanned<raw::Ports>) -> Result<PortRange, Mistake> {
    let offset = raw.span().start;
    let port = |text: &str| {
        text.trim()
            .parse::<u16>()
            .or_else(|_| mistake(offset, format!("{text:?} is no port from 1 to 65535")))
    };
    let (first, last) = match raw.get_ref() {
        raw::Ports::One(number) => {
            let number = port(&number.to_string())?;
            (number, number)
        }
        raw::Ports::Range(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            (port(first)?, port(last)?)
        }
    };
    PortRange::new(first, last).at(offset)
}

/// A prefix, or an address, which is a prefix of full length. Host bits are cleared (neutron `normalized_cidr`).
fn prefix(raw: &Spanned<String>) -> Result<IpNet, Mistake> {
    let text = raw.get_ref();
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match net {
        Ok(net) => Ok(net.trunc()),
        Err(_) => {
            mistake(raw.span().start, format!("{text:?} is neither an address nor a prefix like 10.0.0.0/24"))
        }
    }
}

fn address(raw: &Spanned<String>) -> Result<IpAddr, Mistake> {
    let text = raw.get_ref();
    let address: Result<IpAddr, _> = text.parse();
    match address {
        Ok(address) if !address.is_multicast() && !address.is_unspecified() => Ok(address),
        Ok(_) => mistake(raw.span().start, format!("{text} cannot be a guest's address")),
        Err(_) => mistake(raw.span().start, format!("{text:?} is no address")),
    }
}

fn pair(raw: &Spanned<raw::Pair>) -> Result<AddressPair, Mistake> {
    let offset = raw.span().start;
    let raw::Pair { mac, address } = raw.get_ref();
    let mac = mac.as_ref().map(|mac| mac.parse()).transpose().at(offset)?;
    let net = prefix(&Spanned::new(raw.span(), address.clone()))?;
    if net.network().is_multicast() {
        return mistake(offset, format!("{net} is multicast: no guest sends from it"));
    }
    Ok(AddressPair { mac, net })
}
