//! Guarded bridges: remembered with each write, closed by the run at boot.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use dom0_plugin::boot;
use drawbridge_wire::Family;
use support::{Answer, Dom0, boundary, keeps, set_mode};

const RULES: &str = "*filter\n:dwb-x - [0:0]\nCOMMIT\n";

const JUMP: &str = "-A FORWARD -m physdev --physdev-is-bridged -j dwb-forward";

/// From now on this is what `iptables-save` says of the table `filter`: these rules, after the chains they stand in.
fn stands(dom0: &Dom0, family: &str, rules: &str) {
    let chains: BTreeSet<&str> = rules.lines().filter_map(|rule| rule.split(' ').nth(1)).collect();
    let declared: String = chains.iter().map(|chain| format!(":{chain} - [0:0]\n")).collect();
    let raw = boundary(if family == "iptables" { Family::Ipv4 } else { Family::Ipv6 });
    dom0.write("dump", &format!("{raw}*filter\n{declared}{rules}COMMIT\n"));
    dom0.fake(&format!("{family}-save"), &format!("cat {}/dump", dom0.dir.display()));
}

/// A dom0 on which a write left these bridges guarded, and which has booted since.
fn booted(bridges: &[&str]) -> Dom0 {
    booted_with(&bridges.iter().map(|b| format!("-A dwb-unknown-from -i {b} -j DROP\n")).collect::<String>())
}

/// The same, by all rules of the chains that guard.
fn booted_with(guards: &str) -> Dom0 {
    let dom0 = Dom0::new();
    // Linux bridges only.
    fs::remove_file(dom0.dir.join("switch")).unwrap();
    stands(&dom0, "iptables", guards);
    dom0.restore(1, RULES).reply();
    fs::remove_dir_all(&dom0.paths.state).unwrap();
    fs::remove_file(dom0.dir.join("started")).unwrap();
    // What iptables-restore gets from now on, it says from then on.
    for family in ["iptables", "ip6tables"] {
        let dir = dom0.dir.display();
        dom0.fake(&format!("{family}-restore"), &keeps(&dom0.dir.join(family)));
        dom0.fake(
            &format!("{family}-save"),
            &format!("cat {dir}/{family} 2>/dev/null || printf '*filter\\nCOMMIT\\n'"),
        );
    }
    dom0
}

fn names(bridges: &[&str]) -> BTreeSet<String> {
    bridges.iter().map(|&b| b.to_owned()).collect()
}

#[test]
fn a_write_remembers_what_it_guards() {
    let dom0 = Dom0::new();
    let record = dom0.dir.join("lib/drawbridge/guarded-ipv4");
    dom0.restore(1, RULES).reply();
    assert!(!record.exists(), "a host without guarded networks has nothing to remember");

    stands(
        &dom0,
        "iptables",
        "-A dwb-unknown-from -i xenbr0 -j DROP\n-A dwb-unknown-from -i xapi1 -j DROP\n",
    );
    dom0.restore(1, RULES).reply();
    assert_eq!(fs::read_to_string(&record).unwrap(), "xapi1\nxenbr0\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&dom0.paths.lasting), mode(&record)), (0o700, 0o600));

    let before = fs::metadata(&record).unwrap();
    dom0.restore(1, RULES).reply();
    assert_eq!(fs::metadata(&record).unwrap().ino(), before.ino(), "written although nothing had changed");

    stands(&dom0, "iptables", "");
    dom0.restore(1, RULES).reply();
    assert_eq!(fs::read_to_string(&record).unwrap(), "");
    assert!(!dom0.dir.join("lib/drawbridge/guarded-ipv6").exists(), "the other family was not written");
}

#[test]
fn a_write_that_was_refused_remembers_nothing() {
    let dom0 = Dom0::new();
    stands(&dom0, "iptables", "-A dwb-unknown-from -i xenbr0 -j DROP\n");
    dom0.fake("iptables-restore", "cat >/dev/null; exit 2");
    assert_eq!(dom0.restore(1, RULES).reply().exit_code, 2);
    assert!(!dom0.dir.join("lib/drawbridge/guarded-ipv4").exists());
}

/// The rules stand and bridged packets meet them; the caller is told, and the next write tries again.
#[test]
fn what_cannot_be_remembered_is_told() {
    let dom0 = Dom0::new();
    stands(&dom0, "iptables", &format!("{JUMP}\n-A dwb-unknown-from -i xenbr0 -j DROP\n"));
    let lasting = &dom0.paths.lasting;
    let refused = || {
        let Answer::Failure(texts) = dom0.restore(1, RULES) else { panic!("was not told") };
        assert_eq!(texts[0], "DRAWBRIDGE_GUARDED_RECORD", "{texts:?}");
        assert!(texts[1].ends_with("guarded-ipv4"), "{texts:?}");
    };
    fs::write(lasting, "").unwrap();
    refused();
    assert_eq!(dom0.read("bridge/bridge-nf-call-iptables").trim(), "1");
    fs::remove_file(lasting).unwrap();
    fs::create_dir(dom0.dir.join("elsewhere")).unwrap();
    symlink(dom0.dir.join("elsewhere"), lasting).unwrap();
    refused();
    fs::remove_file(lasting).unwrap();
    fs::create_dir(lasting).unwrap();
    set_mode(lasting, 0o755);
    refused();
    set_mode(lasting, 0o700);
    dom0.restore(1, RULES).reply();
    assert_eq!(dom0.read("lib/drawbridge/guarded-ipv4"), "xenbr0\n");
}

#[test]
fn nothing_guarded_nothing_done() {
    let dom0 = Dom0::new();
    assert_eq!(boot(&dom0.paths).unwrap(), names(&[]));
    assert_eq!(dom0.started(), [""; 0]);
    assert_eq!(dom0.read("bridge/bridge-nf-call-iptables"), "0\n");
    assert!(!dom0.paths.state.exists());
}

/// Both families, though only one had been written: a network is guarded as a whole.
#[test]
fn a_boot_closes_what_was_guarded() {
    let dom0 = booted(&["xapi1", "xenbr0"]);
    assert_eq!(boot(&dom0.paths).unwrap(), names(&["xapi1", "xenbr0"]));
    for family in ["iptables", "ip6tables"] {
        let raw = dom0.read(family).split_once("*filter\n").unwrap().0.to_owned();
        for bridge in ["xapi1", "xenbr0"] {
            let zone = format!("-A dwb-raw -i {bridge} -j CT --zone {}\n", dom0_plugin::zone(bridge));
            assert!(raw.contains(&zone), "what passes is told by its connection: {raw}");
        }
        assert_eq!(
            dom0.filter(family),
            format!(
                "*filter\n:dwb-forward - [0:0]\n:dwb-unknown-from - [0:0]\n:dwb-unknown-to - [0:0]\n\
                 -A dwb-forward -m physdev --physdev-in vif+ -j dwb-unknown-from\n\
                 -A dwb-forward -m physdev --physdev-out vif+ -j dwb-unknown-to\n\
                 -A dwb-forward -m physdev --physdev-in tap+ -j dwb-unknown-from\n\
                 -A dwb-forward -m physdev --physdev-out tap+ -j dwb-unknown-to\n\
                 -A dwb-forward -j ACCEPT\n\
                 -A dwb-unknown-from -i xapi1 -j DROP\n-A dwb-unknown-to -o xapi1 -j DROP\n\
                 -A dwb-unknown-from -i xenbr0 -j DROP\n-A dwb-unknown-to -o xenbr0 -j DROP\n\
                 {JUMP}\nCOMMIT\n"
            )
        );
        assert_eq!(dom0.read(&format!("bridge/bridge-nf-call-{family}")).trim(), "1");
        // What it loaded is what it remembers: a second boot without the driver closes them too.
        let record = format!("lib/drawbridge/guarded-{}", if family == "iptables" { "ipv4" } else { "ipv6" });
        assert_eq!(dom0.read(&record), "xapi1\nxenbr0\n");
    }
    let runs = |family: &str| {
        [
            format!("{family}-save"),
            format!("{family}-save -t raw"),
            format!("{family}-restore --noflush --wait=10 --test"),
            format!("{family}-restore --noflush --wait=10"),
            format!("{family}-save"),
        ]
    };
    let started = dom0.started();
    let (look, chains) = started.split_first().unwrap();
    assert!(look.starts_with("ovs-vsctl --format=csv "), "{look}");
    assert_eq!(chains, [runs("iptables"), runs("ip6tables")].concat());
}

const LIFELINE: &str = "-A dwb-unknown-from -d 192.0.2.7/32 -i xapi1 -p tcp -m mac --mac-source 00:16:3E:00:00:AA \
    -m tcp --dport 443 -j RETURN\n-A dwb-unknown-to -s 192.0.2.7/32 -o xapi1 -p tcp -m tcp --sport 443 \
    -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN\n";

const CLOSED: &str = "-A dwb-unknown-from -i xapi1 -j DROP\n-A dwb-unknown-to -o xapi1 -j DROP\n";

/// A single host whose driver is a guest of its own: nobody could ever mend it.
#[test]
fn the_driver_reaches_xapi_after_a_boot() {
    let dom0 = booted_with(&format!("{LIFELINE}{CLOSED}"));
    assert_eq!(dom0.read("lib/drawbridge/lifelines-ipv4"), LIFELINE);
    assert_eq!(boot(&dom0.paths).unwrap(), names(&["xapi1"]));
    assert!(dom0.read("iptables").contains(&format!("{LIFELINE}{CLOSED}")), "{}", dom0.read("iptables"));
    assert!(dom0.read("ip6tables").contains(&format!("-A dwb-forward -j ACCEPT\n{CLOSED}")));
    assert_eq!(dom0.read("lib/drawbridge/lifelines-ipv4"), LIFELINE, "a second boot finds it");
    assert!(!dom0.dir.join("lib/drawbridge/lifelines-ipv6").exists());
}

/// Records of before there were lifelines guard as they did.
#[test]
fn a_lifeline_that_is_not_understood_is_none() {
    let exceptions = |record: Option<&str>| {
        let dom0 = booted_with(&format!("{LIFELINE}{CLOSED}"));
        match record {
            Some(text) => dom0.write("lib/drawbridge/lifelines-ipv4", text),
            None => fs::remove_file(dom0.dir.join("lib/drawbridge/lifelines-ipv4")).unwrap(),
        }
        let told = boot(&dom0.paths).map_err(|refusal| refusal.code.as_str()).err();
        let loaded = dom0.filter("iptables");
        assert!(loaded.contains(CLOSED) && dom0.read("ip6tables").contains(CLOSED), "{loaded}");
        (told, loaded.contains("-j RETURN"))
    };
    assert_eq!(exceptions(None), (None, false));
    // Another bridge's, which is not guarded any more.
    assert_eq!(exceptions(Some("-A dwb-unknown-to -o xapi7 -j RETURN\n")), (None, false));
    for wrong in [
        "-A dwb-unknown-from -j RETURN\n",
        "-A dwb-unknown-from -i xapi1 -j ACCEPT\n",
        "-A dwb-unknown-from -i xapi1 -m owner -j RETURN\n",
        "-A FORWARD -i xapi1 -j RETURN\n",
        "COMMIT\n*filter\n",
        "xapi1\n",
        "\n",
    ] {
        for text in [wrong.to_owned(), format!("{LIFELINE}{wrong}")] {
            assert_eq!(exceptions(Some(&text)), (Some("DRAWBRIDGE_GUARDED_RECORD"), false), "{text}");
        }
    }
}

/// As on a kernel that lacks a match.
#[test]
fn a_lifeline_that_iptables_refuses_opens_nothing() {
    let dom0 = booted_with(&format!("{LIFELINE}{CLOSED}"));
    let dir = dom0.dir.display();
    dom0.fake(
        "iptables-restore",
        &format!(
            "sed 's/^-I FORWARD 1/-A FORWARD/; s/^-I PREROUTING 1/-A PREROUTING/' >{dir}/tried; \
             grep -q 'sport.*RETURN' {dir}/tried && exit 1; cp {dir}/tried {dir}/iptables"
        ),
    );
    assert_eq!(boot(&dom0.paths).unwrap_err().code.as_str(), "DRAWBRIDGE_PROGRAM_FAILED");
    assert!(dom0.read("iptables").contains(CLOSED));
}

/// The driver has been here since the boot: nothing of what it decided is undone.
#[test]
fn what_the_driver_wrote_since_stays() {
    let dom0 = booted(&["xapi1"]);
    dom0.restore(
        7,
        "*filter\n:dwb-forward - [0:0]\n:dwb-unknown-from - [0:0]\n-A dwb-forward -g dwb-unknown-from\n\
         -A dwb-unknown-from -i xapi1 -j DROP\n-I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-forward\nCOMMIT\n",
    )
    .reply();
    let written = dom0.read("iptables");
    boot(&dom0.paths).unwrap();
    assert_eq!(dom0.read("iptables"), written);
    // The other family has none of ours, whoever took them: closed.
    assert!(dom0.read("ip6tables").contains("-A dwb-unknown-from -i xapi1 -j DROP\n"));
}

/// XAPI saves all rules that stand into dom0's file, ours too, and a boot loads them: rules about interfaces that are
/// other guests' by now.
#[test]
fn leftovers_in_dom0s_saved_rules_are_replaced() {
    let dom0 = booted(&["xapi1"]);
    let stale = format!(
        "*filter\n:dwb-forward - [0:0]\n:dwb-i-vif1.0 - [0:0]\n{JUMP}\n-A dwb-forward -j ACCEPT\n\
         -A dwb-i-vif1.0 -j ACCEPT\nCOMMIT\n"
    );
    dom0.write("iptables", &stale);
    boot(&dom0.paths).unwrap();
    let loaded = dom0.read("iptables");
    assert!(loaded.contains("-A dwb-unknown-to -o xapi1 -j DROP\n"), "{loaded}");
    assert!(!loaded.contains(JUMP), "the jump stood already: {loaded}");
}

/// One family's failure is told, and does not leave the other open.
#[test]
fn both_families_are_attempted() {
    for (broken, whole, script) in
        [("iptables", "ip6tables", "exit 3"), ("ip6tables", "iptables", "echo '*filter'")]
    {
        let dom0 = booted(&["xapi1"]);
        dom0.fake(&format!("{broken}-save"), script);
        let refusal = boot(&dom0.paths).unwrap_err();
        assert_eq!(refusal.details[0], format!("{broken}-save"), "{refusal:?}");
        assert!(dom0.read(whole).contains("-A dwb-unknown-from -i xapi1 -j DROP\n"));
        assert_eq!(dom0.read(&format!("bridge/bridge-nf-call-{whole}")).trim(), "1");
        // Behind it stands nothing but dom0's REJECT.
        assert_eq!(dom0.read(&format!("bridge/bridge-nf-call-{broken}")).trim(), "0");
    }
    let dom0 = booted(&["xapi1"]);
    dom0.fake("iptables-restore", "cat >/dev/null; echo 'no such module' >&2; exit 1");
    let refusal = boot(&dom0.paths).unwrap_err();
    assert_eq!(
        (refusal.code.as_str(), &*refusal.details[1]),
        ("DRAWBRIDGE_PROGRAM_FAILED", "no such module")
    );
}

/// Nobody knows what was guarded: all of it was, but for what mends it.
#[test]
fn a_record_that_cannot_be_believed_closes_every_bridge() {
    type Damage<'a> = &'a dyn Fn(&Path);
    let damage: [(&str, Damage<'_>); 5] = [
        ("DRAWBRIDGE_UNSAFE_FILE", &|record| set_mode(record, 0o666)),
        ("DRAWBRIDGE_UNSAFE_FILE", &|record| fs::write(record, [0xff, 0xfe]).unwrap()),
        ("DRAWBRIDGE_GUARDED_RECORD", &|record| fs::write(record, "xapi1\n\n").unwrap()),
        ("DRAWBRIDGE_GUARDED_RECORD", &|record| fs::write(record, "xapi1 -j ACCEPT\n").unwrap()),
        ("DRAWBRIDGE_GUARDED_RECORD", &|record| fs::write(record, "a name that is too long\n").unwrap()),
    ];
    for (code, damage) in damage {
        let dom0 = booted(&["xapi1"]);
        fs::create_dir_all(dom0.dir.join("interfaces/storage/brif/vif3.0")).unwrap();
        damage(&dom0.dir.join("lib/drawbridge/guarded-ipv4"));
        assert_eq!(boot(&dom0.paths).unwrap_err().code.as_str(), code);
        // A second boot finds what the first has remembered, and does the same.
        fs::remove_dir_all(&dom0.paths.state).unwrap();
        for family in ["iptables", "ip6tables"] {
            fs::remove_file(dom0.dir.join(family)).unwrap();
        }
        assert_eq!(boot(&dom0.paths).unwrap(), names(&["storage", "xapi+", "xenapi", "xenbr+"]));
        for family in ["iptables", "ip6tables"] {
            let loaded = dom0.filter(family);
            for bridge in ["storage", "xapi+", "xenapi", "xenbr+"] {
                assert!(loaded.contains(&format!("-A dwb-unknown-from -i {bridge} -j DROP\n")), "{loaded}");
                assert!(loaded.contains(&format!("-A dwb-unknown-to -o {bridge} -j DROP\n")), "{loaded}");
            }
            let xapi =
                "-A dwb-unknown-from -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 443 -j RETURN\n";
            assert!(loaded.find(xapi).unwrap() < loaded.find("-j DROP").unwrap(), "{loaded}");
            assert_eq!(dom0.read(&format!("bridge/bridge-nf-call-{family}")).trim(), "1");
        }
        // The driver's next write says anew what is guarded.
        let write = "*filter\n:dwb-unknown-from - [0:0]\n-A dwb-unknown-from -i xapi1 -j DROP\nCOMMIT\n";
        dom0.restore(1, write).reply();
        assert_eq!(dom0.read("lib/drawbridge/guarded-ipv4"), "xapi1\n");
    }
}

/// Settings are a caller's affair; guests must not be open because of a typing mistake in them.
#[test]
fn broken_settings_do_not_open_anything() {
    let dom0 = booted(&["xapi1"]);
    dom0.write("etc/dom0.toml", "lock_seconds = soon\n");
    boot(&dom0.paths).unwrap();
    assert!(dom0.read("iptables").contains("-A dwb-unknown-from -i xapi1 -j DROP\n"));
}

/// udev runs dom0's sysctl file once more when the module comes, which is when our first rule is loaded.
#[test]
fn the_switch_is_turned_on_until_it_stays_on() {
    let dom0 = booted(&["xapi1"]);
    let switch = dom0.dir.join("bridge/bridge-nf-call-ip6tables");
    thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + Duration::from_secs(5);
            while fs::read_to_string(&switch).unwrap().trim() != "1" && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            thread::sleep(Duration::from_millis(300));
            fs::write(&switch, "0\n").unwrap();
        });
        let started = Instant::now();
        boot(&dom0.paths).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(1300), "not waited for");
    });
    assert_eq!(fs::read_to_string(&switch).unwrap().trim(), "1");
}

#[test]
fn a_switch_that_is_absent_is_told() {
    let dom0 = booted(&["xapi1"]);
    fs::remove_file(dom0.dir.join("bridge/bridge-nf-call-ip6tables")).unwrap();
    let refusal = boot(&dom0.paths).unwrap_err();
    assert_eq!(refusal.code.as_str(), "DRAWBRIDGE_BRIDGE_NETFILTER");
    assert_eq!(dom0.read("bridge/bridge-nf-call-iptables").trim(), "1");
}
