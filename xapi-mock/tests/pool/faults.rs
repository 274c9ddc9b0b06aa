use std::time::{Duration, Instant};

use drawbridge_wire::xmlrpc::Value;

use super::client::{Client, address, error, map, pool, post};
use super::lifecycle::Vm;
use super::plugins::call;
use drawbridge_wire::xmlrpc::{MethodCall, encode_call};
use xapi_mock::faults::{Fault, HostState, PluginFault};

fn host(name: &str, state: HostState) -> Fault {
    Fault::Host { host: name.to_owned(), state }
}

#[tokio::test]
async fn a_host_goes_offline_and_comes_back() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let reference = client.find("host", "host2");
    let live = || {
        let metrics = client.text("host.get_metrics", &[reference.as_str().into()]);
        client.call("host_metrics.get_live", &[metrics.into()])
    };
    mock.faults().inject(host("host2", HostState::Offline));
    assert_eq!(call(&client, "host2", "noisy", &[]), error(&["HOST_OFFLINE", &reference]));
    assert_eq!(live(), Ok(Value::Bool(false)));
    assert_eq!(call(&client, "host1", "noisy", &[]), Ok(Value::from("fine")), "the others work");
    assert_eq!(post(&address(&mock, 1), "/", b""), None, "its own address does not answer");

    mock.faults().inject(host("host2", HostState::Unreachable));
    assert_eq!(call(&client, "host2", "noisy", &[]), error(&["CANNOT_CONTACT_HOST", &reference]));
    assert_eq!(live(), Ok(Value::Bool(true)));

    mock.faults().inject(host("host2", HostState::Online));
    assert_eq!(call(&client, "host2", "noisy", &[]), Ok(Value::from("fine")));
}

#[tokio::test]
async fn a_refused_call_is_not_carried_out() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    mock.faults().inject(Fault::Refuse {
        method: Some("VM.start".to_owned()),
        code: "NO_HOSTS_AVAILABLE".to_owned(),
        params: vec!["why".to_owned()],
        times: 2,
    });
    let flags = [Value::Bool(false), Value::Bool(false)];
    for _ in 0..2 {
        assert_eq!(vm.call("start", &flags), error(&["NO_HOSTS_AVAILABLE", "why"]));
        assert_eq!(vm.call("get_power_state", &[]), Ok(Value::from("Halted")), "other calls pass");
    }
    assert_eq!(vm.call("start", &flags), Ok(Value::from("")));
}

#[tokio::test]
async fn a_cut_call_is_carried_out() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    mock.faults().inject(Fault::Cut { method: Some("VM.start".to_owned()), times: 1 });
    let params = vec![
        client.session.as_str().into(),
        vm.reference.as_str().into(),
        Value::Bool(false),
        Value::Bool(false),
    ];
    let start = encode_call(&MethodCall { name: "VM.start".to_owned(), params });
    assert_eq!(post(&address(&mock, 0), "/", start.as_bytes()), None);
    assert_eq!(vm.call("get_power_state", &[]), Ok(Value::from("Running")));
}

#[tokio::test]
async fn a_plugin_dies_or_hangs_until_the_faults_are_cleared() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let plugin = |action| Fault::Plugin { host: Some("host1".to_owned()), action, times: 1 };
    let killed = error(&["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL", "", ""]);
    mock.faults().inject(plugin(PluginFault::Die));
    assert_eq!(call(&client, "host2", "noisy", &[]), Ok(Value::from("fine")), "not on this host");
    assert_eq!(call(&client, "host1", "noisy", &[]), killed);
    assert_eq!(call(&client, "host1", "noisy", &[]), Ok(Value::from("fine")));

    mock.faults().inject(plugin(PluginFault::Hang));
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| call(&client, "host1", "noisy", &[]));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!hanging.is_finished());
        mock.faults().inject(Fault::Clear);
        assert_eq!(hanging.join().unwrap(), killed);
    });
}

#[tokio::test]
async fn latency_is_added_to_every_call() {
    let mock = pool().await;
    let client = Client::login(&mock);
    mock.faults().inject(Fault::Latency { ms: 150 });
    let began = Instant::now();
    client.call("pool.get_all", &[]).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn faults_come_over_http_too() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let inject = |json: &str| post(&address(&mock, 0), "/mock/fault", json.as_bytes()).unwrap();
    let refuse =
        r#"{"fault": "refuse", "method": "pool.get_all", "code": "INTERNAL_ERROR", "params": ["x"]}"#;
    assert_eq!(inject(refuse).0, 200);
    assert_eq!(client.call("pool.get_all", &[]), error(&["INTERNAL_ERROR", "x"]));
    assert!(client.call("pool.get_all", &[]).is_ok(), "once is the default");
    for good in [
        r#"{"fault": "latency", "ms": 0}"#,
        r#"{"fault": "host", "host": "host2", "state": "offline"}"#,
        r#"{"fault": "plugin", "action": "die"}"#,
        r#"{"fault": "cut", "times": 0}"#,
        r#"{"fault": "clear"}"#,
        r#"{"fault": "drop_sessions"}"#,
    ] {
        assert_eq!(inject(good).0, 200, "{good}");
    }
    assert_eq!(client.call("pool.get_all", &[]).unwrap_err()[0], "SESSION_INVALID");
    for bad in ["", "{}", r#"{"fault": "flood"}"#, r#"{"fault": "latency", "ms": 1, "extra": 2}"#] {
        let (status, why) = inject(bad);
        assert_eq!(status, 400, "{bad}");
        assert!(why.contains("error"), "{why}");
    }
}

#[tokio::test]
async fn a_pool_ends_while_a_plugin_hangs_or_works() {
    let mock = pool().await;
    let client = Client::login(&mock);
    mock.faults().inject(Fault::Plugin { host: None, action: PluginFault::Hang, times: 1 });
    let host = client.find("host", "host1");
    for plugin in ["noisy", "slow"] {
        client
            .call("Async.host.call_plugin", &[host.as_str().into(), plugin.into(), "f".into(), map(&[])])
            .unwrap();
    }
    let began = Instant::now();
    mock.stop().await;
    // The one that works would take half a minute.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
