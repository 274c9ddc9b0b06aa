use ruleset::model::AddressPair;
use xenapi::{Network, Vm};

use super::*;

fn port() -> Port {
    Port {
        vif: "v".parse().unwrap(),
        mac: "00:16:3e:00:00:01".parse().unwrap(),
        addresses: vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        pairs: Vec::new(),
        groups: Vec::new(),
        security: PortSecurity::On,
    }
}

fn pair(mac: Option<&str>, net: &str) -> AddressPair {
    AddressPair { mac: mac.map(|m| m.parse().unwrap()), net: net.parse().unwrap() }
}

fn vif(mode: LockingMode, ipv4: &[&str], ipv6: &[&str]) -> Vif {
    let texts = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Vif {
        uuid: "00000000-0000-0000-0000-000000000001".parse().unwrap(),
        device: 0,
        mac: "00:16:3e:00:00:01".parse().unwrap(),
        network: Ref::<Network>::null(),
        vm: Ref::<Vm>::null(),
        currently_attached: true,
        locking_mode: mode,
        ipv4_allowed: texts(ipv4),
        ipv6_allowed: texts(ipv6),
        other_config: Default::default(),
    }
}

fn steps(port: &Port, found: Vif, default_is_disabled: bool) -> Vec<Step> {
    VifLocking {
        reference: Ref::new("r"),
        name: String::new(),
        wanted: wanted(port),
        found,
        default_is_disabled,
    }
    .steps()
}

const LOCAL: &str = "fe80::216:3eff:fe00:1";

#[test]
fn a_port_is_locked_to_its_addresses_once() {
    use LockingMode::{Locked, NetworkDefault};
    let fresh = steps(&port(), vif(NetworkDefault, &[], &[]), false);
    assert_eq!(fresh.len(), 3);
    assert_eq!(fresh[2], Step::Mode(Locked), "the mode comes last");
    // As XAPI may spell it.
    let done = vif(Locked, &["10.0.0.1"], &["2001:DB8:0::1", LOCAL]);
    assert_eq!(steps(&port(), done, false), []);
    let moved = steps(&port(), vif(Locked, &["10.0.0.9"], &[LOCAL, "2001:db8::1"]), false);
    assert_eq!(moved, [Step::Ipv4(vec!["10.0.0.1".to_owned()])]);
}

#[test]
fn what_xapi_cannot_express_is_left_to_the_rules() {
    let mut port = port();
    port.pairs = vec![pair(None, "10.0.0.100/32")];
    assert!(matches!(wanted(&port), Locking::Locked { ipv4, .. } if ipv4.len() == 2));
    for extra in [pair(None, "10.1.0.0/24"), pair(Some("00:16:3e:00:00:02"), "10.0.0.7/32")] {
        port.pairs = vec![extra];
        assert_eq!(wanted(&port), Locking::Open);
    }
    port.pairs.clear();
    port.security = PortSecurity::Off;
    assert_eq!(wanted(&port), Locking::Open);
}

#[test]
fn an_open_port_comes_onto_the_bridge_where_the_default_keeps_it_off() {
    use LockingMode::{NetworkDefault, Unlocked};
    let mut port = port();
    port.security = PortSecurity::Off;
    assert_eq!(steps(&port, vif(NetworkDefault, &[], &[]), false), []);
    assert_eq!(steps(&port, vif(NetworkDefault, &[], &[]), true), [Step::Mode(Unlocked)]);
    assert_eq!(steps(&port, vif(Unlocked, &[], &[]), true), []);
}

/// Back to the network's default, unless somebody disabled it by hand.
#[test]
fn what_is_not_used_is_locked_again() {
    let steps = |mode| {
        let found = vif(mode, &[], &[]);
        let (reference, name, wanted) = (Ref::new("r"), String::new(), Locking::NetworkDefault);
        VifLocking { reference, name, wanted, found, default_is_disabled: true }.steps()
    };
    let closed = vec![Step::Mode(LockingMode::NetworkDefault)];
    assert_eq!(steps(LockingMode::Locked), closed);
    assert_eq!(steps(LockingMode::Unlocked), closed);
    assert_eq!(steps(LockingMode::NetworkDefault), []);
    assert_eq!(steps(LockingMode::Disabled), []);
}

/// Each change of mode takes the port off the switch for a moment and gives it another number.
#[test]
fn on_a_switch_only_what_is_off_the_bridge_is_touched() {
    use LockingMode::{Disabled, Locked, NetworkDefault, Unlocked};
    let mut port = port();
    let steps = |port: &Port, mode, default_is_disabled| {
        let (reference, name, wanted) = (Ref::new("r"), String::new(), wanted_on_switch(port));
        VifLocking { reference, name, wanted, found: vif(mode, &[], &[]), default_is_disabled }.steps()
    };
    for mode in [NetworkDefault, Locked, Unlocked] {
        assert_eq!(steps(&port, mode, false), []);
    }
    for (mode, default_is_disabled) in [(NetworkDefault, true), (Disabled, false)] {
        assert_eq!(steps(&port, mode, default_is_disabled), [Step::Mode(Locked)]);
    }
    port.security = PortSecurity::Off;
    assert_eq!(steps(&port, Locked, false), [Step::Mode(Unlocked)]);
    assert_eq!(steps(&port, NetworkDefault, false), []);
}
