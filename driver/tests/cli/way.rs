//! Which way a command goes, and what it says where there is none.

use std::os::unix::fs::PermissionsExt as _;

use api::TcpListen;
use secrecy::SecretString;

use crate::daemon::{Daemon, configuration, drawbridge};

fn words(line: &str) -> Vec<String> {
    shell_words::split(line).expect("a line")
}

/// Without [store] nothing has changed: `plan` and the like are about the pool itself.
#[test]
fn without_a_store_there_is_no_daemon() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("driver.toml");
    std::fs::write(&config, configuration("")).expect("the folder can be written");
    let run = |line: &str| drawbridge(&words(&format!("--config {} {line}", config.display())));
    for line in ["group list", "status", "watch", "export", "adopt", "host list", "audit"] {
        run(line).says(2, "has no [store], so no daemon runs with it");
    }
    // Ways that lead to XAPI: its password is the first thing that is missing.
    for line in [
        "plan",
        "apply -f policy.toml",
        "hook create v",
        "hook host-init h",
        "hook pre-migrate v h",
        "explain --from a --to b icmp",
    ] {
        run(line).says(2, "cannot read /nonexistent");
    }
    run("apply --prune").says(2, "--prune is for the daemon's store");
    run("hook create v --deadline 3").says(2, "--deadline is for the daemon");
    let failed = run("--json group list").says(2, "");
    assert_eq!(failed.json()["ok"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_store_the_daemon_is_asked() {
    let daemon = Daemon::start().await;
    let file = daemon.write("policy.toml", "[[group]]\nid = \"web\"\n");
    daemon.run(&format!("plan -f {file}")).success().says(0, "create group web");
    daemon.run(&format!("hook create v -f {file}")).says(2, "--policy is for a driver without a daemon");
    daemon.run("hook create v").success();
    // Who explains needs the daemon alone, unless it is by a file.
    let said = daemon.run("explain --from 'a b#1' --to fd20::1 icmp").success();
    assert_eq!(
        said.stdout,
        "icmp from a b#1 to fd20::1\nipv4: allowed\n  egress: passes: rule r of group web\n"
    );
    let live = daemon.run("explain --from a --to b tcp/22 --live");
    live.says(1, "  xen1, installed rules: refused, THE POLICY SAYS OTHERWISE\n    -j DROP\n");
    daemon.run("explain --from nobody --to b icmp").says(2, "the pool has no such VM");
    daemon.run(&format!("explain --from a --to b icmp -f {file}")).says(2, "cannot read /nonexistent");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_daemon_than_the_configuration_names() {
    let daemon = Daemon::start().await;
    let socket = daemon.path("api.sock").display().to_string();
    // No configuration is needed then.
    drawbridge(&words(&format!("--config /nonexistent --api {socket} group create web"))).success();
    drawbridge(&words(&format!("group list --api {socket}"))).success().says(0, "web");
    drawbridge(&words("group list --api http://localhost"))
        .says(2, "neither https://host:port nor a socket's path");
    drawbridge(&words("group list --api https://localhost")).says(2, "needs --token-file and --ca-file");
    drawbridge(&words("group list --api /nonexistent/api.sock")).says(2, "is `drawbridge serve` running?");
    drawbridge(&words("--config /nonexistent/driver.toml group list"))
        .says(2, "cannot read /nonexistent/driver.toml");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_network_with_a_token() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .expect("a certificate and its key");
    let listen = TcpListen {
        address: "127.0.0.1:0".parse().expect("an address"),
        tls: std::sync::Arc::new(tls),
        token: SecretString::from("sesame"),
    };
    let daemon = Daemon::start_with(Some(listen)).await;
    let url = format!("https://localhost:{}", daemon.tcp.expect("a port").port());
    let ca = daemon.write("ca.pem", &signed.cert.pem());
    let token = daemon.write("token", "sesame\n");
    let call = |token: &str| {
        drawbridge(&words(&format!("--api {url} --ca-file {ca} --token-file {token} group list")))
    };
    call(&token).says(2, "chmod 600");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("its owner may");
    call(&token).success();
    let wrong = daemon.write("wrong", "open\n");
    std::fs::set_permissions(&wrong, std::fs::Permissions::from_mode(0o600)).expect("its owner may");
    let refused = call(&wrong).says(1, "token");
    assert!(!refused.stderr.contains("open\n") && !refused.stderr.contains("sesame"), "{refused:?}");
    let empty = daemon.write("empty.pem", "");
    drawbridge(&words(&format!("--api {url} --ca-file {empty} --token-file {token} group list")))
        .says(2, "there is no certificate in it");
}

/// What packages ship: completions for each shell, a manual page for each command.
#[test]
fn completions_and_manual_pages() {
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef drawbridge"), ("fish", "complete -c drawbridge")]
    {
        let script = drawbridge(&words(&format!("completions {shell}"))).success();
        assert!(script.stdout.contains(word) && script.stdout.contains("provider-rule"), "{shell}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    drawbridge(&words(&format!("man {}", folder.path().display()))).success();
    let page = std::fs::read_to_string(folder.path().join("drawbridge-port-list.1")).expect("a page");
    assert!(page.contains("quarantined"), "{page}");
    drawbridge(&words("man /nonexistent")).says(2, "cannot write manual pages");
}
