use super::*;

const SAID: &str = "xapi1\nxenbr0\n\
    name,ports\nxenbr0,p1 p2 p3 p4 p5\n\n\
    _uuid,name,tag,interfaces\np1,eth0,,i1\np2,bond0,,i5 i6\np3,vif1.0,100,i4\np4,xenbr0,,i2\np5,xapi1,100,i3\n\n\
    _uuid,name,ofport,type,mac_in_use\ni1,eth0,3,,\ni2,xenbr0,65534,internal,02:00:00:00:00:01\ni3,xapi1,1,internal,\n\
    i4,vif1.0,12,,fe:ff:ff:ff:ff:ff\ni5,eth2,-1,,\ni6,eth1,4,system,\n";

#[test]
fn a_switch_is_read() {
    let switch = Switch::parse(SAID).unwrap();
    let networks: Vec<_> = switch.networks_of("xenbr0").collect();
    assert_eq!(networks, [("xapi1", Some(100)), ("xenbr0", None)]);
    let port = |ofport: &str, tag, kind| Port { ofport: ofport.to_owned(), tag, kind };
    assert_eq!(
        switch.bridges["xenbr0"],
        [
            port("1", Some(100), Kind::Own(None)),
            port("12", Some(100), Kind::Guest),
            port("3", None, Kind::Wire { bonded: false }),
            port("4", None, Kind::Wire { bonded: true }),
            port("LOCAL", None, Kind::Own(Some(0x0200_0000_0001))),
        ]
    );
}

#[test]
fn no_bridges_is_an_answer() {
    let said = "name,ports\n_uuid,name,tag,interfaces\n_uuid,name,ofport,type,mac_in_use\n";
    assert_eq!(Switch::parse(said), Ok(Switch::default()));
}

#[test]
fn what_is_not_understood_is_an_error() {
    for (from, to) in [
        ("name,ports\n", ""),
        ("_uuid,name,ofport,type,mac_in_use\n", ""),
        ("p1,eth0,,i1\n", ""),
        ("i4,vif1.0,12,,fe:ff:ff:ff:ff:ff\n", ""),
        (",12,", ",65280,"),
        (",12,", ",0,"),
        (",12,", ",twelve,"),
        ("vif1.0,100,", "vif1.0,[100],"),
        ("p3,vif1.0", "p3,\"vif1,0\""),
        ("xenbr0,p1", "-xenbr0,p1"),
        ("xapi1\n", "xapi1\nxapi2\n"),
    ] {
        assert!(SAID.contains(from), "{from}");
        let refused = Switch::parse(&SAID.replacen(from, to, 1)).unwrap_err();
        assert_eq!(refused.code, Code::OutputUnparsable, "{from:?} became {to:?}");
    }
}
