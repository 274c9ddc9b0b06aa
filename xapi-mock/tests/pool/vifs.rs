use drawbridge_wire::xmlrpc::Value;

use super::client::{Client, Outcome, error, map, pool, texts};
use super::lifecycle::Vm;

fn vif_of(client: &Client, vm: &Vm<'_>) -> String {
    texts(&client.call("VM.get_VIFs", &[vm.reference.as_str().into()]).unwrap()).remove(0)
}

fn record(entries: &[(&str, &str)]) -> Value {
    let Value::Struct(mut members) = map(entries) else { unreachable!("a map is a struct") };
    members.push(("MTU".to_owned(), Value::from("1400")));
    members.push(("other_config".to_owned(), map(&[("k", "v")])));
    members.push(("qos_algorithm_type".to_owned(), Value::from("")));
    Value::Struct(members)
}

#[tokio::test]
async fn plug_and_unplug_follow_the_record_and_the_power_state() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    let vif = vif_of(&client, &vm);
    let call = |method: &str| client.call(&format!("VIF.{method}"), &[vif.as_str().into()]);
    let bad = |actual: &str| error(&["VM_BAD_POWER_STATE", &vm.reference, "running", actual]);
    assert_eq!(call("plug"), bad("halted"));
    vm.start(true);
    assert_eq!(call("unplug"), bad("paused"));
    vm.call("unpause", &[]).unwrap();
    assert_eq!(call("plug"), error(&["DEVICE_ALREADY_ATTACHED", &vif]));
    assert_eq!(call("destroy"), error(&["OPERATION_NOT_ALLOWED", "VIF currently attached to a running VM"]));
    call("unplug").unwrap();
    assert_eq!(call("get_currently_attached"), Ok(Value::Bool(false)));
    assert_eq!(call("unplug"), error(&["DEVICE_ALREADY_DETACHED", &vif]));
    // What was unplugged stays away over a suspend, and is back after a reboot.
    vm.call("suspend", &[]).unwrap();
    vm.call("resume", &[false.into(), false.into()]).unwrap();
    assert_eq!(call("get_currently_attached"), Ok(Value::Bool(false)));
    call("plug").unwrap();
    call("unplug").unwrap();
    vm.call("hard_reboot", &[]).unwrap();
    assert_eq!(call("get_currently_attached"), Ok(Value::Bool(true)));
}

#[tokio::test]
async fn a_vif_is_made_plugged_and_destroyed() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "b");
    let network = client.find("network", "net");
    let create = |device: &str, mac: &str| -> Outcome {
        let given = record(&[("device", device), ("network", &network), ("VM", &vm.reference), ("MAC", mac)]);
        client.call("VIF.create", &[given])
    };
    let mac = "02:00:00:00:00:99";
    assert_eq!(create("0", mac), error(&["DEVICE_ALREADY_EXISTS", "0"]));
    assert_eq!(create("x", mac), error(&["INVALID_DEVICE", "x"]));
    for wrong in ["", "02:00:00:00:00", "02:00:00:00:00:0g", "0200.0000.0099"] {
        assert_eq!(create("1", wrong), error(&["MAC_INVALID", wrong]));
    }
    vm.start(false);
    let vif = create("1", mac).unwrap();
    let made = client.call("VIF.get_record", std::slice::from_ref(&vif)).unwrap();
    for (field, expected) in [
        ("device", Value::from("1")),
        ("MAC", Value::from(mac)),
        ("MTU", Value::from("1400")),
        ("currently_attached", Value::Bool(false)),
        ("locking_mode", Value::from("network_default")),
        ("other_config", map(&[("k", "v")])),
    ] {
        assert_eq!(made.member(field), Some(&expected), "{field}");
    }
    client.call("VIF.plug", std::slice::from_ref(&vif)).unwrap();
    client.call("VIF.unplug", std::slice::from_ref(&vif)).unwrap();
    client.call("VIF.destroy", &[vif]).unwrap();
    assert_eq!(texts(&client.call("VM.get_VIFs", &[vm.reference.as_str().into()]).unwrap()).len(), 1);
    let incomplete = client.call("VIF.create", &[record(&[("device", "1")])]).unwrap_err();
    assert_eq!(incomplete[0], "INTERNAL_ERROR");
    assert!(incomplete[1].contains("network"), "{incomplete:?}");
}

#[tokio::test]
async fn locking_is_set_extended_and_checked() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    let vif = vif_of(&client, &vm);
    let call =
        |method: &str, value: Value| client.call(&format!("VIF.{method}"), &[vif.as_str().into(), value]);
    let get = |field: &str| client.call(&format!("VIF.get_{field}"), &[vif.as_str().into()]).unwrap();
    let list = |items: &[&str]| items.iter().copied().collect::<Value>();
    vm.start(false);
    for mode in ["locked", "unlocked", "disabled", "network_default"] {
        call("set_locking_mode", mode.into()).unwrap();
        assert_eq!(get("locking_mode"), Value::from(mode));
    }
    assert_eq!(call("set_locking_mode", "open".into()).unwrap_err()[0], "INTERNAL_ERROR");
    for (field, one, other, wrong) in [
        ("ipv4_allowed", "10.0.0.1", "10.0.0.2", "10.0.0.1/24"),
        ("ipv6_allowed", "fd00::1", "fd00::2", "10.0.0.1"),
    ] {
        call(&format!("set_{field}"), list(&[one, one])).unwrap();
        assert_eq!(get(field), list(&[one]), "a set holds nothing twice");
        call(&format!("add_{field}"), other.into()).unwrap();
        call(&format!("remove_{field}"), one.into()).unwrap();
        assert_eq!(get(field), list(&[other]));
        let refused = error(&["INVALID_IP_ADDRESS_SPECIFIED", field]);
        assert_eq!(call(&format!("set_{field}"), list(&[other, wrong])), refused);
        assert_eq!(call(&format!("add_{field}"), wrong.into()), refused);
        assert_eq!(get(field), list(&[other]), "a refused call changes nothing");
    }
}

#[tokio::test]
async fn a_networks_default_does_not_change_under_attached_vifs() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "b");
    let network = client.find("network", "net");
    let set =
        |mode: &str| client.call("network.set_default_locking_mode", &[network.as_str().into(), mode.into()]);
    vm.start(false);
    assert_eq!(set("disabled"), error(&["VIF_IN_USE", &network, &vif_of(&client, &vm)]));
    vm.call("hard_shutdown", &[]).unwrap();
    set("disabled").unwrap();
    assert_eq!(client.text("network.get_default_locking_mode", &[network.as_str().into()]), "disabled");
    assert_eq!(set("locked").unwrap_err()[0], "INTERNAL_ERROR");
}
