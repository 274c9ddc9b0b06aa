//! Who sends and who receives, and the way between them.

use std::collections::BTreeMap;

use anyhow::Result;
use e2e::lab::{Backend, Builder, Guest, Lab, OUTSIDE};
use e2e::station::Station;
use e2e::tap::Tap;
use ruleset::ids::Mac;
use ruleset::model::{Direction, Protocol};
use ruleset::packet::{Packet, Payload, Transport};
use ruleset::resolve::HostPolicy;
use ruleset::verdict::{Connection, Endpoint, Hop, Passage, Reason, verdict};

/// Guests: name, host, number, network. `plain` and `stray` are no ports of the policy; network 1 is guarded.
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
            let guarded =
                policy.guarded.iter().any(|bridge| bridge.as_str() == format!("xenbr{}", from.network));
            let hop = Hop { from: end(from), to: end(to), guarded };
            let passage = verdict(policy, &hop, packet, tracked(host));
            steps.push(Step { host, passage });
            if !passage.passes() {
                break;
            }
        }
        steps
    }

    /// Whether the back end can hold what the verdict says: see "Who enforces what" in docs/security.md.
    pub(super) fn is_enforceable(
        &self,
        from: &Place,
        to: &Place,
        packet: &Packet,
        steps: &[Step<'_>],
    ) -> bool {
        // AH in IPv6: iptables-legacy looks behind it as the verdict does, nftables takes it for the protocol.
        let behind_ah = matches!(&packet.payload, Payload::Ipv6(ip) if ip.extensions.contains(&51));
        if behind_ah && self.backend == Backend::Nft {
            return false;
        }
        let Some(last) = steps.last().filter(|step| !step.passage.passes()) else {
            // Nobody drops it. Connection tracking does, on every bridge, when a fragment's datagram never becomes whole.
            let fragment = matches!(packet.transport(), Some(Transport::Fragment(_)));
            return !fragment && packet.protocol().is_none_or(|protocol| self.is_tracked(protocol));
        };
        match packet.payload {
            Payload::Ipv4(_) | Payload::Ipv6(_) => true,
            Payload::Arp(_) | Payload::Other(_) if self.backend == Backend::OpenVSwitch => true,
            // XAPI's locking alone, of what a locked VIF sends; between two locked VIFs of one host the chain that was
            // made first decides.
            Payload::Arp(_) | Payload::Other(_) => {
                let by_sender = matches!(
                    last.passage,
                    Passage::Stops { side: Direction::Egress, reason } if reason != Reason::UnknownVif
                );
                by_sender && self.is_locked(from) && !(self.is_locked(to) && from.host == to.host)
            }
        }
    }

    /// Whether connection tracking knows a protocol: it takes the others for invalid.
    fn is_tracked(&self, protocol: Protocol) -> bool {
        match self.backend {
            // Of UDP-Lite the kernel expects the checksum of UDP.
            Backend::Nft | Backend::Legacy => protocol != Protocol::UDPLITE,
            // That of a switch in user space, as the Lab's are, knows these; the kernel's, which dom0 has, all others too.
            Backend::OpenVSwitch => {
                [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6].contains(&protocol)
            }
        }
    }

    fn is_locked(&self, place: &Place) -> bool {
        let Some(Endpoint::Port(port)) = self.endpoint(place) else { return false };
        matches!(drawbridge::locking::wanted(port), drawbridge::locking::Locking::Locked { .. })
    }
}
