use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use drawbridge_wire::xmlrpc::{MethodCall, Value, decode_call, decode_value};

use super::client::{Client, Outcome, error, map, pool, text, texts};

/// Prints `$answer` in XAPI's envelope.
const ANSWER: &str = r#"#!/bin/sh
say() { printf '<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member><member><name>Value</name><value>%s</value></member></struct></value></param></params></methodResponse>' "$1"; }
escape() { sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g'; }
"#;

/// The plugins of all tests: written once, before any pool starts one.
pub(crate) fn directory() -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(write_plugins).clone()
}

fn write_plugins() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("plugins-{}", std::process::id()));
    fs::create_dir_all(folder.join("directory")).unwrap();
    let scripts = [
        ("echo", r#"say "$(printf %s "$1" | escape)""#),
        (
            "environment",
            r#"say "$(env | sort | tr '\n' ' ')cwd=$PWD argc=$# argv0=$0 pid=$(ps -o sid= -p $$ | tr -d ' ')/$$""#,
        ),
        ("stdin", r#"if read -r line 2>/dev/null; then say read; else say "no input"; fi"#),
        ("sigpipe", r#"say "$(grep SigIgn /proc/self/status | cut -f2)""#),
        ("fails", "echo out; echo err >&2; exit 3"),
        ("killed", "echo out; kill -TERM $$"),
        ("silent", "exit 0"),
        ("chatty", "echo 'Traceback: what?'"),
        ("noisy", "echo warning >&2; say fine"),
        (
            "failure",
            "printf '<methodResponse><params><param><value><struct><member><name>Status</name><value>Failure</value></member><member><name>ErrorDescription</name><value><array><data><value>MY_CODE</value><value>one</value><value>two</value></data></array></value></member></struct></value></param></params></methodResponse>'",
        ),
        (
            "shapeless",
            "printf '<methodResponse><params><param><value>text</value></param></params></methodResponse>'",
        ),
        ("space", "say '  '"),
        ("slow", "sleep 30; say slow"),
        (
            "meet",
            r#"file=$(printf %s "$1" | sed 's/.*<name>file<.name><value>\([^<]*\).*/\1/'); : > "$file.$$"; n=0
while [ "$(ls "$file".* | wc -l)" -lt 2 ]; do n=$((n+1)); [ $n -gt 100 ] && exit 1; sleep 0.1; done; say met"#,
        ),
        (
            "touch",
            r#"file=$(printf %s "$1" | sed 's/.*<name>file<.name><value>\([^<]*\).*/\1/'); sleep 0.3; : > "$file"; say done"#,
        ),
    ];
    for (name, body) in scripts {
        write(&folder, name, &format!("{ANSWER}{body}\n"), 0o755);
    }
    write(&folder, "not-executable", &format!("{ANSWER}say never\n"), 0o644);
    write(&folder, "no-interpreter-line", "echo never\n", 0o755);
    folder
}

fn write(folder: &std::path::Path, name: &str, content: &str, mode: u32) {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Calls a plugin on a host.
pub(crate) fn call(client: &Client, host: &str, plugin: &str, args: &[(&str, &str)]) -> Outcome {
    let host = client.find("host", host);
    client.call("host.call_plugin", &[host.into(), plugin.into(), "function".into(), map(args)])
}

fn echoed(client: &Client, host: &str, args: &[(&str, &str)]) -> MethodCall {
    decode_call(&text(&call(client, host, "echo", args).unwrap())).unwrap()
}

fn failure(params: [&str; 3]) -> Outcome {
    error(&["XENAPI_PLUGIN_FAILURE", params[0], params[1], params[2]])
}

#[tokio::test]
async fn a_plugin_gets_session_and_arguments_in_order() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let args = [("z", "1"), ("a", "<\"&'>"), ("empty", ""), ("lines", "x\ty\nz"), ("control", "a\u{1}b")];
    let seen = echoed(&client, "host1", &args);
    assert_eq!(seen.name, "function");
    assert_eq!(seen.params[0], Value::from(client.session.as_str()));
    let arrives = [("z", "1"), ("a", "<\"&'>"), ("empty", ""), ("lines", "x\ty\nz"), ("control", "ab")];
    assert_eq!(seen.params[1], map(&arrives));
    assert_eq!(echoed(&client, "host1", &[]).params[1], Value::Struct(vec![]));
}

#[tokio::test]
async fn on_a_slave_the_session_is_another_and_ends_with_the_call() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let seen = text(&echoed(&client, "host2", &[]).params[0]);
    assert_ne!(seen, client.session);
    assert!(seen.starts_with("OpaqueRef:"));
    let late = Client::at(&mock, 0, &seen);
    assert_eq!(late.call("pool.get_all", &[]), error(&["SESSION_INVALID", &seen]));
}

#[tokio::test]
async fn a_plugin_runs_in_the_surroundings_xapi_gives_it() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let seen = text(&call(&client, "host1", "environment", &[]).unwrap());
    // PWD and _ are the shell's own.
    let path = directory().join("environment");
    let expected =
        format!("PATH=/sbin:/usr/sbin:/bin:/usr/bin PWD=/ cwd=/ argc=1 argv0={} pid=", path.display());
    let (surroundings, session) = seen
        .replace("_=/usr/bin/env ", "")
        .split_once(&expected)
        .map_or_else(|| panic!("{seen}"), |(before, after)| (before.to_owned(), after.to_owned()));
    assert_eq!(surroundings, "");
    let (sid, pid) = session.split_once('/').unwrap();
    assert_eq!(sid, pid, "leads a session of its own");
    assert_eq!(call(&client, "host1", "stdin", &[]), Ok(Value::from("no input")));
    let ignored = u64::from_str_radix(&text(&call(&client, "host1", "sigpipe", &[]).unwrap()), 16).unwrap();
    assert_eq!(ignored & (1 << 12), 1 << 12, "SIGPIPE is ignored");
}

#[tokio::test]
async fn a_name_must_be_in_the_directory() {
    let mock = pool().await;
    let client = Client::login(&mock);
    for name in ["", ".", "..", "/bin/true", "../echo", "Echo", "echo ", "directory/..", "absent"] {
        assert_eq!(call(&client, "host1", name, &[]), error(&["XENAPI_MISSING_PLUGIN", name]), "{name:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_executed_is_a_non_zero_exit_without_a_word() {
    let mock = pool().await;
    let client = Client::login(&mock);
    for name in ["not-executable", "no-interpreter-line", "directory"] {
        assert_eq!(call(&client, "host1", name, &[]), failure(["non-zero exit", "", ""]), "{name}");
    }
}

#[tokio::test]
async fn the_longest_call_passes_and_one_byte_more_does_not() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let host = client.find("host", "host1");
    let fixed = text(&call(&client, "host1", "echo", &[("k", "x")]).unwrap()).len() - 1;
    let of_length = |length: usize| {
        let value = "x".repeat(length - fixed);
        client.call(
            "host.call_plugin",
            &[host.as_str().into(), "echo".into(), "function".into(), map(&[("k", &value)])],
        )
    };
    assert_eq!(text(&of_length(131_071).unwrap()).len(), 131_071);
    assert_eq!(of_length(131_072), failure(["non-zero exit", "", ""]));
}

#[tokio::test]
async fn every_end_of_a_plugin_has_its_error() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let of = |plugin| call(&client, "host1", plugin, &[]);
    assert_eq!(of("fails"), failure(["non-zero exit", "out\n", "err\n"]));
    assert_eq!(of("killed"), failure(["signal: SIGTERM", "out\n", ""]));
    let no_xml = "unexpected end of input, no root element line 1";
    assert_eq!(of("silent"), failure(["failed to parse plugin output", "", no_xml]));
    assert_eq!(of("chatty").unwrap_err()[1..3], ["failed to parse plugin output", "Traceback: what?\n"]);
    assert_eq!(of("noisy"), Ok(Value::from("fine")));
    assert_eq!(of("failure"), error(&["MY_CODE", "one", "two"]));
    assert_eq!(of("shapeless").unwrap_err()[0], "INTERNAL_ERROR");
    assert_eq!(of("space"), Ok(Value::from("")));
}

#[tokio::test]
async fn an_unknown_host_counts_as_offline() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let params = ["OpaqueRef:x".into(), "echo".into(), "f".into(), map(&[])];
    assert_eq!(client.call("host.call_plugin", &params), error(&["HOST_OFFLINE", "OpaqueRef:x"]));
}

#[tokio::test]
async fn two_calls_on_one_host_run_side_by_side() {
    let mock = pool().await;
    let clients = [Client::login(&mock), Client::login(&mock)];
    let file = directory().join("met");
    let args = [("file", file.to_str().unwrap())];
    std::thread::scope(|scope| {
        for client in &clients {
            // Each waits until both are there.
            scope.spawn(|| assert_eq!(call(client, "host1", "meet", &args), Ok(Value::from("met"))));
        }
    });
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_its_plugin() {
    use std::io::Write;
    let mock = pool().await;
    let client = Client::login(&mock);
    let file = directory().join("touched");
    let host = client.find("host", "host1");
    let args = map(&[("file", file.to_str().unwrap())]);
    let params = vec![client.session.as_str().into(), host.into(), "touch".into(), "f".into(), args];
    let body =
        drawbridge_wire::xmlrpc::encode_call(&MethodCall { name: "host.call_plugin".to_owned(), params });
    let mut stream = super::client::connect(&super::client::address(&mock, 0));
    let request = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!file.exists(), "too early to go away");
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !file.exists() {
        assert!(Instant::now() < deadline, "the plugin was stopped");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn only_an_admin_calls_a_hosts_plugin_but_any_vm_operator_that_of_a_vms_host() {
    let mock = pool().await;
    let root = Client::login(&mock);
    let (vm, host2) = (root.find("VM", "a"), root.find("host", "host2"));
    let operator = Client::login_as(&mock, "vm-operator");
    let refused = operator.call("host.call_plugin", &[host2.into(), "echo".into(), "f".into(), map(&[])]);
    let message = "No permission in user session. (Roles with this permission: pool-admin)";
    assert_eq!(refused, error(&["RBAC_PERMISSION_DENIED", "host.call_plugin", message]));
    let params = [vm.as_str().into(), "echo".into(), "f".into(), map(&[("k", "v")])];
    let halted = error(&["VM_BAD_POWER_STATE", &vm, "running", "halted"]);
    assert_eq!(operator.call("VM.call_host_plugin", &params), halted);
    root.call("VM.start", &[vm.into(), false.into(), false.into()]).unwrap();
    let answer = operator.call("VM.call_host_plugin", &params).unwrap();
    assert_eq!(decode_call(&text(&answer)).unwrap().params[1], map(&[("k", "v")]));
    let reader = Client::login_as(&mock, "reader");
    assert_eq!(reader.call("VM.call_host_plugin", &params).unwrap_err()[0], "RBAC_PERMISSION_DENIED");
}

/// The task's status when it is no longer pending.
fn ended(client: &Client, task: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let status = client.text("task.get_status", &[task.into()]);
        if status != "pending" {
            return status;
        }
        assert!(Instant::now() < deadline, "still pending");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn an_asynchronous_call_leaves_its_result_in_a_task() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let host = client.find("host", "host1");
    let start = |plugin: &str| {
        client.text("Async.host.call_plugin", &[host.as_str().into(), plugin.into(), "f".into(), map(&[])])
    };
    let good = start("noisy");
    assert_eq!(ended(&client, &good), "success");
    let result = client.text("task.get_result", &[good.as_str().into()]);
    assert_eq!(result, "<value>fine</value>");
    assert_eq!(decode_value(&result).unwrap(), Value::from("fine"));
    let bad = start("failure");
    assert_eq!(ended(&client, &bad), "failure");
    let info = client.call("task.get_record", &[bad.as_str().into()]).unwrap();
    assert_eq!(texts(info.member("error_info").unwrap()), ["MY_CODE", "one", "two"]);
    client.call("task.destroy", &[bad.as_str().into()]).unwrap();
    assert_eq!(
        client.call("task.get_status", &[bad.as_str().into()]),
        error(&["HANDLE_INVALID", "task", &bad])
    );
}
