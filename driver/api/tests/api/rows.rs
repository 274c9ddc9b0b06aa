//! Each kind of row: made, read, listed, changed, removed; and each mistake with its code and place.

use api::wire::{
    AddressSet, AddressSetInput, Group, GroupInput, GuardedNetwork, GuardedNetworkInput, Page, Port,
    PortInput, Project, ProjectInput, ProviderRule, Rule,
};
use api::{ClientError, Code, Problem};
use serde_json::{Value, json};

use crate::fake::{Daemon, raw, request};

fn problem<T: std::fmt::Debug>(done: Result<T, ClientError>) -> Problem {
    match done {
        Err(ClientError::Problem(problem)) => *problem,
        other => panic!("no problem: {other:?}"),
    }
}

#[tokio::test]
async fn a_project_comes_with_its_default_group() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let input =
        ProjectInput { id: Some("acme".to_owned()), name: "Acme".to_owned(), ..ProjectInput::default() };
    let project: Project = client.post("/v1/projects", &input).await.unwrap();
    let rules = client.rules(&project.default_group).await.unwrap();
    assert_eq!(rules.len(), 4);
    assert_eq!(rules.iter().filter(|r| r.remote_group.as_ref() == Some(&project.default_group)).count(), 2);

    let read = client.get::<Project>("/v1/projects/acme").await.unwrap();
    assert_eq!(read.etag.as_deref(), Some("\"1\""));
    let renamed = ProjectInput { name: "ACME".to_owned(), ..ProjectInput::default() };
    let changed: Project = client.put("/v1/projects/acme", &renamed, read.etag.as_deref()).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.default_group), ("ACME", project.default_group.clone()));
    // What was read is old by now.
    let stale = client.put::<_, Project>("/v1/projects/acme", &input, read.etag.as_deref()).await;
    assert_eq!(problem(stale).code, Code::RevisionMismatch);
    let default = client.delete(&format!("/v1/groups/{}", project.default_group), None).await;
    assert_eq!(problem(default).code, Code::DefaultGroup);
    client.delete("/v1/projects/acme", Some("\"2\"")).await.unwrap();
    assert_eq!(problem(client.get::<Project>("/v1/projects/acme").await).code, Code::NotFound);
    assert!(client.list::<Group>("/v1/groups", "").await.unwrap().is_empty());
}

#[tokio::test]
async fn groups_and_rules() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let web = GroupInput { id: Some("web".to_owned()), ..GroupInput::default() };
    let _: Group = client.post("/v1/groups", &web).await.unwrap();
    assert_eq!(client.rules("web").await.unwrap().len(), 2);
    assert_eq!(problem(client.post::<_, Group>("/v1/groups", &web).await).code, Code::Exists);

    let rule = json!({"direction": "ingress", "ethertype": "ipv4", "protocol": "TCP", "ports": "80-81"});
    let made: Rule = client.post("/v1/groups/web/rules", &rule).await.unwrap();
    assert_eq!((made.protocol.as_deref(), made.ports.as_deref()), (Some("tcp"), Some("80-81")));
    let again = client.post::<_, Rule>("/v1/groups/web/rules", &rule).await;
    assert_eq!(problem(again).code, Code::DuplicateRule);
    let path = format!("/v1/rules/{}", made.id);
    let other = json!({"direction": "ingress", "protocol": 17, "ports": 53, "remote_cidr": "10.0.0.7/24"});
    let changed: Rule = client.put(&path, &other, None).await.unwrap();
    assert_eq!(
        (changed.protocol.as_deref(), changed.remote_cidr.as_deref()),
        (Some("udp"), Some("10.0.0.0/24"))
    );
    assert_eq!(changed.group, "web");
    client.delete(&path, None).await.unwrap();
    assert_eq!(problem(client.delete(&path, None).await).code, Code::NotFound);
    assert_eq!(client.list::<Rule>("/v1/rules", "").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_mistake_in_a_rule_has_a_code_and_a_place() {
    let daemon = Daemon::start().await;
    let web = GroupInput { id: Some("web".to_owned()), ..GroupInput::default() };
    let _: Group = daemon.client.post("/v1/groups", &web).await.unwrap();
    let cases = [
        (json!({}), Code::InvalidBody, ""),
        (json!({"direction": "up", "ethertype": "ipv4"}), Code::InvalidBody, "/direction"),
        (json!({"direction": "ingress", "ethertype": "ipv4", "port": 80}), Code::InvalidBody, "/port"),
        (json!({"direction": "ingress"}), Code::InvalidValue, "/ethertype"),
        (json!({"direction": "ingress", "ethertype": "ipv4", "ports": 80}), Code::InvalidValue, ""),
        (
            json!({"direction": "ingress", "ethertype": "ipv4", "protocol": "tcp", "ports": 0}),
            Code::InvalidValue,
            "/ports",
        ),
        (
            json!({"direction": "ingress", "ethertype": "ipv4", "protocol": "tcp", "ports": "9-8"}),
            Code::InvalidValue,
            "/ports",
        ),
        (
            json!({"direction": "ingress", "ethertype": "ipv4", "protocol": "tcpx"}),
            Code::InvalidValue,
            "/protocol",
        ),
        (
            json!({"direction": "ingress", "ethertype": "ipv4", "protocol": 300}),
            Code::InvalidValue,
            "/protocol",
        ),
        (
            json!({"direction": "ingress", "ethertype": "ipv4", "protocol": 6.5}),
            Code::InvalidBody,
            "/protocol",
        ),
        (
            json!({"direction": "ingress", "ethertype": "ipv4", "protocol": "tcp", "ports": 70_000}),
            Code::InvalidValue,
            "/ports",
        ),
        (
            json!({"direction": "ingress", "ethertype": "ipv6", "remote_cidr": "10.0.0.0/8"}),
            Code::InvalidValue,
            "/remote_cidr",
        ),
        (json!({"direction": "ingress", "remote_cidr": "10.0.0.0/33"}), Code::InvalidValue, "/remote_cidr"),
        (
            json!({"direction": "ingress", "ethertype": "ipv4", "remote_group": "nobody"}),
            Code::UnknownReference,
            "",
        ),
        (
            json!({"direction": "ingress", "ethertype": "ipv4", "remote_set": "a b"}),
            Code::InvalidValue,
            "/remote_set",
        ),
    ];
    for (input, code, pointer) in cases {
        let problem = problem(daemon.client.post::<_, Rule>("/v1/groups/web/rules", &input).await);
        assert_eq!(
            (problem.code, problem.pointer.as_deref().unwrap_or_default()),
            (code, pointer),
            "{input} {problem:?}"
        );
        assert_eq!(problem.status, code.status().as_u16());
    }
    let nowhere = json!({"direction": "ingress", "ethertype": "ipv4"});
    assert_eq!(
        problem(daemon.client.post::<_, Rule>("/v1/groups/db/rules", &nowhere).await).code,
        Code::NotFound
    );
}

#[tokio::test]
async fn ports_sets_provider_rules_and_guarded_networks() {
    let daemon = Daemon::start().await;
    let client = &daemon.client;
    let web = GroupInput { id: Some("web".to_owned()), ..GroupInput::default() };
    let _: Group = client.post("/v1/groups", &web).await.unwrap();

    let input = json!({
        "vm": "vm1", "device": 0, "groups": ["web"], "addresses": ["10.0.0.1"],
        "address_pairs": [{"address": "10.0.0.100"}, {"mac": "00:16:3e:00:00:01", "address": "10.1.0.0/16"}],
    });
    let port: Port = client.post("/v1/ports", &input).await.unwrap();
    assert_eq!(port.address_pairs.len(), 2);
    assert!(port.port_security);
    let read = client.get::<Port>(&format!("/v1/ports/{}", port.id)).await.unwrap();
    assert_eq!(read.value.state.unwrap().enforced_generation, Some(1));
    assert_eq!(problem(client.post::<_, Port>("/v1/ports", &input).await).code, Code::DuplicatePort);
    let neither = client.post::<_, Port>("/v1/ports", &PortInput::default()).await;
    assert_eq!(problem(neither).code, Code::InvalidValue);
    let multicast = json!({"vif": "v1", "addresses": ["10.0.0.1", "224.0.0.1"]});
    let multicast = problem(client.post::<_, Port>("/v1/ports", &multicast).await);
    assert_eq!((multicast.code, multicast.pointer.as_deref()), (Code::InvalidValue, Some("/addresses/1")));
    assert_eq!(client.list::<Port>("/v1/ports", "group=web").await.unwrap().len(), 1);
    assert_eq!(client.list::<Port>("/v1/ports", "vm=other").await.unwrap().len(), 0);
    assert_eq!(problem(client.delete("/v1/groups/web", None).await).code, Code::InUse);

    let set = AddressSetInput {
        id: Some("monitoring".to_owned()),
        addresses: vec!["192.0.2.5/28".to_owned(), "2001:db8::1".to_owned()],
        ..AddressSetInput::default()
    };
    let set: AddressSet = client.post("/v1/sets", &set).await.unwrap();
    assert_eq!(set.addresses, ["192.0.2.0/28", "2001:db8::1/128"]);

    let deny =
        json!({"action": "deny", "direction": "egress", "ethertype": "ipv4", "protocol": "tcp", "ports": 25});
    let first: ProviderRule = client.post("/v1/provider-rules", &deny).await.unwrap();
    let second: ProviderRule = client.post("/v1/provider-rules", &deny).await.unwrap();
    assert_eq!((first.position, second.position), (10, 20));
    // Without a position it stays where it is.
    let changed: ProviderRule =
        client.put(&format!("/v1/provider-rules/{}", first.id), &deny, None).await.unwrap();
    assert_eq!(changed.position, 10);

    let network = GuardedNetworkInput { name: "tenants / one".to_owned() };
    let _: GuardedNetwork = client.post("/v1/guarded-networks", &network).await.unwrap();
    let path = format!("/v1/guarded-networks/{}", api::segment(&network.name));
    assert_eq!(client.get::<GuardedNetwork>(&path).await.unwrap().value.name, network.name);
    client.delete(&path, None).await.unwrap();
}

#[tokio::test]
async fn lists_come_in_pages() {
    let daemon = Daemon::start().await;
    let edits: Vec<Value> = (0..25)
        .map(|n| json!({"create": {"group": {"id": format!("g{n:02}"), "implicit_rules": "none"}}}))
        .collect();
    let _: Value = daemon.client.post("/v1/edits", &json!({"edits": edits})).await.unwrap();
    let page: Page<Group> = daemon.client.get("/v1/groups?limit=10").await.unwrap().value;
    assert_eq!((page.items.len(), page.next.as_deref(), page.generation), (10, Some("g09"), 1));
    let all: Vec<Group> = daemon.client.list("/v1/groups", "limit=10").await.unwrap();
    assert_eq!(all.len(), 25);
    for query in ["limit=0", "limit=10001", "limit=x", "colour=red", "after=a%20b"] {
        let refused = daemon.client.get::<Page<Group>>(&format!("/v1/groups?{query}")).await;
        assert_eq!(problem(refused).code, Code::InvalidQuery, "{query}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_a_code() {
    let daemon = Daemon::start().await;
    let socket = &daemon.socket;
    let post = |body: &str| request("POST", "/v1/groups", body);
    let cases = [
        (request("GET", "/v1/nothing", ""), "no-such-route"),
        (request("PATCH", "/v1/groups", "{}"), "method-not-allowed"),
        (post(""), "invalid-body"),
        (post("{"), "invalid-body"),
        (post("{} {}"), "invalid-body"),
        (post("[]"), "invalid-body"),
        (
            request("POST", "/v1/ports", "{\"vif\": \"v\", \"address_pairs\": [[null, \"10.0.0.1\"]]}"),
            "invalid-body",
        ),
        (post("{\"id\": \"a\", \"id\": \"b\"}"), "invalid-body"),
        (post(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))), "invalid-body"),
        (post("{\"name\": \"a\\u0000\"}"), "invalid-value"),
        (post("{\"id\": \"drawbridge:x\"}"), "reserved-id"),
        (post(&format!("{{\"description\": \"{}\"}}", "x".repeat(2 << 20))), "body-too-large"),
        (post("{}").replace("application/json", "text/plain"), "not-json"),
        (request("DELETE", "/v1/groups/a", "").replace("Host", "If-Match: 7\r\nHost"), "invalid-if-match"),
        (request("GET", "/v1/groups/%ff", ""), "not-found"),
        (request("PUT", "/v1/groups/a", "{\"id\": \"b\"}"), "invalid-value"),
    ];
    for (request, code) in cases {
        let (status, problem) = raw(socket, &request).await;
        assert_eq!(problem["code"], code, "{} {problem}", request.chars().take(80).collect::<String>());
        assert_eq!(problem["status"], status);
    }
}
