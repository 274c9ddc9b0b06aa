//! Packets and their way through a host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use ruleset::model::{Family, Port, PortSecurity, Protocol, Service};
use ruleset::packet::{Packet, Payload, Transport};
use ruleset::resolve::{Attachment, HostPolicy, Lifeline, XAPI};
use ruleset::verdict::{Endpoint, Hop};

use super::rule::{address, mac};
use super::{BRIDGES, ICMP, PORTS, PROTOCOLS, Random, World};

/// A way through the host, by the names of interfaces.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) bridge: String,
    pub(crate) input: String,
    pub(crate) output: String,
}

impl World {
    pub(crate) fn way(&self, r: &mut Random) -> Way {
        let bridge = r.pick(&BRIDGES);
        let (input, output) = (self.interface(r, bridge), self.interface(r, bridge));
        Way { bridge: bridge.to_owned(), input, output }
    }

    fn interface(&self, r: &mut Random, bridge: &str) -> String {
        let here: Vec<&Attachment> =
            self.attachments.iter().filter(|a| a.bridge.as_str() == bridge).collect();
        match r.below(10) {
            0 | 1 => r.pick(&["eth0", "bond0", "tunnel1"]).to_owned(),
            2 => r.pick(&["vif99.0", "vif1.7", "tap100.5", "vif2000.0"]).to_owned(),
            _ if here.is_empty() => "eth1".to_owned(),
            _ => {
                let names = r.pick(&here).interfaces();
                names[usize::from(r.percent(20))].clone()
            }
        }
    }

    pub(crate) fn endpoint<'a>(&self, host: &'a HostPolicy, name: &str) -> Endpoint<'a> {
        let port = host.attachments.iter().find(|a| a.interfaces().iter().any(|i| i == name));
        match port {
            Some(attachment) => Endpoint::Port(&attachment.port),
            None if name.starts_with("vif") || name.starts_with("tap") => Endpoint::OtherVif,
            None => Endpoint::Elsewhere,
        }
    }

    pub(crate) fn hop<'a>(&self, host: &'a HostPolicy, way: &'a Way) -> Hop<'a> {
        let (from, to) = (self.endpoint(host, &way.input), self.endpoint(host, &way.output));
        Hop { from, to, bridge: &way.bridge }
    }

    /// The hop of a packet: on a network that is not guarded a guest that is about to arrive is known by its MAC when it sends,
    /// by a single address when it receives.
    pub(crate) fn hop_of<'a>(&self, host: &'a HostPolicy, way: &'a Way, packet: &Packet) -> Hop<'a> {
        let mut hop = self.hop(host, way);
        if host.is_guarded(hop.bridge) {
            return hop;
        }
        let find = |is: &dyn Fn(&Port) -> bool| {
            let here = host.expected.iter().filter(|e| e.bridge.as_str() == way.bridge).map(|e| &e.port);
            let mut filtered = here.filter(|port| port.security == PortSecurity::On);
            filtered.find(|port| is(port)).map_or(Endpoint::OtherVif, Endpoint::Port)
        };
        if matches!(hop.from, Endpoint::OtherVif) {
            let macs =
                |port: &Port| port.pairs.iter().filter_map(|p| p.mac).chain([port.mac]).collect::<Vec<_>>();
            hop.from = find(&|port| macs(port).contains(&packet.source));
        }
        if let (Endpoint::OtherVif, Some((_, destination))) = (hop.to, packet.addresses()) {
            let family = Family::of(&destination.into());
            hop.to = find(&|port| port.sources(family).iter().any(|(_, net)| *net == destination.into()));
        }
        hop
    }

    /// The same hop for a packet that a guest about to arrive may be behind: often a stranger is taken for it.
    pub(crate) fn with_arriving<'a>(
        &self,
        r: &mut Random,
        host: &'a HostPolicy,
        way: &Way,
        mut hop: Hop<'a>,
    ) -> Hop<'a> {
        let here: Vec<&Port> =
            host.expected.iter().filter(|e| e.bridge.as_str() == way.bridge).map(|e| &e.port).collect();
        for end in [&mut hop.from, &mut hop.to] {
            if matches!(end, Endpoint::OtherVif) && !here.is_empty() && r.percent(60) {
                *end = Endpoint::Port(r.pick(&here));
            }
        }
        hop
    }

    /// An IP packet on its way: mostly honest, often close to a rule.
    pub(crate) fn packet(&self, r: &mut Random, hop: &Hop<'_>, family: Family) -> Packet {
        let mut source_mac = mac(r.byte() % 14);
        let mut source = address(r, family);
        if let (Endpoint::Port(port), true) = (hop.from, r.percent(85)) {
            source_mac = port.mac;
            let own = port.sources(family);
            if let (false, true) = (own.is_empty(), r.percent(85)) {
                let (mac, net) = r.pick(&own);
                source = inside(r, net);
                if r.percent(90) {
                    source_mac = mac;
                }
            }
        }
        let mut destination = address(r, family);
        let mut destination_mac = mac(r.byte() % 14);
        if let (Endpoint::Port(port), true) = (hop.to, r.percent(80)) {
            destination_mac = port.mac;
            let own = port.sources(family);
            if !own.is_empty() {
                let (_, net) = r.pick(&own);
                destination = inside(r, net);
            }
        }
        let mut transport = self.transport(r, family);
        let lines =
            self.lifelines.iter().filter(|line| line.bridge.as_str() == hop.bridge && line.speaks(family));
        let lines: Vec<&Lifeline> = lines.collect();
        if let (false, true) = (lines.is_empty(), r.percent(40)) {
            let line = r.pick(&lines);
            let hosts = line.hosts.iter().filter(|host| Family::of(&IpNet::from(**host)) == family);
            let xapi = r.pick(&hosts.copied().collect::<Vec<_>>());
            let spoken = r.percent(70).then(|| r.pick(&PORTS));
            if matches!(hop.from, Endpoint::OtherVif) {
                source_mac = line.mac;
                if let Some(port) = spoken {
                    (destination, transport) = (xapi, Transport::tcp(port, XAPI));
                }
            } else if let (Endpoint::OtherVif, Some(port)) = (hop.to, spoken) {
                (source, transport) = (xapi, Transport::tcp(XAPI, port));
            }
        }
        if let (Family::Ipv6, Transport::Icmp { kind: 135..=137, target: wanted, .. }) =
            (family, &mut transport)
        {
            *wanted = Some(target(r, hop));
        }
        if transport == Transport::udp(68, 67) && r.percent(60) && family == Family::Ipv4 {
            (source, destination) = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
        }
        let nd = matches!(transport, Transport::Icmp { kind: 130..=137 | 143, .. });
        if nd && family == Family::Ipv6 && r.percent(30) {
            source =
                if r.percent(60) { Ipv6Addr::UNSPECIFIED.into() } else { source_mac.link_local().into() };
        }
        let mut packet = Packet::ip((source_mac, destination_mac), (source, destination), transport).unwrap();
        if let Payload::Ipv6(ip) = &mut packet.payload
            && r.percent(15)
        {
            ip.extensions = (0..=r.below(2)).map(|_| r.pick(&[0, 43, 51, 60])).collect();
        }
        packet
    }

    fn transport(&self, r: &mut Random, family: Family) -> Transport {
        let rules = self
            .policy
            .groups
            .values()
            .flat_map(|g| &g.rules)
            .chain(self.policy.provider.iter().map(|p| &p.rule));
        let services: Vec<Service> =
            rules.filter(|rule| rule.family == family).map(|rule| rule.service).collect();
        if !services.is_empty() && r.percent(55) {
            return near(r, &services, family);
        }
        match r.below(10) {
            0 => Transport::udp(68, 67),
            1 => Transport::udp(67, 68),
            2 => r.pick(&[Transport::udp(546, 547), Transport::udp(547, 546), Transport::udp(547, 547)]),
            3..7 => Transport::icmp(r.pick(&ICMP), r.byte() % 3),
            7 => Transport::Ports {
                protocol: Protocol(r.pick(&[6, 17, 33, 132, 136])),
                source: r.pick(&PORTS),
                destination: r.pick(&PORTS),
            },
            8 if r.percent(10) => Transport::Fragment(Protocol(r.pick(&[6, 17, 58]))),
            _ => other(r, family),
        }
    }
}

/// The target of a solicitation or advertisement, mostly the sender's own.
fn target(r: &mut Random, hop: &Hop<'_>) -> Ipv6Addr {
    if let (Endpoint::Port(port), true) = (hop.from, r.percent(75)) {
        let own = port.sources(Family::Ipv6);
        let (_, net) = r.pick(&own);
        if let IpAddr::V6(address) = inside(r, net) {
            return address;
        }
    }
    match address(r, Family::Ipv6) {
        IpAddr::V6(address) => address,
        IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
    }
}

/// A protocol without ports that comes as such in this family.
fn other(r: &mut Random, family: Family) -> Transport {
    let number = r.pick(&PROTOCOLS);
    let protocol = Protocol(number);
    let icmp = if family == Family::Ipv4 { Protocol::ICMP } else { Protocol::ICMPV6 };
    let extension = family == Family::Ipv6 && matches!(number, 0 | 43 | 44 | 51 | 60);
    if protocol.has_ports() || protocol == icmp || extension {
        return Transport::Other(Protocol(47));
    }
    Transport::Other(protocol)
}

/// What one of the services serves, or just not.
fn near(r: &mut Random, services: &[Service], family: Family) -> Transport {
    let off = |r: &mut Random, port: u16| match r.below(5) {
        0 => port.saturating_add(1),
        1 => port.saturating_sub(1),
        _ => port,
    };
    match r.pick(services) {
        Service::Any => Transport::tcp(r.pick(&PORTS), r.pick(&PORTS)),
        Service::Protocol(p) if p.has_ports() => {
            Transport::Ports { protocol: p, source: r.pick(&PORTS), destination: r.pick(&PORTS) }
        }
        Service::Protocol(Protocol::ICMP | Protocol::ICMPV6) => {
            Transport::icmp(r.pick(&[0, 3, 8, 11, 128, 129]), r.byte() % 3)
        }
        Service::Protocol(Protocol(51)) if family == Family::Ipv6 => Transport::Other(Protocol(50)),
        Service::Protocol(p) => Transport::Other(p),
        Service::Ports(p, range) => {
            let end = if r.percent(50) { range.first() } else { range.last() };
            let protocol =
                if r.percent(85) { p } else { r.pick(&[Protocol::TCP, Protocol::UDP, Protocol::SCTP]) };
            Transport::Ports { protocol, source: r.pick(&PORTS), destination: off(r, end) }
        }
        Service::Icmp(_, icmp) => {
            let kind = if r.percent(85) { icmp.kind } else { r.pick(&ICMP) };
            Transport::icmp(kind, icmp.code.unwrap_or(0).wrapping_add(u8::from(r.percent(20))))
        }
    }
}

/// An address in a prefix: its first, its last, or one between.
fn inside(r: &mut Random, net: IpNet) -> IpAddr {
    match r.below(4) {
        0 => net.broadcast(),
        1 => {
            let family = Family::of(&net);
            let any = address(r, family);
            if net.contains(&any) { any } else { net.network() }
        }
        _ => net.addr(),
    }
}
