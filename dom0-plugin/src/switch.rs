//! The host's Open vSwitch as its database describes it: bridges, networks, ports and their OpenFlow numbers.

use std::collections::{BTreeMap, BTreeSet};

use crate::authorise::{Bridge, Program, Role, is_interface, mac_number};
use crate::{Code, Refusal, Result};

/// A VLAN of a bridge; `None` is its untagged network.
pub(crate) type Tag = Option<u16>;

/// The number of a bridge's own interface in the database (`OFPP_LOCAL`); ports with lower ones are ordinary.
const LOCAL: u16 = 0xfffe;

/// The first number that is no ordinary port's.
const RESERVED: u16 = 0xff00;

/// One moment's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Switch {
    /// The real bridges with their ports.
    pub(crate) bridges: BTreeMap<String, Vec<Port>>,
    /// Networks by XAPI's name for them, which is a real bridge's or a VLAN's (a fake bridge's): the bridge, the VLAN.
    pub(crate) networks: BTreeMap<String, (String, Tag)>,
}

/// An interface that has an OpenFlow number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// The number as `ovs-ofctl` takes it, `LOCAL` for the bridge's own.
    pub(crate) ofport: String,
    /// The VLAN it is an access port of.
    pub(crate) tag: Tag,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A guest's `vif*` or `tap*` (xenopsd's names).
    Guest,
    /// An interface of dom0's own, with its MAC as a number.
    Own(Option<u64>),
    /// A way out of the host: a card, a tunnel, a patch.
    Wire {
        /// It shares its port with others, so that only the switch itself can choose one.
        bonded: bool,
    },
}

impl Switch {
    /// The networks of a real bridge.
    pub(crate) fn networks_of<'a>(&'a self, bridge: &'a str) -> impl Iterator<Item = (&'a str, Tag)> + 'a {
        let of = move |(name, (parent, tag)): (&'a String, &(String, Tag))| {
            (parent == bridge).then_some((name.as_str(), *tag))
        };
        self.networks.iter().filter_map(of)
    }

    /// What flows of a real bridge are checked against; `None` if there is no such bridge.
    pub(crate) fn bridge(&self, name: &str) -> Option<Bridge> {
        let ports = self.bridges.get(name)?.iter().map(|port| {
            let role = match port.kind {
                Kind::Guest => Role::Guest,
                Kind::Own(mac) => Role::Own(mac),
                Kind::Wire { .. } => Role::Wire { trunk: port.tag.is_none() },
            };
            (port.ofport.parse().unwrap_or(LOCAL), role)
        });
        let ports: BTreeMap<u16, Role> = ports.collect();
        let vlans = self.networks_of(name).filter_map(|(_, tag)| tag).collect();
        let access = self
            .bridges
            .get(name)?
            .iter()
            .filter_map(|port| Some((port.ofport.parse().unwrap_or(LOCAL), port.tag?)));
        Some(Bridge { ports, vlans, access: access.collect() })
    }

    /// Reads what [`crate::authorise::look_at_switch`] prints: names of bridges, then three tables with their headings.
    ///
    /// # Errors
    /// [`Code::OutputUnparsable`] for whatever is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut lines = Lines { rest: text.lines().enumerate() };
        let names: BTreeSet<&str> =
            lines.until("name,ports")?.into_iter().filter_map(|(_, cells)| cells.first().copied()).collect();
        let bridges = lines.until("_uuid,name,tag,interfaces")?;
        let ports = keyed::<4>(lines.until("_uuid,name,ofport,type,mac_in_use")?)?;
        let interfaces = keyed::<5>(lines.remaining())?;
        let mut switch = Self::default();
        for (at, cells) in bridges {
            let [bridge, members] = cells[..] else { return Err(unparsable(at)) };
            let mut found = Vec::new();
            switch.networks.insert(name(at, bridge)?, (bridge.to_owned(), None));
            for uuid in members.split(' ').filter(|uuid| !uuid.is_empty()) {
                let (at, port) = ports.get(uuid).ok_or_else(|| unparsable(at))?;
                let [_, port_name, tag, members] = port[..] else { return Err(unparsable(*at)) };
                let tag = match tag {
                    "" => None,
                    tag => Some(tag.parse().map_err(|_| unparsable(*at))?),
                };
                if tag.is_some() && names.contains(port_name) {
                    switch.networks.insert(name(*at, port_name)?, (bridge.to_owned(), tag));
                }
                let bonded = members.contains(' ');
                for uuid in members.split(' ').filter(|uuid| !uuid.is_empty()) {
                    let (at, interface) = interfaces.get(uuid).ok_or_else(|| unparsable(*at))?;
                    let [_, name, number, kind, mac] = interface[..] else { return Err(unparsable(*at)) };
                    let Some(ofport) = ofport(number).ok_or_else(|| unparsable(*at))? else { continue };
                    found.push(Port { ofport, tag, kind: kind_of(name, kind, mac, bonded) });
                }
            }
            found.sort_unstable_by(|a, b| a.ofport.cmp(&b.ofport));
            switch.bridges.insert(bridge.to_owned(), found);
        }
        match names.iter().all(|name| switch.networks.contains_key(*name)) {
            true => Ok(switch),
            false => Err(unparsable(0)),
        }
    }
}

/// A number in the database: none, or −1, is a port that no packet comes from or goes to. `None`: no number at all.
fn ofport(text: &str) -> Option<Option<String>> {
    match text {
        "" | "-1" => Some(None),
        text => match text.parse().ok()? {
            LOCAL => Some(Some("LOCAL".to_owned())),
            number if (1..RESERVED).contains(&number) => Some(Some(number.to_string())),
            _ => None,
        },
    }
}

fn kind_of(name: &str, kind: &str, mac: &str, bonded: bool) -> Kind {
    let is_guest = |prefix| {
        name.strip_prefix(prefix).is_some_and(|rest: &str| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    match kind {
        _ if is_guest("vif") || is_guest("tap") => Kind::Guest,
        "internal" => Kind::Own(mac_number(mac)),
        _ => Kind::Wire { bonded },
    }
}

/// A line's position from 0, and its cells. Names here hold neither commas nor quotes, or the line is not understood.
type Row<'a> = (usize, Vec<&'a str>);

struct Lines<'a> {
    rest: std::iter::Enumerate<std::str::Lines<'a>>,
}

impl<'a> Lines<'a> {
    /// The rows before this heading.
    fn until(&mut self, heading: &str) -> Result<Vec<Row<'a>>> {
        let mut rows = Vec::new();
        for (at, line) in self.rest.by_ref() {
            match line {
                line if line == heading => return Ok(rows),
                "" => {}
                line => rows.push((at, line.split(',').collect())),
            }
        }
        Err(unparsable(0))
    }

    fn remaining(self) -> Vec<Row<'a>> {
        let rows = self.rest.filter(|(_, line)| !line.is_empty());
        rows.map(|(at, line)| (at, line.split(',').collect())).collect()
    }
}

/// Rows of so many cells, by their first.
fn keyed<'a, const CELLS: usize>(rows: Vec<Row<'a>>) -> Result<BTreeMap<&'a str, Row<'a>>> {
    let keyed = |(at, cells): Row<'a>| match cells.first() {
        Some(uuid) if cells.len() == CELLS => Ok((*uuid, (at, cells))),
        _ => Err(unparsable(at)),
    };
    rows.into_iter().map(keyed).collect()
}

fn name(at: usize, text: &str) -> Result<String> {
    is_interface(text).then(|| text.to_owned()).ok_or_else(|| unparsable(at))
}

fn unparsable(at: usize) -> Refusal {
    Refusal::new(Code::OutputUnparsable)
        .detail(Program::Vsctl)
        .detail(at + 1)
        .detail("not what ovs-vsctl should say")
}

#[cfg(test)]
mod tests;
