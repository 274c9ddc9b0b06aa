//! What needs the daemon: hooks, hosts, refresh, adopt, watch, metrics, readiness; and the documents of the API.

use std::path::Path;
use std::time::Duration;

use api::control::{Hook, HostEvent, Outcome, PortStatus, Question, VmEvent};
use api::wire::{Group, GroupInput, GuardedNetwork, GuardedNetworkInput, HookInput, Page, Port, PortInput};
use api::{ClientError, Code, segment};
use serde_json::Value;

use crate::fake::{Daemon, raw, request};

fn vm(name: &str) -> HookInput {
    HookInput { vm: Some(name.to_owned()), ..HookInput::default() }
}

async fn code<T>(done: impl Future<Output = Result<T, ClientError>>) -> Code {
    match done.await {
        Err(ClientError::Problem(problem)) => problem.code,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no problem"),
    }
}

#[tokio::test]
async fn hooks_reach_the_daemon_and_tell_the_truth() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let report = client.hook("create", &HookInput { deadline: Some(5), ..vm("vm1") }).await.unwrap();
    assert_eq!(report.outcome, Outcome::Enforced);
    let host = HookInput { host: Some("xen1".to_owned()), ..HookInput::default() };
    client.hook("host-init", &host).await.unwrap();
    let hooks = daemon.fake.hooks.lock().unwrap().clone();
    let created = Hook::Vm { event: VmEvent::Create, vm: "vm1".to_owned(), host: None };
    assert_eq!(hooks[0], (created, Duration::from_secs(5)));
    let came_up = Hook::Host { event: HostEvent::HostInit, host: "xen1".to_owned() };
    assert_eq!(hooks[1], (came_up, Duration::from_secs(30)));

    assert_eq!(code(client.hook("create", &vm("nobody"))).await, Code::UnknownVm);
    assert_eq!(code(client.hook("create", &host)).await, Code::InvalidValue);
    assert_eq!(code(client.hook("pre-migrate", &vm("vm1"))).await, Code::InvalidValue);
    assert_eq!(code(client.hook("host-init", &vm("vm1"))).await, Code::InvalidValue);
    assert_eq!(code(client.hook("explode", &vm("vm1"))).await, Code::NotFound);
    let forever = HookInput { deadline: Some(601), ..vm("vm1") };
    assert_eq!(code(client.hook("create", &forever)).await, Code::InvalidValue);
    assert_eq!(code(client.hook("create", &vm("panic"))).await, Code::Internal);

    *daemon.fake.outcome.lock().unwrap() = Outcome::Failed;
    match client.hook("reboot", &vm("vm1")).await {
        Err(ClientError::Problem(problem)) => {
            assert_eq!((problem.code, problem.detail.as_str()), (Code::NotEnforced, "xen1: dom0 said no"));
            assert!(!problem.report.unwrap().hosts[0].enforced);
        }
        other => panic!("{other:?}"),
    }
    *daemon.fake.outcome.lock().unwrap() = Outcome::Deadline;
    assert_eq!(code(client.hook("reboot", &vm("vm1"))).await, Code::Deadline);
}

#[tokio::test]
async fn hosts_refresh_adopt_and_readiness() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    assert_eq!(client.hosts().await.unwrap()[0].name, "xen1");
    assert_eq!(client.misfits().await.unwrap()[0].id, "tenants");
    let ask = |from: &str| {
        let question = Question {
            from: from.to_owned(),
            to: "a&b=c".to_owned(),
            packet: "tcp/22".to_owned(),
            live: true,
        };
        async move { client.explain(&question).await }
    };
    let answer = ask("web 1#0").await.unwrap();
    assert_eq!((answer.from.as_str(), answer.to.as_str(), answer.agrees()), ("web 1#0", "a&b=c", false));
    assert_eq!(code(ask("nobody")).await, Code::NoAnswer);
    let web = GroupInput { id: Some("web".to_owned()), ..GroupInput::default() };
    let _: Group = client.post("/v1/groups", &web).await.unwrap();
    assert_eq!(client.refresh("web", false).await.unwrap().hosts, ["rules of web"]);
    assert_eq!(client.refresh("web", true).await.unwrap().hosts, ["members of web"]);
    assert_eq!(code(client.refresh("db", true)).await, Code::NotFound);

    assert!(!client.status().await.unwrap().adopted);
    let status = client.adopt().await.unwrap();
    assert!(status.adopted);
    assert_eq!(client.adopt().await.unwrap().generation, status.generation);
    assert_eq!(*daemon.fake.insisted.lock().unwrap(), 2);

    assert_eq!(client.text("/readyz").await.unwrap(), "ready\n");
    daemon.fake.trouble.lock().unwrap().push("XAPI is out of reach".to_owned());
    assert_eq!(code(client.text("/readyz")).await, Code::NotReady);
    assert_eq!(client.status().await.unwrap().trouble, ["XAPI is out of reach"]);
    assert_eq!(client.text("/healthz").await.unwrap(), "ok\n");
    let metrics = client.text("/metrics").await.unwrap();
    assert!(
        metrics.contains("drawbridge_fake 1\n")
            && metrics.contains("drawbridge_store_rows{kind=\"group\"} 1\n")
    );
    let audit = client.audit(0, 100).await.unwrap();
    assert_eq!(audit.len(), 4);
    assert!(audit[0].actor.starts_with("uid ") && audit[0].origin.starts_with("unix pid "));
    assert_eq!(client.audit(1, 100).await.unwrap().len(), 1);
}

/// Whatever may be made can be read and removed by its path; what a URL would swallow cannot be made.
#[tokio::test]
async fn every_id_can_be_named_in_a_path() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    for id in [".", ".."] {
        let group = GroupInput { id: Some(id.to_owned()), ..GroupInput::default() };
        let refused = client.post::<_, Group>("/v1/groups", &group).await;
        match refused {
            Err(ClientError::Problem(problem)) => {
                assert_eq!((problem.code, problem.pointer.as_deref()), (Code::InvalidValue, Some("/id")));
                assert!(problem.detail.contains("no URL can name"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
        let network = GuardedNetworkInput { name: id.to_owned() };
        assert_eq!(
            code(client.post::<_, GuardedNetwork>("/v1/guarded-networks", &network)).await,
            Code::InvalidValue
        );
    }
    for id in ["...", "-", "_", ":", "a.b:c", ".a", "a..", "0"] {
        let group = GroupInput { id: Some(id.to_owned()), ..GroupInput::default() };
        let made: Group = client.post("/v1/groups", &group).await.unwrap();
        let path = format!("/v1/groups/{}", segment(id));
        assert_eq!(client.get::<Group>(&path).await.unwrap().value, made);
        client.delete(&path, None).await.unwrap();
    }
    for name in
        ["a/b", "/", "//", "%2f", "%", "a b?c#d", "ü", "../x", "./", "a%2e", "\\", " ", "a;b", "+", "..."]
    {
        let network = GuardedNetworkInput { name: name.to_owned() };
        let made: GuardedNetwork = client.post("/v1/guarded-networks", &network).await.unwrap();
        let path = format!("/v1/guarded-networks/{}", segment(name));
        assert_eq!(client.get::<GuardedNetwork>(&path).await.unwrap().value, made, "{name:?}");
        client.delete(&path, None).await.unwrap();
    }
}

/// Pages of ports that stand so are full, though those between them do not.
#[tokio::test]
async fn ports_are_listed_with_how_they_stand() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    for number in 0..40 {
        let rest = if number % 10 == 1 { "" } else { "-pending" };
        let input = PortInput {
            id: Some(format!("p{number:02}{rest}")),
            vm: Some("vm".to_owned()),
            device: Some(number),
            ..PortInput::default()
        };
        let made: Port = client.post("/v1/ports", &input).await.unwrap();
        assert_eq!(made.state, None);
    }
    let all: Vec<Port> = client.list("/v1/ports", "").await.unwrap();
    let one: Port = client.get("/v1/ports/p01").await.unwrap().value;
    assert_eq!((all.len(), &all[1]), (40, &one));
    assert_eq!(one.state.unwrap().status, PortStatus::Enforced);
    let page = |query: &str| {
        let path = format!("/v1/ports?{query}");
        async move { client.get::<Page<Port>>(&path).await.map(|answer| answer.value) }
    };
    let ids = |page: &Page<Port>| page.items.iter().map(|port| port.id.clone()).collect::<Vec<_>>();
    let first = page("state=enforced&limit=3").await.unwrap();
    assert_eq!(
        (ids(&first), first.next.as_deref()),
        (vec!["p01".into(), "p11".into(), "p21".into()], Some("p21"))
    );
    let last = page("state=enforced&limit=3&after=p21").await.unwrap();
    assert_eq!((ids(&last), last.next), (vec!["p31".to_owned()], None));
    assert_eq!(page("state=pending&limit=100").await.unwrap().items.len(), 36);
    assert_eq!(page("state=unbound").await.unwrap().items, []);
    assert_eq!(code(page("state=odd")).await, Code::InvalidQuery);
}

#[tokio::test]
async fn a_watch_ends_when_something_changes() {
    let daemon = Daemon::start().await;
    let first = daemon.client.watch(None).await.unwrap();
    assert_eq!((first.generation, first.engine, first.everything), (0, 7, true));
    let waiting = tokio::spawn({
        let client = daemon.client.clone();
        async move { client.watch(Some(&first)).await }
    });
    let web = GroupInput { id: Some("web".to_owned()), ..GroupInput::default() };
    let _: Group = daemon.client.post("/v1/groups", &web).await.unwrap();
    let second = waiting.await.unwrap().unwrap();
    assert_eq!(
        (second.generation, second.groups.as_slice(), second.everything),
        (1, ["web".to_owned()].as_slice(), false)
    );
    let waiting = tokio::spawn({
        let (client, second) = (daemon.client.clone(), second.clone());
        async move { client.watch(Some(&second)).await }
    });
    daemon.fake.changes.send_replace(8);
    assert_eq!(waiting.await.unwrap().unwrap().engine, 8);
    // Nothing happens: an answer all the same.
    let (status, answer) =
        raw(&daemon.socket, &request("GET", "/v1/watch?after=1&engine=8&timeout=0", "")).await;
    assert_eq!((status, &answer["generation"]), (200, &Value::from(1)));
    let (status, _) = raw(&daemon.socket, &request("GET", "/v1/watch?timeout=61", "")).await;
    assert_eq!(status, 400);
}

/// The document in the repository is what the code says. To renew it: `DRAWBRIDGE_WRITE=1 cargo test -p api openapi`.
#[tokio::test]
async fn openapi_document_is_current() {
    let daemon = Daemon::start().await;
    let served: Value = daemon.client.get("/v1/openapi.json").await.unwrap().value;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&served).unwrap());
    if std::env::var_os("DRAWBRIDGE_WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "driver/api/openapi.json is not what the code says: DRAWBRIDGE_WRITE=1 cargo test -p api openapi"
    );
}

/// Each code and each route stands in docs/api.md.
#[test]
fn documentation_names_every_code_and_route() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let text = std::fs::read_to_string(path).unwrap();
    for code in Code::ALL {
        let line = format!("| `{}` | {} |", code.word(), code.status().as_u16());
        assert!(text.contains(&line), "docs/api.md has no line {line}");
    }
    for path in api::openapi().paths.paths.keys() {
        assert!(text.contains(&format!("`{path}`")), "docs/api.md does not name {path}");
    }
    // The word in the code is the word on the wire.
    for code in Code::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.word());
    }
}
