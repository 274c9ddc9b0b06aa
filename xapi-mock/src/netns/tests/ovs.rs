//! What only a host with Open vSwitch has.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::packet::PacketSocket;
use super::*;

const OVS: NetworkBackend = NetworkBackend::OpenVSwitch;

fn said(host: &HostHandle, program: &str, args: &[&str]) -> String {
    let output = host.command(program, args, b"").unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn vsctl(host: &HostHandle, args: &[&str]) -> String {
    said(host, "/usr/bin/ovs-vsctl", args).trim().to_owned()
}

fn flows(host: &HostHandle) -> String {
    said(host, "/usr/bin/ovs-ofctl", &["--no-stats", "dump-flows", "xenbr0"])
}

fn ofport(host: &HostHandle, vif: &str) -> String {
    vsctl(host, &["get", "Interface", vif, "ofport"])
}

/// How many of the pool's processes run this program.
fn running(host: &HostHandle, name: &str) -> usize {
    let shown = said(host, "sh", &["-c", "readlink /proc/[0-9]*/exe || true"]);
    shown.lines().filter(|line| line.ends_with(name)).count()
}

fn locked(number: u8) -> Locking {
    Locking::Locked { ipv4: vec![v4(number).to_string()], ipv6: vec![v6(number).to_string()] }
}

#[test]
fn guests_meet_within_a_host_across_hosts_and_outside() {
    for backends in [[OVS; 2], BACKENDS] {
        let plane = pool_of(backends);
        let (a, b, c) = (start(&plane, "two", 1, 1), start(&plane, "two", 2, 2), start(&plane, "one", 1, 3));
        let own = [format!("{}/24", v4(9)), format!("{}/64", v6(9))];
        let station = plane.add_station("xenbr0", "outside", &mac(9), &own).unwrap();
        assert!(reaches(&a, &b, v4(2)) && reaches(&a, &b, v6(2)), "{backends:?}: within a host");
        assert!(reaches(&a, &c, v4(3)) && reaches(&c, &a, v6(1)), "{backends:?}: across hosts");
        assert!(reaches(&a, &station, v4(9)) && reaches(&station, &a, v6(1)), "{backends:?}: outside");
        assert!(reaches(&host(&plane, "two"), &c, v4(3)), "{backends:?}: dom0 from its bridge");
    }
}

#[test]
fn an_interface_carries_xapis_ids() {
    let plane = pool_of([OVS; 2]);
    start(&plane, "one", 7, 1);
    let one = host(&plane, "one");
    assert_eq!(one.network_backend(), OVS);
    assert_eq!(one.read("/etc/xensource/network.conf").unwrap(), b"openvswitch\n");
    let text = vsctl(&one, &["--format=json", "--columns=external_ids", "find", "Interface", "name=vif7.0"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    let ids: BTreeMap<String, String> =
        serde_json::from_value::<Vec<(String, String)>>(shown["data"][0][0][1].clone())
            .unwrap()
            .into_iter()
            .collect();
    let expected = [
        ("attached-mac", mac(1)),
        ("xs-network-uuid", "network".to_owned()),
        ("xs-vif-uuid", "vif-1".to_owned()),
        ("xs-vm-uuid", "vm1".to_owned()),
    ];
    assert_eq!(ids, expected.map(|(key, value)| (key.to_owned(), value)).into());
    assert_eq!(vsctl(&one, &["iface-to-br", "vif7.0"]), "xenbr0");
    assert_eq!(vsctl(&one, &["br-get-external-id", "xenbr0", "xs-network-uuids"]), "network");
    assert_eq!(vsctl(&one, &["get", "Bridge", "xenbr0", "fail_mode", "datapath_type"]), "standalone\nnetdev");
}

#[test]
fn a_change_of_locking_gives_the_port_a_new_number_and_the_scripts_flows() {
    let plane = pool_of([OVS; 2]);
    start(&plane, "one", 1, 1);
    let one = host(&plane, "one");
    said(&one, "ovs-ofctl", &["add-flow", "xenbr0", "cookie=0x7,priority=9,in_port=77,actions=drop"]);
    let first = ofport(&one, "vif1.0");
    assert!(!flows(&one).contains("cookie=0x1,"), "unlocked");

    let lock = |locking| plane.set_locking("vm1", &VifPort { locking, ..port(1, 1) }).unwrap();
    lock(locked(1));
    let second = ofport(&one, "vif1.0");
    assert_ne!(first, second);
    let shown = flows(&one);
    let own: Vec<_> = shown.lines().filter(|line| line.contains("cookie=0x1,")).collect();
    assert_eq!(own.len(), 19, "{shown}");
    assert!(
        own.iter()
            .all(|line| line.contains("in_port=\"vif1.0\"") || line.contains(&format!("in_port={second}")))
    );

    lock(locked(1));
    assert_eq!(flows(&one).matches("cookie=0x1,").count(), 19, "the old port's are gone");
    lock(Locking::Disabled);
    assert_eq!(vsctl(&one, &["--columns=name", "find", "Interface", "name=vif1.0"]), "");
    lock(Locking::Unlocked);
    let shown = flows(&one);
    assert!(!shown.contains("cookie=0x1,") && shown.contains("cookie=0x7,"), "others' flows stay: {shown}");

    lock(locked(1));
    plane.destroy_domain("vm1").unwrap();
    assert!(!flows(&one).contains("cookie=0x1,"));
    assert_eq!(vsctl(&one, &["list-ports", "xenbr0"]), "eth0");
    assert_eq!(names(&one), ["lo", "eth0", "ovs-netdev", "xenbr0"]);
}

#[test]
fn flows_of_a_vif_on_a_vlan_stand_on_the_parent() {
    let plane = Netns::new().expect("run these tests as root");
    let mut spec = spec("one", OVS);
    spec.bridges.push(BridgeSpec {
        name: "xapi1".into(),
        network_uuid: "tenants".into(),
        management_address: Some("10.9.0.201/24".into()),
        vlan: Some(VlanSpec { parent: "xenbr0".into(), tag: 100 }),
    });
    spec.bridges[0].management_address = None;
    plane.add_host(&spec).unwrap();
    let port = VifPort { bridge: "xapi1".into(), locking: locked(1), ..port(1, 1) };
    let guest = start_with(&plane, "one", &port, 1);
    let one = host(&plane, "one");
    assert_eq!(vsctl(&one, &["br-to-parent", "xapi1"]), "xenbr0");
    assert_eq!(vsctl(&one, &["br-to-vlan", "xapi1"]), "100");
    assert_eq!(vsctl(&one, &["get", "Port", "vif1.0", "tag"]), "100");
    assert_eq!(flows(&one).matches("cookie=0x1,").count(), 19);
    assert!(reaches(&one, &guest, v4(1)), "dom0 has its address in the VLAN");
}

/// Nothing is left to hardware: whoever counts on a checksum in the switch, as `ct()` does, finds one.
#[test]
fn packets_pass_connection_tracking_from_everywhere() {
    let plane = pool_of([OVS, NetworkBackend::Bridge]);
    let one = host(&plane, "one");
    let (a, b) = (start(&plane, "one", 1, 1), start(&plane, "one", 2, 2));
    let far = start(&plane, "two", 1, 3);
    let own = [format!("{}/24", v4(9)), format!("{}/64", v6(9))];
    let station = plane.add_station("xenbr0", "outside", &mac(9), &own).unwrap();
    for (udp, ip) in [("udp", "ip"), ("udp6", "ipv6")] {
        for flow in [
            format!("table=0,priority=100,{udp},actions=ct(table=1)"),
            format!("table=1,priority=2,{ip},ct_state=+inv,actions=drop"),
            format!("table=1,priority=1,{ip},ct_state=+trk+new,actions=ct(commit),normal"),
            format!("table=1,priority=1,{ip},ct_state=+trk+est,actions=normal"),
        ] {
            said(&one, "ovs-ofctl", &["add-flow", "xenbr0", &flow]);
        }
    }
    for address in [v4(1), v6(1)] {
        for (who, from) in [("neighbour", &*b), ("other host", &*far), ("station", &*station)] {
            assert!(reaches(from, &a, address), "{who} to {address}");
        }
    }
    assert!(reaches(&one, &a, v4(1)), "dom0");
    let shown = said(&one, "ovs-appctl", &["dpctl/dump-conntrack"]);
    assert!(shown.contains("src=10.9.0.3,dst=10.9.0.1"), "{shown}");
}

#[test]
fn a_restart_loses_flows_and_guests_go_on() {
    let plane = pool_of([OVS; 2]);
    let (a, b) = (start(&plane, "one", 1, 1), start(&plane, "two", 1, 2));
    let (one, two) = (host(&plane, "one"), host(&plane, "two"));
    for dom0 in [&one, &two] {
        said(dom0, "ovs-ofctl", &["add-flow", "xenbr0", "cookie=0x7,priority=9,actions=normal"]);
    }
    let before = ofport(&one, "vif1.0");
    assert!(reaches(&a, &b, v4(2)));

    one.restart_ovs().unwrap();
    let shown = flows(&one);
    assert!(!shown.contains("cookie=0x7"), "{shown}");
    assert!(flows(&two).contains("cookie=0x7"), "the other host");
    assert_eq!(ofport(&one, "vif1.0"), before);
    assert!(reaches(&a, &b, v4(2)) && reaches(&b, &a, v6(1)), "standalone: forwards everything");
    assert!(reaches(&one, &b, v4(2)), "dom0 has its address again");
    assert_eq!((running(&one, "/ovs-vswitchd"), running(&one, "/ovsdb-server")), (2, 2), "of both hosts");
}

#[test]
fn a_switch_that_is_down_forwards_nothing_until_it_is_started() {
    let plane = pool_of([OVS; 2]);
    let (a, b) = (start(&plane, "one", 1, 1), start(&plane, "two", 1, 2));
    let one = host(&plane, "one");
    assert!(reaches(&a, &b, v4(2)));

    one.kill_ovs().unwrap();
    one.kill_ovs().expect("nothing to do");
    assert!(is_cut(&a, &b, v4(2)), "killed");
    assert_eq!(vsctl(&one, &["list-br"]), "xenbr0", "the database goes on");
    let refused = one.command("ovs-ofctl", &["dump-flows", "xenbr0"], b"").unwrap();
    assert!(!refused.status.success());
    let late = start(&plane, "one", 2, 3);
    plane.destroy_domain("vm1").unwrap();
    one.start_ovs().unwrap();
    assert_eq!(vsctl(&one, &["list-ports", "xenbr0"]), "eth0\nvif2.0");
    assert!(reaches(&late, &b, v4(2)), "plugged while the switch was down");

    one.stop_ovs().unwrap();
    assert!(is_cut(&late, &b, v4(2)), "stopped");
    assert!(!one.command("ovs-vsctl", &["list-br"], b"").unwrap().status.success());
    one.start_ovs().unwrap();
    one.start_ovs().expect("nothing to do");
    assert!(reaches(&late, &b, v4(2)) && reaches(&one, &b, v4(2)), "started");
}

#[test]
fn a_linux_bridge_has_no_switch_to_restart() {
    let plane = pool();
    let error = host(&plane, "one").restart_ovs().unwrap_err();
    assert_eq!(error.to_string(), "host one has the Linux bridge, not Open vSwitch");
}

#[test]
fn nothing_of_a_hosts_switch_is_the_machines() {
    let database = || std::fs::metadata("/etc/openvswitch/conf.db").map(|it| it.len()).ok();
    let before = (database(), Path::new("/run/openvswitch").exists());
    let plane = pool_of([OVS; 2]);
    let (one, two) = (host(&plane, "one"), host(&plane, "two"));
    vsctl(&one, &["add-br", "mine", "--", "set", "bridge", "mine", "datapath_type=netdev"]);
    assert_eq!(vsctl(&one, &["list-br"]), "mine\nxenbr0");
    assert_eq!(vsctl(&two, &["list-br"]), "xenbr0");
    assert_eq!((database(), Path::new("/run/openvswitch").exists()), before);
}

/// What a guest sends in its first instant is forwarded: the switch is there before the guest.
#[test]
fn the_first_frames_of_a_guest_pass() {
    let plane = pool_of([OVS; 2]);
    let station = plane.add_station("xenbr0", "outside", &mac(9), &[]).unwrap();
    let tap = station.run(|| PacketSocket::open("eth0").unwrap());
    plane.set_boot("vm1", || {
        let link = PacketSocket::open("eth0").unwrap();
        let (own, all) = ([10, 9, 0, 1].into(), [10, 9, 0, 255].into());
        link.send(&frames::udp(frames::BROADCAST, link.mac(), own, all, 9, b"first")).unwrap();
    });
    start(&plane, "one", 1, 1);
    assert!(domains::heard(&tap, b"first"));
}
