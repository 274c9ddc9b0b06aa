//! Ports: one VIF with its policy.

use ruleset::model::{self, PortSecurity};
use serde::{Deserialize, Serialize};
use store::{PortId, PortTarget};
use utoipa::ToSchema;

use super::group::prefix;
use super::object::objects;
use super::{given_or_new, invalid, parse, parse_optional};
use crate::control::PortState;
use crate::problem::Problem;

/// A further address that the guest may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressPair {
    /// Absent: the port's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// An address or a prefix.
    pub address: String,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in the input")]
pub struct Port {
    pub id: String,
    pub project: Option<String>,
    pub vm: Option<String>,
    pub device: Option<u32>,
    pub vif: Option<String>,
    pub addresses: Vec<String>,
    pub address_pairs: Vec<AddressPair>,
    pub groups: Vec<String>,
    pub port_security: bool,
    /// The generation that changed it last.
    pub revision: u64,
    /// How it stands; not in the answer to an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PortState>,
}

/// A port, to be made or changed. Either `vm` and `device`, or `vif`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortInput {
    /// Neutron's uuid; made up if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub id: Option<String>,
    /// The project that owns it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub project: Option<String>,
    /// Name or uuid of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1024)]
    pub vm: Option<String>,
    /// The VIF's device number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    /// XAPI's uuid of the VIF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    pub vif: Option<String>,
    /// Fixed addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Further addresses that the guest may use.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub address_pairs: Vec<AddressPair>,
    /// Groups; none means that only DHCP, ARP, ND and replies pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whether it is filtered at all.
    #[serde(default = "yes")]
    pub port_security: bool,
}

fn yes() -> bool {
    true
}

impl Default for PortInput {
    fn default() -> Self {
        Self {
            id: None,
            project: None,
            vm: None,
            device: None,
            vif: None,
            addresses: Vec::new(),
            address_pairs: Vec::new(),
            groups: Vec::new(),
            port_security: true,
        }
    }
}

impl From<(&store::Port, u64)> for Port {
    fn from((port, revision): (&store::Port, u64)) -> Self {
        let store::Port { id, project, target, addresses, pairs, groups, security } = port;
        let (vm, device, vif) = match target {
            PortTarget::Device { vm, device } => (Some(vm.clone()), Some(*device), None),
            PortTarget::Vif(vif) => (None, None, Some(vif.to_string())),
        };
        let pair = |model::AddressPair { mac, net }: &model::AddressPair| AddressPair {
            mac: mac.map(|mac| mac.to_string()),
            address: net.to_string(),
        };
        Self {
            id: id.to_string(),
            project: project.as_ref().map(ToString::to_string),
            vm,
            device,
            vif,
            addresses: addresses.iter().map(ToString::to_string).collect(),
            address_pairs: pairs.iter().map(pair).collect(),
            groups: groups.iter().map(ToString::to_string).collect(),
            port_security: *security == PortSecurity::On,
            revision,
            state: None,
        }
    }
}

impl From<Port> for PortInput {
    fn from(port: Port) -> Self {
        let Port {
            id,
            project,
            vm,
            device,
            vif,
            addresses,
            address_pairs,
            groups,
            port_security,
            revision: _,
            state: _,
        } = port;
        Self { id: Some(id), project, vm, device, vif, addresses, address_pairs, groups, port_security }
    }
}

impl PortInput {
    pub(crate) fn port(self) -> Result<store::Port, Problem> {
        let id: PortId = given_or_new(self.id.as_deref())?;
        self.port_of(id)
    }

    /// The port, with this id.
    pub(crate) fn port_of(self, id: PortId) -> Result<store::Port, Problem> {
        let Self { id: _, project, vm, device, vif, addresses, address_pairs, groups, port_security } = self;
        let target = match (vm, device, vif) {
            (Some(vm), Some(device), None) => PortTarget::Device { vm, device },
            (None, None, Some(vif)) => PortTarget::Vif(parse(&vif, "/vif")?),
            _ => return Err(invalid("", "a port is given by vm and device, or by vif")),
        };
        let addresses = addresses.iter().enumerate();
        let groups = groups.iter().enumerate();
        let pairs = address_pairs.into_iter().enumerate().map(|(index, AddressPair { mac, address })| {
            let at = format!("/address_pairs/{index}");
            Ok::<_, Problem>(model::AddressPair {
                mac: parse_optional(mac.as_deref(), &format!("{at}/mac"))?,
                net: prefix(&address, &format!("{at}/address"))?,
            })
        });
        Ok(store::Port {
            id,
            project: parse_optional(project.as_deref(), "/project")?,
            target,
            addresses: addresses
                .map(|(index, text)| {
                    let address = text.parse();
                    address.map_err(|_| {
                        invalid(format!("/addresses/{index}"), format_args!("{text:?} is no address"))
                    })
                })
                .collect::<Result<_, _>>()?,
            pairs: pairs.collect::<Result<_, _>>()?,
            groups: groups
                .map(|(index, text)| parse(text, format!("/groups/{index}")))
                .collect::<Result<_, _>>()?,
            security: if port_security { PortSecurity::On } else { PortSecurity::Off },
        })
    }
}
