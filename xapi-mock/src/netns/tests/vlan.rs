//! VLANs: a bridge whose frames travel tagged on another's wire.

use super::*;

/// The hosts also have `xapi1` and `xapi2`, VLANs 100 and 200 of `xenbr0`; listed before it.
fn pool_with_vlans(backends: [NetworkBackend; 2]) -> Netns {
    let plane = Netns::new().expect("run these tests as root");
    for (name, backend) in ["one", "two"].into_iter().zip(backends) {
        let mut spec = spec(name, backend);
        for (name, tag) in [("xapi1", 100), ("xapi2", 200)] {
            let bridge = BridgeSpec {
                name: name.into(),
                network_uuid: format!("network-{name}"),
                management_address: None,
                vlan: Some(VlanSpec { parent: "xenbr0".into(), tag }),
            };
            spec.bridges.insert(0, bridge);
        }
        plane.add_host(&spec).unwrap();
    }
    plane
}

fn start_on(plane: &Netns, host: &str, bridge: &str, number: u8) -> GuestHandle {
    let port = VifPort { bridge: bridge.into(), ..port(u32::from(number), number) };
    start_with(plane, host, &port, number)
}

/// Who meets whom is the same whatever the hosts switch with, equal addresses on two networks included.
fn vlans_are_apart(backends: [NetworkBackend; 2]) {
    let plane = pool_with_vlans(backends);
    let (untagged, a, b) = (
        start_on(&plane, "one", "xenbr0", 1),
        start_on(&plane, "one", "xapi1", 2),
        start_on(&plane, "two", "xapi1", 3),
    );
    let (near, far) = (start_on(&plane, "one", "xapi2", 4), start_on(&plane, "two", "xenbr0", 5));
    assert!(reaches(&a, &b, v4(3)) && reaches(&b, &a, v6(2)), "{backends:?}: one VLAN across hosts");
    assert!(reaches(&untagged, &far, v4(5)), "{backends:?}: no VLAN across hosts");
    for (from, to, address) in [
        (&untagged, &a, v4(2)),
        (&untagged, &b, v4(3)),
        (&near, &a, v4(2)),
        (&near, &b, v6(3)),
        (&b, &far, v4(5)),
    ] {
        assert!(is_cut(from, to, address), "{backends:?}: {address}");
    }
    let own = [format!("{}/24", v4(9)), format!("{}/64", v6(9))];
    let inside = plane.add_station("xapi1", "inside", &mac(9), &own).unwrap();
    let outside = plane.add_station("xenbr0", "outside", &mac(9), &own).unwrap();
    assert!(
        reaches(&inside, &b, v4(3)) && reaches(&a, &inside, v4(9)),
        "{backends:?}: a station in the VLAN"
    );
    assert!(reaches(&untagged, &outside, v4(9)), "{backends:?}: its twin outside");
}

#[test]
fn vlans_are_apart_on_linux_bridges() {
    vlans_are_apart([NetworkBackend::Bridge; 2]);
}

#[test]
fn vlans_are_apart_on_open_vswitch() {
    vlans_are_apart([NetworkBackend::OpenVSwitch; 2]);
}

#[test]
fn vlans_are_apart_in_a_mixed_pool() {
    vlans_are_apart(BACKENDS);
}

#[test]
fn a_vlan_needs_a_parent_with_an_uplink() {
    let plane = Netns::new().expect("run these tests as root");
    for backend in BACKENDS {
        let mut spec = spec("one", backend);
        spec.bridges[0].vlan = Some(VlanSpec { parent: "xenbr9".into(), tag: 5 });
        let error = plane.add_host(&spec).unwrap_err();
        assert_eq!(error.to_string(), "xenbr9: no bridge with an uplink", "{backend:?}");
    }
}
