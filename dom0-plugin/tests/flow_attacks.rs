//! What whoever holds a key may try with flows, each refused by what the switch is: dom0, the wire, other programs, and whoever
//! loads the flows again are not theirs to decide about.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use dom0_plugin::authorise::{Bridge, Input, Role, check_against};
use drawbridge_wire::Function;
use support::{Answer, Dom0};

const LOCAL: u16 = 0xfffe;
const DOM0: &str = "02:00:00:00:00:01";
const GUEST: &str = "00:16:3e:00:00:01";
const MANY: &str = "01:00:00:00:00:00/01:00:00:00:00:00";
const UNTAGGED: &str = "vlan_tci=0x0000/0x1fff";

/// A card, dom0 on the untagged network and on VLAN 100, and a guest on each.
fn bridge() -> Bridge {
    let dom0 = Role::Own(Some(0x0200_0000_0001));
    let ports = [
        (1, Role::Wire { trunk: true }),
        (2, Role::Own(Some(0x0200_0000_0002))),
        (3, Role::Guest),
        (4, Role::Guest),
        (LOCAL, dom0),
    ];
    Bridge { ports: ports.into(), vlans: [100].into(), access: [(2, 100), (4, 100)].into() }
}

/// Lines without their cookie, all at once; the code of the refusal.
fn refused_on(bridge: &Bridge, standing: &str, lines: &[&str], bundle: bool) -> Option<(String, String)> {
    let text: String = lines
        .iter()
        .map(|line| match line.strip_prefix("delete_strict ") {
            Some(line) => format!("delete_strict cookie=0x4457427200000002/-1,{line}\n"),
            None => format!("add cookie=0x4457427200000002,{line}\n"),
        })
        .collect();
    let refusal = check_against(bridge, standing, Input::added(text.as_bytes(), bundle)).err()?;
    Some((refusal.code.as_str().to_owned(), refusal.details.join(": ")))
}

#[track_caller]
fn refused(lines: &[&str]) {
    for bundle in [true, false] {
        let refusal = refused_on(&bridge(), "", lines, bundle);
        let (code, _) = refusal.unwrap_or_else(|| panic!("was let through: {lines:#?}"));
        assert!(
            ["DRAWBRIDGE_SWITCH_MISMATCH", "DRAWBRIDGE_INPUT_REFUSED"].contains(&code.as_str()),
            "{code}"
        );
    }
}

#[track_caller]
fn passes(lines: &[&str]) {
    for bundle in [true, false] {
        assert_eq!(refused_on(&bridge(), "", lines, bundle), None, "{lines:#?}");
    }
}

/// The flows that make the drop for strangers harmless.
fn known(ports: &[&str]) -> Vec<String> {
    ports.iter().map(|port| format!("table=0,priority=45100,in_port={port},actions=NORMAL")).collect()
}

const STRANGER: &str = "table=0,priority=45000,actions=drop";

#[test]
fn what_dom0_and_the_wire_say_is_not_dropped() {
    for port in ["LOCAL", "1", "2"] {
        refused(&[&format!("table=0,priority=45500,in_port={port},actions=drop")]);
        refused(&[&format!("table=0,priority=45999,in_port={port},{UNTAGGED},actions=drop")]);
        refused(&[&format!("table=0,priority=45500,arp,in_port={port},actions=drop")]);
        let behind = format!("table=69,priority=100,in_port={port},actions=drop");
        refused(&[&behind]);
        // In single changes what leads to receivers drops for a moment.
        let gone = format!("delete_strict table=69,priority=100,in_port={port}");
        assert_eq!(refused_on(&bridge(), "", &[&behind, &gone], false), None);
    }
    // A guest's own may be.
    passes(&["table=0,priority=45500,in_port=3,actions=drop"]);
    passes(&["table=0,priority=45500,in_port=3,dl_vlan=100,actions=drop"]);
}

#[test]
fn what_dom0_and_the_wire_say_is_not_led_away() {
    for port in ["LOCAL", "1", "2"] {
        for rest in ["", ",arp", ",vlan_tci=0x0000/0x1fff", ",dl_src=02:00:00:00:00:09"] {
            let from = "load:0x7->NXM_NX_REG5[],load:0x1->NXM_NX_REG6[],resubmit(,60)";
            refused(&[&format!("table=0,priority=45900,in_port={port}{rest},actions={from}")]);
            refused(&[&format!("table=0,priority=45700,in_port={port}{rest},actions=resubmit(,69)")]);
        }
    }
    // In the compiler's forms only.
    let to_many = "actions=load:0x7->NXM_NX_REG5[],resubmit(,71)";
    refused(&[&format!("table=0,priority=45600,in_port=LOCAL,arp,{UNTAGGED},dl_dst={MANY},{to_many}")]);
    refused(&["table=0,priority=45500,in_port=2,vlan_tci=0x0000/0x1fff,actions=resubmit(,86)"]);
}

/// All of these, in both ways; none, where one is missing.
#[track_caller]
fn stand_together(lines: &[&str]) {
    passes(lines);
    for at in 1..lines.len() {
        let mut part = lines.to_vec();
        let missing = part.remove(at);
        for bundle in [true, false] {
            assert!(refused_on(&bridge(), "", &part, bundle).is_some(), "without {missing}");
        }
    }
}

#[test]
fn what_dom0_says_to_many_is_heard() {
    let hook = format!(
        "table=0,priority=45600,in_port=LOCAL,{UNTAGGED},dl_dst={MANY},actions=load:0x7->NXM_NX_REG5[],resubmit(,71)"
    );
    let deliver = format!("table=72,priority=90,reg5=0x7,dl_dst={MANY},actions=resubmit(,73)");
    let copies = format!("table=83,priority=90,reg5=0x7,dl_dst={MANY},actions=LOCAL,output:1");
    let way = [
        hook.as_str(),
        "table=71,priority=0,actions=resubmit(,72)",
        "table=71,priority=5,ip,reg5=0x7,actions=ct(table=72,zone=7)",
        "table=71,priority=5,ipv6,reg5=0x7,actions=ct(table=72,zone=7)",
        &deliver,
        "table=73,priority=50,reg5=0x7,actions=resubmit(,82)",
        "table=82,priority=0,actions=resubmit(,83)",
        &copies,
    ];
    stand_together(&way);
    // Not by all, or on another network.
    let vlan = "push_vlan:0x8100,set_field:4196->vlan_vid,output:1";
    for heard in ["LOCAL", "output:1", "drop", &format!("output:2,{vlan}")] {
        let copies = copies.replace("LOCAL,output:1", heard);
        let other: Vec<&str> = way.iter().take(7).copied().chain([copies.as_str()]).collect();
        refused(&other);
    }
    // Nothing stands in the way.
    for line in [
        "table=71,priority=100,arp,actions=drop",
        "table=71,priority=4,ip,actions=drop",
        "table=72,priority=101,reg5=0x7,actions=drop",
        "table=72,priority=101,actions=drop",
        "table=83,priority=91,reg5=0x7,actions=drop",
        "table=83,priority=101,actions=drop",
    ] {
        let more: Vec<&str> = way.iter().copied().chain([line]).collect();
        refused(&more);
    }
    let all = "table=82,priority=50,ip,reg5=0x7,actions=drop";
    let more: Vec<&str> = way.iter().copied().chain([all]).collect();
    assert!(refused_on(&bridge(), "", &more, true).is_some());
    // None of it goes while it is needed.
    let standing: String = way.iter().map(|flow| dumped("0x4457427200000002", flow)).collect();
    for line in &way[1..] {
        let gone = format!("delete_strict {}", line.split_once(",actions").unwrap().0);
        assert!(refused_on(&bridge(), &standing, &[&gone], true).is_some(), "{gone}");
    }
    // A broadcast of one network's is not led to another's.
    let hook = hook.replace("in_port=LOCAL", "in_port=2");
    let other: Vec<&str> = [hook.as_str()].into_iter().chain(way[1..].iter().copied()).collect();
    refused(&other);
}

#[test]
fn what_the_wire_brings_for_dom0_arrives() {
    let hook = "table=0,priority=45500,in_port=1,dl_vlan=100,actions=resubmit(,86)";
    let to_dom0 = "table=86,priority=100,dl_vlan=100,dl_dst=02:00:00:00:00:02,actions=NORMAL";
    let many = format!(
        "table=0,priority=45600,in_port=1,dl_vlan=100,dl_dst={MANY},actions=strip_vlan,load:0x7->NXM_NX_REG5[],resubmit(,71)"
    );
    let deliver = format!("table=72,priority=90,reg5=0x7,dl_dst={MANY},actions=resubmit(,73)");
    let copies = format!(
        "table=83,priority=90,reg5=0x7,dl_dst={MANY},actions=output:2,push_vlan:0x8100,set_field:4196->vlan_vid,output:1"
    );
    let way = [
        hook,
        to_dom0,
        &many,
        "table=71,priority=0,actions=resubmit(,72)",
        "table=71,priority=5,ip,reg5=0x7,actions=ct(table=72,zone=7)",
        "table=71,priority=5,ipv6,reg5=0x7,actions=ct(table=72,zone=7)",
        &deliver,
        "table=73,priority=50,reg5=0x7,actions=resubmit(,82)",
        "table=82,priority=0,actions=resubmit(,83)",
        &copies,
    ];
    stand_together(&way);
    // Not by what stands below, nor above what it hides.
    let other = |from: &str, to: &str| {
        let lines: Vec<String> = way.iter().map(|line| line.replace(from, to)).collect();
        refused(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    };
    other("priority=45600", "priority=45400");
    other("priority=45500", "priority=45700");
    other("priority=5,ip,", "priority=0,ip,");
    refused(&[hook, to_dom0, "table=86,priority=101,vlan_tci=0x0000/0x1fff,actions=drop"]);
}

/// A group's address is not a guest's: what goes to it goes to many.
#[test]
fn no_group_address_is_taken_for_a_mac() {
    for group in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"] {
        refused(&[&format!("table=0,priority=45999,{UNTAGGED},dl_dst={group},actions=resubmit(,71)")]);
        refused(&[&format!("table=83,priority=100,reg5=0x7,dl_dst={group},actions=drop")]);
    }
}

/// A switch deletes nothing then, or in table 0 only; the model would have to guess.
#[test]
fn a_deletion_of_one_flow_names_its_table() {
    refused(&["delete_strict priority=45000"]);
    let (code, _) = refused_on(&bridge(), "", &["delete_strict "], false).unwrap();
    assert_eq!(code, "DRAWBRIDGE_INPUT_REFUSED");
}

/// Drops that stand for a moment while flows change one by one are gone when all is done.
#[test]
fn a_drop_for_a_moment_does_not_stay() {
    let drop = "table=82,priority=50,ipv6,reg5=0x7,actions=drop";
    let back = "table=82,priority=50,ipv6,reg5=0x7,actions=resubmit(,83)";
    let gone = "delete_strict table=82,priority=50,ipv6,reg5=0x7";
    for bundle in [true, false] {
        assert!(refused_on(&bridge(), "", &[drop], bundle).is_some());
    }
    assert_eq!(refused_on(&bridge(), "", &[drop, gone], false), None);
    assert_eq!(refused_on(&bridge(), "", &[drop, back], false), None);
}

#[test]
fn nobody_reads_what_dom0_says() {
    refused(&["table=0,priority=45500,in_port=LOCAL,actions=output:3,normal"]);
    refused(&["table=0,priority=45500,in_port=LOCAL,actions=output:3"]);
    refused(&[&format!("table=83,priority=100,reg5=0x7,dl_dst={DOM0},actions=LOCAL,output:3")]);
    refused(&[&format!("table=83,priority=100,reg5=0x7,dl_dst={DOM0},actions=output:3")]);
    passes(&[&format!("table=83,priority=100,reg5=0x7,dl_dst={DOM0},actions=LOCAL")]);
}

#[test]
fn a_bare_drop_in_table_0_cuts_nobody_off() {
    refused(&[STRANGER]);
    refused(&["table=0,priority=45001,actions=drop"]);
    refused(&["table=0,priority=45500,ip,actions=drop"]);
    refused(&["table=0,priority=45500,dl_vlan=100,actions=drop"]);
    for part in [&["1", "2"][..], &["1", "LOCAL"], &["2", "LOCAL", "3"]] {
        let lines = known(part);
        refused(&lines.iter().map(String::as_str).chain([STRANGER]).collect::<Vec<_>>());
    }
    let lines = known(&["1", "2", "LOCAL"]);
    let lines: Vec<&str> = lines.iter().map(String::as_str).chain([STRANGER]).collect();
    passes(&lines);
    // In single changes the drop comes last, and goes first.
    let turned: Vec<&str> = lines.iter().rev().copied().collect();
    assert_eq!(refused_on(&bridge(), "", &turned, true), None);
    assert!(refused_on(&bridge(), "", &turned, false).is_some());
    // A bridge of storage, without guests: its own flows, whole or not at all.
    let storage = Bridge {
        ports: [(LOCAL, Role::Own(None)), (1, Role::Wire { trunk: true })].into(),
        ..Bridge::default()
    };
    assert!(refused_on(&storage, "", &[STRANGER], true).is_some());
    assert!(refused_on(&storage, "", &["table=0,priority=45500,in_port=3,actions=drop"], true).is_some());
}

/// What `dump-flows` says of a flow.
fn dumped(cookie: &str, flow: &str) -> String {
    let (key, actions) = flow.split_once(",actions=").unwrap();
    let (table, key) = key.split_once(',').unwrap();
    format!(
        " cookie={cookie}, duration=1.2s, {table}, n_packets=3, n_bytes=180, idle_age=1, {key} actions={actions}\n"
    )
}

#[test]
fn what_makes_a_drop_harmless_does_not_go_alone() {
    let lines = known(&["1", "2", "LOCAL"]);
    let standing: String = lines
        .iter()
        .map(String::as_str)
        .chain([STRANGER])
        .map(|flow| dumped("0x4457427200000002", flow))
        .collect();
    let gone = |line: &str| format!("delete_strict {}", line.split_once(",actions").unwrap().0);
    for line in &lines {
        assert!(refused_on(&bridge(), &standing, &[&gone(line)], true).is_some(), "{line}");
    }
    let all: Vec<String> = [STRANGER].into_iter().chain(lines.iter().map(String::as_str)).map(gone).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(refused_on(&bridge(), &standing, &all, true), None);
    assert_eq!(refused_on(&bridge(), &standing, &all, false), None);
    // Those of another cookie are not reached by it.
    let other = standing.replacen("0002, duration", "0001, duration", 1);
    assert_eq!(refused_on(&bridge(), &other, &[&gone(&lines[0])], true), None);
}

#[test]
fn a_mac_is_silenced_only_where_guests_are() {
    let unseen = |mac: &str| format!("table=0,priority=45050,dl_src={mac},actions=drop");
    let elsewhere = |port| format!("table=0,priority=45051,in_port={port},dl_src={GUEST},actions=NORMAL");
    refused(&[&unseen(GUEST)]);
    refused(&[&elsewhere("1"), &elsewhere("2"), &unseen(GUEST)]);
    passes(&[&elsewhere("1"), &elsewhere("2"), &elsewhere("LOCAL"), &unseen(GUEST)]);
    refused(&[&unseen(DOM0)]);
}

#[test]
fn dom0s_own_macs_are_nobodys() {
    for mac in [DOM0, "02:00:00:00:00:02"] {
        for actions in ["drop", "resubmit(,69)"] {
            refused(&[&format!("table=0,priority=45700,{UNTAGGED},dl_dst={mac},actions={actions}")]);
        }
        let tagged = "actions=pop_vlan,load:0x7->NXM_NX_REG5[],resubmit(,71)";
        refused(&[&format!("table=0,priority=45700,dl_vlan=100,dl_dst={mac},{tagged}")]);
        refused(&[&format!("table=0,priority=45700,in_port=3,dl_dst={mac},actions=drop")]);
        refused(&[&format!("table=70,priority=100,reg5=0x7,dl_dst={mac},actions=resubmit(,71)")]);
        refused(&[&format!("table=72,priority=100,reg5=0x7,dl_dst={mac},actions=drop")]);
        passes(&[&format!("table=86,priority=100,dl_vlan=100,dl_dst={mac},actions=NORMAL")]);
    }
    passes(&[&format!("table=0,priority=45700,{UNTAGGED},dl_dst={GUEST},actions=resubmit(,69)")]);
}

#[test]
fn a_guests_packets_go_to_guests() {
    passes(&["table=81,priority=50,reg7=0x1,actions=output:3"]);
    for port in ["output:1", "output:2", "LOCAL", "output:9"] {
        refused(&[&format!("table=81,priority=50,reg7=0x1,actions={port}")]);
        refused(&[&format!("table=83,priority=100,reg5=0x7,dl_dst={GUEST},actions={port}")]);
    }
}

#[test]
fn vlans_are_those_of_the_bridge() {
    let copies = |id: u16| {
        format!(
            "table=83,priority=50,reg5=0x7,actions=push_vlan:0x8100,set_field:{}->vlan_vid,output:1",
            0x1000 | id
        )
    };
    passes(&[&copies(100)]);
    refused(&[&copies(101)]);
    refused(&["table=0,priority=45500,in_port=3,actions=push_vlan:0x8100,set_field:4196->vlan_vid,output:1"]);
    refused(&["table=86,priority=50,dl_vlan=101,actions=pop_vlan,output:3"]);
    refused(&["table=87,priority=1,dl_vlan=101,actions=drop"]);
}

/// Three packets became 7,020.
#[test]
fn a_packet_is_not_multiplied() {
    // One port under many numbers, each of which is a receiver of a broadcast.
    refused(&[
        "table=81,priority=50,reg7=0x1,actions=output:3",
        "table=81,priority=50,reg7=0x21,actions=output:3",
    ]);
    passes(&[
        "table=81,priority=50,reg7=0x1,actions=output:3",
        "table=81,priority=50,reg7=0x21,actions=output:4",
    ]);
    let standing = dumped("0x4457427200000002", "table=81,priority=50,reg7=0x1,actions=output:3");
    let more = ["table=81,priority=50,reg7=0x2,actions=output:3"];
    assert!(refused_on(&bridge(), &standing, &more, true).is_some());
    // Unless the other goes.
    let moved = ["delete_strict table=81,priority=50,reg7=0x1", more[0]];
    assert_eq!(refused_on(&bridge(), &standing, &moved, false), None);
}

#[test]
fn a_place_where_somebody_elses_flow_stands() {
    let ours = [
        "table=0,priority=45500,in_port=3,vlan_tci=0x0000/0x1fff,actions=drop",
        "table=67,priority=100,tcp,reg3=0x1,tp_dst=0x50/0xfffc,actions=load:0x1->NXM_NX_REG2[]",
        "table=60,priority=50,ipv6,reg6=0x1,ipv6_src=fe80::/10,actions=resubmit(,61)",
    ];
    for flow in ours {
        let standing = |cookie| dumped(cookie, flow);
        for foreign in ["0x1", "0x0", "0x4457427100000002"] {
            let (code, problem) = refused_on(&bridge(), &standing(foreign), &[flow], true).expect(flow);
            assert_eq!(code, "DRAWBRIDGE_SWITCH_MISMATCH", "{problem}");
        }
        assert_eq!(refused_on(&bridge(), &standing("0x4457427200000001"), &[flow], true), None);
        // Another priority is another place.
        let beside = standing("0x1").replace("priority=", "priority=1");
        assert_eq!(refused_on(&bridge(), &beside, &[flow], true), None);
    }
}

/// Flows that could not be read back could not be mended either.
#[test]
fn what_stands_can_be_read() {
    // Long ones, or there would be too many before they have too many bytes.
    let address = "2001:db8:1111:2222:3333:4444:5555:6666";
    let place = |n: usize| format!("table=67,ipv6,reg3={n:#x},ipv6_src={address},ipv6_dst={address}");
    let flow = |n: usize| dumped("0x4457427200000002", &format!("{},actions=drop", place(n)));
    let standing: String = (0..)
        .map(flow)
        .scan(0, |bytes, line| {
            *bytes += line.len();
            (*bytes <= drawbridge_wire::limits::DUMPED_FLOW_BYTES).then_some(line)
        })
        .collect();
    let (code, problem) = refused_on(&bridge(), &standing, &["table=60,actions=drop"], true).unwrap();
    assert_eq!(code, "DRAWBRIDGE_INPUT_REFUSED", "{problem}");
    let gone = [1, 2, 3].map(|n| format!("delete_strict {}", place(n)));
    let replaced: Vec<&str> = gone.iter().map(String::as_str).chain(["table=60,actions=drop"]).collect();
    assert_eq!(refused_on(&bridge(), &standing, &replaced, true), None);
}

/// The same by a signed call: looked at under the lock, and nothing is written.
#[test]
fn a_refused_write_writes_nothing() {
    let dom0 = Dom0::new();
    let attack = "cookie=0x4457427200000002,table=0,priority=45500,in_port=LOCAL,actions=drop\n";
    let args = "--bundle add-flows xenbr0 -";
    let members = [("args", args), ("stdin", attack), ("stdin_encoding", "plain"), ("generation", "1")];
    let Answer::Failure(said) = dom0.call(Function::OvsOfctl, &members) else { panic!("was let through") };
    assert_eq!(said[0], "DRAWBRIDGE_SWITCH_MISMATCH");
    assert!(!dom0.started().iter().any(|start| start.contains("add-flows")), "{:?}", dom0.started());
}
