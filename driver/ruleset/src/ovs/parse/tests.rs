use super::*;
use crate::ovs::flow::{Action, CtState, Destination, Ether, OfPort, Vlan, Zone};

/// What OVS 3.1 printed for flows of every kind that are compiled, statistics and all.
const DUMP: &str = include_str!("tests/ovs-3.1.dump");

/// The same flows through an OpenFlow 1.0 connection.
const OLD: &str = include_str!("tests/ovs-3.1-openflow10.dump");

#[test]
fn what_a_switch_prints_is_understood_and_printed_alike() {
    for dump in [DUMP, OLD] {
        let observed = parse_dump_flows(dump).unwrap();
        assert_eq!(observed.flows.len(), dump.lines().filter(|line| line.contains("cookie=")).count());
        for flow in &observed.flows {
            let text = format!(" cookie={:#x}, {}", flow.cookie, flow.flow).replace(",actions=", " actions=");
            assert_eq!(flow::parse(&text).as_ref(), Ok(flow), "{text}");
        }
    }
    let number = |dump| parse_dump_flows(dump).unwrap().flows;
    let (new, old) = (number(DUMP), number(OLD));
    assert_eq!(new, old);
}

#[test]
fn fields_mean_what_they_say() {
    let flow = |text: &str| flow::parse(&format!("cookie=0x4457427200000001, {text}")).unwrap().flow;
    let one = flow(
        "table=60, n_packets=1, priority=7,icmp6,reg6=0x1,icmp_type=136,nd_target=fe80::/10 actions=drop",
    );
    assert_eq!((one.key.table, one.key.priority, one.actions.as_slice()), (60, 7, &[][..]));
    assert_eq!((one.key.matches.ether, one.key.matches.nw_proto), (Some(Ether::Ipv6), Some(58)));
    assert_eq!(one.key.matches.registers, [(6, 1)]);
    let state = flow("priority=1,ct_state=-new+est-rel+trk,ip actions=NORMAL").key.matches.ct_state;
    assert_eq!((state.set, state.clear), (CtState::EST.and(CtState::TRK), CtState::NEW.and(CtState::REL)));
    let hook =
        flow("priority=1,in_port=LOCAL,dl_vlan=5,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=LOCAL");
    assert_eq!(hook.key.matches.in_port, Some(OfPort::Local));
    assert_eq!(hook.key.matches.vlan, Some(Vlan::Id(5)));
    assert_eq!(hook.key.matches.dl_dst, Some(Destination::Many));
    assert_eq!(hook.actions, [Action::Output(OfPort::Local)]);
    let net = flow("priority=1,ip,nw_src=10.0.0.0/255.255.0.0 actions=drop").key.matches.source;
    assert_eq!(net, Some("10.0.0.0/16".parse().unwrap()));
    // Without a priority it is OpenFlow's default, which is not ours.
    assert_eq!(flow("ip actions=drop").key.priority, 32_768);
    let commit =
        "priority=1,ip actions=ct(commit,zone=NXM_NX_REG5[0..15],exec(set_field:0x700/0xffffff00->ct_mark))";
    assert_eq!(flow(commit).actions, [Action::Commit { zone: Zone::InRegister, mark: 0x700 }]);
    let zone = Zone::Is(std::num::NonZeroU16::new(5).unwrap());
    let track = "priority=1,ip,reg5=0x5 actions=ct(table=62,zone=5)";
    assert_eq!(flow(track).actions, [Action::Track { zone, next: 62 }]);
}

/// Somebody else's flow under our cookie, added by `ovs-ofctl add-flow` without `-O`.
#[test]
fn flags_are_no_matches() {
    let flow = |text: &str| flow::parse(&format!("cookie=0x4457427200000001, table=0, {text}")).unwrap();
    assert_eq!(
        flow("reset_counts send_flow_rem priority=1,ip actions=drop"),
        flow("priority=1,ip actions=drop")
    );
}

#[test]
fn nothing_unknown_is_left_out() {
    let reply = "OFPST_FLOW reply (OF1.4) (xid=0x2):\n";
    assert!(parse_dump_flows(reply).unwrap().is_empty());
    for (text, problem) in [
        ("", "no reply"),
        ("ovs-ofctl: br0 is not a bridge or a socket\n", "no actions"),
        (" cookie=0x1, table=0, priority=1 actions=drop\n", "is not ours"),
        (" table=0, priority=1 actions=drop\n", "no cookie"),
        (" cookie=0x4457427200000001, table=60, priority=1,tun_id=0x5 actions=drop\n", "tun_id"),
        (" cookie=0x4457427200000001, table=60, priority=1,mpls actions=drop\n", "mpls"),
        (" cookie=0x4457427200000001, table=60, priority=1,ip,ip actions=drop\n", "twice"),
        (" cookie=0x4457427200000001, table=60, priority=1,ip,tcp actions=drop\n", "two protocols"),
        (" cookie=0x4457427200000001, table=600, priority=1 actions=drop\n", "600"),
        (" cookie=0x4457427200000001, table=60, priority=1,ct_state=+snat actions=drop\n", "ct_state"),
        (" cookie=0x4457427200000001, table=60, priority=1 actions=flood\n", "flood"),
        (" cookie=0x4457427200000001, table=60, priority=1 actions=output:NXM_NX_REG1[]\n", "NXM"),
        (" cookie=0x4457427200000001, table=60, priority=1 actions=ct(table=61,zone=0)\n", "ct(table=61"),
        (" cookie=0x4457427200000001, table=60, priority=1 actions=ct(table=61,zone=65536)\n", "ct(table=61"),
        (" cookie=0x4457427200000001, table=60, priority=1 actions=ct(table=61)\n", "ct(table=61"),
        (
            " cookie=0x4457427200000001, table=60, priority=1 actions=ct(table=61,zone=NXM_NX_REG6[0..15])\n",
            "ct(table=61",
        ),
        (
            " cookie=0x4457427200000001, table=60, priority=1 actions=ct(table=61,zone=NXM_NX_REG5[0..15],nat)\n",
            "nat",
        ),
        (" cookie=0x4457427200000001, table=60, priority=1 actions=resubmit(1,60)\n", "resubmit"),
        (" cookie=0x4457427200000001, table=60, priority=1 actions=conjunction(1,1/3)\n", "1/3"),
        (" cookie=0x4457427200000001, table=60, idle_timeout=5, priority=1 actions=drop\n", "idle_timeout"),
        (" cookie=0x4457427200000001, table=60, priority=1 actions=drop)(\n", "parentheses"),
        (" cookie=0x4457427200000001, table=60, priority=1,reg16=0x1 actions=drop\n", "reg16"),
        (
            " cookie=0x4457427200000001, table=60, priority=1 actions=drop\n \
             cookie=0x4457427200000002, table=60, priority=1 actions=NORMAL\n",
            "stands twice",
        ),
    ] {
        let error = parse_dump_flows(text).unwrap_err();
        assert!(error.problem.contains(problem), "{text:?}: {error}");
    }
}

/// A large table's dump comes in parts; half of one must not pass for all.
#[test]
fn a_reply_in_parts_is_one_reply() {
    let flow = |reg| format!(" cookie=0x4457427200000001, table=60, priority=1,reg6={reg} actions=drop\n");
    let more = "OFPST_FLOW reply (OF1.4) (xid=0x2): flags=[more]\n";
    let last = "OFPST_FLOW reply (OF1.4) (xid=0x2):\n";
    let whole = format!("{more}{}{last}{}", flow("0x1"), flow("0x2"));
    assert_eq!(parse_dump_flows(&whole).unwrap().flows.len(), 2);
    let half = parse_dump_flows(&format!("{more}{}", flow("0x1"))).unwrap_err();
    assert!(half.to_string().contains("breaks off"), "{half}");
}
