use super::client::{Client, error, map, pool, text, texts};
use drawbridge_wire::xmlrpc::Value;

#[tokio::test]
async fn a_record_is_found_by_reference_uuid_and_name() {
    let mock = pool().await;
    let client = Client::login(&mock);
    for (class, name) in [("VM", "a"), ("host", "host2"), ("network", "net"), ("pool", "mock")] {
        let reference = client.find(class, name);
        let record = client.call(&format!("{class}.get_record"), &[reference.as_str().into()]).unwrap();
        assert_eq!(record.member("name_label"), Some(&Value::from(name)));
        let uuid = client.text(&format!("{class}.get_uuid"), &[reference.as_str().into()]);
        assert_eq!(client.text(&format!("{class}.get_by_uuid"), &[uuid.into()]), reference);
        let all = client.call(&format!("{class}.get_all_records"), &[]).unwrap();
        assert_eq!(all.member(&reference), Some(&record));
    }
    assert_eq!(mock.vm_uuid("a").unwrap(), client.text("VM.get_uuid", &[client.find("VM", "a").into()]));
    assert_eq!(client.call("VM.get_by_name_label", &["nobody".into()]), Ok(Value::Array(vec![])));
}

#[tokio::test]
async fn records_refer_to_each_other_both_ways() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let (vm, network) = (client.find("VM", "a"), client.find("network", "net"));
    let vifs = texts(&client.call("VM.get_VIFs", &[vm.as_str().into()]).unwrap());
    assert_eq!(vifs.len(), 2);
    let on_network = texts(&client.call("network.get_VIFs", &[network.as_str().into()]).unwrap());
    for vif in &vifs {
        assert_eq!(client.text("VIF.get_VM", &[vif.as_str().into()]), vm);
        assert_eq!(client.text("VIF.get_network", &[vif.as_str().into()]), network);
        assert!(on_network.contains(vif));
    }
    assert_eq!(texts(&client.call("network.get_PIFs", &[network.into()]).unwrap()).len(), 2);
    let pool = texts(&client.call("pool.get_all", &[]).unwrap());
    assert_eq!(client.text("pool.get_master", &[pool[0].as_str().into()]), client.find("host", "host1"));
    let dom0 = client.text("host.get_control_domain", &[client.find("host", "host1").into()]);
    let dom0 = client.call("VM.get_record", &[dom0.into()]).unwrap();
    assert_eq!(dom0.member("is_control_domain"), Some(&Value::Bool(true)));
    assert_eq!(dom0.member("domid"), Some(&Value::from("0")));
}

#[tokio::test]
async fn a_snapshot_has_a_vif_of_the_same_mac() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let mac_of_first = |vm: &str| {
        let vifs = client.call("VM.get_VIFs", &[client.find("VM", vm).into()]).unwrap();
        client.text("VIF.get_MAC", &[texts(&vifs)[0].as_str().into()])
    };
    assert_eq!(mac_of_first("a"), mac_of_first("snapshot"));
    let snapshot = client.call("VM.get_record", &[client.find("VM", "snapshot").into()]).unwrap();
    assert_eq!(snapshot.member("is_a_snapshot"), Some(&Value::Bool(true)));
    assert_eq!(snapshot.member("snapshot_of"), Some(&Value::from(client.find("VM", "a"))));
}

#[tokio::test]
async fn integers_travel_as_text() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = client.call("VM.get_record", &[client.find("VM", "a").into()]).unwrap();
    assert_eq!(vm.member("domid"), Some(&Value::from("-1")));
    let network = client.call("network.get_record", &[client.find("network", "net").into()]).unwrap();
    assert_eq!(network.member("MTU"), Some(&Value::from("1500")));
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let mock = pool().await;
    let client = Client::login(&mock);
    for (method, params, expected) in [
        ("VM.get_record", &["OpaqueRef:x"][..], &["HANDLE_INVALID", "VM", "OpaqueRef:x"][..]),
        ("VIF.get_MAC", &["OpaqueRef:x"], &["HANDLE_INVALID", "VIF", "OpaqueRef:x"]),
        ("network.get_by_uuid", &["no-uuid"], &["UUID_INVALID", "network", "no-uuid"]),
        ("VM.hard_shutdown", &["OpaqueRef:x"], &["HANDLE_INVALID", "VM", "OpaqueRef:x"]),
        ("VM.no_such_call", &["x"], &["MESSAGE_METHOD_UNKNOWN", "VM.no_such_call"]),
        ("Async.VM.get_record", &["x"], &["MESSAGE_METHOD_UNKNOWN", "Async.VM.get_record"]),
        ("VM.get_record", &[], &["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.get_record", "1", "0"]),
        ("VM.start", &["x"], &["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.start", "3", "1"]),
        ("pool.get_all", &["x"], &["MESSAGE_PARAMETER_COUNT_MISMATCH", "pool.get_all", "0", "1"]),
    ] {
        let params: Vec<_> = params.iter().map(|text| Value::from(*text)).collect();
        assert_eq!(client.call(method, &params), error(expected), "{method}");
    }
    // An unknown method is told only to those who are logged in.
    let stranger = Client::at(&mock, 0, "OpaqueRef:y");
    assert_eq!(stranger.call("VM.no_such_call", &[]), error(&["SESSION_INVALID", "OpaqueRef:y"]));
}

#[tokio::test]
async fn a_wrong_type_is_an_internal_error() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Value::from(client.find("VM", "a"));
    for (method, params) in [
        ("VM.get_record", vec![Value::Bool(true)]),
        ("VM.start", vec![vm.clone(), Value::from("true"), Value::Bool(false)]),
        ("VM.set_other_config", vec![vm, Value::from("x")]),
    ] {
        let refused = client.call(method, &params).unwrap_err();
        assert_eq!(refused[0], "INTERNAL_ERROR", "{method}");
        assert!(refused[1].contains("Expected"), "{refused:?}");
    }
}

#[tokio::test]
async fn other_config_is_set_extended_and_cut() {
    let mock = pool().await;
    let client = Client::login(&mock);
    for (class, name) in [("VM", "a"), ("network", "net"), ("host", "host1"), ("pool", "mock")] {
        let reference = Value::from(client.find(class, name));
        let call = |method: &str, params: &[Value]| {
            let params: Vec<_> = std::iter::once(reference.clone()).chain(params.iter().cloned()).collect();
            client.call(&format!("{class}.{method}"), &params)
        };
        call("set_other_config", &[map(&[("k", "v"), ("drawbridge:guarded", "true")])]).unwrap();
        call("add_to_other_config", &["n".into(), "<&>".into()]).unwrap();
        let twice = call("add_to_other_config", &["n".into(), "2".into()]);
        assert_eq!(twice, error(&["MAP_DUPLICATE_KEY", class, "other_config", &text(&reference), "n"]));
        call("remove_from_other_config", &["k".into()]).unwrap();
        call("remove_from_other_config", &["never there".into()]).unwrap();
        let expected = map(&[("drawbridge:guarded", "true"), ("n", "<&>")]);
        assert_eq!(call("get_other_config", &[]), Ok(expected));
    }
}

#[tokio::test]
async fn roles_are_held_to_what_they_may() {
    let mock = pool().await;
    let root = Client::login(&mock);
    let (vm, network) = (root.find("VM", "a"), root.find("network", "net"));
    let denied = |method: &str, roles: &str| {
        let message = format!("No permission in user session. (Roles with this permission: {roles})");
        error(&["RBAC_PERMISSION_DENIED", method, &message])
    };
    let reader = Client::login_as(&mock, "reader");
    assert!(reader.call("VM.get_all_records", &[]).is_ok());
    let start = [vm.as_str().into(), false.into(), false.into()];
    assert_eq!(
        reader.call("VM.start", &start),
        denied("VM.start", "pool-admin, pool-operator, vm-power-admin, vm-admin, vm-operator")
    );
    let vm_operator = Client::login_as(&mock, "vm-operator");
    let config = [network.into(), map(&[])];
    let only_operators = denied("network.set_other_config", "pool-admin, pool-operator");
    assert_eq!(vm_operator.call("network.set_other_config", &config), only_operators);
    assert!(Client::login_as(&mock, "operator").call("network.set_other_config", &config).is_ok());
    assert!(vm_operator.call("VM.start", &start).is_ok());
}

#[tokio::test]
async fn list_methods_comes_without_envelope_and_names_what_exists() {
    let mock = pool().await;
    let methods = texts(&Client::at(&mock, 0, "").raw("system.listMethods", &[]));
    for name in ["session.login_with_password", "host.call_plugin", "Async.host.call_plugin", "VIF.get_MAC"] {
        assert!(methods.iter().any(|method| method == name), "{name}");
    }
    let client = Client::login(&mock);
    for method in methods.iter().filter(|method| !method.starts_with("session.")) {
        // 9 parameters are wrong for each: the call exists, and nothing happens.
        let outcome = client.call(method, &vec![Value::Nil; 9]).unwrap_err();
        assert_eq!(outcome[0], "MESSAGE_PARAMETER_COUNT_MISMATCH", "{method}");
    }
}
