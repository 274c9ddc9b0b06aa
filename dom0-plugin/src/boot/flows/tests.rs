use super::*;

fn port(ofport: &str, tag: Tag, kind: Kind) -> Port {
    Port { ofport: ofport.to_owned(), tag, kind }
}

/// A card, dom0's own interfaces on both networks, a guest on each.
fn ports() -> Vec<Port> {
    vec![
        port("1", None, Kind::Wire { bonded: false }),
        port("LOCAL", None, Kind::Own(None)),
        port("2", Some(5), Kind::Own(None)),
        port("3", None, Kind::Guest),
        port("4", Some(5), Kind::Guest),
    ]
}

fn closed(ports: &[Port], guarded: &[Tag], all: bool) -> String {
    let guarded: BTreeSet<Tag> = guarded.iter().copied().collect();
    let bonded = ports.iter().any(|port| port.kind == Kind::Wire { bonded: true });
    let bridge = Bridge { name: "xenbr0", guarded: &guarded, lifelines: Vec::new(), all, ports, bonded };
    let flows = bridge.flows().into_iter();
    flows.map(|flow| flow.replace("cookie=0x4457427200000000,", "") + "\n").collect()
}

#[test]
fn a_vlan_beside_an_open_network() {
    assert_eq!(
        closed(&ports(), &[Some(5)], false),
        "table=0,priority=45030,in_port=2,vlan_tci=0x0000/0x1fff,actions=push_vlan:0x8100,set_field:4101->vlan_vid,output:1\n\
         table=0,priority=45030,in_port=1,dl_vlan=5,actions=pop_vlan,output:2\n\
         table=0,priority=45020,dl_vlan=5,actions=drop\n\
         table=0,priority=45010,in_port=4,actions=drop\n\
         table=87,priority=1,dl_vlan=5,actions=drop\n"
    );
}

#[test]
fn a_bridge_with_nothing_but_guarded_networks() {
    let mut ports = ports();
    ports.push(port("9", None, Kind::Wire { bonded: false }));
    assert_eq!(
        closed(&ports, &[None, Some(5)], true),
        "table=0,priority=45030,in_port=LOCAL,vlan_tci=0x0000/0x1fff,actions=output:1,output:9\n\
         table=0,priority=45030,in_port=1,vlan_tci=0x0000/0x1fff,actions=output:9,LOCAL\n\
         table=0,priority=45030,in_port=1,dl_vlan=0,actions=output:9,pop_vlan,LOCAL\n\
         table=0,priority=45030,in_port=9,vlan_tci=0x0000/0x1fff,actions=output:1,LOCAL\n\
         table=0,priority=45030,in_port=9,dl_vlan=0,actions=output:1,pop_vlan,LOCAL\n\
         table=0,priority=45030,in_port=2,vlan_tci=0x0000/0x1fff,actions=push_vlan:0x8100,set_field:4101->vlan_vid,output:1,output:9\n\
         table=0,priority=45030,in_port=1,dl_vlan=5,actions=output:9,pop_vlan,output:2\n\
         table=0,priority=45030,in_port=9,dl_vlan=5,actions=output:1,pop_vlan,output:2\n\
         table=0,priority=45005,in_port=1,actions=output:9,LOCAL\n\
         table=0,priority=45005,in_port=9,actions=output:1,LOCAL\n\
         table=0,priority=45005,in_port=LOCAL,actions=output:1,output:9\n\
         table=0,priority=45010,in_port=3,actions=drop\n\
         table=0,priority=45020,dl_vlan=5,actions=drop\n\
         table=0,priority=45010,in_port=4,actions=drop\n\
         table=0,priority=45000,actions=drop\n\
         table=87,priority=1,vlan_tci=0x0000/0x1fff,actions=drop\n\
         table=87,priority=1,dl_vlan=5,actions=drop\n"
    );
}

/// Only the switch itself can choose a bond's member.
#[test]
fn a_bond() {
    let mut ports = ports();
    ports[0].kind = Kind::Wire { bonded: true };
    ports.push(port("9", None, Kind::Wire { bonded: true }));
    let flows = closed(&ports, &[None], false);
    assert!(
        flows.lines().filter(|flow| flow.contains("priority=45030")).all(|flow| flow.ends_with("=NORMAL"))
    );
    assert!(flows.contains("priority=45010,in_port=3,actions=drop\n"), "{flows}");
}

/// Every network has a way out, or none: nothing is sent nowhere.
#[test]
fn without_a_wire() {
    let ports = [port("LOCAL", None, Kind::Own(None)), port("3", None, Kind::Guest)];
    assert!(
        closed(&ports, &[None], true)
            .contains("priority=45030,in_port=LOCAL,vlan_tci=0x0000/0x1fff,actions=drop\n")
    );
}

#[test]
fn a_dumped_flow_is_called_as_it_was_written() {
    let said = " cookie=0x4457427200000000, duration=0.1s, table=0, n_packets=0, n_bytes=0, \
                priority=45030,in_port=2,vlan_tci=0x0000/0x1fff actions=drop";
    let written = "cookie=0x4457427200000000,table=0,priority=45030,in_port=2,vlan_tci=0x0000/0x1fff";
    assert_eq!(key(said).as_deref(), Some(written));
    assert_eq!(key(&said.replace("/0x1fff", "")).as_deref(), Some(written));
    assert_eq!(key("NXST_FLOW reply (xid=0x4):"), None);
}

#[test]
fn guarded_by_either_record() {
    let networks = [("xenbr0", "xenbr0", None), ("xapi1", "xenbr0", Some(5)), ("xenbr1", "xenbr1", None)];
    let switch = Switch {
        bridges: ["xenbr0", "xenbr1"].map(|name| (name.to_owned(), Vec::new())).into(),
        networks: networks.map(|(name, bridge, tag)| (name.to_owned(), (bridge.to_owned(), tag))).into(),
    };
    let on = |networks: &[(&str, Tag, &str)], bridges: &[&str]| {
        let networks = networks.iter().map(|(bridge, tag, name)| {
            let name = (*name != "-").then(|| (*name).to_owned());
            Network { bridge: (*bridge).to_owned(), tag: *tag, name }
        });
        let bridges = bridges.iter().map(|&name| name.to_owned()).collect();
        let guarded =
            Guarded { lifelines: BTreeSet::new(), networks: networks.collect(), bridges }.on(&switch);
        guarded.into_iter().map(|(bridge, tags)| format!("{bridge} {tags:?}")).collect::<Vec<_>>()
    };
    assert_eq!(on(&[("xenbr0", Some(5), "xapi1")], &[]), ["xenbr0 {Some(5)}"]);
    // The VLAN is guarded before its fake bridge is there.
    assert_eq!(on(&[("xenbr0", Some(6), "-")], &[]), ["xenbr0 {Some(6)}"]);
    assert_eq!(on(&[], &["xapi1", "xenbr1"]), ["xenbr0 {Some(5)}", "xenbr1 {None}"]);
    assert_eq!(on(&[], &["xenbr+"]), ["xenbr0 {None}", "xenbr1 {None}"]);
    // Renumbered cards: the network that has the name now is closed, and so is the one that has the place.
    assert_eq!(on(&[("xenbr1", None, "xapi1")], &[]), ["xenbr0 {Some(5)}", "xenbr1 {None}"]);
    assert_eq!(on(&[("xenbr9", None, "xenbr9")], &["xapi9"]), [""; 0]);
}
