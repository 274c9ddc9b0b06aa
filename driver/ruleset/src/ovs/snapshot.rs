//! What one run of `ovs-vsctl`, that is one transaction, says about a host's switch.

use std::collections::BTreeMap;

use super::dialect::{Dialect, Lacks, Version};
use super::host::{HostError, OvsHost, PortKind, parse_host};
use super::host::{Table, protocols};
use crate::ids::{Interface, VifUuid};

/// A host's switch at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// As its start script wrote it down; `None` if nothing did.
    pub version: Option<Version>,
    /// Bridges and ports.
    pub host: OvsHost,
    /// What each real bridge speaks; none means its version's choice.
    protocols: BTreeMap<Interface, Vec<String>>,
}

impl Switch {
    /// Arguments of the `ovs-vsctl` whose answer [`Switch::parse`] reads.
    #[must_use]
    pub fn arguments() -> Vec<String> {
        let tables = [
            ("Bridge", OvsHost::BRIDGE_COLUMNS),
            ("Port", OvsHost::PORT_COLUMNS),
            ("Interface", OvsHost::INTERFACE_COLUMNS),
        ];
        let mut words = ["--format=json", "get", "Open_vSwitch", ".", "ovs_version", "--", "list-br"]
            .map(str::to_owned)
            .to_vec();
        for (table, columns) in tables {
            words.extend([
                "--".to_owned(),
                format!("--columns={columns}"),
                "list".to_owned(),
                table.to_owned(),
            ]);
        }
        words
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`HostError`] for anything that is missing or not understood.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let (version, rest) = text.split_once('\n').ok_or(HostError::Incomplete)?;
        let version = match version.trim().trim_matches('"') {
            "[]" => None,
            text => Some(text.parse()?),
        };
        // Names of bridges hold no brace.
        let tables_at = rest.find('{').ok_or(HostError::Incomplete)?;
        let (names, tables) = rest.split_at(tables_at);
        let tables: Vec<&str> = tables.lines().collect();
        let [bridges, ports, interfaces] = tables.as_slice() else { return Err(HostError::Incomplete) };
        let host = parse_host(names, bridges, ports, interfaces)?;
        let protocols = protocols(&Table::parse("Bridge", bridges)?)?;
        Ok(Self { version, host, protocols })
    }

    /// The real bridges.
    pub fn bridges(&self) -> impl Iterator<Item = &Interface> {
        self.host.ports.keys()
    }

    /// How to speak to a bridge if the switch has this version.
    ///
    /// # Errors
    /// [`Lacks`]
    pub fn dialect(&self, bridge: &Interface, version: Version) -> Result<Dialect, Lacks> {
        let protocols = self.protocols.get(bridge).map_or(&[][..], Vec::as_slice);
        Dialect::choose(version, bridge, protocols)
    }

    /// Notes for which guests' ports XAPI's own locking stands: VIFs with the names their ports may have.
    pub fn note_locked(&mut self, vifs: &BTreeMap<VifUuid, [String; 2]>) {
        for port in self.host.ports.values_mut().flatten() {
            if let PortKind::Guest { vif, locked, .. } = &mut port.kind {
                *locked = match vif {
                    Some(vif) => vifs.contains_key(vif),
                    None => vifs.values().flatten().any(|name| *name == port.name),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests;
