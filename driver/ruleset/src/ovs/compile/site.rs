//! Which packet is whose: the ports of one bridge, sorted into filtered ones, others, and wires.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use super::{CompileError, digest, numbers};
use crate::ids::{Interface, Mac, VifUuid};
use crate::model::{Port, PortSecurity};
use crate::ovs::flow::{Destination, Flow, Key, OfPort, Zone};
use crate::ovs::host::{OvsHost, PortKind, SwitchPort};
use crate::ovs::table;
use crate::resolve::{Attachment, HostPolicy};

/// A filtered port.
pub(super) struct Site<'a> {
    pub(super) port: &'a Port,
    /// Its number in registers: from the VIF's uuid, so that a new OpenFlow number changes only the hook and the output.
    pub(super) id: u32,
    /// Its network's number.
    pub(super) network: u32,
    /// Its vif, its tap, or both.
    pub(super) ofports: Vec<OfPort>,
    /// It is plugged here, but its guest may still run elsewhere.
    pub(super) arriving: bool,
}

/// A port that is not filtered.
pub(super) struct Other {
    pub(super) ofport: OfPort,
    /// MACs that are certainly behind it.
    pub(super) macs: Vec<Mac>,
    /// Whether any other MAC may be behind it, too: a guest the operator vouches for, or an unknown one.
    pub(super) nested: bool,
    /// XAPI's locking flows decide what it sends.
    pub(super) locked: bool,
}

/// A network with something to enforce on this bridge.
pub(super) struct Net {
    pub(super) name: Interface,
    number: NonZeroU16,
    pub(super) tag: Option<u16>,
    pub(super) guarded: bool,
    /// Ports on which its packets have no VLAN header.
    pub(super) access: Vec<Other>,
    /// Whether the copies for many can be made port by port: not on a bond, whose members only `NORMAL` can choose from.
    pub(super) explicit: bool,
}

impl Net {
    /// Its number in registers.
    pub(super) fn number(&self) -> u32 {
        self.number.get().into()
    }

    /// Where its connections are tracked: the number alone tells networks apart, in registers and in the kernel.
    pub(super) fn zone(&self) -> Zone {
        Zone::Is(self.number)
    }
}

/// One bridge, sorted.
pub(super) struct Layout<'a> {
    pub(super) ports: Vec<Site<'a>>,
    /// Only those with a filtered port, or guarded.
    pub(super) nets: Vec<Net>,
    /// Ways out on which tagged packets are tagged.
    pub(super) trunks: Vec<OfPort>,
    /// VIFs of guarded networks that are no ports of the policy, with the number of the network.
    pub(super) unknown: Vec<(OfPort, u32)>,
    /// (network, MAC) of those.
    pub(super) unknown_macs: Vec<(u32, Mac)>,
    /// Access ports of networks with nothing to enforce.
    pub(super) foreign: Vec<OfPort>,
    /// MACs of guests that are about to arrive by ports which nobody has seen yet.
    pub(super) unseen: BTreeSet<Mac>,
    /// Ports on which such a MAC may be seen all the same: they are known, and not filtered.
    pub(super) bystanders: Vec<OfPort>,
    /// Ports that are no guest's, on whatever network, or none.
    pub(super) no_guests: Vec<OfPort>,
    /// Dom0's own MACs: what is sent there is dom0's, whichever guest claims them.
    own: BTreeSet<Mac>,
    /// Every network of the bridge is guarded: a port that nobody knows can only be a VIF without rules.
    pub(super) all_guarded: bool,
    pub(super) missing: Vec<VifUuid>,
    pub(super) complaints: Vec<String>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        host: &'a HostPolicy,
        switch: &OvsHost,
        bridge: &Interface,
    ) -> Result<Self, CompileError> {
        let switch_ports = switch.ports.get(bridge).ok_or_else(|| CompileError::NoBridge(bridge.clone()))?;
        for attachment in &host.attachments {
            if !switch.networks.contains_key(&attachment.bridge) {
                let (vif, bridge) = (attachment.port.vif.clone(), attachment.bridge.clone());
                return Err(CompileError::NoNetwork { vif, bridge });
            }
        }
        // Conntrack zones are the kernel's: one number per network of the whole host, not of the bridge.
        let zones = numbers(switch.networks.keys(), |name| digest(&[name.as_str()]), u16::MAX.into());
        let zone =
            |name| zones.get(name).and_then(|zone| NonZeroU16::try_from(u16::try_from(*zone).ok()?).ok());
        let vifs: BTreeSet<_> = host.ports().map(|port| &port.vif).collect();
        let ids = numbers(vifs, |vif| digest(&[vif.as_str()]), u32::MAX);
        let mut layout = Self {
            ports: Vec::new(),
            nets: Vec::new(),
            trunks: Vec::new(),
            unknown: Vec::new(),
            unknown_macs: Vec::new(),
            foreign: Vec::new(),
            unseen: BTreeSet::new(),
            bystanders: Vec::new(),
            no_guests: switch_ports
                .iter()
                .filter(|port| !matches!(port.kind, PortKind::Guest { .. }))
                .map(|port| port.ofport)
                .collect(),
            own: switch_ports.iter().filter_map(own_mac).collect(),
            all_guarded: switch.networks_of(bridge).all(|(name, _)| host.guarded.contains(name)),
            missing: Vec::new(),
            complaints: Vec::new(),
        };
        let bonded = switch_ports.iter().any(|p| p.kind == PortKind::Wire { bonded: true });
        layout.trunks = switch_ports
            .iter()
            .filter(|p| matches!(p.kind, PortKind::Wire { .. }) && p.tag.is_none())
            .map(|p| p.ofport)
            .collect();
        let mut taken: BTreeMap<&str, &Port> = BTreeMap::new();
        for place in places(host) {
            if switch.networks.get(place.bridge).is_none_or(|n| n.parent != *bridge) {
                continue;
            }
            let moves_here = place.attachment.is_none()
                && host.attachments.iter().any(|attachment| attachment.port.vif == place.port.vif);
            let ofports: Vec<&SwitchPort> = switch_ports.iter().filter(|port| place.has(port)).collect();
            taken.extend(ofports.iter().map(|port| (port.name.as_str(), place.port)));
            let arriving = place.attachment.is_none();
            // Where every network is guarded, no stranger says anything anyway.
            let closed = place.port.security == PortSecurity::On && !layout.all_guarded;
            // Its new port has the VIF's uuid as well; but nothing tells that from a port that has been here all along.
            if moves_here || arriving && ofports.is_empty() {
                let own: BTreeSet<Mac> =
                    host.lifelines_on(place.bridge.as_str()).map(|line| line.mac).collect();
                let dom0s = &layout.own;
                let silent = macs(place.port)
                    .into_iter()
                    .filter(|mac| closed && !own.contains(mac) && !dom0s.contains(mac));
                layout.unseen.extend(silent);
                continue;
            }
            if ofports.is_empty() {
                layout.missing.push(place.port.vif.clone());
            }
            if place.port.security == PortSecurity::On
                && let (Some(id), Some(network)) = (ids.get(&place.port.vif), zones.get(place.bridge))
            {
                let ofports = ofports.iter().map(|port| port.ofport).collect();
                layout.ports.push(Site { port: place.port, id: *id, network: *network, ofports, arriving });
            }
        }
        if !layout.unseen.is_empty() {
            let is_filtered = |name: &str| taken.get(name).is_some_and(|p| p.security == PortSecurity::On);
            let stays = |port: &&SwitchPort| {
                !is_filtered(&port.name) && !matches!(port.kind, PortKind::Guest { locked: true, .. })
            };
            layout.bystanders = switch_ports.iter().filter(stays).map(|port| port.ofport).collect();
        }
        for (name, tag) in switch.networks_of(bridge) {
            let Some(zone) = zone(name) else { continue };
            let number = zone.get().into();
            let guarded = host.guarded.contains(name);
            let on_it = |port: &&SwitchPort| port.tag == tag && !layout.trunks.contains(&port.ofport);
            if !guarded && !layout.ports.iter().any(|site| site.network == number) {
                layout.foreign.extend(switch_ports.iter().filter(on_it).map(|port| port.ofport));
                continue;
            }
            let mut access = Vec::new();
            for port in switch_ports.iter().filter(on_it).collect::<Vec<_>>() {
                match (taken.get(port.name.as_str()), &port.kind) {
                    (Some(owner), _) if owner.security == PortSecurity::On => {}
                    (Some(owner), _) => access.push(vouched_for(port, owner).without(&layout.own)),
                    (None, PortKind::Guest { mac, .. }) if guarded => {
                        layout.unknown.push((port.ofport, number));
                        layout.unknown_macs.extend(mac.map(|mac| (number, mac)));
                    }
                    (None, PortKind::Guest { .. }) => access.push(other(port).without(&layout.own)),
                    (None, _) => access.push(other(port)),
                }
            }
            if bonded {
                layout.complaints.push(format!(
                    "{name}: its bridge {bridge} has a bond, which only the switch's own flooding can use; broadcast, \
                     multicast and unknown unicast reach every guest of the network"
                ));
            }
            layout.nets.push(Net {
                name: name.clone(),
                number: zone,
                tag,
                guarded,
                access,
                explicit: !bonded,
            });
        }
        layout.say_who_claims_dom0s_macs(bridge);
        for locked in layout.nets.iter().flat_map(|n| &n.access).filter(|other| other.locked) {
            layout.complaints.push(format!(
                "{bridge}: port {} is locked by XAPI and no port of ours; what it sends to many is not filtered",
                locked.ofport
            ));
        }
        Ok(layout)
    }

    fn say_who_claims_dom0s_macs(&mut self, bridge: &Interface) {
        for site in &self.ports {
            for mac in macs(site.port).intersection(&self.own) {
                self.complaints.push(format!(
                    "{bridge}: {} claims {mac}, which is dom0's own there; what is sent to it stays dom0's",
                    site.port.vif
                ));
            }
        }
    }

    pub(super) fn has_nothing_to_enforce(&self) -> bool {
        self.nets.is_empty() && self.unseen.is_empty()
    }

    /// Who receives what is sent to a MAC on a network; nobody, if it is an unknown VIF's.
    pub(super) fn receivers(&self) -> BTreeMap<(u32, Mac), Vec<u32>> {
        let mut receivers: BTreeMap<(u32, Mac), Vec<u32>> = BTreeMap::new();
        for key in self.unknown_macs.iter().filter(|(_, mac)| !self.own.contains(mac)) {
            receivers.entry(*key).or_default();
        }
        for site in &self.ports {
            for mac in macs(site.port).difference(&self.own).copied() {
                receivers.entry((site.network, mac)).or_default().push(site.id);
            }
        }
        receivers
    }

    /// The ports that make a flow long: one with so many groups; those that claim a MAC which is not their own.
    pub(super) fn culprits(&self, flow: &Flow) -> BTreeSet<VifUuid> {
        let Key { table, matches, .. } = &flow.key;
        let has = |register, value| matches.registers.contains(&(register, value));
        let is_culprit = |site: &&Site<'_>| match (*table, matches.dl_dst) {
            (table::GROUPS_EGRESS, _) => has(table::FROM, site.id),
            (table::GROUPS_INGRESS, _) => has(table::TO, site.id),
            (table::DELIVER, Some(Destination::Exactly(mac))) => {
                has(table::NETWORK, site.network) && site.port.mac != mac && macs(site.port).contains(&mac)
            }
            _ => false,
        };
        self.ports.iter().filter(is_culprit).map(|site| site.port.vif.clone()).collect()
    }

    pub(super) fn net(&self, number: u32) -> Option<&Net> {
        self.nets.iter().find(|net| net.number() == number)
    }
}

/// The port's MAC and those of its pairs, each once.
pub(super) fn macs(port: &Port) -> BTreeSet<Mac> {
    port.pairs.iter().filter_map(|pair| pair.mac).chain([port.mac]).collect()
}

/// A port of the policy, here or about to be.
struct Place<'a> {
    port: &'a Port,
    bridge: &'a Interface,
    attachment: Option<&'a Attachment>,
}

fn places(host: &HostPolicy) -> impl Iterator<Item = Place<'_>> {
    let here = host.attachments.iter();
    let here = here.map(|a| Place { port: &a.port, bridge: &a.bridge, attachment: Some(a) });
    let expected = host.expected.iter();
    here.chain(expected.map(|e| Place { port: &e.port, bridge: &e.bridge, attachment: None }))
}

impl Place<'_> {
    /// By uuid where the switch knows it; the name alone may be a leftover's.
    fn has(&self, port: &SwitchPort) -> bool {
        match &port.kind {
            PortKind::Guest { vif: Some(vif), .. } => *vif == self.port.vif,
            PortKind::Guest { vif: None, .. } => {
                self.attachment.is_some_and(|a| a.interfaces().contains(&port.name))
            }
            PortKind::Internal { .. } | PortKind::Wire { .. } => false,
        }
    }
}

/// An interface of dom0's has its MAC.
fn own_mac(port: &SwitchPort) -> Option<Mac> {
    match port.kind {
        PortKind::Internal { mac } => mac,
        PortKind::Guest { .. } | PortKind::Wire { .. } => None,
    }
}

impl Other {
    /// None of dom0's MACs is behind it.
    fn without(mut self, own: &BTreeSet<Mac>) -> Self {
        self.macs.retain(|mac| !own.contains(mac));
        self
    }
}

fn vouched_for(port: &SwitchPort, owner: &Port) -> Other {
    Other { ofport: port.ofport, macs: macs(owner).into_iter().collect(), nested: true, locked: false }
}

fn other(port: &SwitchPort) -> Other {
    let (macs, nested): (Vec<Mac>, bool) = match &port.kind {
        PortKind::Guest { mac, .. } | PortKind::Internal { mac } => {
            (mac.iter().copied().collect(), mac.is_none())
        }
        PortKind::Wire { .. } => (Vec::new(), true),
    };
    let locked = matches!(port.kind, PortKind::Guest { locked: true, .. });
    Other { ofport: port.ofport, macs, nested, locked }
}
