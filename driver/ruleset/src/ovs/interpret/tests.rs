use super::super::parse_dump_flows;
use super::*;

/// Flows in tables 0 and 60, by priority.
fn outcome(flows: &[&str], transport: Transport) -> Outcome {
    let mut dump = "NXST_FLOW reply (xid=0x4):\n".to_owned();
    for flow in flows {
        dump.push_str(&format!(" cookie=0x4457427200000001, {flow}\n"));
    }
    let observed = parse_dump_flows(&dump).unwrap();
    let mac = |n| Mac([2, 0, 0, 0, 0, n]);
    let ips = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let packet = Packet::ip((mac(1), mac(2)), ips, transport).unwrap();
    let arrival = Arrival {
        packet: &packet,
        in_port: OfPort::Number(1),
        vlan: Some(5),
        state: CtState::NEW,
        mark: 0x1ff,
    };
    Tables::new(&observed).send(arrival).unwrap()
}

fn tcp() -> Transport {
    Transport::tcp(1, 80)
}

#[test]
fn a_packet_no_flow_of_ours_speaks_of_is_the_switchs() {
    assert!(outcome(&["table=60, priority=1 actions=output:2"], tcp()).normal);
    assert!(!outcome(&["table=0, priority=1 actions=drop"], tcp()).normal);
}

#[test]
fn conjunctions_need_both_dimensions_and_beat_only_lower_priorities() {
    let dimensions = [
        "table=0, priority=1 actions=resubmit(,60)",
        "table=60, priority=50,tcp,tp_dst=80 actions=conjunction(7,1/2),conjunction(8,1/2)",
        "table=60, priority=50,ip,nw_src=10.0.0.0/24 actions=conjunction(7,2/2)",
        "table=60, priority=50,conj_id=7,ip actions=output:2",
        "table=60, priority=50,conj_id=8,ip actions=output:3",
        "table=60, priority=1 actions=output:4",
    ];
    let sent = |flows: &[&str], transport| outcome(flows, transport).outputs;
    assert_eq!(sent(&dimensions, tcp()), [(OfPort::Number(2), Some(5))]);
    assert_eq!(sent(&dimensions, Transport::tcp(1, 81)), [(OfPort::Number(4), Some(5))]);
    let above: Vec<&str> =
        dimensions.iter().copied().chain(["table=60, priority=51,ip actions=drop"]).collect();
    assert_eq!(sent(&above, tcp()), []);
}

#[test]
fn tracking_shows_state_to_the_next_table_only() {
    let tracked = outcome(
        &[
            "table=0, priority=1,ip actions=load:0x9->NXM_NX_REG5[],ct(table=60,zone=NXM_NX_REG5[0..15]),resubmit(,61)",
            "table=60, priority=1,ct_state=+new+trk,ct_mark=0x100/0xffffff00,ip \
             actions=ct(commit,zone=NXM_NX_REG5[0..15],exec(load:0x2->NXM_NX_CT_MARK[8..31])),pop_vlan,output:2",
            "table=61, priority=2,ct_state=+trk actions=drop",
            "table=61, priority=1 actions=output:3,output:1",
        ],
        tcp(),
    );
    assert_eq!(tracked.outputs, [(OfPort::Number(2), None), (OfPort::Number(3), Some(5))]);
    assert_eq!((tracked.zone, tracked.commit), (Some(9), Some(0x2ff)));
}

#[test]
fn a_circle_ends_as_it_does_in_the_switch() {
    let dump = "NXST_FLOW reply (xid=0x4):\n cookie=0x4457427200000001, table=0, priority=1 \
                actions=resubmit(,60)\n cookie=0x4457427200000001, table=60, priority=1 actions=resubmit(,60)\n";
    let observed = parse_dump_flows(dump).unwrap();
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let packet = Packet { source: mac, destination: mac, payload: Payload::Other(0x88b5) };
    let arrival =
        Arrival { packet: &packet, in_port: OfPort::Local, vlan: None, state: CtState::default(), mark: 0 };
    let error = Tables::new(&observed).send(arrival).unwrap_err();
    assert_eq!(error, InterpretError::Depth(MOST_DEPTH));
}
