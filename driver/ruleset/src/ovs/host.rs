//! What the switch of one host looks like: bridges, networks (VLANs), ports and their OpenFlow numbers.

mod json;

use std::collections::{BTreeMap, BTreeSet};

use super::flow::OfPort;
use crate::ids::{Interface, Mac, VifUuid};
pub(super) use json::Table;

use super::dialect::InvalidVersion;

/// One host's switch. Bridges here are real ones; a fake (VLAN) bridge is a network of its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OvsHost {
    /// Networks by the name XAPI knows: a real bridge, or a fake one.
    pub networks: BTreeMap<Interface, Network>,
    /// The ports of each real bridge, sorted by name.
    pub ports: BTreeMap<Interface, Vec<SwitchPort>>,
}

/// Where a network's packets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The real bridge.
    pub parent: Interface,
    /// Its VLAN there; `None` for the real bridge's own, untagged network.
    pub tag: Option<u16>,
}

/// An interface on a real bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchPort {
    /// Its name.
    pub name: String,
    /// Its OpenFlow number.
    pub ofport: OfPort,
    /// The VLAN it is an access port of.
    pub tag: Option<u16>,
    /// What it is.
    pub kind: PortKind,
}

/// What a port of a bridge is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A guest's `vif*` or `tap*`.
    Guest {
        /// XAPI's uuid, from the switch's database.
        vif: Option<VifUuid>,
        /// The guest's MAC, from there too.
        mac: Option<Mac>,
        /// XAPI's own locking stands for it (`VIF.locking_mode` is `locked`): not in the switch's database, so the caller
        /// sets it for VIFs that are no ports of the policy.
        locked: bool,
    },
    /// An interface of dom0's own.
    Internal {
        /// Its MAC.
        mac: Option<Mac>,
    },
    /// A way out of the host: a card, a tunnel, a patch.
    Wire {
        /// It shares its port with others: a bond.
        bonded: bool,
    },
}

/// Facts that do not fit together, or text that is not what `ovs-vsctl` prints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum HostError {
    #[error("ovs-vsctl list {table}: {problem}")]
    Table { table: &'static str, problem: String },
    #[error("bridge {bridge} has a port {port} that is in no table")]
    Dangling { bridge: String, port: String },
    #[error("fake bridge {0} has no port of its name with a VLAN tag")]
    FakeBridge(String),
    #[error("ovs-vsctl did not answer all that was asked")]
    Incomplete,
    #[error(transparent)]
    Version(#[from] InvalidVersion),
}

/// The columns to ask `ovs-vsctl --format=json --columns=… list` for, and what follows from them.
impl OvsHost {
    /// Of `Bridge`.
    pub const BRIDGE_COLUMNS: &'static str = "name,ports,protocols";
    /// Of `Port`.
    pub const PORT_COLUMNS: &'static str = "_uuid,name,interfaces,tag";
    /// Of `Interface`.
    pub const INTERFACE_COLUMNS: &'static str = "_uuid,name,ofport,type,mac_in_use,external_ids";

    /// The networks of one real bridge.
    pub fn networks_of<'a>(
        &'a self,
        parent: &'a Interface,
    ) -> impl Iterator<Item = (&'a Interface, Option<u16>)> + 'a {
        self.networks.iter().filter(move |(_, n)| n.parent == *parent).map(|(name, n)| (name, n.tag))
    }
}

/// Puts a host together from `list-br` and the three tables in JSON.
///
/// A port whose interface has no OpenFlow number (−1, or none yet) is left out: no packet comes from or goes to it.
///
/// # Errors
/// [`HostError`] for anything else that is missing or not understood.
pub fn parse_host(list_br: &str, bridges: &str, ports: &str, interfaces: &str) -> Result<OvsHost, HostError> {
    let bridges = Table::parse("Bridge", bridges)?;
    let ports = Table::parse("Port", ports)?;
    let interfaces = Table::parse("Interface", interfaces)?;
    let interface_rows = interfaces.by_uuid()?;
    let port_rows = ports.by_uuid()?;

    let names: BTreeSet<&str> = list_br.split_whitespace().collect();
    let mut host = OvsHost::default();
    for bridge in bridges.rows() {
        let parent: Interface = bridge.text("name")?.parse().map_err(|e| bridge.problem("name", &e))?;
        let mut found = Vec::new();
        host.networks.insert(parent.clone(), Network { parent: parent.clone(), tag: None });
        for uuid in bridge.uuids("ports")? {
            let dangling = || HostError::Dangling { bridge: parent.to_string(), port: uuid.clone() };
            let port = port_rows.get(&uuid).ok_or_else(dangling)?;
            let tag = port.optional_number("tag")?;
            let tag = tag.map(u16::try_from).transpose().map_err(|e| port.problem("tag", &e))?;
            let members = port.uuids("interfaces")?;
            for member in &members {
                let interface = interface_rows.get(member).ok_or_else(dangling)?;
                let name = interface.text("name")?;
                if let (Some(tag), true) = (tag, names.contains(name.as_str())) {
                    let fake: Interface = name.parse().map_err(|e| interface.problem("name", &e))?;
                    host.networks.insert(fake, Network { parent: parent.clone(), tag: Some(tag) });
                }
                let Some(ofport) = interface.optional_number("ofport")?.and_then(OfPort::from_database)
                else {
                    continue;
                };
                let kind = kind(interface, &name, members.len() > 1)?;
                found.push(SwitchPort { name, ofport, tag, kind });
            }
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        host.ports.insert(parent, found);
    }
    match names.iter().find(|name| !host.networks.keys().any(|known| known.as_str() == **name)) {
        Some(name) => Err(HostError::FakeBridge((*name).to_owned())),
        None => Ok(host),
    }
}

/// What each bridge speaks.
pub(super) fn protocols(bridges: &Table) -> Result<BTreeMap<Interface, Vec<String>>, HostError> {
    let one = |bridge: json::Row<'_>| {
        let name = bridge.text("name")?.parse().map_err(|e| bridge.problem("name", &e))?;
        Ok((name, bridge.texts("protocols")?))
    };
    bridges.rows().map(one).collect()
}

fn kind(interface: &json::Row<'_>, name: &str, bonded: bool) -> Result<PortKind, HostError> {
    let is_guest = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    if is_guest("vif") || is_guest("tap") {
        let ids = interface.map("external_ids")?;
        let vif = ids.get("xs-vif-uuid").map(|uuid| uuid.parse()).transpose();
        let mac = ids.get("attached-mac").map(|mac| mac.to_ascii_lowercase().parse()).transpose();
        return Ok(PortKind::Guest {
            vif: vif.map_err(|e| interface.problem("external_ids", &e))?,
            mac: mac.map_err(|e| interface.problem("external_ids", &e))?,
            locked: false,
        });
    }
    if interface.text("type")? == "internal" {
        let mac = interface.optional_text("mac_in_use")?.map(|mac| mac.parse()).transpose();
        return Ok(PortKind::Internal { mac: mac.map_err(|e| interface.problem("mac_in_use", &e))? });
    }
    Ok(PortKind::Wire { bonded })
}

#[cfg(test)]
mod tests;
