//! Between entities and what a database column or a line of the audit holds.

use ruleset::model::{Family, Icmp, InvalidService, PortRange, Protocol, Remote, Rule, Service};
use serde::Serialize;
use serde::de::{DeserializeOwned, IntoDeserializer as _};
use serde_json::Value;

/// A rule in columns; also its form in the audit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RuleColumns {
    pub direction: String,
    pub ethertype: String,
    pub protocol: Option<i64>,
    pub port_first: Option<i64>,
    pub port_last: Option<i64>,
    pub icmp_type: Option<i64>,
    pub icmp_code: Option<i64>,
    pub remote: String,
    pub remote_prefix: Option<String>,
    pub remote_group: Option<String>,
    pub remote_set: Option<String>,
    pub description: String,
}

/// Protocol, ports, ICMP type and code: what [`Service::new`] takes.
type Parts = (Option<Protocol>, Option<PortRange>, Option<u8>, Option<u8>);

fn parts(service: Service) -> Parts {
    match service {
        Service::Any => (None, None, None, None),
        Service::Protocol(p) => (Some(p), None, None, None),
        Service::Ports(p, range) => (Some(p), Some(range), None, None),
        Service::Icmp(p, Icmp { kind, code }) => (Some(p), None, Some(kind), code),
    }
}

/// The same service as `Service::new` would have made it.
pub(crate) fn canonical_service(family: Family, service: Service) -> Result<Service, InvalidService> {
    let (protocol, ports, kind, code) = parts(service);
    Service::new(family, protocol, ports, kind, code)
}

impl RuleColumns {
    pub(crate) fn new(rule: &Rule) -> Self {
        let Rule { id: _, direction, family, service, remote, description } = rule;
        let (protocol, ports, kind, code) = parts(*service);
        let (kind_of_remote, prefix, group, set) = match remote {
            Remote::Any => ("any", None, None, None),
            Remote::Prefix(net) => ("prefix", Some(net.to_string()), None, None),
            Remote::Group(id) => ("group", None, Some(id.to_string()), None),
            Remote::Set(id) => ("set", None, None, Some(id.to_string())),
        };
        Self {
            direction: word(direction),
            ethertype: word(family),
            protocol: protocol.map(|p| p.0.into()),
            port_first: ports.map(|r| r.first().into()),
            port_last: ports.map(|r| r.last().into()),
            icmp_type: kind.map(Into::into),
            icmp_code: code.map(Into::into),
            remote: kind_of_remote.to_owned(),
            remote_prefix: prefix,
            remote_group: group,
            remote_set: set,
            description: description.clone(),
        }
    }

    /// The rule, or what is wrong with the columns.
    pub(crate) fn rule(self, id: &str) -> Result<Rule, String> {
        let direction = from_word("direction", &self.direction)?;
        let family = from_word("ethertype", &self.ethertype)?;
        let ports = match (self.port_first, self.port_last) {
            (None, None) => None,
            (Some(first), Some(last)) => {
                Some(PortRange::new(number(first)?, number(last)?).map_err(|e| e.to_string())?)
            }
            _ => return Err("half a port range".to_owned()),
        };
        let protocol = self.protocol.map(number).transpose()?.map(Protocol);
        let kind = self.icmp_type.map(number).transpose()?;
        let code = self.icmp_code.map(number).transpose()?;
        let service = Service::new(family, protocol, ports, kind, code).map_err(|e| e.to_string())?;
        let remote = match (self.remote.as_str(), self.remote_prefix, self.remote_group, self.remote_set) {
            ("any", None, None, None) => Remote::Any,
            ("prefix", Some(net), None, None) => Remote::Prefix(parse(&net)?),
            ("group", None, Some(id), None) => Remote::Group(parse(&id)?),
            ("set", None, None, Some(id)) => Remote::Set(parse(&id)?),
            (word, ..) => return Err(format!("remote {word:?} does not fit its columns")),
        };
        Ok(Rule { id: parse(id)?, direction, family, service, remote, description: self.description })
    }
}

/// A word of a closed list, as serde has it.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        other => unreachable!("no word: {other:?}"),
    }
}

/// The value of a word in this column.
pub(crate) fn from_word<T: DeserializeOwned>(column: &str, word: &str) -> Result<T, String> {
    T::deserialize(word.into_deserializer())
        .map_err(|error: serde::de::value::Error| format!("{column}: {error}"))
}

/// A text column as a value of its type.
pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| format!("{text:?}: {error}"))
}

/// A number column as a value of its type.
pub(crate) fn number<T: TryFrom<i64>>(value: i64) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{value} is out of range"))
}
