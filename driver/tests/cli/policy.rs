//! The policy file and the store: plan, apply, prune, export.

use serde_json::json;

use crate::daemon::Daemon;

const POLICY: &str = r#"
guarded_networks = ["tenants"]

[[project]]
id = "acme"
name = "Acme"
default_group = "acme-default"

[[group]]
id = "web"
name = "Web servers"
project = "acme"
on_rule_removal = "keep"

  [[group.rule]]
  id = "http"
  direction = "ingress"
  protocol = "tcp"
  ports = "80-81"

  [[group.rule]]
  direction = "ingress"
  protocol = 47
  remote_group = "admins"

[[group]]
id = "admins"
implicit_rules = "none"

  [[group.rule]]
  direction = "ingress"
  protocol = "icmp"
  ethertype = "ipv4"
  icmp_type = 8
  remote_set = "monitoring"

[[set]]
id = "monitoring"
addresses = ["192.0.2.0/28", "2001:db8:ff::/64"]

[[port]]
vm = "web-1"
device = 0
groups = ["web"]
addresses = ["10.0.0.11"]
address_pairs = [{ address = "10.0.0.100" }, { mac = "00:16:3e:00:00:01", address = "10.1.0.0/16" }]

[[port]]
id = "p2"
vif = "5b7ddf0b-7d2b-4c7c-9a5a-7a3c5d4f0c11"
port_security = false

[[provider_rule]]
id = "last"
position = 500
action = "allow"
direction = "egress"
ethertype = "ipv4"

[[provider_rule]]
action = "deny"
direction = "egress"
protocol = "tcp"
ports = 25
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_changes_nothing_and_an_apply_does_what_was_planned() {
    let daemon = Daemon::start().await;
    let file = daemon.write("policy.toml", POLICY);
    let plan = daemon.json(&format!("plan -f {file}"));
    assert_eq!((&plan["action"], plan["generation"].as_u64()), (&json!("plan"), Some(0)));
    assert_eq!(daemon.store.snapshot().generation, 0);
    let said = daemon.run(&format!("plan -f {file}")).success();
    for line in [
        "create 9 rules without an id in the file\n",
        "create 1 port without an id in the file\n",
        "create guarded network tenants\n",
        "create group web\n",
        "create rule http-ipv6\n",
        "create port p2\n",
        "create provider rule provider-2-ipv4\n",
    ] {
        assert!(said.stdout.contains(line), "{said:?}");
    }
    let apply = daemon.json(&format!("apply --policy {file}"));
    assert_eq!(apply["created"].as_array().map(Vec::len), plan["created"].as_array().map(Vec::len));
    daemon.run(&format!("plan -f {file}")).success().says(0, "plan: nothing to do; generation 1");
    daemon.run(&format!("apply -f {file}")).success().says(0, "apply: nothing to do");
    assert_eq!(daemon.store.snapshot().generation, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_does_not_name_stays_unless_pruned() {
    let daemon = Daemon::start().await;
    let file = daemon.write("policy.toml", POLICY);
    daemon.run(&format!("apply -f {file}")).success();
    daemon.run("group create other").success();
    let less = daemon.write(
        "less.toml",
        &POLICY.replace("ports = \"80-81\"", "ports = 80").replace("[\"tenants\"]", "[]"),
    );
    let said = daemon.run(&format!("apply -f {less}")).success().stdout;
    assert!(said.contains("changed rule http-ipv4\n") && said.contains(" 0 removed "), "{said}");
    let plan = daemon.run(&format!("plan --prune -f {less}")).success().stdout;
    assert!(
        plan.contains("remove group other\n") && plan.contains("remove guarded network tenants\n"),
        "{plan}"
    );
    daemon.run("group show other").success();
    daemon.run(&format!("apply --prune -f {less}")).success().says(0, "removed group other\n");
    daemon.run("group show other").says(1, "there is no group other");
}

/// What was exported says the same of the store it comes from, and makes another store the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_round() {
    let (one, two) = (Daemon::start().await, Daemon::start().await);
    let file = one.write("policy.toml", POLICY);
    one.run(&format!("apply -f {file}")).success();
    for line in [
        "set edit monitoring --name 'The \"monitors\"' --description 'two\nlines'",
        "group create empty --implicit-rules none",
        "rule create acme-default egress --protocol 47 --remote-cidr 10.0.0.0/8 --description 'back\\\\slash'",
        "provider-rule create deny ingress --ethertype ipv6 --protocol tcp --ports 1-1024",
    ] {
        one.run(line).success();
    }
    let text = one.run("export").success().stdout;
    let exported = one.write("exported.toml", &text);
    one.run(&format!("plan --prune -f {exported}")).success().says(0, "plan: nothing to do");
    two.run(&format!("apply --prune -f {exported}")).success();
    assert_eq!(two.run("export").success().stdout, text);
    assert_eq!(one.json("export")["policy"], text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_is_an_empty_file() {
    let daemon = Daemon::start().await;
    let file = daemon.write("empty.toml", &daemon.run("export").success().stdout);
    daemon.run(&format!("plan --prune -f {file}")).success().says(0, "nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_told_with_its_line() {
    let daemon = Daemon::start().await;
    for (text, code, words) in [
        ("[[group]\n", 2, "line 1"),
        ("[[group]]\nid = \"g\"\ncolour = 1\n", 2, "unknown field"),
        (
            "[[group]]\nid = \"g\"\n\n[[group.rule]]\ndirection = \"ingress\"\nprotocol = \"tcpx\"\n",
            1,
            "line 6: unknown protocol",
        ),
        ("\n[[group]]\nid = \"g\"\nproject = \"nobody\"\n", 1, "line 2: there is no project nobody"),
        (
            "[[group]]\nid = \"g\"\n[[group.rule]]\ndirection = \"egress\"\nprotocol = \"tcp\"\n\n[[group.rule]]\n\
             direction = \"ingress\"\nethertype = \"ipv4\"\nremote_group = \"h\"\n",
            1,
            "line 7: there is no group h",
        ),
        ("[[port]]\nvm = \"v\"\n", 1, "line 1: a port is given by vm and device"),
    ] {
        let file = daemon.write("bad.toml", text);
        daemon.run(&format!("apply -f {file}")).says(code, words);
        assert_eq!(daemon.store.snapshot().generation, 0);
    }
    daemon.run("apply -f /nonexistent/policy.toml").says(2, "cannot read /nonexistent/policy.toml");
}
