//! The typed calls, as they arrive.

use crate::*;

fn pool() -> Value {
    let other_config = Value::Struct(vec![("k".to_owned(), "v".into())]);
    Value::Struct(vec![
        ("uuid".to_owned(), UUID.into()),
        ("master".to_owned(), "OpaqueRef:h".into()),
        ("other_config".to_owned(), other_config),
    ])
}

#[tokio::test]
async fn objects_are_read() {
    let server = answering(|call| {
        Reply::Value(match call.name.as_str() {
            "pool.get_all_records" => Value::Struct(vec![("OpaqueRef:p".to_owned(), pool())]),
            "pool.get_record" => pool(),
            "pool.get_by_uuid" => "OpaqueRef:p".into(),
            _ => Value::Struct(vec![]),
        })
    })
    .await;
    let client = plain(&server);
    let expected = Pool {
        uuid: UUID.parse().unwrap(),
        master: Ref::new("OpaqueRef:h"),
        other_config: [("k".to_owned(), "v".to_owned())].into(),
    };
    let reference = client.by_uuid(expected.uuid).await.unwrap();
    assert_eq!(reference, Ref::new("OpaqueRef:p"));
    assert_eq!(client.record(&reference).await.unwrap(), expected);
    assert_eq!(client.pools().await.unwrap(), [(reference, expected)].into());
    assert!(client.vms().await.unwrap().is_empty() && client.vifs().await.unwrap().is_empty());
    assert!(client.hosts().await.unwrap().is_empty() && client.networks().await.unwrap().is_empty());
    assert!(client.pifs().await.unwrap().is_empty());
    let methods = server.methods();
    let all = ["pool", "VM", "VIF", "host", "network", "PIF"].map(|class| format!("{class}.get_all_records"));
    assert_eq!(methods[3..], all);
    let calls = server.calls();
    assert_eq!(calls[1].params[1], Value::from(UUID));
    assert_eq!(calls[2].params[1], Value::from("OpaqueRef:p"));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_that_names_it() {
    let server = answering(|call| {
        let record = Value::Struct(vec![]);
        let map = Value::Struct(vec![("OpaqueRef:1".to_owned(), record.clone())]);
        Reply::Value(if call.name == "VM.get_record" { record } else { map })
    })
    .await;
    let client = plain(&server);
    let one = client.record(&Ref::<Vm>::new("OpaqueRef:1")).await.unwrap_err();
    let all = client.vms().await.unwrap_err();
    for error in [one, all] {
        let CallError::Decode { source: AnswerError::Record(record), .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(record.to_string(), "VM OpaqueRef:1, field uuid: missing");
    }
}

#[tokio::test]
async fn a_plugin_is_called_and_its_errors_come_through() {
    let server = answering(|call| match call.params[3].as_str() {
        Some("fails") => Reply::failure(&["XENAPI_PLUGIN_FAILURE", "non-zero exit", "", "no"]),
        Some("refuses") => Reply::failure(&["DRAWBRIDGE_UNSIGNED", "no auth"]),
        Some("odd") => Reply::Value(Value::Int(1)),
        _ => Reply::Value("out".into()),
    })
    .await;
    let (client, host) = (plain(&server), Ref::<Host>::new("OpaqueRef:h"));
    let args: BTreeMap<_, _> = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "<1>".to_owned())].into();
    let call = async |function| client.call_plugin(&host, "drawbridge", function, &args).await;
    assert_eq!(call("iptables-save").await.unwrap(), "out");
    let sent = Value::Struct(vec![("a".to_owned(), "<1>".into()), ("b".to_owned(), "2".into())]);
    let expected = [SESSION.into(), "OpaqueRef:h".into(), "drawbridge".into(), "iptables-save".into(), sent];
    assert_eq!(
        (server.calls()[1].name.as_str(), &server.calls()[1].params[..]),
        ("host.call_plugin", &expected[..])
    );

    let failed = call("fails").await.unwrap_err();
    assert!(matches!(api(&failed).kind(), Kind::PluginFailure { stderr: "no", .. }), "{failed:?}");
    let refused = call("refuses").await.unwrap_err();
    assert!(
        matches!(api(&refused).kind(), Kind::Drawbridge { code: "DRAWBRIDGE_UNSIGNED", .. }),
        "{refused:?}"
    );
    let odd = call("odd").await.unwrap_err();
    assert!(matches!(odd, CallError::Decode { .. }), "{odd:?}");
}

#[tokio::test]
async fn commands_are_sent_as_xapi_names_them() {
    let server = answering(|_| Reply::ok()).await;
    let client = plain(&server);
    let (vm, vif, host) = (Ref::<Vm>::new("vm"), Ref::<Vif>::new("vif"), Ref::<Host>::new("host"));
    let addresses = ["10.0.0.1".to_owned()];
    client.start(&vm, true).await.unwrap();
    client.start_on(&vm, &host, false).await.unwrap();
    client.unpause(&vm).await.unwrap();
    client.clean_reboot(&vm).await.unwrap();
    client.hard_reboot(&vm).await.unwrap();
    client.suspend(&vm).await.unwrap();
    client.resume(&vm, true).await.unwrap();
    client.hard_shutdown(&vm).await.unwrap();
    client.destroy(&vm).await.unwrap();
    client.set_locking_mode(&vif, LockingMode::Locked).await.unwrap();
    client.set_ipv4_allowed(&vif, &addresses).await.unwrap();
    client.set_ipv6_allowed(&vif, &[]).await.unwrap();
    client.set_default_locking_mode(&Ref::new("net"), DefaultLockingMode::Disabled).await.unwrap();

    let s = |text: &str| Value::from(text);
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    let expected = [
        ("VM.start", vec![s("vm"), yes.clone(), no.clone()]),
        ("VM.start_on", vec![s("vm"), s("host"), no.clone(), no.clone()]),
        ("VM.unpause", vec![s("vm")]),
        ("VM.clean_reboot", vec![s("vm")]),
        ("VM.hard_reboot", vec![s("vm")]),
        ("VM.suspend", vec![s("vm")]),
        ("VM.resume", vec![s("vm"), yes, no]),
        ("VM.hard_shutdown", vec![s("vm")]),
        ("VM.destroy", vec![s("vm")]),
        ("VIF.set_locking_mode", vec![s("vif"), s("locked")]),
        ("VIF.set_ipv4_allowed", vec![s("vif"), Value::Array(vec![s("10.0.0.1")])]),
        ("VIF.set_ipv6_allowed", vec![s("vif"), Value::Array(vec![])]),
        ("network.set_default_locking_mode", vec![s("net"), s("disabled")]),
    ];
    let calls = server.calls();
    assert_eq!(calls.len(), 1 + expected.len());
    for (call, (method, params)) in calls[1..].iter().zip(expected) {
        assert_eq!((call.name.as_str(), &call.params[1..]), (method, &params[..]));
    }
}

#[tokio::test]
async fn a_command_that_answers_something_is_an_error() {
    let server = answering(|_| Reply::Value("OpaqueRef:task".into())).await;
    let error = plain(&server).unpause(&Ref::new("vm")).await.unwrap_err();
    assert!(matches!(error, CallError::Decode { .. }), "{error:?}");
}
