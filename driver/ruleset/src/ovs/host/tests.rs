use super::*;

const BRIDGES: &str = r#"{"headings":["name","ports"],"data":[["xenbr0",["set",[["uuid","p0"],["uuid","p1"],["uuid","p2"],["uuid","p3"],["uuid","p4"]]]]]}"#;
const PORTS: &str = r#"{"headings":["_uuid","name","interfaces","tag"],"data":[
    [["uuid","p0"],"xenbr0",["uuid","i0"],["set",[]]],
    [["uuid","p1"],"xapi5",["uuid","i1"],5],
    [["uuid","p2"],"vif1.0",["uuid","i2"],5],
    [["uuid","p3"],"bond0",["set",[["uuid","i3"],["uuid","i4"]]],["set",[]]],
    [["uuid","p4"],"tap1.0",["uuid","i5"],5]]}"#;
const INTERFACES: &str = r#"{"headings":["_uuid","name","ofport","type","mac_in_use","external_ids"],"data":[
    [["uuid","i0"],"xenbr0",65534,"internal","92:42:1f:cb:da:41",["map",[]]],
    [["uuid","i1"],"xapi5",1,"internal",["set",[]],["map",[]]],
    [["uuid","i2"],"vif1.0",7,"","fe:ff:ff:ff:ff:ff",["map",[["attached-mac","00:16:3E:00:00:01"],["xs-vif-uuid","aaa"]]]],
    [["uuid","i3"],"eth0",2,"","02:00:00:00:00:01",["map",[]]],
    [["uuid","i4"],"eth1",3,"","02:00:00:00:00:02",["map",[]]],
    [["uuid","i5"],"tap1.0",-1,"",["set",[]],["map",[]]]]}"#;

fn parsed() -> Result<OvsHost, HostError> {
    parse_host("xapi5\nxenbr0\n", BRIDGES, PORTS, INTERFACES)
}

#[test]
fn a_host_is_put_together() {
    let host = parsed().unwrap();
    let parent: Interface = "xenbr0".parse().unwrap();
    assert_eq!(host.networks[&parent], Network { parent: parent.clone(), tag: None });
    assert_eq!(
        host.networks[&"xapi5".parse::<Interface>().unwrap()],
        Network { parent: parent.clone(), tag: Some(5) }
    );
    let ports = &host.ports[&parent];
    // The tap has no OpenFlow number yet.
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["eth0", "eth1", "vif1.0", "xapi5", "xenbr0"]);
    assert_eq!(ports[0].kind, PortKind::Wire { bonded: true });
    let vif = PortKind::Guest {
        vif: Some("aaa".parse().unwrap()),
        mac: Some("00:16:3e:00:00:01".parse().unwrap()),
        locked: false,
    };
    assert_eq!((ports[2].ofport, ports[2].tag, &ports[2].kind), (OfPort::Number(7), Some(5), &vif));
    assert_eq!(ports[3].kind, PortKind::Internal { mac: None });
    assert_eq!(ports[4].ofport, OfPort::Local);
}

#[test]
fn what_is_not_understood_is_an_error() {
    let table = |result: Result<OvsHost, HostError>, wanted: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    table(parse_host("", "", PORTS, INTERFACES), "list Bridge");
    table(parse_host("", BRIDGES, "{\"headings\":[]}", INTERFACES), "list Port");
    table(parse_host("", BRIDGES, PORTS, "[]"), "list Interface");
    table(parse_host("xapi9\n", BRIDGES, PORTS, INTERFACES), "xapi9");
    let replaced = |from: &str, to: &str| {
        parse_host("xapi5 xenbr0", BRIDGES, &PORTS.replace(from, to), &INTERFACES.replace(from, to))
    };
    table(replaced("\"i5\"],\"tap1.0\"", "\"i9\"],\"tap1.0\""), "in no table");
    table(replaced("\"vif1.0\",7", "\"vif1.0\",\"seven\""), "ofport");
    table(replaced("00:16:3E:00:00:01", "nonsense"), "external_ids");
    table(replaced("\"ofport\"", "\"of_port\""), "column ofport: is missing");
    table(replaced(",5],", ",70000],"), "tag");
    table(replaced("\"bond0\",[\"set\"", "\"bond0\",[\"sets\""), "interfaces");
}
