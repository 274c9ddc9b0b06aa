//! Several edits in one transaction, and declarative documents.

use api::wire::{Group, Rule};
use api::{ClientError, Code};
use serde_json::{Value, json};

use crate::fake::Daemon;

#[tokio::test]
async fn edits_are_done_together_or_not_at_all() {
    let daemon = Daemon::start().await;
    let edits = json!({"edits": [
        {"create": {"group": {"id": "web", "implicit_rules": "none"}}},
        {"create": {"rule": {"group": "web", "rule": {"direction": "ingress", "ethertype": "ipv4"}}}},
        {"create": {"port": {"vm": "vm1", "device": 0, "groups": ["web"]}}},
        {"replace": {"to": {"group": {"id": "web", "name": "Web"}}, "revision": 1}},
    ]});
    let done: Value = daemon.client.post("/v1/edits", &edits).await.unwrap();
    assert_eq!(done["generation"], 1);
    assert_eq!(done["edited"][0], json!({"kind": "group", "id": "web"}));
    assert_eq!(done["edited"].as_array().unwrap().len(), 4);

    let edits = json!({"edits": [
        {"create": {"group": {"id": "db"}}},
        {"delete": {"what": {"group": "web"}}},
    ]});
    match daemon.client.post::<_, Value>("/v1/edits", &edits).await {
        Err(ClientError::Problem(problem)) => {
            assert_eq!(
                (problem.code, problem.pointer.as_deref()),
                (Code::InUse, Some("/edits/1/delete/what"))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(daemon.client.list::<Group>("/v1/groups", "").await.unwrap().len(), 1);
    let edits = json!({"edits": [{"create": {"port": {"vif": "v", "addresses": ["x"]}}}]});
    match daemon.client.post::<_, Value>("/v1/edits", &edits).await {
        Err(ClientError::Problem(problem)) => {
            assert_eq!(problem.pointer.as_deref(), Some("/edits/0/create/port/addresses/0"));
        }
        other => panic!("{other:?}"),
    }
}

fn document() -> Value {
    json!({
        "projects": [{"id": "acme", "name": "Acme"}],
        "sets": [{"id": "monitoring", "addresses": ["192.0.2.0/28"]}],
        "groups": [
            {"id": "web", "project": "acme", "rules": [
                {"direction": "ingress", "protocol": "tcp", "ports": 22, "remote_group": "admins", "ethertype": "ipv4"},
                {"direction": "ingress", "protocol": "udp", "ports": 161, "remote_set": "monitoring"},
            ]},
            {"id": "admins"},
        ],
        "ports": [{"vm": "web-1", "device": 0, "groups": ["web"], "addresses": ["10.0.0.11"]}],
        "provider_rules": [{"action": "deny", "direction": "egress", "protocol": "tcp", "ports": 25}],
        "guarded_networks": ["tenants"],
    })
}

#[tokio::test]
async fn a_document_is_brought_about_once() {
    let daemon = Daemon::start().await;
    let apply = async |document: &Value, query: &str| {
        daemon.client.post::<_, Value>(&format!("/v1/apply{query}"), document).await.unwrap()
    };
    let planned = apply(&document(), "?dry_run=true").await;
    assert_eq!(daemon.store.state().generation(), 0);
    let done = apply(&document(), "").await;
    assert_eq!(done["created"].as_array().unwrap().len(), planned["created"].as_array().unwrap().len());
    // acme and its default group (5), a set, two groups with 2 implicit rules each and 3 of web's own, a port, two provider
    // rules, a network.
    assert_eq!(done["created"].as_array().unwrap().len(), 6 + 1 + 2 + 4 + 3 + 1 + 2 + 1);
    assert_eq!(daemon.client.rules("web").await.unwrap().len(), 5);

    let again = apply(&document(), "?prune=true").await;
    assert_eq!(again, json!({"generation": 1, "created": [], "changed": [], "removed": []}));
}

#[tokio::test]
async fn pruning_removes_what_is_not_named() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let _: Value = client.post("/v1/apply", &document()).await.unwrap();
    let mut less = document();
    less["groups"] =
        json!([{"id": "admins", "name": "Admins", "rules": [{"direction": "ingress", "ethertype": "ipv4"}]}]);
    less["ports"] = json!([]);
    let done: Value = client.post("/v1/apply", &less).await.unwrap();
    assert_eq!(done["removed"], json!([]));
    assert_eq!(done["changed"], json!([{"kind": "group", "id": "admins"}]));

    let done: Value = client.post("/v1/apply?prune=true", &less).await.unwrap();
    assert_eq!(done["removed"].as_array().unwrap().len(), 1 + 1 + 5);
    let rules: Vec<Rule> = client.list("/v1/rules", "").await.unwrap();
    assert_eq!(rules.len(), 4 + 3);

    let done: Value = client.post("/v1/apply?prune=true", &json!({})).await.unwrap();
    assert!(!done["removed"].as_array().unwrap().is_empty());
    let status = client.status().await.unwrap();
    assert_eq!(
        (status.projects, status.groups, status.rules, status.sets, status.guarded_networks),
        (0, 0, 0, 0, 0)
    );
}

#[tokio::test]
async fn two_ports_may_change_places() {
    let daemon = Daemon::start().await;
    let ports = |a: u32, b: u32| json!({"ports": [{"id": "p1", "vm": "vm", "device": a}, {"id": "p2", "vm": "vm", "device": b}]});
    let _: Value = daemon.client.post("/v1/apply", &ports(0, 1)).await.unwrap();
    let done: Value = daemon.client.post("/v1/apply", &ports(1, 0)).await.unwrap();
    assert_eq!(done["changed"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_mistake_in_a_document_has_its_place() {
    let daemon = Daemon::start().await;
    let cases = [
        (
            "/groups/1/rules/0",
            json!({"groups": [{"id": "a"}, {"id": "b", "rules": [
            {"direction": "ingress", "remote_group": "nobody"}]}]}),
            Code::UnknownReference,
        ),
        ("/groups/1", json!({"groups": [{"id": "a"}, {"id": "a"}]}), Code::NamedTwice),
        (
            "/groups/0/rules/1",
            json!({"groups": [{"id": "a", "rules": [
            {"direction": "ingress", "ethertype": "ipv4"}, {"direction": "ingress", "ethertype": "ipv4"}]}]}),
            Code::DuplicateRule,
        ),
        ("/ports/0/groups/0", json!({"ports": [{"vif": "v", "groups": ["a b"]}]}), Code::InvalidValue),
        ("/ports/0", json!({"ports": [{"vm": "v"}]}), Code::InvalidValue),
        ("/sets/0/id", json!({"sets": [{"addresses": []}]}), Code::InvalidValue),
        (
            "/groups/0/rules/0/ports",
            json!({"groups": [{"id": "a", "rules": [
            {"direction": "ingress", "protocol": "tcp", "ports": "0"}]}]}),
            Code::InvalidValue,
        ),
        // A rule of both families is two in the store, and one in the document.
        (
            "/groups/0/rules/1",
            json!({"groups": [{"id": "a", "rules": [
            {"direction": "ingress"}, {"direction": "ingress", "ethertype": "ipv4", "remote_group": "nobody"}]}]}),
            Code::UnknownReference,
        ),
        (
            "/provider_rules/1",
            json!({"provider_rules": [{"action": "deny", "direction": "ingress"},
            {"action": "deny", "direction": "ingress", "ethertype": "ipv4", "remote_set": "nothing"}]}),
            Code::UnknownReference,
        ),
        ("/guarded_networks/0/name", json!({"guarded_networks": [""]}), Code::InvalidValue),
        ("/groups/0/colour", json!({"groups": [{"id": "a", "colour": "red"}]}), Code::InvalidBody),
    ];
    for (pointer, document, code) in cases {
        match daemon.client.post::<_, Value>("/v1/apply", &document).await {
            Err(ClientError::Problem(problem)) => {
                assert_eq!((problem.code, problem.pointer.as_deref()), (code, Some(pointer)), "{problem:?}");
            }
            other => panic!("{document}: {other:?}"),
        }
    }
    assert_eq!(daemon.store.state().generation(), 0);
}
