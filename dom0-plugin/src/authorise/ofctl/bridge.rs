//! What a flow may decide about on a bridge: guests' ports, and of all else only what the driver's own flows need.

use std::collections::{BTreeMap, BTreeSet};

use drawbridge_wire::flow::{HOOK_PRIORITIES, TRIAL};

use super::actions::Action;
use super::line::Flow;
use super::matches::{Header, Match, Name, To};
use super::pipeline::{HOOK, OUTPUT, REST, REST_OUTPUT, TRACK_TO, UNTAGGED, WIRE};

/// What a port is to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A guest's `vif*` or `tap*`.
    Guest,
    /// An interface of dom0's, with its MAC as a number.
    Own(Option<u64>),
    /// A way out of the host.
    Wire {
        /// Packets of VLANs have their headers there.
        trunk: bool,
    },
}

/// A bridge as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Ports by OpenFlow number; the bridge's own is 65534.
    pub ports: BTreeMap<u16, Role>,
    /// VLANs that are networks: those of its fake bridges.
    pub vlans: BTreeSet<u16>,
    /// Ports on which a VLAN's packets have no header.
    pub access: BTreeMap<u16, u16>,
}

/// Drops what comes from a port that nobody knows, where every network is guarded.
pub(super) const STRANGER: u64 = *HOOK_PRIORITIES.start();

/// Drops what comes from a MAC whose guest is about to arrive.
pub(super) const UNSEEN: u64 = STRANGER + 50;

impl Bridge {
    /// Ports that are no guest's.
    pub(super) fn others(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.iter().filter(|(_, role)| **role != Role::Guest).map(|(port, _)| *port)
    }

    /// Ways out of the host on which packets of VLANs have their headers.
    pub(super) fn trunks(&self) -> impl Iterator<Item = u16> + '_ {
        let is_trunk = |role: &Role| *role == Role::Wire { trunk: true };
        self.ports.iter().filter(move |(_, role)| is_trunk(role)).map(|(port, _)| *port)
    }

    /// Dom0's ports on a network of the bridge, with their MACs.
    pub(super) fn dom0s(&self, tag: Option<u16>) -> impl Iterator<Item = (u16, Option<u64>)> + '_ {
        self.ports.iter().filter_map(move |(port, role)| match role {
            Role::Own(mac) if self.access.get(port).copied() == tag => Some((*port, *mac)),
            _ => None,
        })
    }

    fn is_own(&self, mac: u64) -> bool {
        self.ports.values().any(|role| *role == Role::Own(Some(mac)))
    }

    fn role(&self, port: u16) -> Result<Role, String> {
        self.ports.get(&port).copied().ok_or_else(|| format!("the bridge has no port {port}"))
    }

    /// Whether a flow that has its table's shape fits this bridge. `step`: it is one of single changes, in which what leads
    /// packets to their receivers drops for a moment.
    ///
    /// # Errors
    /// What it decides about that is no guest's.
    pub(super) fn check(&self, flow: &Flow, step: bool) -> Result<(), String> {
        self.vlans(flow)?;
        // Read, and never met.
        if flow.table == TRIAL {
            return Ok(());
        }
        let in_port = flow.matches.in_port().map(|port| self.role(port)).transpose()?;
        if let Some(To::One(mac)) = flow.matches.to()
            && self.is_own(mac)
        {
            return self.to_dom0(flow, mac, step);
        }
        match flow.table {
            HOOK => self.hook(flow, in_port),
            UNTAGGED if in_port != Some(Role::Guest) && flow.actions.is_empty() && !step => {
                match flow.matches.fields() {
                    // Packets of ports that no other flow knows.
                    [] => Ok(()),
                    _ => Err("drops what comes from a port that is no guest's".to_owned()),
                }
            }
            REST if !step && flow.actions.last() != Some(&Action::Resubmit(REST_OUTPUT)) => {
                Err("drops what is for ports that are no filtered guest's".to_owned())
            }
            OUTPUT => self.copies(flow, |role| role == Role::Guest),
            REST_OUTPUT if matches!(flow.matches.to(), Some(To::One(_))) => {
                self.copies(flow, |role| role == Role::Guest)
            }
            REST_OUTPUT | WIRE => self.copies(flow, |_| true),
            _ => Ok(()),
        }
    }

    fn vlans(&self, flow: &Flow) -> Result<(), String> {
        let known = |id: &u16| self.vlans.contains(id);
        let unknown = |id: u16| Err(format!("VLAN {id} is no network of the bridge"));
        for action in &flow.actions {
            if let Action::Push(id) = action
                && !known(id)
            {
                return unknown(*id);
            }
        }
        match flow.matches.header() {
            Some(Header::Id(id)) if id != 0 && !known(&id) => unknown(id),
            _ => Ok(()),
        }
    }

    /// What is for dom0 reaches dom0, and nobody else.
    fn to_dom0(&self, flow: &Flow, mac: u64, step: bool) -> Result<(), String> {
        let its = |action: &Action| match action {
            Action::Output(port) => self.ports.get(port) == Some(&Role::Own(Some(mac))),
            _ => false,
        };
        match flow.actions.as_slice() {
            [Action::Normal] => Ok(()),
            [] if step && matches!(flow.table, REST_OUTPUT | WIRE) => Ok(()),
            [_, ..] if flow.table == REST_OUTPUT && flow.actions.iter().all(its) => Ok(()),
            _ => Err("diverts or drops what is for a MAC of dom0's own".to_owned()),
        }
    }

    fn copies(&self, flow: &Flow, may: impl Fn(Role) -> bool) -> Result<(), String> {
        for action in &flow.actions {
            if let Action::Output(port) = action
                && !may(self.role(*port)?)
            {
                return Err(format!("copies to port {port}, which is no guest's"));
            }
        }
        Ok(())
    }

    /// Table 0. Of what a guest says, anything may become; of what others say, only what the driver's own flows do.
    fn hook(&self, flow: &Flow, in_port: Option<Role>) -> Result<(), String> {
        let Flow { matches, actions, priority, .. } = flow;
        if in_port == Some(Role::Guest) || *actions == [Action::Normal] {
            return Ok(());
        }
        let header = matches.header();
        let tagged = matches!(header, Some(Header::Id(_)));
        let arrives = match actions.as_slice() {
            [Action::Pop, Action::Load(..), Action::Resubmit(TRACK_TO)] => tagged,
            [Action::Load(..), Action::Resubmit(TRACK_TO)] => header == Some(Header::None),
            _ => false,
        };
        let trunk = in_port == Some(Role::Wire { trunk: true });
        let allowed = match in_port {
            // To many, and from the wire to a MAC that may be nobody's.
            Some(_) if names(matches) == [Name::InPort, Name::Vlan, Name::To] => {
                arrives && matches.to() == Some(To::Many) && (trunk || !tagged)
            }
            Some(_) if names(matches) == [Name::InPort, Name::Vlan] => {
                trunk && *actions == [Action::Resubmit(WIRE)]
            }
            Some(_) => false,
            None => match names(matches).as_slice() {
                [] => actions.is_empty() && u64::from(*priority) == STRANGER,
                [Name::From] => {
                    actions.is_empty()
                        && u64::from(*priority) == UNSEEN
                        && !matches.from().is_some_and(|mac| self.is_own(mac))
                }
                // To the MAC of a filtered guest.
                [Name::Vlan, Name::To] if matches!(matches.to(), Some(To::One(_))) => match header {
                    Some(Header::Id(0)) => *actions == [Action::Pop, Action::Resubmit(UNTAGGED)],
                    Some(Header::Id(_)) => arrives,
                    _ => *actions == [Action::Resubmit(UNTAGGED)],
                },
                _ => false,
            },
        };
        match allowed {
            true => Ok(()),
            false => Err("decides about what comes from a port that is no guest's".to_owned()),
        }
    }
}

fn names(matches: &Match) -> Vec<Name> {
    matches.fields().iter().map(|field| field.name).collect()
}
