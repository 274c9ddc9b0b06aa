//! What a compute driver calls, and what an operator asks of the running daemon.

use std::time::Duration;

use api::control::{Hook, HostEvent, Outcome, VmEvent};
use serde_json::json;

use crate::daemon::Daemon;

#[tokio::test(flavor = "multi_thread")]
async fn hooks_end_well_only_if_it_is_enforced() {
    let daemon = Daemon::start().await;
    daemon
        .run("hook create web-1")
        .success()
        .says(0, "hook create web-1: enforced (generation 3)\n  xen1: enforced\n");
    let set = |outcome| *daemon.fake.outcome.lock().expect("no panic") = outcome;
    set(Outcome::Failed);
    daemon
        .run("hook reboot web-1")
        .says(1, "xen1: NOT enforced: dom0 said no\n  problem: a port elsewhere\n");
    set(Outcome::Deadline);
    let late = daemon.run("--json hook resume web-1 --deadline 5");
    assert_eq!((late.code, &late.json()["outcome"]), (Some(1), &json!("deadline")));
    daemon.run("hook create nobody").says(2, "the pool has no VM of the name or uuid \"nobody\"");
    let unknown = daemon.run("--json hook create nobody");
    assert_eq!((unknown.code, &unknown.json()["problem"]["code"]), (Some(2), &json!("unknown-vm")));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hook_arrives_as_what_it_is() {
    let daemon = Daemon::start().await;
    for line in [
        "create v",
        "reboot v",
        "suspend v",
        "resume v",
        "terminate v",
        "plug v",
        "unplug v",
        "pre-migrate v xen2",
        "post-migrate v",
        "host-init xen1 --deadline 7",
    ] {
        daemon.run(&format!("hook {line}")).success();
    }
    let seen = daemon.fake.hooks.lock().expect("no panic").clone();
    let events: Vec<_> = seen
        .iter()
        .filter_map(|(hook, _)| match hook {
            Hook::Vm { event, vm, host } => Some((*event, vm.as_str(), host.as_deref())),
            Hook::Host { .. } => None,
        })
        .collect();
    let expected = [
        VmEvent::Create,
        VmEvent::Reboot,
        VmEvent::Suspend,
        VmEvent::Resume,
        VmEvent::Terminate,
        VmEvent::Plug,
        VmEvent::Unplug,
        VmEvent::PreMigrate,
        VmEvent::PostMigrate,
    ]
    .map(|event| (event, "v", (event == VmEvent::PreMigrate).then_some("xen2")));
    assert_eq!(events, expected);
    let last = Hook::Host { event: HostEvent::HostInit, host: "xen1".to_owned() };
    assert_eq!(seen.last(), Some(&(last, Duration::from_secs(7))));
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_adopt_audit() {
    let daemon = Daemon::start().await;
    daemon.run("group create web --name Web").success();
    daemon.run("refresh rules Web").success().says(0, "looking again at xen1, xen2\n");
    assert_eq!(daemon.json("refresh members web"), json!({"hosts": []}));
    daemon.run("refresh rules db").says(1, "there is no group db");
    daemon.run("status").says(1, "PROBLEM: the store was not adopted");
    daemon.run("adopt").success().says(0, "adopted: generation 2 with 1 groups and 0 ports");
    assert!(daemon.store.snapshot().adopted);
    let lines = daemon.json("audit");
    assert_eq!((&lines[0]["kind"], &lines[0]["id"]), (&json!("group"), &json!("web")));
    daemon.run("audit --limit 1").success().says(0, "created group web\n");
    daemon.run("audit --limit 0").says(2, "limit is 1 to 10,000");
}
