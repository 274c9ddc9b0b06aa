//! The compiled chains, read back from text, decide as the reference verdict does: any policy, any packet, any state
//! of its connection.

use proptest::prelude::*;
use ruleset::iptables::interpret::{Conntrack, Fate, Transit, traverse};
use ruleset::iptables::{CtDirection, CtStates, Epoch, MARK_MASK, Mark, Observed, Table, parse_save, plan};
use ruleset::model::{Direction, Family, PortSecurity, Protocol};
use ruleset::packet::{Packet, Transport};
use ruleset::resolve::HostPolicy;
use ruleset::verdict::{Connection, Endpoint, Hop, Passage, Reason, verdict};

use crate::generate::{Random, Way, World};
use crate::tables::Tables;

/// Packets per policy; policies are what costs.
const PACKETS: usize = 250;

/// A change to a dump.
pub(crate) type Tamper = fn(&str) -> String;

/// What stands in the kernel when a plan for an empty host was carried out.
fn installed(host: &HostPolicy, family: Family, tamper: Tamper) -> Observed {
    let mut tables = Tables::new();
    carry_out(&mut tables, host, family);
    parse_save(&tamper(&tables.save())).unwrap()
}

/// Plans against what stands and carries it out.
pub(crate) fn carry_out(tables: &mut Tables, host: &HostPolicy, family: Family) {
    let observed = parse_save(&tables.save()).unwrap();
    let plan = plan(host, family, &observed, 77).unwrap();
    assert_eq!(plan.complaints, Vec::<String>::new());
    if let Some(input) = plan.input {
        tables.restore(&input).unwrap_or_else(|e| panic!("{e}\n{input}"));
    }
}

/// A state that connection tracking could be in, and what it is to the verdict.
fn state(r: &mut Random, packet: &Packet, epoch: Epoch) -> (Conntrack, Connection) {
    let neighbour = packet.family() == Some(Family::Ipv6)
        && matches!(packet.transport(), Some(Transport::Icmp { kind: 130..=136 | 143, .. }));
    if neighbour && r.percent(90) {
        return (Conntrack::None(CtStates::UNTRACKED), Connection::Untracked);
    }
    let ours = r.pick(&[0, epoch.mark().value(), epoch.next().mark().value(), Mark::REVOKED.value()]);
    let mark = ours | u32::from(r.byte());
    let cut = ours == Mark::REVOKED.value();
    let (original, reply) = (CtDirection::Original, CtDirection::Reply);
    let some = |state, direction, mark| Conntrack::Some { state, direction, mark };
    match r.below(10) {
        0..4 => (some(CtStates::NEW, original, u32::from(r.byte())), Connection::New),
        4 => (some(CtStates::NEW, original, mark), Connection::New),
        5 | 6 => (some(CtStates::ESTABLISHED, original, mark), Connection::Original),
        7 => (some(CtStates::ESTABLISHED, reply, mark), Connection::Reply { cut }),
        8 => (some(CtStates::RELATED, r.pick(&[original, reply]), mark), Connection::Related { cut }),
        // Forged, so that the plugin's boundary keeps it from being tracked; what is neighbour discovery never is.
        _ if packet.protocol() != Some(Protocol::ICMPV6) && r.percent(50) => {
            (Conntrack::None(CtStates::UNTRACKED), Connection::Invalid)
        }
        _ => (Conntrack::None(CtStates::INVALID), Connection::Invalid),
    }
}

fn is_filtered(end: Endpoint<'_>) -> bool {
    matches!(end, Endpoint::Port(port) if port.security == PortSecurity::On)
}

/// Whether a packet is for the address of a filtered port of the bridge and goes out to somebody who does not have it. What
/// becomes of it says nothing about its connection.
pub(crate) fn strays(host: &HostPolicy, way: &Way, to: Endpoint<'_>, packet: &Packet) -> bool {
    let Some((_, destination)) = packet.addresses() else { return false };
    let family = Family::of(&destination.into());
    let is_guarded = host.is_guarded(&way.bridge);
    let here = host.attachments.iter().map(|a| (&a.port, &a.bridge));
    let arriving = host.expected.iter().filter(|_| !is_guarded).map(|e| (&e.port, &e.bridge));
    let is_somebodys = here.chain(arriving).any(|(port, bridge)| {
        let has = || port.sources(family).iter().any(|(_, net)| *net == destination.into());
        port.security == PortSecurity::On && bridge.as_str() == way.bridge && has()
    });
    let has_it = match to {
        Endpoint::Port(port) if port.security == PortSecurity::On => {
            port.sources(family).iter().any(|(_, net)| net.contains(&destination))
        }
        _ => false,
    };
    is_somebodys && !has_it
}

/// Compares one decision; the error tells the whole story.
fn compare(
    host: &HostPolicy,
    hop: &Hop<'_>,
    way: &Way,
    packet: &Packet,
    observed: &Observed,
    (conntrack, connection): (Conntrack, Connection),
) -> Result<(), String> {
    let expected = verdict(host, hop, packet, connection);
    if let Some(Transport::Fragment(_)) = packet.transport() {
        // Connection tracking puts datagrams together before any chain sees them; a fragment that is left over never
        // gets so far.
        let refused = !(is_filtered(hop.from) || is_filtered(hop.to)) || !expected.passes();
        return if refused { Ok(()) } else { Err(format!("a lone fragment passes: {packet:?}")) };
    }
    let transit = Transit {
        packet,
        bridge: &way.bridge,
        input: &way.input,
        output: Some(&way.output),
        for_dom0: false,
        conntrack,
    };
    let outcome = traverse(observed, Table::Filter, &transit).map_err(|e| e.to_string())?;
    let epoch = observed.epoch().unwrap().mark().value();
    let (before, after) = match (conntrack, outcome.mark) {
        (Conntrack::Some { mark, .. }, Some(after)) => (mark, after),
        _ => (0, 0),
    };
    // Marked with the present epoch says: the rules allowed it since they last changed. What does not depend on the
    // rules is asked all the same.
    let judged = connection == Connection::Original && before & MARK_MASK == epoch;
    let by_rules = matches!(expected, Passage::Stops { reason: Reason::Default | Reason::Provider(_), .. });
    let passes = expected.passes() || (judged && by_rules);
    let wanted = if passes { Fate::Accepted } else { Fate::Dropped };
    let at_sender = matches!(expected, Passage::Stops { side: Direction::Egress, .. });
    let wanted_mark = match connection {
        _ if strays(host, way, hop.to, packet) && !at_sender => before,
        Connection::New | Connection::Original if passes => (before & !MARK_MASK) | epoch,
        Connection::New | Connection::Original if by_rules && before & MARK_MASK != epoch => {
            (before & !MARK_MASK) | Mark::REVOKED.value()
        }
        _ => before,
    };
    if (outcome.fate, after) == (wanted, wanted_mark) {
        return Ok(());
    }
    let steps: Vec<String> = outcome
        .steps
        .iter()
        .map(|s| format!("  {}: {}", s.chain.map_or("hook", |c| c.as_str()), s.rule))
        .collect();
    Err(format!(
        "verdict {expected:?}\nwanted {wanted:?} with mark {wanted_mark:#x}, the chains say {:?} with mark {after:#x}:\n{}\n\
         {packet:#?}\n{conntrack:?} on {way:?}, hop {hop:#?}\nhost {host:#?}",
        outcome.fate,
        steps.join("\n")
    ))
}

fn one_policy(seed: u64, tamper: Tamper) -> Result<[usize; 2], String> {
    let mut r = Random(seed);
    let world = World::random(&mut r);
    let host = world.host();
    let mut seen = [0, 0];
    if host.is_empty() {
        return Ok(seen);
    }
    let observed = Family::ALL.map(|family| installed(&host, family, tamper));
    for _ in 0..PACKETS {
        let way = world.way(&mut r);
        let at = r.below(2);
        let hop = world.hop(&host, &way);
        let hop = world.with_arriving(&mut r, &host, &way, hop);
        let packet = world.packet(&mut r, &hop, Family::ALL[at]);
        let hop = world.hop_of(&host, &way, &packet);
        let epoch = observed[at].epoch().unwrap();
        let state = state(&mut r, &packet, epoch);
        compare(&host, &hop, &way, &packet, &observed[at], state)?;
        seen[usize::from(verdict(&host, &hop, &packet, state.1).passes())] += 1;
    }
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(feature = "soak") { 40_000 } else { 1_000 },
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_compiled_chains_decide_as_the_verdict_does(seed: u64) {
        let result = one_policy(seed, str::to_owned);
        prop_assert!(result.is_ok(), "seed {seed:#x}\n{}", result.unwrap_err());
    }
}

#[test]
fn the_generated_packets_pass_often_and_are_refused_often() {
    let mut seen = [0, 0];
    for seed in 0..20 {
        let [refused, passed] = one_policy(seed, str::to_owned).unwrap();
        seen = [seen[0] + refused, seen[1] + passed];
    }
    assert!(seen.iter().all(|n| *n > 1000), "{seen:?}");
}

fn without(dump: &str, what: &str) -> String {
    dump.lines().filter(|line| !line.contains(what)).map(|line| format!("{line}\n")).collect()
}

/// A comparison that finds nothing must be able to find something.
#[test]
fn chains_that_differ_from_the_contract_are_found_out() {
    let faults: [(&str, Tamper); 21] = [
        ("XAPI cannot be asked", |dump| without(dump, "--dport 443 -m mac")),
        ("XAPI's answers are lost", |dump| without(dump, "--ctdir REPLY -j RETURN")),
        ("whoever speaks from XAPI's port is heard", |dump| {
            dump.replace("-m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN", "-j RETURN")
        }),
        ("whoever arrives may say anything", |dump| without(dump, "-A dwb-other-from -i")),
        ("whoever arrives may be told anything", |dump| without(dump, "-A dwb-other-to -d")),
        ("whoever arrives may say it in anybody's name", |dump| {
            without(dump, "-A dwb-unknown-from -i xapi1 -m mac")
        }),
        ("servers and routers pass", |dump| without(dump, "-A dwb-guard ")),
        ("claims in neighbour advertisements pass", |dump| without(dump, "--icmpv6-type 136 -j dwb-n-")),
        ("any MAC", |dump| dump.replace("--mac-source 00:16:3e:00:00:01", "--mac-source 00:16:3e:00:00:02")),
        ("addresses one bit too wide", |dump| dump.replace("/32 ", "/31 ").replace("/128 ", "/127 ")),
        ("source checks after the fast path", |dump| without(dump, "-j dwb-source")),
        ("replies to a VIF without rules", |dump| without(dump, "-j dwb-receiver")),
        ("errors about a cut connection", |dump| without(dump, "--ctstate RELATED -j DROP")),
        ("replies of a cut connection", |dump| without(dump, "--ctstate ESTABLISHED --ctdir REPLY -j DROP")),
        ("invalid packets", |dump| without(dump, "--ctstate INVALID")),
        ("the operator's rules left out", |dump| without(dump, "-j dwb-po")),
        ("nobody is marked as cut", |dump| without(dump, "-j CONNMARK --set-xmark 0xffffff00")),
        ("what strays counts", |dump| without(dump, "-j dwb-local")),
        ("what is meant strays", |dump| without(dump, "-j MARK --set-xmark 0x0/0x40000000")),
        ("others' marks on packets", |dump| without(dump, "-j MARK --set-xmark 0x0/0x70000000")),
        ("routers from anywhere", |dump| dump.replace("-s fe80::/10 ", "")),
    ];
    for (what, tamper) in faults {
        assert!((0..400).any(|seed| one_policy(seed, tamper).is_err()), "not found: {what}");
    }
}
