//! Random policies, hosts and packets, made to meet: few addresses, few ports, everything near something that matters.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ruleset::ids::{GroupId, Interface, Mac};
use ruleset::model::{
    Action, AddressPair, Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol,
    ProviderRule, Remote, Rule, Service,
};
use ruleset::packet::{Packet, Payload, Transport};
use ruleset::resolve::{Attachment, Expected, HostPolicy, Lifeline, Places, XAPI, resolve};
use ruleset::verdict::{Endpoint, Hop};

/// SplitMix64: a whole case from one number.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    pub(crate) fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A policy and one host of it.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) attachments: Vec<Attachment>,
    /// Ports that are about to arrive.
    pub(crate) expected: Vec<Expected>,
    /// Ports that run on other hosts.
    pub(crate) elsewhere: Vec<Port>,
    pub(crate) guarded: BTreeSet<Interface>,
    /// For VIFs without rules on guarded bridges.
    pub(crate) lifelines: BTreeSet<Lifeline>,
}

pub(crate) const BRIDGES: [&str; 2] = ["xapi1", "xenbr0"];
const GROUPS: [&str; 4] = ["a", "b", "c", "d"];
const DOMIDS: [u32; 14] = [1, 2, 3, 9, 10, 11, 12, 19, 100, 101, 110, 111, 112, 1000];
const PORTS: [u16; 14] = [1, 22, 53, 67, 68, 80, 81, 82, 443, 546, 547, 1023, 40000, 65535];
const ICMP: [u8; 19] = [0, 1, 3, 5, 8, 11, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143, 254, 255];
const PROTOCOLS: [u8; 14] = [1, 2, 6, 17, 33, 47, 50, 51, 58, 59, 112, 132, 136, 255];

impl World {
    pub(crate) fn random(r: &mut Random) -> Self {
        let mut policy = Policy::default();
        for id in &GROUPS[..1 + r.below(4)] {
            let rules = (0..r.below(7)).map(|n| rule(r, &format!("{id}{n}"))).collect();
            policy.groups.insert(id.parse().unwrap(), group(id, rules));
        }
        for id in ["s", "t"] {
            let many = if r.percent(20) { 30 } else { 4 };
            policy.sets.insert(id.parse().unwrap(), (0..r.below(many)).map(|_| prefix(r, None)).collect());
        }
        for n in 0..r.below(4) {
            let action = r.pick(&[Action::Allow, Action::Deny]);
            policy.provider.push(ProviderRule { action, rule: rule(r, &format!("p{n}")) });
        }
        let bridges = 1 + r.below(2);
        let mut attachments: Vec<Attachment> = Vec::new();
        for n in 0..=r.below(12) {
            let (domid, device) = (r.pick(&DOMIDS), u32::try_from(r.below(2)).unwrap());
            if attachments.iter().any(|a| (a.domid, a.device) == (domid, device)) {
                continue;
            }
            let bridge = BRIDGES[r.below(bridges)].parse().unwrap();
            attachments.push(Attachment { port: port(r, n, &policy), domid, device, bridge });
        }
        let elsewhere: Vec<Port> = (20..20 + r.below(6)).map(|n| port(r, n, &policy)).collect();
        // From another host, or to a new domain on this one.
        let expected: Vec<Expected> = match r.below(10) {
            0..4 => {
                let coming = elsewhere.iter().take(2).cloned();
                coming
                    .map(|port| Expected { port, bridge: BRIDGES[r.below(bridges)].parse().unwrap() })
                    .collect()
            }
            4 => {
                let moving = attachments.iter().take(1);
                moving.map(|a| Expected { port: a.port.clone(), bridge: a.bridge.clone() }).collect()
            }
            _ => Vec::new(),
        };
        let guarded: BTreeSet<Interface> =
            BRIDGES.iter().filter(|_| r.percent(25)).map(|b| b.parse().unwrap()).collect();
        let lifelines = lifelines(r, &guarded);
        Self { policy, attachments, expected, elsewhere, guarded, lifelines }
    }

    pub(crate) fn host(&self) -> HostPolicy {
        let live = self.attachments.iter().map(|a| &a.port).chain(&self.elsewhere);
        let places = Places { attachments: self.attachments.clone(), expected: self.expected.clone() };
        let host = resolve(&self.policy, live, places, self.guarded.clone()).unwrap();
        HostPolicy { lifelines: self.lifelines.clone(), ..host }
    }

    /// Changes one thing.
    pub(crate) fn edit(&mut self, r: &mut Random) {
        let id = r.pick(&self.policy.groups.keys().cloned().collect::<Vec<_>>());
        let rules = &mut self.policy.groups.get_mut(&id).unwrap().rules;
        match r.below(11) {
            0..4 if !rules.is_empty() => {
                rules.remove(r.below(rules.len()));
            }
            4 => r.shuffle(&mut self.policy.provider),
            5 => self.policy.provider.clear(),
            6 => {
                let new = rule(r, "edited");
                self.policy
                    .provider
                    .push(ProviderRule { action: r.pick(&[Action::Allow, Action::Deny]), rule: new });
            }
            7 if !self.attachments.is_empty() => {
                let at = r.below(self.attachments.len());
                let port = &mut self.attachments[at].port;
                match r.below(3) {
                    0 => port.groups = some_groups(r, &self.policy),
                    1 => {
                        port.security = match port.security {
                            PortSecurity::On => PortSecurity::Off,
                            PortSecurity::Off => PortSecurity::On,
                        }
                    }
                    _ => {
                        self.attachments.remove(at);
                    }
                }
            }
            8 => {
                let set = self.policy.sets.get_mut(&"s".parse().unwrap()).unwrap();
                *set = (0..r.below(12)).map(|_| prefix(r, None)).collect();
            }
            9 => self.lifelines = lifelines(r, &self.guarded),
            _ => {
                let id = format!("more{}", r.next());
                rules.push(rule(r, &id));
            }
        }
    }

    pub(crate) fn add_rule(&mut self, r: &mut Random) {
        let id = r.pick(&self.policy.groups.keys().cloned().collect::<Vec<_>>());
        let name = format!("added{}", r.next());
        let new = rule(r, &name);
        self.policy.groups.get_mut(&id).unwrap().rules.push(new);
    }
}

fn lifelines(r: &mut Random, guarded: &BTreeSet<Interface>) -> BTreeSet<Lifeline> {
    let mut lifelines = BTreeSet::new();
    for bridge in guarded {
        for _ in 0..r.below(3) {
            let hosts = (0..r.below(4))
                .map(|_| if r.percent(70) { v4(1 + r.byte() % 14) } else { v6(1 + r.byte() % 14) });
            lifelines.insert(Lifeline {
                bridge: bridge.clone(),
                hosts: hosts.collect(),
                mac: mac(r.byte() % 14),
            });
        }
    }
    lifelines
}

fn group(id: &str, rules: Vec<Rule>) -> Group {
    Group { id: id.parse().unwrap(), rules }
}

fn some_groups(r: &mut Random, policy: &Policy) -> Vec<GroupId> {
    let all: Vec<GroupId> = policy.groups.keys().cloned().collect();
    (0..r.below(4)).map(|_| r.pick(&all)).collect()
}

fn port(r: &mut Random, n: usize, policy: &Policy) -> Port {
    let mut addresses = Vec::new();
    let at = u8::try_from(if r.percent(10) { r.below(12) } else { n }).unwrap();
    if r.percent(90) {
        addresses.push(v4(at + 1));
    }
    if r.percent(80) {
        addresses.push(v6(at + 1));
    }
    if r.percent(15) {
        addresses.push(v4(at + 40));
    }
    let pairs = (0..if r.percent(40) { 1 + r.below(2) } else { 0 }).map(|_| AddressPair {
        mac: if r.percent(60) { None } else { Some(mac(200 + r.byte() % 3)) },
        net: prefix(r, None),
    });
    let pairs = pairs.collect();
    let security = if r.percent(10) { PortSecurity::Off } else { PortSecurity::On };
    let groups = some_groups(r, policy);
    Port { vif: format!("vif-{n}").parse().unwrap(), mac: mac(at), addresses, pairs, groups, security }
}

fn mac(n: u8) -> Mac {
    Mac([0, 0x16, 0x3e, 0, 0, n])
}

fn v4(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, n).into()
}

fn v6(n: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into()
}

/// An address that a rule or another packet may speak of too.
fn address(r: &mut Random, family: Family) -> IpAddr {
    let n = 1 + r.byte() % 14;
    match (family, r.below(10)) {
        (Family::Ipv4, 0) => Ipv4Addr::new(192, 0, 2, n).into(),
        (Family::Ipv4, 1) => {
            r.pick(&[[0, 0, 0, 0], [255; 4], [224, 0, 0, 251], [10, 0, 0, 255], [127, 0, 0, 1]]).into()
        }
        (Family::Ipv4, 2) => v4(41 + r.byte() % 12),
        (Family::Ipv4, _) => v4(n),
        (Family::Ipv6, 0) => Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, n.into()).into(),
        (Family::Ipv6, 1) => r
            .pick(&["::", "ff02::1", "ff02::1:2", "ff02::1:ff00:1", "fe80::1", "febf::1", "fec0::1", "::1"])
            .parse()
            .unwrap(),
        (Family::Ipv6, 2) => mac(if r.percent(70) { n } else { 200 + r.byte() % 3 }).link_local().into(),
        (Family::Ipv6, _) => v6(n),
    }
}

fn prefix(r: &mut Random, family: Option<Family>) -> IpNet {
    let family = family.unwrap_or_else(|| r.pick(&Family::ALL));
    match address(r, family) {
        IpAddr::V4(a) => Ipv4Net::new(a, r.pick(&[0, 8, 24, 28, 29, 30, 31, 32, 32, 32])).unwrap().into(),
        IpAddr::V6(a) => {
            Ipv6Net::new(a, r.pick(&[0, 10, 32, 64, 119, 124, 126, 127, 128, 128])).unwrap().into()
        }
    }
}

pub(crate) fn rule(r: &mut Random, id: &str) -> Rule {
    let family = r.pick(&Family::ALL);
    let remote = match r.below(6) {
        0 | 1 => Remote::Any,
        2 => Remote::Prefix(prefix(r, Some(family))),
        3 | 4 => Remote::Group(r.pick(&["a", "b", "c", "d", "nobody"]).parse().unwrap()),
        _ => Remote::Set(r.pick(&["s", "t"]).parse().unwrap()),
    };
    let direction = r.pick(&[Direction::Egress, Direction::Ingress]);
    Rule {
        id: id.parse().unwrap(),
        direction,
        family,
        service: service(r, family),
        remote,
        description: String::new(),
    }
}

fn service(r: &mut Random, family: Family) -> Service {
    let icmp = if family == Family::Ipv4 { Protocol::ICMP } else { Protocol::ICMPV6 };
    let made = match r.below(8) {
        0 => Ok(Service::Any),
        1 => Service::new(family, Some(Protocol(r.pick(&PROTOCOLS))), None, None, None),
        2 | 3 => {
            let code = r.percent(40).then(|| r.byte() % 3);
            Service::new(family, Some(icmp), None, Some(r.pick(&ICMP)), code)
        }
        _ => {
            let (a, b) = (r.pick(&PORTS), r.pick(&PORTS));
            let range = if r.percent(60) { PortRange::new(a, a) } else { PortRange::new(a.min(b), a.max(b)) };
            let protocol = Protocol(r.pick(&[6, 6, 17, 17, 33, 132, 136]));
            Service::new(family, Some(protocol), range.ok(), None, None)
        }
    };
    made.unwrap_or(Service::Any)
}

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
