//! `status` and `watch`.

use std::path::Path;
use std::time::Duration;

use api::control::HostStatus;
use serde_json::{Value, json};

use crate::daemon::{Daemon, host};

/// A store with something in it, adopted, enforced on two hosts.
async fn settled() -> Daemon {
    let daemon = Daemon::start().await;
    for line in ["group create web", "port create p1 --vm web-1 --device 0 --group web", "adopt"] {
        daemon.run(line).success();
    }
    *daemon.fake.hosts.lock().expect("no panic") = vec![host("xen1", 3), host("xen2", 3)];
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_comes_first_and_the_exit_code_says_it() {
    let daemon = settled().await;
    let said = daemon.run("status").success();
    assert_eq!(said.stdout.lines().next(), Some("OK: generation 3 is enforced on 2 hosts, 4 ports"));
    assert!(!said.stdout.contains('\u{1b}'), "colour in a file: {said:?}");
    *daemon.fake.unbound.lock().expect("no panic") = vec!["p1".to_owned()];
    let said = daemon
        .run("status")
        .says(1, "port p1           unbound  VM web-1 device 0: the pool has no VM of this name or uuid\n");
    assert!(
        said.stdout.starts_with("PROBLEM: 1 port not enforced: p1 (VM web-1 device 0: the pool"),
        "{said:?}"
    );
    *daemon.fake.trouble.lock().expect("no panic") = vec!["XAPI cannot be asked: no route".to_owned()];
    daemon.fake.hosts.lock().expect("no panic")[1].status = HostStatus::Failing;
    let said = daemon.run("--json status").says(1, "");
    let value = said.json();
    assert_eq!(value["verdict"]["word"], "problem");
    assert_eq!(value["verdict"]["reasons"].as_array().map(Vec::len), Some(3));
    assert_eq!((&value["hosts"][1]["status"], &value["misfits"][0]["id"]), (&json!("failing"), &json!("p1")));
    daemon.run("status").says(1, "PROBLEM: XAPI cannot be asked: no route\nalso: failing: 1 host (xen2)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_under_way_is_no_problem_and_not_ok() {
    let daemon = settled().await;
    daemon.fake.hosts.lock().expect("no panic")[0].status = HostStatus::Pending;
    daemon.run("status").says(1, "BUSY: generation 3 is on its way to 1 of 2 hosts: xen1\n");
}

/// Waits until the program has written so many lines.
async fn lines(file: &Path, count: usize) -> Vec<Value> {
    let enough = async {
        loop {
            let text = std::fs::read_to_string(file).expect("the file is there");
            let lines: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), enough).await.expect("the program writes")
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_tells_what_changes() {
    let daemon = settled().await;
    let file = daemon.path("watched");
    let mut watch = daemon.spawn("--json watch --count 3", &file);
    assert_eq!(lines(&file, 1).await[0]["verdict"]["word"], "ok");
    // A look that found the same is no news.
    daemon.fake.hosts.lock().expect("no panic")[0].last_success = Some("2026-11-21T04:00:00Z".to_owned());
    daemon.fake.changes.send_modify(|changes| *changes += 1);
    daemon.fake.hosts.lock().expect("no panic")[0].status = HostStatus::Failing;
    daemon.fake.changes.send_modify(|changes| *changes += 1);
    assert_eq!(lines(&file, 2).await[1]["verdict"]["word"], "problem");
    daemon.run("group create another").success();
    assert_eq!(lines(&file, 3).await[2]["status"]["groups"], 2);
    let ended = tokio::task::spawn_blocking(move || watch.wait()).await.expect("no panic").expect("it ends");
    assert!(ended.success());
    let text = std::fs::read_to_string(&file).expect("the file is there");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_in_a_file_has_no_control_characters() {
    let daemon = settled().await;
    let said = daemon.run("watch --count 1").success();
    assert!(said.stdout.starts_with("--- ") && said.stdout.contains("\nOK: "), "{said:?}");
    assert!(!said.stdout.contains('\u{1b}'), "{said:?}");
}
