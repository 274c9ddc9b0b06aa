//! Everything the flow compiler can say, the guard accepts: any flow that its types can hold, in any of its places.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dom0_plugin::authorise::{Plan, authorise};
use drawbridge_wire::{Family, Function};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use ruleset::ids::Mac;
use ruleset::model::Protocol;
use ruleset::ovs::{
    Action, COOKIE, Change, CtMatch, CtState, Destination, Ether, Flow, FlowPlan, HOOK_PRIORITIES, Key,
    Masked, Match, ObservedFlow, OfPort, Vlan, table,
};

fn of_port() -> impl Strategy<Value = OfPort> {
    prop_oneof![(1..0xff00_u16).prop_map(OfPort::Number), Just(OfPort::Local)]
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn masked() -> impl Strategy<Value = Masked> {
    (any::<u16>(), 0..16_u32).prop_map(|(value, bits)| {
        let mask = u16::MAX << bits;
        Masked { value: value & mask, mask }
    })
}

fn ipv6() -> impl Strategy<Value = Ipv6Net> {
    (any::<u128>(), 1..=128_u8).prop_map(|(bits, length)| Ipv6Net::new(bits.into(), length).unwrap().trunc())
}

fn net(ether: Ether) -> BoxedStrategy<IpNet> {
    match ether {
        Ether::Ipv6 => ipv6().prop_map(IpNet::V6).boxed(),
        Ether::Arp | Ether::Ipv4 => (any::<u32>(), 1..=32_u8)
            .prop_map(|(bits, length)| IpNet::V4(Ipv4Net::new(bits.into(), length).unwrap().trunc()))
            .boxed(),
    }
}

/// Fields that stand in any match.
fn link() -> BoxedStrategy<Match> {
    let vlan = prop_oneof![Just(Vlan::None), (0..4096_u16).prop_map(Vlan::Id)];
    let registers = prop::collection::btree_map(0..16_u8, any::<u32>(), 0..3);
    let to = prop_oneof![mac().prop_map(Destination::Exactly), Just(Destination::Many)];
    let ct = (0..64_u8, 0..64_u8)
        .prop_map(|(set, clear)| CtMatch { set: CtState(set), clear: CtState(clear & !set) });
    let mark = prop::option::of((any::<u32>(), any::<u32>()));
    let optional =
        (prop::option::of(of_port()), prop::option::of(vlan), prop::option::of(mac()), prop::option::of(to));
    (optional, registers, ct, mark, any::<Option<u32>>())
        .prop_map(|((in_port, vlan, dl_src, dl_dst), registers, ct_state, ct_mark, conj_id)| Match {
            in_port,
            vlan,
            registers: registers.into_iter().collect(),
            conj_id,
            ct_state,
            ct_mark,
            dl_src,
            dl_dst,
            ..Match::default()
        })
        .boxed()
}

/// Fields about one ethertype, which belong together.
fn matches() -> BoxedStrategy<Match> {
    let ether = prop::sample::select(vec![Ether::Arp, Ether::Ipv4, Ether::Ipv6]);
    let of_ether = ether.prop_flat_map(|ether| {
        let nets = (prop::option::of(net(ether)), prop::option::of(net(ether)));
        let service = prop_oneof![
            Just((None, None, None, None, None)),
            any::<u8>().prop_map(|protocol| (Some(protocol), None, None, None, None)),
            (prop::sample::select(vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP]), masked(), masked())
                .prop_map(|(protocol, from, to)| (Some(protocol.0), Some(from), Some(to), None, None)),
            (prop::sample::select(vec![Protocol::ICMP, Protocol::ICMPV6]), any::<u8>(), any::<Option<u8>>())
                .prop_map(|(protocol, kind, code)| (Some(protocol.0), None, None, Some(kind), code)),
        ];
        let nd = (prop::option::of(ipv6()), prop::option::of(mac()), prop::option::of(mac()));
        (link(), nets, service, nd, prop::option::of(mac()), any::<bool>()).prop_map(
            move |(link, (source, destination), service, nd, arp_sha, later_fragment)| Match {
                ether: Some(ether),
                source,
                destination,
                nw_proto: service.0,
                tp_src: service.1,
                tp_dst: service.2,
                icmp_type: service.3,
                icmp_code: service.4,
                nd_target: nd.0,
                nd_sll: nd.1,
                nd_tll: nd.2,
                arp_sha,
                later_fragment,
                ..link
            },
        )
    });
    prop_oneof![link(), of_ether.boxed()].boxed()
}

/// A table of ours, but for the hook's.
fn ours() -> impl Strategy<Value = u8> {
    table::SOURCE..=table::SETTLE
}

fn actions() -> BoxedStrategy<Vec<Action>> {
    let one = prop_oneof![
        of_port().prop_map(Action::Output),
        Just(Action::Normal),
        ours().prop_map(Action::Resubmit),
        (0..16_u8, any::<u32>()).prop_map(|(register, value)| Action::Load(register, value)),
        ours().prop_map(Action::Track),
        any::<u32>().prop_map(|mark| Action::Commit(mark & ruleset::iptables::MARK_MASK)),
        (any::<u32>(), 1..=2_u8).prop_map(|(id, dimension)| Action::Conjunction { id, dimension }),
        Just(Action::PopVlan),
        (0..4096_u16).prop_map(Action::PushVlan),
    ];
    prop::collection::vec(one, 0..6).boxed()
}

fn flow() -> BoxedStrategy<Flow> {
    let place = prop_oneof![
        HOOK_PRIORITIES.prop_map(|priority| (table::HOOK, priority)),
        (ours(), any::<u16>()).prop_map(|place| place),
    ];
    (place, matches(), actions())
        .prop_map(|((table, priority), matches, actions)| Flow {
            key: Key { table, priority, matches },
            actions,
        })
        .boxed()
}

/// Any change: what goes may have the cookie of an older layout.
fn change() -> impl Strategy<Value = Change> {
    let old = (flow(), any::<u32>())
        .prop_map(|(flow, low)| ObservedFlow { flow, cookie: COOKIE | u64::from(low) })
        .boxed();
    prop_oneof![
        flow().prop_map(Change::Add),
        (old.clone(), actions()).prop_map(|(old, actions)| {
            let new = Flow { key: old.flow.key.clone(), actions };
            Change::Replace { old, new }
        }),
        old.prop_map(Change::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_the_flow_compiler_says_is_accepted(changes in prop::collection::vec(change(), 1..4)) {
        let plan = FlowPlan { changes, ..FlowPlan::default() };
        for text in [plan.bundle(), plan.ordered()] {
            let args = ["-O", "OpenFlow14", "--bundle", "add-flows", "xenbr0", "-"].map(str::to_owned);
            let answer = authorise(Function::OvsOfctl, Family::Ipv4, &args, Some(text.clone().into_bytes()));
            prop_assert!(matches!(answer, Ok(Plan::ChangeFlows(_))), "{answer:?}\n{text}");
        }
    }
}
