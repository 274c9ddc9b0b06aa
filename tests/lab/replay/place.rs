//! Who sends and who receives, and the way between them.

use std::collections::BTreeMap;

use anyhow::Result;
use e2e::lab::{Backend, Builder, Guest, Lab, OUTSIDE};
use e2e::station::Station;
use e2e::tap::Tap;
use ruleset::ids::Mac;
use ruleset::model::{Direction, Family, PortSecurity, Protocol};
use ruleset::packet::{Packet, Payload, Transport};
use ruleset::resolve::HostPolicy;
use ruleset::verdict::{Connection, Endpoint, Hop, Passage, Reason, verdict};

use super::traffic::Draft;
use super::wire::Shape;

/// The guarded network.
const GUARDED: u8 = 1;

/// Guests: name, host, number, network. `plain` and `stray` are no ports of the policy.
const GUESTS: [(&str, &str, u8, u8); 8] = [
    ("a", "host1", 11, 0),
    ("b", "host1", 12, 0),
    ("c", "host2", 13, 0),
    ("open", "host2", 14, 0),
    ("plain", "host1", 15, 0),
    ("g", "host1", 31, 1),
    ("h", "host2", 32, 1),
    ("stray", "host1", 33, 1),
];

/// A station with its link open.
pub(super) struct Place {
    pub(super) name: String,
    /// Where it runs, if it is a guest.
    pub(super) host: Option<&'static str>,
    pub(super) network: u8,
    pub(super) number: u8,
    pub(super) tap: Tap,
}

impl Place {
    fn new(station: &Station, host: Option<&'static str>, network: u8, number: u8) -> Result<Self> {
        let interface = station.interface.clone();
        let tap = station.namespace.enter(move || Tap::open(&interface))?;
        Ok(Self { name: station.name.clone(), host, network, number, tap })
    }

    pub(super) fn mac(&self) -> Mac {
        Mac(e2e::lab::mac(self.network, self.number).0)
    }
}

/// The Lab's pool, nothing applied.
pub(super) fn pool(backend: Backend) -> Builder {
    let lab = Lab::builder(backend).network("fenced");
    GUESTS.into_iter().fold(lab, |lab, (name, host, number, network)| {
        lab.guest(Guest::new(name, host, number).on(&[network]))
    })
}

/// Every guest, and a station outside on each network.
pub(super) fn places(lab: &Lab) -> Result<Vec<Place>> {
    let mut places = vec![
        Place::new(lab.outside(), None, 0, OUTSIDE)?,
        Place::new(&lab.add_station_on(1, "beyond", OUTSIDE + 1)?, None, 1, OUTSIDE + 1)?,
    ];
    for (name, host, number, network) in GUESTS {
        places.push(Place::new(&lab.guest(name)?, Some(host), network, number)?);
    }
    Ok(places)
}

/// The places under one policy, each host with its share.
pub(super) struct Site<'a> {
    pub(super) backend: Backend,
    pub(super) places: &'a [Place],
    pub(super) hosts: &'a BTreeMap<String, HostPolicy>,
}

/// What one host decides of a packet.
pub(super) struct Step<'a> {
    pub(super) host: &'static str,
    pub(super) passage: Passage<'a>,
}

impl<'a> Site<'a> {
    /// Everybody else on the sender's network.
    pub(super) fn others(&self, from: usize) -> impl Iterator<Item = (usize, &'a Place)> {
        let network = self.places[from].network;
        self.places.iter().enumerate().filter(move |(at, place)| *at != from && place.network == network)
    }

    /// Those of them whose link a frame reaches, unless it is dropped: its owner's, or everybody's if nobody owns it.
    pub(super) fn receivers(&self, from: usize, packet: &Packet) -> Vec<(usize, &'a Place)> {
        let owner: Vec<_> =
            self.others(from).filter(|(_, place)| place.mac() == packet.destination).collect();
        if owner.is_empty() { self.others(from).collect() } else { owner }
    }

    /// What a guest is on its host; `None` for who is outside.
    pub(super) fn endpoint(&self, place: &Place) -> Option<Endpoint<'a>> {
        let policy = self.hosts.get(place.host?)?;
        let attachment = policy.attachments.iter().find(|attachment| attachment.port.mac == place.mac());
        Some(attachment.map_or(Endpoint::OtherVif, |attachment| Endpoint::Port(&attachment.port)))
    }

    /// Whether not even ARP passes a place: a VIF without rules on a guarded network, where flows see to it.
    pub(super) fn is_off(&self, place: &Place) -> bool {
        self.backend == Backend::OpenVSwitch
            && place.network == GUARDED
            && matches!(self.endpoint(place), Some(Endpoint::OtherVif))
    }

    /// The hosts' verdicts on the way, up to the first that drops. `tracked` is what each host's connection tracking
    /// says.
    pub(super) fn way(
        &self,
        from: &Place,
        to: &Place,
        packet: &Packet,
        tracked: impl Fn(&str) -> Connection,
    ) -> Vec<Step<'a>> {
        let mut steps: Vec<Step<'a>> = Vec::new();
        let mut hosts = vec![from.host, to.host];
        hosts.dedup();
        for host in hosts.into_iter().flatten() {
            let Some(policy) = self.hosts.get(host) else { continue };
            let end = |place: &Place| {
                let here = if place.host == Some(host) { self.endpoint(place) } else { None };
                here.unwrap_or(Endpoint::Elsewhere)
            };
            let bridge = if from.network == GUARDED { "xenbr1" } else { "xenbr0" };
            let hop = Hop { from: end(from), to: end(to), bridge };
            let passage = verdict(policy, &hop, packet, tracked(host));
            steps.push(Step { host, passage });
            if !passage.passes() {
                break;
            }
        }
        steps
    }

    /// Whether the back end can hold what the verdict says: see "Who enforces what" in docs/security.md.
    pub(super) fn is_enforceable(&self, from: &Place, to: &Place, draft: &Draft, steps: &[Step<'_>]) -> bool {
        let stop = steps.last().filter(|step| !step.passage.passes()).map(|step| &step.passage);
        match self.backend {
            Backend::OpenVSwitch => self.is_enforceable_by_flows(from, to, draft, stop),
            Backend::Nft | Backend::Legacy => self.is_enforceable_by_chains(from, to, &draft.packet, stop),
        }
    }

    fn is_enforceable_by_chains(
        &self,
        from: &Place,
        to: &Place,
        packet: &Packet,
        stop: Option<&Passage<'_>>,
    ) -> bool {
        // AH in IPv6: iptables-legacy looks behind it as the verdict does, nftables takes it for the protocol.
        let behind_ah = matches!(&packet.payload, Payload::Ipv6(ip) if ip.extensions.contains(&51));
        if behind_ah && self.backend == Backend::Nft {
            return false;
        }
        let Some(stop) = stop else {
            // Nobody drops it. Connection tracking does, on every bridge, when a fragment's datagram never becomes whole; and
            // it takes UDP-Lite for damaged where it knows it at all, for it expects the checksum of UDP.
            let fragment = matches!(packet.transport(), Some(Transport::Fragment(_)));
            return !fragment && packet.protocol() != Some(Protocol::UDPLITE);
        };
        match packet.payload {
            Payload::Ipv4(_) | Payload::Ipv6(_) => true,
            // XAPI's locking alone, of what a locked VIF sends; between two locked VIFs of one host the chain that was
            // made first decides.
            Payload::Arp(_) | Payload::Other(_) => {
                let by_sender = matches!(
                    stop,
                    Passage::Stops { side: Direction::Egress, reason } if *reason != Reason::UnknownVif
                );
                by_sender && self.is_locked(from) && !(self.is_locked(to) && from.host == to.host)
            }
        }
    }

    fn is_enforceable_by_flows(
        &self,
        from: &Place,
        to: &Place,
        draft: &Draft,
        stop: Option<&Passage<'_>>,
    ) -> bool {
        let packet = &draft.packet;
        // Flows cannot match the ports of these: no rule that names them has any effect.
        if packet.protocol().is_some_and(|it| [Protocol::DCCP, Protocol::UDPLITE].contains(&it)) {
            return false;
        }
        // Redirects, which no guest may send, go past the switch's connection tracking as all neighbour discovery does; to a
        // guest they are a matter of its rules.
        if matches!(packet.transport(), Some(Transport::Icmp { kind: 137, .. }))
            && packet.family() == Some(Family::Ipv6)
        {
            return matches!(stop, Some(Passage::Stops { side: Direction::Egress, .. }));
        }
        let is_many = packet.destination.0[0] & 1 == 1;
        let flooded = !is_many && packet.destination != to.mac();
        let Some(stop) = stop else {
            // A switch that knows everybody's MAC need not bring a frame to those it is not for.
            return !flooded
                && draft.shape != Shape::Fragmented
                && packet.transport().is_none_or(is_understood_in_user_space);
        };
        let by_receiver = matches!(stop, Passage::Stops { side: Direction::Ingress, .. });
        let unfiltered = match self.endpoint(from) {
            Some(Endpoint::Port(port)) => port.security == PortSecurity::Off,
            Some(Endpoint::OtherVif | Endpoint::Elsewhere) => from.host == to.host,
            None => false,
        };
        let tagged = matches!(packet.payload, Payload::Other(0x8100));
        !by_receiver || !(tagged || flooded && unfiltered && from.host == to.host)
    }

    fn is_locked(&self, place: &Place) -> bool {
        let Some(Endpoint::Port(port)) = self.endpoint(place) else { return false };
        matches!(drawbridge::locking::wanted(port), drawbridge::locking::Locking::Locked { .. })
    }
}

/// Whether a switch in user space, as the Lab's are, knows what to make of a packet: others its connection tracking takes
/// for invalid. The kernel's, which dom0 has, knows port 0 and puts fragments together.
fn is_understood_in_user_space(transport: &Transport) -> bool {
    match *transport {
        Transport::Ports { protocol: Protocol::TCP | Protocol::UDP, source, destination } => {
            source != 0 && destination != 0
        }
        // Neighbour discovery of another code than 0 is none, and nobody may answer it (RFC 4861, 7.1).
        Transport::Icmp { kind: 133..=137, code, .. } => code == 0,
        Transport::Ports { .. } | Transport::Icmp { .. } | Transport::Other(_) => true,
        Transport::Fragment(_) => false,
    }
}
