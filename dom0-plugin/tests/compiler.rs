//! Everything the compiler can say, the guard accepts: any rule that its types can hold.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dom0_plugin::authorise::restore;
use drawbridge_wire::Family;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use ruleset::ids::{ChainName, Interface, Mac};
use ruleset::iptables::{
    CtDirection, CtStates, IfPattern, Mark, Match, PACKET_MASK, PacketMark, Rule, Target,
};
use ruleset::model::{Icmp, PortRange, Protocol};

fn chain() -> impl Strategy<Value = ChainName> {
    let reserved = |name: &String| name.starts_with("dwb-dom0");
    "dwb-[A-Za-z0-9._-]{1,24}"
        .prop_filter("the plugin's own", move |name| !reserved(name))
        .prop_map(|name| name.parse().unwrap())
}

fn interface() -> impl Strategy<Value = Interface> {
    prop_oneof!["(vif|tap)[0-9]{1,5}\\.[0-9]{1,2}", "xenbr[0-9]{1,3}", "xapi[0-9]{1,3}", "vif[0-9]{0,4}"]
        .prop_map(|name| name.parse().unwrap())
}

fn network(family: Family) -> BoxedStrategy<IpNet> {
    match family {
        Family::Ipv4 => (any::<u32>(), 0..=32_u8)
            .prop_map(|(bits, length)| IpNet::V4(Ipv4Net::new(bits.into(), length).unwrap().trunc()))
            .boxed(),
        Family::Ipv6 => (any::<u128>(), 0..=128_u8)
            .prop_map(|(bits, length)| IpNet::V6(Ipv6Net::new(bits.into(), length).unwrap().trunc()))
            .boxed(),
    }
}

fn ports() -> impl Strategy<Value = PortRange> {
    (1..=u16::MAX, 1..=u16::MAX).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap())
}

fn mark() -> impl Strategy<Value = Mark> {
    any::<u32>().prop_map(|bits| Mark::new(bits & ruleset::iptables::MARK_MASK).unwrap())
}

fn packet_mark() -> impl Strategy<Value = PacketMark> {
    (any::<u32>(), 1..8_u32).prop_map(|(bits, ours)| {
        let mask = (ours << 28) & PACKET_MASK;
        PacketMark::new(bits & mask, mask).unwrap()
    })
}

fn pattern() -> impl Strategy<Value = IfPattern> {
    (interface(), any::<bool>())
        .prop_map(|(name, prefix)| if prefix { IfPattern::Prefix(name) } else { IfPattern::Exactly(name) })
}

fn icmp() -> impl Strategy<Value = Icmp> {
    (any::<u8>(), any::<Option<u8>>()).prop_map(|(kind, code)| Icmp { kind, code })
}

/// Matches about the protocol, which belong together.
fn service() -> impl Strategy<Value = Vec<Match>> {
    let with_ports = prop::sample::select(vec![
        Protocol::TCP,
        Protocol::UDP,
        Protocol::SCTP,
        Protocol::DCCP,
        Protocol::UDPLITE,
    ]);
    prop_oneof![
        Just(vec![]),
        any::<u8>().prop_map(|number| vec![Match::Protocol(Protocol(number))]),
        (with_ports, ports(), ports()).prop_map(|(protocol, from, to)| {
            vec![
                Match::Protocol(protocol),
                Match::SourcePorts(protocol, from),
                Match::DestinationPorts(protocol, to),
            ]
        }),
        icmp().prop_map(|icmp| vec![Match::Protocol(Protocol::ICMP), Match::Icmp(icmp)]),
        icmp().prop_map(|icmp| vec![Match::Protocol(Protocol::ICMPV6), Match::Icmpv6(icmp)]),
    ]
}

fn states() -> impl Strategy<Value = CtStates> {
    let named: Vec<_> = CtStates::NAMES.iter().map(|(_, state)| *state).collect();
    prop::sample::subsequence(named, 1..=5).prop_map(|some| some.into_iter().reduce(CtStates::and).unwrap())
}

fn other_match(family: Family) -> impl Strategy<Value = Match> {
    let direction = prop::sample::select(vec![None, Some(CtDirection::Original), Some(CtDirection::Reply)]);
    prop_oneof![
        network(family).prop_map(Match::Source),
        network(family).prop_map(Match::Destination),
        interface().prop_map(Match::InBridge),
        interface().prop_map(Match::OutBridge),
        Just(Match::NotForDom0),
        pattern().prop_map(Match::PhysdevIn),
        pattern().prop_map(Match::PhysdevOut),
        Just(Match::IsBridged),
        (states(), direction).prop_map(|(states, direction)| Match::Conntrack(states, direction)),
        (any::<bool>(), mark()).prop_map(|(negated, mark)| Match::ConnMark { negated, mark }),
        (any::<bool>(), packet_mark()).prop_map(|(negated, mark)| Match::PacketMark { negated, mark }),
        any::<[u8; 6]>().prop_map(|bytes| Match::MacSource(Mac(bytes))),
        prop::collection::vec((0..0x60_u32, any::<u32>(), any::<u32>()), 1..5).prop_map(|tests| {
            let tests: Vec<_> =
                tests.iter().map(|(at, mask, value)| format!("{at:#x}&{mask:#x}={value:#x}")).collect();
            Match::U32(tests.join("&&"))
        }),
    ]
}

fn rule(family: Family, target: impl Strategy<Value = Target>) -> impl Strategy<Value = Rule> {
    (prop::collection::vec(other_match(family), 0..5), service(), target)
        .prop_map(|(others, service, target)| Rule::new(others.into_iter().chain(service), target))
}

fn filter_target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Accept),
        Just(Target::Drop),
        Just(Target::Return),
        chain().prop_map(Target::Jump),
        chain().prop_map(Target::Goto),
        mark().prop_map(Target::SetMark),
        packet_mark().prop_map(Target::SetPacketMark),
    ]
}

fn raw_target() -> impl Strategy<Value = Target> {
    prop_oneof![Just(Target::Return), (1..u16::MAX).prop_map(Target::Zone)]
}

fn accepted(
    family: Family,
    filter: &Rule,
    raw: &Rule,
    chain: &ChainName,
    at: u32,
) -> Result<(), TestCaseError> {
    let input = format!(
        "*raw\n:{chain} - [0:0]\n-A {chain} {raw}\n-D PREROUTING -m addrtype ! --dst-type LOCAL -j dwb-raw\nCOMMIT\n\
         *filter\n:{chain} - [0:0]\n-A {chain} {filter}\n-I {chain} {at} {filter}\n-D {chain} {at}\n-F {chain}\n-X {chain}\n\
         -D FORWARD -m physdev --physdev-is-bridged -j dwb-forward\n\
         -I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-forward\nCOMMIT\n"
    );
    restore::check(input.as_bytes(), family)
        .map_err(|refusal| TestCaseError::fail(format!("{refusal}\n{input}")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn ipv4(
        filter in rule(Family::Ipv4, filter_target()),
        raw in rule(Family::Ipv4, raw_target()),
        chain in chain(),
        at in 1..100_000_u32,
    ) {
        accepted(Family::Ipv4, &filter, &raw, &chain, at)?;
    }

    #[test]
    fn ipv6(
        filter in rule(Family::Ipv6, filter_target()),
        raw in rule(Family::Ipv6, raw_target()),
        chain in chain(),
        at in 1..100_000_u32,
    ) {
        accepted(Family::Ipv6, &filter, &raw, &chain, at)?;
    }
}

/// The plugin closes bridges at boot in the zones that the driver then gives them: what passes there goes on.
#[test]
fn a_bridge_has_one_zone() {
    for name in ["xenbr0", "xapi1", "xapi27", "storage"] {
        let policy =
            ruleset::resolve::HostPolicy { guarded: [name.parse().unwrap()].into(), ..Default::default() };
        let observed = ruleset::iptables::Observed::default();
        let input = ruleset::iptables::plan(&policy, ruleset::model::Family::Ipv4, &observed, 1)
            .unwrap()
            .input
            .unwrap();
        let zone = format!("-A dwb-raw -i {name} -j CT --zone {}\n", dom0_plugin::zone(name));
        assert!(input.contains(&zone), "{zone}{input}");
    }
}
