use super::*;

/// What Open vSwitch 3.1 said of two bridges, a fake one, and a VIF; its version as 2.17's start script writes it.
const SAID: &str = r#""2.17.7"
xapi5
xenbr0
xenbr1
{"data":[["xenbr0",["set",[["uuid","p0"],["uuid","p1"],["uuid","p2"]]],["set",[]]],["xenbr1",["uuid","p3"],"OpenFlow13"]],"headings":["name","ports","protocols"]}
{"data":[[["uuid","p0"],"xenbr0",["uuid","i0"],["set",[]]],[["uuid","p1"],"xapi5",["uuid","i1"],5],[["uuid","p2"],"vif1.0",["uuid","i2"],5],[["uuid","p3"],"xenbr1",["uuid","i3"],["set",[]]]],"headings":["_uuid","name","interfaces","tag"]}
{"data":[[["uuid","i0"],"xenbr0",65534,"internal","92:42:1f:cb:da:41",["map",[]]],[["uuid","i1"],"xapi5",1,"internal",["set",[]],["map",[]]],[["uuid","i2"],"vif1.0",7,"","fe:ff:ff:ff:ff:ff",["map",[["attached-mac","00:16:3e:00:00:01"],["xs-vif-uuid","aaa"]]]],[["uuid","i3"],"xenbr1",65534,"internal","92:42:1f:cb:da:42",["map",[]]]],"headings":["_uuid","name","ofport","type","mac_in_use","external_ids"]}
"#;

fn bridge(name: &str) -> Interface {
    name.parse().unwrap()
}

#[test]
fn a_switch_is_read() {
    let switch = Switch::parse(SAID).unwrap();
    let version = switch.version.unwrap();
    assert_eq!(version, Version(2, 17));
    assert_eq!(switch.bridges().map(Interface::as_str).collect::<Vec<_>>(), ["xenbr0", "xenbr1"]);
    assert_eq!(switch.host.networks[&bridge("xapi5")].tag, Some(5));
    let write = |name| switch.dialect(&bridge(name), version).unwrap().write(&bridge(name)).join(" ");
    assert!(write("xenbr0").contains("OpenFlow14"));
    assert!(write("xenbr1").contains("OpenFlow13"));
    assert_eq!(Switch::parse(&SAID.replace("\"2.17.7\"", "[]")).unwrap().version, None);
}

#[test]
fn half_an_answer_is_an_error() {
    let lines: Vec<&str> = SAID.lines().collect();
    for left_out in [0, 4, 5, 6] {
        let some: String =
            (0..lines.len()).filter(|at| *at != left_out).map(|at| format!("{}\n", lines[at])).collect();
        assert!(Switch::parse(&some).is_err(), "{left_out}");
    }
    for (from, to) in [("2.17.7", "new"), ("\"OpenFlow13\"", "13"), ("protocols", "columns")] {
        assert!(Switch::parse(&SAID.replace(from, to)).is_err(), "{from}");
    }
    assert_eq!(Switch::parse(""), Err(HostError::Incomplete));
    assert_eq!(Switch::parse(&format!("{SAID}{{}}\n")), Err(HostError::Incomplete));
}

#[test]
fn a_locked_vif_is_known_by_its_uuid_else_by_its_name() {
    let is_locked = |said: &str, uuid: &str, name: &str| {
        let mut switch = Switch::parse(said).unwrap();
        switch.note_locked(&[(uuid.parse().unwrap(), [name.to_owned(), "tap9.0".to_owned()])].into());
        let ports = &switch.host.ports[&bridge("xenbr0")];
        ports.iter().any(|port| matches!(port.kind, PortKind::Guest { locked: true, .. }))
    };
    assert!(is_locked(SAID, "aaa", "vif9.0"));
    assert!(!is_locked(SAID, "bbb", "vif1.0"), "an older domain's name");
    let nameless = SAID.replace(r#",["xs-vif-uuid","aaa"]"#, "");
    assert!(is_locked(&nameless, "aaa", "vif1.0"));
}
