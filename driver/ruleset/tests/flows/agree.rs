//! The compiled flows, read back from text, decide as the reference verdict does.

use proptest::prelude::*;
use ruleset::ids::Mac;
use ruleset::iptables::{Epoch, MARK_MASK, Mark};
use ruleset::model::{Family, PortSecurity, Protocol, Service};
use ruleset::ovs::interpret::{Arrival, Tables};
use ruleset::ovs::{CtState, OvsHost, PortKind, SwitchPort, plan};
use ruleset::packet::{Arp, Packet, Payload, Transport};
use ruleset::resolve::HostPolicy;
use ruleset::verdict::{Connection, Endpoint, Hop, Pass, Passage, Reason, verdict};

use crate::generate::{Random, World};
use crate::lifeline;
use crate::switch::{DOM0, Model, PARENT, parent, switch, tag_of};

/// Packets per policy.
const PACKETS: usize = 60;

/// A policy the switch can carry out in full: it has no match on ports of DCCP and UDP-Lite.
pub(crate) fn world(r: &mut Random) -> World {
    let mut world = World::random(r);
    let can = |service: &Service| !matches!(service, Service::Ports(p, _) if [Protocol::DCCP, Protocol::UDPLITE].contains(p));
    for group in world.policy.groups.values_mut() {
        group.rules.retain(|rule| can(&rule.service));
    }
    world.policy.provider.retain(|provider| can(&provider.rule.service));
    world
}

/// Ports on one network of the bridge; the wire is on all.
fn on_network(ports: &[SwitchPort], tag: Option<u16>) -> Vec<&SwitchPort> {
    ports.iter().filter(|p| matches!(p.kind, PortKind::Wire { .. }) || p.tag == tag).collect()
}

/// The MACs of the policy's port behind an interface.
fn macs_of(end: Endpoint<'_>, port: &SwitchPort) -> Vec<Mac> {
    match (end, &port.kind) {
        (Endpoint::Port(port), _) => port.pairs.iter().filter_map(|p| p.mac).chain([port.mac]).collect(),
        (_, PortKind::Guest { mac, .. } | PortKind::Internal { mac }) => mac.iter().copied().collect(),
        (_, PortKind::Wire { .. }) => Vec::new(),
    }
}

/// One packet on one way through the switch.
pub(crate) struct Case<'a> {
    pub(crate) from: &'a SwitchPort,
    pub(crate) to: &'a SwitchPort,
    pub(crate) hop: Hop<'a>,
    pub(crate) tag: Option<u16>,
    pub(crate) packet: Packet,
    /// The destination MAC leads there and only there: the verdict says all. Otherwise: to no filtered port.
    pub(crate) addressed: bool,
    /// No other port has the destination MAC.
    alone: bool,
}

pub(crate) fn is_filtered(end: Endpoint<'_>) -> bool {
    matches!(end, Endpoint::Port(port) if port.security == PortSecurity::On)
}

/// Who is at a port: one that is about to arrive is known by its VIF.
fn endpoint<'a>(world: &World, host: &'a HostPolicy, port: &SwitchPort) -> Endpoint<'a> {
    let arriving = host.expected.iter().find(
        |expected| matches!(&port.kind, PortKind::Guest { vif: Some(vif), .. } if *vif == expected.port.vif),
    );
    arriving.map_or_else(|| world.endpoint(host, &port.name), |expected| Endpoint::Port(&expected.port))
}

/// The VLAN header that a network's packets have at a port.
pub(crate) fn header(tag: Option<u16>, port: &SwitchPort) -> Option<u16> {
    tag.filter(|_| matches!(port.kind, PortKind::Wire { .. }))
}

pub(crate) fn case<'a>(
    r: &mut Random,
    world: &World,
    host: &'a HostPolicy,
    switch: &'a OvsHost,
) -> Option<Case<'a>> {
    let network = r.pick(&[PARENT, "xapi1"]);
    let tag = tag_of(network);
    let ports = on_network(&switch.ports[&parent()], tag);
    let (from, to) = (r.pick(&ports), r.pick(&ports));
    let (from_end, to_end) = (endpoint(world, host, from), endpoint(world, host, to));
    let hop = Hop { from: from_end, to: to_end, bridge: network };
    // A guest's two interfaces are one port.
    if from.ofport == to.ofport
        || matches!((hop.from, hop.to), (Endpoint::Port(a), Endpoint::Port(b)) if a.vif == b.vif)
    {
        return None;
    }
    let family = r.pick(&Family::ALL);
    let mut packet = world.packet(r, &hop, family);
    if r.percent(8) {
        let sender_mac = if r.percent(80) { packet.source } else { DOM0[0] };
        if let Some((std::net::IpAddr::V4(sender), std::net::IpAddr::V4(target))) = packet.addresses() {
            packet.payload = Payload::Arp(Arp { reply: r.percent(50), sender_mac, sender, target });
        }
    } else if r.percent(2) {
        packet.payload = Payload::Other(0x88b5);
    }
    if let Payload::Ipv6(ip) = &mut packet.payload
        && let Transport::Icmp { kind: 133..=137, code, .. } = &mut ip.transport
    {
        // The switch looks into discovery packets through extension headers and only at code 0; see docs/security.md.
        *code = 0;
        ip.extensions.clear();
    }
    let theirs = macs_of(hop.to, to);
    match r.below(10) {
        0 => packet.destination = Mac([0xff; 6]),
        1 => packet.destination = Mac([1, 0, 0x5e, 0, 0, 0xfb]),
        2..9 if theirs.is_empty() => packet.destination = Mac([2, 0, 0, 0, 7, r.byte()]),
        2..9 => packet.destination = r.pick(&theirs),
        _ => {}
    }
    let owned = |port: &&SwitchPort| macs_of(endpoint(world, host, port), port).contains(&packet.destination);
    let owners = ports.iter().filter(|port| owned(port)).count();
    let nobodys = owners == 0;
    let is_wire = matches!(to.kind, PortKind::Wire { .. });
    let addressed = packet.is_for_many() || theirs.contains(&packet.destination) || (nobodys && is_wire);
    Some(Case { from, to, hop, tag, packet, addressed, alone: owners == 1 })
}

/// Neighbour discovery and MLD, which are not tracked.
pub(crate) fn is_untracked(packet: &Packet) -> bool {
    packet.family() == Some(Family::Ipv6)
        && matches!(packet.transport(), Some(Transport::Icmp { kind: 130..=137 | 143, .. }))
}

pub(crate) fn state(r: &mut Random, packet: &Packet, epoch: Epoch) -> (CtState, u32, Connection) {
    let ours = r.pick(&[0, epoch.mark().value(), epoch.next().mark().value(), Mark::REVOKED.value()]);
    let mark = ours | u32::from(r.byte());
    let cut = ours == Mark::REVOKED.value();
    if packet.family().is_none() || is_untracked(packet) {
        return (CtState::default(), 0, Connection::Untracked);
    }
    let reply = if r.percent(50) { CtState::RPL } else { CtState::default() };
    match r.below(10) {
        0..4 => (CtState::NEW, u32::from(r.byte()), Connection::New),
        4 => (CtState::NEW, mark, Connection::New),
        5 | 6 => (CtState::EST, mark, Connection::Original),
        7 => (CtState::EST.and(CtState::RPL), mark, Connection::Reply { cut }),
        8 => (CtState::REL.and(reply), mark, Connection::Related { cut }),
        _ => (CtState::INV, 0, Connection::Invalid),
    }
}

fn compare(
    r: &mut Random,
    host: &HostPolicy,
    tables: &Tables<'_>,
    epoch: Epoch,
    case: &Case<'_>,
) -> Result<Option<bool>, String> {
    let Case { from, to, hop, tag, packet, addressed, alone } = case;
    let (state, mark, connection) = state(r, packet, epoch);
    let on_trunk = |port| header(*tag, port);
    let arrival = Arrival { packet, in_port: from.ofport, vlan: on_trunk(from), state, mark };
    let outcome = tables.send(arrival).map_err(|e| e.to_string())?;
    let sent = outcome.outputs.contains(&(to.ofport, on_trunk(to)));
    let story = |what: &str| {
        Err(format!(
            "{what}\n{outcome:?}\n{packet:?}\n{connection:?} mark {mark:#x}\nhop {hop:?}\n{from:?} → {to:?}"
        ))
    };
    if outcome.outputs.iter().any(|(port, vlan)| *port == to.ofport && *vlan != on_trunk(to)) {
        return story("a copy with the wrong VLAN header");
    }
    if outcome.normal && is_filtered(hop.from) && !lifeline::is_call(host, case) {
        return story("a filtered guest's packet is left to the switch's flooding");
    }
    let reached = sent || outcome.normal;
    if *addressed && let Some(expected) = lifeline::verdict(host, case, (state, connection, mark), epoch) {
        let right = if reached { expected.may } else { !expected.must };
        return if right { Ok(Some(reached)) } else { story(&format!("{expected:?}")) };
    }
    if !addressed {
        return if sent && is_filtered(hop.to) { story("a copy for nobody") } else { Ok(None) };
    }
    if !(is_filtered(hop.from) || is_filtered(hop.to)) && state != CtState::default() {
        // Nobody asks connection tracking about what passes between two ports that are not filtered.
        let expected = verdict(host, hop, packet, Connection::Untracked).passes();
        let same = expected == (sent || outcome.normal);
        return if same { Ok(None) } else { story("between ports that are not filtered") };
    }
    let expected = verdict(host, hop, packet, connection);
    let judged = connection == Connection::Original && mark & MARK_MASK == epoch.mark().value();
    let by_rules = matches!(expected, Passage::Stops { reason: Reason::Default | Reason::Provider(_), .. })
        && packet.family().is_some();
    let wanted = expected.passes() || (judged && by_rules);
    let ours = is_filtered(hop.from) || is_filtered(hop.to) || !expected.passes();
    let left_alone = outcome.normal && !ours;
    if wanted != (sent || left_alone) {
        return story(&format!("verdict {expected:?}, the flows do otherwise"));
    }
    let by_rule = matches!(
        expected,
        Passage::Passes { egress: Pass::Provider(_) | Pass::Group(..), .. }
            | Passage::Passes { ingress: Pass::Provider(_) | Pass::Group(..), .. }
    );
    let is_known = mark & MARK_MASK != 0 || connection == Connection::Original;
    let fresh = matches!(connection, Connection::New | Connection::Original);
    let wanted_mark = match () {
        () if packet.is_for_many() || !fresh || judged => return Ok(Some(wanted)),
        () if by_rule => Some((mark & !MARK_MASK) | epoch.mark().value()),
        // Another port with the same MAC may have accepted it.
        () if by_rules && *alone && is_known && mark & MARK_MASK != epoch.mark().value() => {
            Some((mark & !MARK_MASK) | Mark::REVOKED.value())
        }
        () => return Ok(Some(wanted)),
    };
    if outcome.commit == wanted_mark || !addressed {
        return Ok(Some(wanted));
    }
    story(&format!("verdict {expected:?}, the mark should be {wanted_mark:x?}"))
}

fn one_policy(seed: u64) -> Result<[usize; 2], String> {
    let mut r = Random(seed);
    let world = world(&mut r);
    let host = world.host();
    let switch = switch(&mut r, &host);
    let mut model = Model::default();
    model.apply(&plan(&host, &switch, &parent(), &model.observed(), 77).unwrap().bundle());
    let observed = model.observed();
    let tables = Tables::new(&observed);
    let mut seen = [0, 0];
    let Some(epoch) = observed.epoch() else { return Ok(seen) };
    for _ in 0..PACKETS {
        let Some(case) = case(&mut r, &world, &host, &switch) else { continue };
        if let Some(passes) = compare(&mut r, &host, &tables, epoch, &case)? {
            seen[usize::from(passes)] += 1;
        }
    }
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(feature = "soak") { 40_000 } else { 800 },
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_compiled_flows_decide_as_the_verdict_does(seed: u64) {
        let result = one_policy(seed);
        prop_assert!(result.is_ok(), "seed {seed:#x}\n{}", result.unwrap_err());
    }
}

#[test]
fn the_generated_packets_pass_often_and_are_refused_often() {
    let mut seen = [0, 0];
    for seed in 0..120 {
        let [refused, passed] = one_policy(seed).unwrap();
        seen = [seen[0] + refused, seen[1] + passed];
    }
    assert!(seen.iter().all(|n| *n > 500), "{seen:?}");
}

#[test]
fn the_drivers_own_calls_are_the_switchs_to_deliver_where_its_port_is_known() {
    one_policy(0xf3b4_70bb_bb13_34a8).unwrap();
}
