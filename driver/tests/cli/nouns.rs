//! Each noun: made, listed, shown, edited, deleted; by id and by name.

use serde_json::{Value, json};

use crate::daemon::{Daemon, host};

/// The fields that are asked for, without the others.
fn only(value: &Value, names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), value[*name].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn projects() {
    let daemon = Daemon::start().await;
    let made = daemon.json("project create acme --name 'Acme Inc.' --default-group acme-default");
    assert_eq!((&made["name"], &made["default_group"]), (&json!("Acme Inc."), &json!("acme-default")));
    // A name will do, and what is not given stays.
    let edited = daemon.json("project edit 'Acme Inc.' --description hello");
    assert_eq!((&edited["name"], &edited["description"]), (&json!("Acme Inc."), &json!("hello")));
    assert_eq!(daemon.json("project list"), json!([edited]));
    daemon.run("project list").success().says(0, "acme  Acme Inc.  acme-default   hello");
    daemon.run("project show acme").success().says(0, "description    hello\n");
    daemon.run("project create acme").says(1, "drawbridge: project acme exists already\n");
    assert_eq!(daemon.json("project delete acme"), json!({"removed": {"kind": "project", "id": "acme"}}));
    daemon.run("project show acme").says(1, "there is no project acme");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_by_id_and_by_name() {
    let daemon = Daemon::start().await;
    daemon.run("project create acme --name Acme").success();
    let made = daemon.json("group create web --name 'Web servers' --project Acme --on-rule-removal keep");
    assert_eq!(
        only(&made, &["id", "name", "project", "on_rule_removal"]),
        json!({"id": "web", "name": "Web servers", "project": "acme", "on_rule_removal": "keep"})
    );
    let shown = daemon.json("group show 'Web servers'");
    assert_eq!(shown["rules"].as_array().map(Vec::len), Some(2));
    let edited = daemon.json("group set 'Web servers' --name Web");
    assert_eq!(
        only(&edited, &["name", "on_rule_removal"]),
        json!({"name": "Web", "on_rule_removal": "keep"})
    );
    assert_eq!(daemon.json("group list --project acme").as_array().map(Vec::len), Some(2));
    daemon.run("group create web2 --name Web --implicit-rules none").success();
    // An id is never ambiguous, a name may be.
    daemon.run("group create Web").success();
    assert_eq!(daemon.json("group show Web")["id"], "Web");
    daemon.run("group delete Web").success();
    let both = daemon.run("group show Web").says(1, "several groups go by \"Web\"");
    assert!(both.stderr.contains("web, web2"), "{both:?}");
    daemon.run("group delete web2").success().says(0, "removed group web2\n");
    daemon.run("group show web").success().says(0, "DIRECTION");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_what_has_changed() {
    let daemon = Daemon::start().await;
    let made = daemon.json("group create web");
    let revision = made["revision"].as_u64().expect("a revision");
    daemon.run("group edit web --name A").success();
    let stale = daemon.run(&format!("--json group edit web --name B --revision {revision}"));
    assert_eq!((stale.code, stale.json()["problem"]["code"].as_str()), (Some(1), Some("revision-mismatch")));
    daemon.run(&format!("group delete web --revision {revision}")).says(1, "has changed since you read it");
    daemon.run(&format!("group edit web --name B --revision {}", revision + 1)).success();
    assert_eq!(daemon.json("group show web")["name"], "B");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules() {
    let daemon = Daemon::start().await;
    daemon.run("group create web --implicit-rules none").success();
    daemon.run("group create admins --name 'The admins'").success();
    let rule = daemon.json(
        "rule create web ingress --id http --protocol tcp --ports 80-81 --remote-cidr 10.0.0.7/24 --description x",
    );
    let names =
        ["id", "group", "ethertype", "protocol", "ports", "remote_cidr", "remote_group", "description"];
    assert_eq!(
        only(&rule, &names),
        json!({"id": "http", "group": "web", "ethertype": "ipv4", "protocol": "tcp", "ports": "80-81",
            "remote_cidr": "10.0.0.0/24", "remote_group": null, "description": "x"})
    );
    // A remote takes the place of another, and brings its family along.
    let six = daemon.json("rule edit http --remote-cidr 2001:db8::/64");
    assert_eq!(only(&six, &["ethertype", "ports"]), json!({"ethertype": "ipv6", "ports": "80-81"}));
    let group = daemon.json("rule edit http --remote-group 'The admins' --ports any");
    assert_eq!(
        only(&group, &["ethertype", "remote_cidr", "remote_group", "ports", "protocol"]),
        json!({"ethertype": "ipv6", "remote_cidr": null, "remote_group": "admins", "ports": null, "protocol": "tcp"})
    );
    daemon
        .run("rule list --group web")
        .success()
        .says(0, "http  web    ingress    ipv6       tcp              group admins");
    let any = daemon.json("rule edit http --remote-any --protocol any --ethertype ipv4 --direction egress");
    assert_eq!(
        only(&any, &["direction", "ethertype", "protocol", "remote_group"]),
        json!({"direction": "egress", "ethertype": "ipv4", "protocol": null, "remote_group": null})
    );
    let ping = daemon.json("rule create web ingress --ethertype ipv4 --protocol icmp --icmp-type 8");
    assert_eq!(only(&ping, &["icmp_type", "icmp_code"]), json!({"icmp_type": 8, "icmp_code": null}));
    assert_eq!(daemon.json("rule list").as_array().map(Vec::len), Some(4));
    for (line, words) in [
        ("rule create web ingress --protocol tcp", "/ethertype: ethertype is needed"),
        ("rule create web ingress --ethertype ipv4 --ports 80", "ports need a protocol"),
        ("rule create web ingress --ethertype ipv4 --protocol tcpx", "/protocol: unknown protocol"),
        ("rule create web ingress --ethertype ipv4 --remote-group nobody", "there is no group nobody"),
        ("rule create nowhere ingress --ethertype ipv4", "there is no group nowhere"),
        ("rule create web egress --ethertype ipv4", "says the same"),
        ("rule edit http --protocol udp --ports 9-8", "/ports"),
    ] {
        daemon.run(line).says(1, words);
    }
    for called in ["''", ".", ".."] {
        daemon.run(&format!("rule delete {called}")).says(1, "there is nothing of the id");
        daemon.run(&format!("rule list --group {called}")).says(1, "there is nothing of the id");
    }
    daemon.run("rule delete http").success().says(0, "removed rule http\n");
    daemon.run("rule delete http").says(1, "there is no rule http");
}

#[tokio::test(flavor = "multi_thread")]
async fn address_sets() {
    let daemon = Daemon::start().await;
    daemon
        .run("set create mon --name Monitoring --address 192.0.2.1,192.0.2.9/28 --address 2001:db8::1")
        .success();
    let edited =
        daemon.json("set edit Monitoring --add-address 10.0.0.1 --remove-address 192.0.2.1 --description d");
    assert_eq!(edited["addresses"], json!(["10.0.0.1/32", "192.0.2.0/28", "2001:db8::1/128"]));
    daemon.run("set edit mon --remove-address 10.9.9.9").says(1, "address set mon has no 10.9.9.9");
    daemon.run("set edit mon --address nonsense").says(1, "/addresses/0: \"nonsense\" is neither");
    assert_eq!(daemon.json("set edit mon --address 10.0.0.2")["addresses"], json!(["10.0.0.2/32"]));
    let empty = daemon.json("set edit mon --no-addresses");
    assert_eq!(only(&empty, &["addresses", "description"]), json!({"addresses": [], "description": "d"}));
    daemon.run("set delete mon").success();
    assert_eq!(daemon.json("set list"), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn ports() {
    let daemon = Daemon::start().await;
    for line in ["project create acme", "group create web --name Web", "group create db"] {
        daemon.run(line).success();
    }
    let made = daemon.json(
        "port create p1 --vm web-1 --device 0 --group Web --address 10.0.0.1 --pair 10.0.0.9,10.0.0.8@00:16:3e:00:00:01",
    );
    assert_eq!(
        only(&made, &["vm", "device", "groups", "addresses", "port_security", "project"]),
        json!({"vm": "web-1", "device": 0, "groups": ["web"], "addresses": ["10.0.0.1"], "port_security": true, "project": null})
    );
    assert_eq!(made["address_pairs"].as_array().map(Vec::len), Some(2));
    let edited = daemon.json(
        "port edit web-1#0 --add-group db --remove-group Web --project acme --remove-pair 10.0.0.8@00:16:3E:00:00:01 \
         --add-address 2001:db8::1 --port-security false",
    );
    assert_eq!(
        only(&edited, &["groups", "address_pairs", "addresses", "port_security", "project"]),
        json!({"groups": ["db"], "address_pairs": [{"address": "10.0.0.9/32"}],
            "addresses": ["10.0.0.1", "2001:db8::1"], "port_security": false, "project": "acme"})
    );
    let shown = daemon.json("port show web-1");
    assert_eq!(shown["state"]["status"], "enforced");
    assert_eq!(daemon.json("port list --state enforced").as_array().map(Vec::len), Some(1));
    assert_eq!(daemon.json("port list --state failing --project acme"), json!([]));
    *daemon.fake.unbound.lock().expect("no panic") = vec!["p1".to_owned()];
    let listed = daemon.run("port list --state unbound").success();
    assert!(
        listed.stdout.contains("ENFORCED GENERATION") && listed.stdout.contains("the pool has no such VM")
    );
    daemon.fake.unbound.lock().expect("no panic").clear();
    daemon
        .run("port show p1")
        .success()
        .says(0, "port security        OFF\n")
        .says(0, "status               enforced\n");
    daemon.run("port create p2 --vm web-1 --device 1 --project acme").success();
    daemon.run("port show web-1").says(1, "several ports go by \"web-1\"");
    assert_eq!(
        daemon.json("port list --group db --vm web-1 --project acme").as_array().map(Vec::len),
        Some(1)
    );
    let moved = daemon.json("port edit p2 --vif 5b7ddf0b-7d2b-4c7c-9a5a-7a3c5d4f0c11 --no-project");
    assert_eq!(
        only(&moved, &["vm", "device", "project"]),
        json!({"vm": null, "device": null, "project": null})
    );
    let cleared = daemon.json("port edit p1 --no-groups --no-addresses --no-pairs");
    assert_eq!(
        only(&cleared, &["groups", "addresses", "address_pairs"]),
        json!({"groups": [], "addresses": [], "address_pairs": []})
    );
    daemon.run("port create").says(1, "a port is given by vm and device, or by vif");
    daemon.run("port create --vm web-1 --device 0").says(1, "port p1 is about the same VIF");
    daemon.run("port delete web-1#0").success().says(0, "removed port p1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_rules_in_their_order() {
    let daemon = Daemon::start().await;
    daemon
        .run("provider-rule create deny egress --id smtp --ethertype ipv4 --protocol tcp --ports 25")
        .success();
    daemon.run("provider-rule create allow egress --id first --position 1 --ethertype ipv4").success();
    let order = |list: Value| -> Vec<Value> {
        list.as_array().expect("a list").iter().map(|rule| rule["id"].clone()).collect()
    };
    assert_eq!(order(daemon.json("provider-rule list")), ["first", "smtp"]);
    let edited =
        daemon.json("provider-rule edit smtp --position 0 --action allow --direction ingress --ports 26");
    assert_eq!(
        only(&edited, &["position", "action", "direction", "protocol", "ports"]),
        json!({"position": 0, "action": "allow", "direction": "ingress", "protocol": "tcp", "ports": "26"})
    );
    assert_eq!(order(daemon.json("provider-rule list")), ["smtp", "first"]);
    daemon.run("provider-rule show first").success().says(0, "allow");
    daemon.run("provider-rule delete first").success();
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_and_hosts() {
    let daemon = Daemon::start().await;
    daemon.run("network guard 'tenants / one'").success();
    daemon.run("network create tenants").success();
    assert_eq!(daemon.json("network list").as_array().map(Vec::len), Some(2));
    daemon.run("network show 'tenants / one'").success().says(0, "tenants / one");
    daemon.run("network unguard 'tenants / one'").success().says(0, "removed guarded network tenants / one");
    *daemon.fake.hosts.lock().expect("no panic") = vec![host("xen1", 3), host("xen2", 3)];
    daemon.run("host list").success().says(0, "xen2  uuid-of-xen2  in-sync  iptables  3/3\n");
    assert_eq!(daemon.json("host show uuid-of-xen1")["name"], "xen1");
    daemon.run("host show xen2").success().says(0, "generation    3/3\n");
    daemon.run("host show xen9").says(1, "there is no host of the name or uuid \"xen9\"");
}
