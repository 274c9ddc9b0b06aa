//! Connections through changes of the policy: one whose rule goes is cut, one still allowed never notices, one whose
//! rule comes back lives again.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ruleset::ids::Mac;
use ruleset::iptables::{Observed, parse_save};
use ruleset::model::{Direction, Family, PortRange, PortSecurity, Protocol, Remote, Rule, Service};
use ruleset::packet::{Packet, Payload, Transport};
use ruleset::resolve::HostPolicy;
use ruleset::verdict::{Connection, Passage, Reason, verdict};

use crate::agree::{Tamper, carry_out, strays};
use crate::conntrack::Tracker;
use crate::generate::{Random, Way, World};
use crate::tables::Tables;

/// A connection as the contract sees it.
struct Talk {
    way: Way,
    first: Packet,
    begun: bool,
    answered: bool,
    cut: bool,
}

fn back(way: &Way) -> Way {
    Way { bridge: way.bridge.clone(), input: way.output.clone(), output: way.input.clone() }
}

fn answer(first: &Packet) -> Packet {
    let mut packet = first.clone();
    std::mem::swap(&mut packet.source, &mut packet.destination);
    match &mut packet.payload {
        Payload::Ipv4(ip) => std::mem::swap(&mut ip.source, &mut ip.destination),
        Payload::Ipv6(ip) => std::mem::swap(&mut ip.source, &mut ip.destination),
        Payload::Arp(_) | Payload::Other(_) => {}
    }
    if let Some(Transport::Ports { source, destination, .. }) = transport(&mut packet) {
        std::mem::swap(source, destination);
    }
    packet
}

fn transport(packet: &mut Packet) -> Option<&mut Transport> {
    match &mut packet.payload {
        Payload::Ipv4(ip) => Some(&mut ip.transport),
        Payload::Ipv6(ip) => Some(&mut ip.transport),
        Payload::Arp(_) | Payload::Other(_) => None,
    }
}

/// "Destination unreachable" from the one whom `packet` was sent to.
fn error_about(packet: &Packet) -> Packet {
    let mut error = answer(packet);
    let kind = if packet.family() == Some(Family::Ipv4) { 3 } else { 1 };
    if let Some(transport) = transport(&mut error) {
        *transport = Transport::icmp(kind, 1);
    }
    error
}

struct Bench<'a> {
    world: &'a World,
    host: &'a HostPolicy,
    observed: &'a Observed,
    tracker: &'a mut Tracker,
}

impl Bench<'_> {
    /// Sends, compares with the verdict, and says what became of it.
    fn send(
        &mut self,
        way: &Way,
        packet: &Packet,
        about: Option<&Packet>,
        connection: Connection,
    ) -> Result<bool, String> {
        let expected = verdict(self.host, &self.world.hop_of(self.host, way, packet), packet, connection);
        let passed = self.tracker.pass(self.observed, way, packet, about);
        if passed == expected.passes() {
            Ok(passed)
        } else {
            Err(format!(
                "{connection:?}: verdict {expected:?}, the chains say {passed}: {packet:?} on {way:?}"
            ))
        }
    }

    fn original(&mut self, talk: &mut Talk) -> Result<(), String> {
        let connection = if talk.answered { Connection::Original } else { Connection::New };
        let hop = self.world.hop_of(self.host, &talk.way, &talk.first);
        let expected = verdict(self.host, &hop, &talk.first, connection);
        let passed = self.send(&talk.way, &talk.first, None, connection)?;
        talk.begun |= passed;
        let strays = strays(self.host, &talk.way, hop.to, &talk.first);
        match expected {
            Passage::Passes { .. } | Passage::Stops { side: Direction::Ingress, .. } if strays => {}
            Passage::Passes { .. } => talk.cut = false,
            Passage::Stops { reason: Reason::Default | Reason::Provider(_), .. } => talk.cut = talk.begun,
            Passage::Stops { .. } => {}
        }
        Ok(())
    }

    fn reply(&mut self, talk: &mut Talk) -> Result<(), String> {
        talk.answered = true;
        let cut = talk.cut;
        self.send(&back(&talk.way), &answer(&talk.first), None, Connection::Reply { cut }).map(drop)
    }

    fn errors(&mut self, talk: &Talk) -> Result<(), String> {
        let related = Connection::Related { cut: talk.cut };
        self.send(&back(&talk.way), &error_about(&talk.first), Some(&talk.first), related)?;
        let reply = answer(&talk.first);
        self.send(&talk.way, &error_about(&reply), Some(&reply), related).map(drop)
    }
}

fn one_life(seed: u64, tamper: Tamper) -> Result<usize, String> {
    let mut r = Random(seed);
    let mut world = World::random(&mut r);
    let family = r.pick(&Family::ALL);
    let mut talks: Vec<Talk> = Vec::new();
    let mut tables = Tables::new();
    let mut tracker = Tracker::default();
    let mut sent = 0;
    for _ in 0..12 {
        let host = world.host();
        if host.attachments.is_empty() {
            break;
        }
        carry_out(&mut tables, &host, family);
        let observed = parse_save(&tamper(&tables.save())).unwrap();
        for _ in 0..12 {
            let way = world.way(&mut r);
            let hop = world.hop(&host, &way);
            let hop = world.with_arriving(&mut r, &host, &way, hop);
            let packet = world.packet(&mut r, &hop, family);
            let tracked = matches!(packet.transport(), Some(Transport::Ports { .. }));
            // Nobody talks to himself, and no two talk twice: replies and errors are then told apart by addresses.
            let (a, b) = packet.addresses().unwrap();
            let among = |talk: &Talk| {
                talk.first.addresses().is_some_and(|(c, d)| (c, d) == (a, b) || (c, d) == (b, a))
            };
            let fresh = a != b && way.input != way.output && !talks.iter().any(among);
            if tracked && fresh {
                talks.push(Talk { way, first: packet, begun: false, answered: false, cut: false });
            }
        }
        let mut bench = Bench { world: &world, host: &host, observed: &observed, tracker: &mut tracker };
        for talk in &mut talks {
            for _ in 0..3 {
                match r.below(4) {
                    0 if talk.begun => bench.errors(talk)?,
                    1 | 2 if talk.begun => bench.reply(talk)?,
                    _ => bench.original(talk)?,
                }
                sent += 1;
            }
        }
        let zones = |world: &World| -> BTreeSet<_> {
            let here = world.attachments.iter().map(|a| &a.bridge);
            let ports = here.chain(world.expected.iter().map(|e| &e.bridge));
            ports.chain(&world.guarded).cloned().collect()
        };
        let before = zones(&world);
        world.edit(&mut r);
        // With its last port a bridge loses its zone, and with that its connections are new ones.
        if zones(&world) != before {
            break;
        }
    }
    Ok(sent)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(feature = "soak") { 5_000 } else { 250 },
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn connections_live_and_die_with_their_rules(seed: u64) {
        let result = one_life(seed, str::to_owned);
        prop_assert!(result.is_ok(), "seed {seed:#x}\n{}", result.unwrap_err());
    }
}

#[test]
fn lives_are_not_empty() {
    let sent: usize = (0..20).map(|seed| one_life(seed, str::to_owned).unwrap()).sum();
    assert!(sent > 2000, "{sent}");
}

/// As if taking a rule away did not raise the epoch.
fn one_epoch(dump: &str) -> String {
    let epoch = parse_save(dump).unwrap().epoch().unwrap().mark().to_string();
    dump.replace(&epoch, "0x100/0xffffff00")
}

#[test]
fn an_epoch_that_does_not_rise_is_found_out() {
    assert!((0..400).any(|seed| one_life(seed, one_epoch).is_err()));
}

/// A rule taken away and given back, beside one that stays.
#[test]
fn a_cut_connection_revives_with_its_rule_and_its_neighbour_never_notices() {
    let mut world = World::random(&mut Random(1));
    let ours = |id: &str, port: u16| {
        let range = PortRange::new(port, port).unwrap();
        Rule {
            id: id.parse().unwrap(),
            direction: Direction::Ingress,
            family: Family::Ipv4,
            service: Service::Ports(Protocol::TCP, range),
            remote: Remote::Any,
            description: String::new(),
        }
    };
    let (ssh, web) = (ours("ssh", 22), ours("web", 80));
    let id = world.policy.groups.keys().next().unwrap().clone();
    world.policy.provider.clear();
    world.guarded.clear();
    world.attachments.truncate(1);
    let port = &mut world.attachments[0].port;
    (port.security, port.groups, port.addresses) =
        (PortSecurity::On, vec![id.clone()], vec![[10, 0, 0, 1].into()]);
    let (guest, bridge) = (port.mac, world.attachments[0].bridge.to_string());
    let [vif, _] = world.attachments[0].interfaces();
    let way = Way { bridge, input: "eth0".to_owned(), output: vif };
    let to = |port| {
        let addresses = ([192, 0, 2, 1].into(), [10, 0, 0, 1].into());
        Packet::ip((Mac([2, 0, 0, 0, 0, 1]), guest), addresses, Transport::tcp(1024, port)).unwrap()
    };
    let (mut tables, mut tracker) = (Tables::new(), Tracker::default());
    for (rules, ssh_passes) in [(vec![&ssh, &web], true), (vec![&web], false), (vec![&ssh, &web], true)] {
        world.policy.groups.get_mut(&id).unwrap().rules = rules.into_iter().cloned().collect();
        carry_out(&mut tables, &world.host(), Family::Ipv4);
        let observed = parse_save(&tables.save()).unwrap();
        for (port, passes) in [(80, true), (22, ssh_passes)] {
            for _ in 0..2 {
                assert_eq!(tracker.pass(&observed, &way, &to(port), None), passes, "to {port}");
                assert_eq!(
                    tracker.pass(&observed, &back(&way), &answer(&to(port)), None),
                    passes,
                    "from {port}"
                );
            }
        }
    }
}
