//! Hosts: each has its own firewall, files and log.

use std::path::Path;
use std::time::Instant;

use super::*;

fn said(host: &HostHandle, program: &str, args: &[&str]) -> String {
    let output = host.command(program, args, b"").unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_host_has_its_own_iptables_of_the_kind_asked_for() {
    for (iptables, version) in [(Iptables::Nft, "(nf_tables)"), (Iptables::Legacy, "(legacy)")] {
        let plane = pool_with(iptables, &[]);
        let (one, two) = (host(&plane, "one"), host(&plane, "two"));
        for program in ["iptables", "ip6tables", "iptables-restore", "ip6tables-save"] {
            let said = said(&one, program, &["-V"]);
            assert!(said.trim_end().ends_with(version), "{program}: {said}");
        }
        for program in ["iptables", "ip6tables"] {
            said(&one, program, &["-N", "mine"]);
            let [first, second] = [&one, &two].map(|host| said(host, &format!("{program}-save"), &[]));
            assert!(first.contains(":mine ") && !second.contains(":mine "), "{program} {version}");
            for rule in ["-A INPUT -j RH-Firewall-1-INPUT", "-A FORWARD -j RH-Firewall-1-INPUT", "-j REJECT"]
            {
                assert!(second.contains(rule), "{program} {version}: {second}");
            }
        }
    }
}

#[test]
fn two_hosts_hold_the_xtables_lock_at_once() {
    let plane = pool_with(Iptables::Legacy, &[]);
    let mut holder = host(&plane, "one").spawn("flock", &["/run/xtables.lock", "sleep", "60"]).unwrap();
    let busy = |name: &str| {
        let output = host(&plane, name).command("iptables", &["-w", "1", "-L", "-n"], b"").unwrap();
        output.status.code() == Some(4)
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !busy("one") {
        assert!(Instant::now() < deadline, "the lock was never taken");
    }
    assert!(holder.is_running().unwrap() && !busy("two"));
}

#[test]
fn bridged_packets_meet_dom0s_firewall_only_where_it_is_switched_on() {
    switch_on(Iptables::Nft);
}

#[test]
fn bridged_packets_meet_a_legacy_firewall_likewise() {
    switch_on(Iptables::Legacy);
}

fn switch_on(iptables: Iptables) {
    let plane = pool_with(iptables, &[]);
    let (a, b) = (start(&plane, "one", 1, 1), start(&plane, "one", 2, 2));
    let (c, d) = (start(&plane, "two", 1, 3), start(&plane, "two", 2, 4));
    assert!(reaches(&a, &b, v4(2)) && reaches(&a, &b, v6(2)), "as shipped");
    for program in ["iptables", "ip6tables"] {
        let key = format!("net.bridge.bridge-nf-call-{program}=1");
        said(&host(&plane, "one"), "sysctl", &["-w", &key]);
    }
    assert!(is_cut(&a, &b, v4(2)) && is_cut(&a, &b, v6(2)), "switched on");
    assert!(reaches(&c, &d, v4(4)) && reaches(&c, &d, v6(4)), "the other host");
    for program in ["iptables", "ip6tables"] {
        said(
            &host(&plane, "one"),
            program,
            &["-I", "FORWARD", "-m", "physdev", "--physdev-is-bridged", "-j", "ACCEPT"],
        );
    }
    assert!(reaches(&a, &b, v4(2)) && reaches(&a, &b, v6(2)), "with a rule that lets them pass");
}

#[test]
fn files_are_a_hosts_own() {
    let key = file("/etc/drawbridge/authorized_keys", 0o600, "ed25519 …\n");
    let plane =
        pool_with(Iptables::Nft, &[key, file("/usr/libexec/mock-tool", 0o755, "#!/bin/sh\necho tool\n")]);
    let (one, two) = (host(&plane, "one"), host(&plane, "two"));
    assert_eq!(one.read("/etc/xensource-inventory").unwrap(), b"INSTALLATION_UUID='1111'\n");
    assert_eq!(two.read("/etc/xensource-inventory").unwrap(), b"INSTALLATION_UUID='2222'\n");
    let stat = said(&one, "stat", &["-c", "%a %u:%g", "/etc/drawbridge/authorized_keys"]);
    assert_eq!(stat, "600 0:0\n");
    assert_eq!(said(&two, "/usr/libexec/mock-tool", &[]), "tool\n");

    one.write("/run/drawbridge/x", 0o640, b"1").unwrap();
    one.write("/run/drawbridge/x", 0o640, b"2").unwrap();
    assert_eq!(one.read("/run/drawbridge/x").unwrap(), b"2");
    assert!(two.read("/run/drawbridge/x").is_err());
    one.remove("/run/drawbridge/x").unwrap();
    assert!(one.read("/run/drawbridge/x").is_err());
    assert!(one.write("/root/x", 0o644, b"").is_err(), "the machine's own");
    for path in ["/etc/drawbridge", "/etc/xensource-inventory", "/etc/xapi.d", "/usr/libexec/mock-tool"] {
        assert!(!Path::new(path).exists(), "{path} on the machine");
    }
}

#[test]
fn a_host_sees_its_own_links_processes_and_devices() {
    let plane = pool();
    let one = host(&plane, "one");
    assert_eq!(said(&one, "ls", &["/sys/class/net"]), "eth0\nlo\nxenbr0\n");
    let myself = std::process::id();
    let shown = said(&one, "sh", &["-c", "cat /proc/1/comm; test -e /proc/self/stat && echo self"]);
    assert_eq!(shown, "cat\nself\n", "not process {myself}'s");
    said(&one, "sh", &["-c", "head -c 8 /dev/urandom >/dev/null"]);
}

#[test]
fn what_dom0_logs_is_kept_for_its_host() {
    let plane = pool();
    let (one, two) = (host(&plane, "one"), host(&plane, "two"));
    said(&one, "logger", &["--socket", "/dev/log", "-p", "authpriv.notice", "-t", "drawbridge", "opened"]);
    let deadline = Instant::now() + Duration::from_secs(5);
    while one.syslog().is_empty() {
        assert!(Instant::now() < deadline, "nothing was logged");
    }
    assert!(one.syslog()[0].ends_with("drawbridge: opened"), "{:?}", one.syslog());
    assert!(two.syslog().is_empty());
}
