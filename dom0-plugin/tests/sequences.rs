//! Calls that only mean something together: replays, uploads, generations, locks, and the state directory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use drawbridge_wire::{Family, Function, Invocation, signed_calls};
use support::{Answer, Dom0, HOST_UUID, arguments, document, nonce, now, set_mode, signer};

const RULES: &str = "*filter\n:dwb-x - [0:0]\nCOMMIT";

/// Input that needs several parts: it does not compress.
fn large() -> Vec<u8> {
    let mut state = 7_u64;
    let mut text = String::from("*filter\n:dwb-x - [0:0]\n");
    for _ in 0..30_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let [a, b, c, d, e, ..] = state.to_be_bytes();
        text += &format!("-A dwb-x -s {a}.{b}.{c}.{d}/32 -p {e} -j ACCEPT\n");
    }
    text += "COMMIT\n";
    text.into_bytes()
}

fn staged(dom0: &Dom0, generation: u64) -> Vec<BTreeMap<String, String>> {
    let invocation = Invocation {
        function: Function::IptablesRestore,
        args: vec![],
        family: Family::Ipv4,
        stdin: Some(large()),
        generation: Some(generation),
    };
    let calls = signed_calls(&invocation, &dom0.signer, HOST_UUID, now()).unwrap();
    assert!(calls.len() >= 2, "{}", calls.len());
    calls
}

fn send(dom0: &Dom0, arguments: &BTreeMap<String, String>) -> Answer {
    dom0.serve(&document("iptables-restore", arguments))
}

/// The same arguments, changed, under a new signature.
fn resigned(
    dom0: &Dom0,
    call: &BTreeMap<String, String>,
    changes: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let mut call = call.clone();
    call.extend(arguments(changes));
    dom0.signer.sign(HOST_UUID, Function::IptablesRestore, &mut call, now(), nonce());
    call
}

#[test]
fn a_call_counts_once() {
    let dom0 = Dom0::new();
    let mut call = arguments(&[("args", "")]);
    dom0.signer.sign(HOST_UUID, Function::IptablesSave, &mut call, now(), nonce());
    let call = document("iptables-save", &call);
    dom0.serve(&call).reply();
    assert_eq!(dom0.serve(&call).code(), "DRAWBRIDGE_REPLAYED");
    assert_eq!(dom0.started(), ["iptables-save"]);
}

#[test]
fn a_refused_call_uses_its_nonce_up_too() {
    let dom0 = Dom0::new();
    let mut call = arguments(&[("args", "-t nat")]);
    dom0.signer.sign(HOST_UUID, Function::IptablesSave, &mut call, now(), nonce());
    let call = document("iptables-save", &call);
    assert_eq!(dom0.serve(&call).code(), "DRAWBRIDGE_ARGUMENT_REFUSED");
    assert_eq!(dom0.serve(&call).code(), "DRAWBRIDGE_REPLAYED");
}

#[test]
fn a_forgotten_nonce_is_not_accepted_again_after_the_clock_was_set_back() {
    let dom0 = Dom0::new();
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    // The clock ran ahead for a while, and everything up to then was forgotten.
    dom0.write("state/floor", &format!("{}\n", now() + 50));
    assert_eq!(dom0.call(Function::IptablesSave, &[("args", "")]).code(), "DRAWBRIDGE_SIGNED_TOO_EARLY");
}

#[test]
fn old_nonces_are_forgotten_and_leave_a_floor() {
    let dom0 = Dom0::new();
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    let old = format!("{}-0123456789abcdef-{}", now() - 500, "0".repeat(32));
    dom0.write(&format!("state/nonces/{old}"), "");
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    assert!(!dom0.dir.join("state/nonces").join(old).exists());
    let floor: u64 = dom0.read("state/floor").trim().parse().unwrap();
    assert!(now() - floor <= 125, "{floor}");
    assert_eq!(fs::read_dir(dom0.dir.join("state/nonces")).unwrap().count(), 2);
}

#[test]
fn a_flood_of_calls_is_bounded() {
    let dom0 = Dom0::new();
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    for number in 0..drawbridge_wire::limits::NONCES {
        dom0.write(&format!("state/nonces/{}-0123456789abcdef-{number:032x}", now()), "");
    }
    assert_eq!(dom0.call(Function::IptablesSave, &[("args", "")]).code(), "DRAWBRIDGE_TOO_MANY_CALLS");
}

#[test]
fn one_of_several_keys() {
    let dom0 = Dom0::new();
    let (other, line) = signer();
    let both = format!("{}{line}\n", dom0.read("etc/authorized_keys"));
    dom0.write("etc/authorized_keys", &both);
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    let mut call = arguments(&[("args", "")]);
    other.sign(HOST_UUID, Function::IptablesSave, &mut call, now(), nonce());
    dom0.serve(&document("iptables-save", &call)).reply();
    let audit = dom0.audit();
    assert!(audit[1].contains(&format!("key={} ", other.public_key().id())), "{audit:?}");
    let secret = line.split(' ').nth(1).unwrap();
    assert!(!audit.concat().contains(secret));
}

#[test]
fn generations_never_fall() {
    let dom0 = Dom0::new();
    dom0.restore(8, RULES).code();
    let rules = &format!("{RULES}\n");
    dom0.restore(8, rules).reply();
    let before = dom0.started().len();
    let Answer::Failure(texts) = dom0.restore(7, rules) else { panic!("a stale write went through") };
    assert_eq!(texts, ["DRAWBRIDGE_STALE_GENERATION", "7", "8"]);
    assert_eq!(dom0.started().len(), before);
    dom0.restore(8, rules).reply();
    dom0.restore(u64::MAX, rules).reply();
    assert_eq!(dom0.restore(9, rules).code(), "DRAWBRIDGE_STALE_GENERATION");
}

/// Otherwise an older writer could still write between a newer one's read and its write, which would then be made to
/// something it has never seen.
#[test]
fn reading_in_order_to_write_refuses_older_writers() {
    let dom0 = Dom0::new();
    let rules = &format!("{RULES}\n");
    let read = |generation: u64| {
        dom0.call(Function::IptablesSave, &[("args", ""), ("generation", &generation.to_string())])
    };
    read(5).reply();
    read(8).reply();
    assert_eq!(dom0.restore(7, rules).code(), "DRAWBRIDGE_STALE_GENERATION");
    assert_eq!(read(7).code(), "DRAWBRIDGE_STALE_GENERATION");
    // Who only looks disturbs nobody.
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    dom0.restore(8, rules).reply();
}

#[test]
fn a_trial_does_not_count_as_a_write() {
    let dom0 = Dom0::new();
    let rules = &format!("{RULES}\n");
    let members =
        [("args", "--test"), ("stdin", rules.as_str()), ("stdin_encoding", "plain"), ("generation", "100")];
    dom0.call(Function::IptablesRestore, &members).reply();
    dom0.restore(1, rules).reply();
}

#[test]
fn a_refused_ruleset_is_never_run_for_real() {
    let dom0 = Dom0::new();
    dom0.fake(
        "iptables-restore",
        "case $* in *--test) cat >/dev/null; echo 'line 3 failed' >&2; exit 2 ;; *) cat >/dev/null ;; esac",
    );
    let reply = dom0.restore(1, &format!("{RULES}\n")).reply();
    assert_eq!((reply.exit_code, reply.stderr.as_str()), (2, "line 3 failed\n"));
    assert_eq!(dom0.started(), ["iptables-restore --noflush --wait=10 --test"]);
    assert_eq!(dom0.read("bridge/bridge-nf-call-iptables"), "0\n");
}

/// iptables commits table by table, so that two tables need a trial; one is all or nothing by itself.
#[test]
fn two_tables_are_tried_with_their_content_and_one_without() {
    let both = "*raw\n:dwb-x - [0:0]\nCOMMIT\n*filter\n:dwb-x - [0:0]\nCOMMIT\n";
    for (rules, tried) in [(both, both), (&format!("{RULES}\n"), "")] {
        let dom0 = Dom0::new();
        let dir = dom0.dir.display();
        dom0.fake(
            "iptables-restore",
            &format!("case $* in *--test) cat >{dir}/tried ;; *) cat >{dir}/done ;; esac"),
        );
        dom0.restore(1, rules).reply();
        assert_eq!((dom0.read("tried").as_str(), dom0.read("done").as_str()), (tried, rules));
    }
}

#[test]
fn bridge_netfilter_is_turned_on_only_behind_our_jump() {
    let dom0 = Dom0::new();
    let rules = &format!("{RULES}\n");
    let jump = "-A FORWARD -m physdev --physdev-is-bridged -j dwb-forward";
    let other = "-A FORWARD -j RH-Firewall-1-INPUT";
    for (chain, expected) in [
        (format!("{other}\\n"), "0"),
        (format!("{other}\\n{jump}\\n"), "0"),
        ("-A FORWARD -j dwb-forward\\n".to_owned(), "0"),
        (format!("{jump}\\n{other}\\n"), "1"),
        (format!("{other}\\n"), "1"),
    ] {
        dom0.fake("iptables-save", &format!("printf '*filter\\n:FORWARD ACCEPT [0:0]\\n{chain}COMMIT\\n'"));
        dom0.restore(1, rules).reply();
        assert_eq!(dom0.read("bridge/bridge-nf-call-iptables").trim(), expected, "{chain}");
        let save = dom0.call(Function::IptablesSave, &[("args", "")]).reply();
        assert!(save.stdout.starts_with(&format!("# drawbridge bridge-nf-call={expected}\n*filter\n")));
        assert_eq!(dom0.read("bridge/bridge-nf-call-ip6tables"), "0\n");
    }
    fs::remove_file(dom0.dir.join("bridge/bridge-nf-call-iptables")).unwrap();
    let save = dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    assert!(save.stdout.starts_with("# drawbridge bridge-nf-call=absent\n"), "{}", save.stdout);
}

#[test]
fn a_failed_dump_shows_nothing() {
    let dom0 = Dom0::new();
    dom0.fake("iptables-save", "echo '*filter'; echo 'cannot open' >&2; exit 1");
    let reply = dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    assert_eq!((reply.exit_code, reply.stdout.as_str(), reply.stderr.as_str()), (1, "", "cannot open\n"));
}

#[test]
fn an_upload() {
    let dom0 = Dom0::new();
    dom0.fake("iptables-restore", &format!("cat >{}/got", dom0.dir.display()));
    let calls = staged(&dom0, 1);
    for call in &calls[..calls.len() - 1] {
        let reply = send(&dom0, call).reply();
        assert_eq!((reply.exit_code, reply.stdout.as_str(), reply.stderr.as_str()), (0, "", ""));
    }
    assert!(dom0.started().is_empty());
    send(&dom0, calls.last().unwrap()).reply();
    assert_eq!(dom0.read("got").as_bytes(), large());
    let audit = dom0.audit();
    assert!(
        audit[0].contains(&format!(" part=1/{} ", calls.len())) && audit[0].contains("result=staged"),
        "{audit:?}"
    );

    let again = resigned(&dom0, &calls[0], &[]);
    assert_eq!(send(&dom0, &again).code(), "DRAWBRIDGE_UPLOAD_REUSED");
    // The parts are gone, the memory of the upload is not.
    let folder = fs::read_dir(dom0.dir.join("state/uploads")).unwrap().next().unwrap().unwrap().path();
    let mut left: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["done", "head"]);
}

#[test]
fn uploads_that_go_wrong() {
    let dom0 = Dom0::new();
    let calls = staged(&dom0, 1);
    let last = calls.len() - 1;
    send(&dom0, &calls[0]).reply();
    assert_eq!(send(&dom0, &calls[0]).code(), "DRAWBRIDGE_REPLAYED");
    assert_eq!(send(&dom0, &resigned(&dom0, &calls[0], &[])).code(), "DRAWBRIDGE_UPLOAD_REUSED");
    for change in [("generation", "2"), ("args", "--test"), ("parts", "9"), ("family", "ipv6")] {
        assert_eq!(send(&dom0, &resigned(&dom0, &calls[1], &[change])).code(), "DRAWBRIDGE_UPLOAD_MISMATCH");
    }
    if last > 1 {
        assert_eq!(send(&dom0, &resigned(&dom0, &calls[last], &[])).code(), "DRAWBRIDGE_PART_MISSING");
    }
    for call in &calls[1..last] {
        send(&dom0, call).reply();
    }
    let spoilt = resigned(&dom0, &calls[last], &[("stdin", "AAAA")]);
    assert_eq!(send(&dom0, &spoilt).code(), "DRAWBRIDGE_BAD_HASH");
    assert_eq!(send(&dom0, &resigned(&dom0, &calls[last], &[])).code(), "DRAWBRIDGE_UPLOAD_REUSED");
    assert!(dom0.started().is_empty());
}

#[test]
fn an_upload_belongs_to_its_key() {
    let dom0 = Dom0::new();
    let (other, line) = signer();
    dom0.write("etc/authorized_keys", &format!("{}{line}\n", dom0.read("etc/authorized_keys")));
    let calls = staged(&dom0, 1);
    send(&dom0, &calls[0]).reply();
    let mut theirs = calls[1].clone();
    other.sign(HOST_UUID, Function::IptablesRestore, &mut theirs, now(), nonce());
    assert_eq!(send(&dom0, &theirs).code(), "DRAWBRIDGE_PART_MISSING");
}

#[test]
fn uploads_expire_and_are_forgotten() {
    let dom0 = Dom0::new();
    let calls = staged(&dom0, 1);
    send(&dom0, &calls[0]).reply();
    let folder = fs::read_dir(dom0.dir.join("state/uploads")).unwrap().next().unwrap().unwrap().path();
    let age = |seconds: u64| {
        let head = fs::read_to_string(folder.join("head")).unwrap();
        let (_, common) = head.split_once('\n').unwrap();
        fs::write(folder.join("head"), format!("{}\n{common}", now() - seconds)).unwrap();
    };
    age(200);
    assert_eq!(send(&dom0, &resigned(&dom0, &calls[1], &[])).code(), "DRAWBRIDGE_UPLOAD_EXPIRED");
    assert!(!folder.join("part-1").exists());
    age(2000);
    assert_eq!(send(&dom0, &resigned(&dom0, &calls[1], &[])).code(), "DRAWBRIDGE_PART_MISSING");
    assert!(!folder.exists());
}

/// Drivers that were killed in the middle of their uploads, or write much and often, kept the next one waiting until these expired.
#[test]
fn of_many_uploads_the_next_takes_the_place_of_another() {
    let dom0 = Dom0::new();
    let calls = staged(&dom0, 1);
    let part = |upload: &str, part: &str| {
        let upload = format!("{upload:0>32}");
        let changes = [("upload", upload.as_str()), ("part", part), ("parts", "2"), ("stdin", "x")];
        send(&dom0, &resigned(&dom0, &calls[0], &changes))
    };
    let most = drawbridge_wire::limits::UPLOADS;
    let folders = || fs::read_dir(dom0.dir.join("state/uploads")).unwrap().count();
    part("be", "1").reply();
    for n in 0..2 * most {
        part(&format!("d{n}"), "1").reply();
        assert_eq!(part(&format!("d{n}"), "2").code(), "DRAWBRIDGE_BAD_HASH");
    }
    assert_eq!(folders(), most);
    // The one that is not done stayed.
    assert_eq!(part("be", "2").code(), "DRAWBRIDGE_BAD_HASH");
    (0..2 * most).for_each(|n| drop(part(&format!("e{n}"), "1").reply()));
    assert_eq!(folders(), most);
}

#[test]
fn the_state_directory_must_be_roots_alone() {
    let dom0 = Dom0::new();
    let elsewhere = dom0.dir.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    set_mode(&elsewhere, 0o700);
    let state = &dom0.paths.state;
    let refused =
        || assert_eq!(dom0.call(Function::IptablesSave, &[("args", "")]).code(), "DRAWBRIDGE_UNSAFE_STATE");
    symlink(&elsewhere, state).unwrap();
    refused();
    fs::remove_file(state).unwrap();
    fs::write(state, "").unwrap();
    refused();
    fs::remove_file(state).unwrap();
    fs::create_dir(state).unwrap();
    set_mode(state, 0o755);
    refused();
    set_mode(state, 0o700);
    std::os::unix::fs::chown(state, Some(65_534), None).unwrap();
    refused();
    std::os::unix::fs::chown(state, Some(0), None).unwrap();
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
}

#[test]
fn files_of_others_are_not_believed() {
    for file in ["authorized_keys", "xensource-inventory"] {
        let dom0 = Dom0::new();
        std::os::unix::fs::chown(dom0.dir.join("etc").join(file), Some(65_534), None).unwrap();
        assert_eq!(
            dom0.call(Function::IptablesSave, &[("args", "")]).code(),
            "DRAWBRIDGE_UNSAFE_FILE",
            "{file}"
        );
    }
}

#[test]
fn writes_wait_for_each_other_with_a_bound() {
    let dom0 = Dom0::new();
    dom0.write("etc/dom0.toml", "lock_seconds = 1\n");
    let rules = format!("{RULES}\n");
    dom0.restore(1, &rules).reply();
    let held = fs::File::open(dom0.dir.join("state/lock")).unwrap();
    held.lock().unwrap();
    let started = Instant::now();
    assert_eq!(dom0.restore(1, &rules).code(), "DRAWBRIDGE_BUSY");
    assert!(started.elapsed() >= Duration::from_secs(1));
    // Reads do not wait.
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            held.unlock().unwrap();
        });
        dom0.restore(1, &rules).reply();
    });
}

#[test]
fn a_program_that_cannot_wait_is_waited_for() {
    let dom0 = Dom0::new();
    dom0.write("etc/dom0.toml", "lock_seconds = 1\n");
    dom0.fake(
        "iptables-restore",
        "cat >/dev/null; case $* in *--wait*) echo \"unrecognized option '--wait=1'\" >&2 ;; esac",
    );
    let held = fs::File::create(&dom0.paths.xtables_lock).unwrap();
    held.lock().unwrap();
    let rules = format!("{RULES}\n");
    assert_eq!(dom0.restore(1, &rules).code(), "DRAWBRIDGE_BUSY");
    assert_eq!(dom0.started(), ["iptables-restore --noflush --wait=1 --test"]);
    held.unlock().unwrap();
    dom0.restore(1, &rules).reply();
}

#[test]
fn a_hanging_program_takes_its_children_along() {
    let dom0 = Dom0::new();
    dom0.write("etc/dom0.toml", "program_seconds = 1\n");
    dom0.fake("ovs-vsctl", &format!("sleep 300 & echo $! >{}/child; wait", dom0.dir.display()));
    assert_eq!(dom0.call(Function::OvsVsctl, &[("args", "list-br")]).code(), "DRAWBRIDGE_PROGRAM_TIMEOUT");
    let child = dom0.read("child");
    let gone = || {
        fs::read_to_string(format!("/proc/{}/stat", child.trim())).map_or(true, |stat| stat.contains(") Z "))
    };
    let deadline = Instant::now() + Duration::from_secs(2);
    while !gone() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    assert!(gone(), "process {child} still runs");
}

#[test]
fn a_daemon_that_keeps_the_output_open_is_not_waited_for() {
    let dom0 = Dom0::new();
    dom0.fake("ovs-vsctl", "echo xenbr0; sleep 20 &");
    let started = Instant::now();
    let reply = dom0.call(Function::OvsVsctl, &[("args", "list-br")]).reply();
    assert_eq!(reply.stdout, "xenbr0\n");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn input_and_output_larger_than_any_pipe() {
    let dom0 = Dom0::new();
    // A write is answered with what is read after it.
    dom0.write("flows", "");
    let flows_there = dom0.dir.join("flows");
    let flows_there = flows_there.display();
    dom0.fake(
        "ovs-ofctl",
        &format!("case $* in *dump-flows*) exec cat {flows_there} ;; *) exec cat >{flows_there} ;; esac"),
    );
    let line =
        "cookie=0x4457427200000002,table=60,priority=50,tcp,reg6=0x1,tp_dst=80,actions=resubmit(,61)\n";
    let flows = line.repeat(20_000);
    let invocation = Invocation {
        function: Function::OvsOfctl,
        args: ["add-flows", "xenbr0", "-"].map(str::to_owned).to_vec(),
        family: Family::Ipv4,
        stdin: Some(flows.clone().into_bytes()),
        generation: Some(1),
    };
    let calls = signed_calls(&invocation, &dom0.signer, HOST_UUID, now()).unwrap();
    let reply = dom0.serve(&document("ovs-ofctl", &calls[0])).reply();
    assert_eq!(reply.stdout, flows);
}

#[test]
fn a_write_whose_flows_cannot_be_read_back_says_so() {
    let dom0 = Dom0::new();
    dom0.fake(
        "ovs-ofctl",
        "case $* in *dump-flows*cookie*) exit 1 ;; *dump-flows*) ;; *) cat >/dev/null ;; esac",
    );
    let members = [
        ("args", "add-flows xenbr0 -"),
        ("stdin", "cookie=0x4457427200000001,table=60,actions=drop\n"),
        ("stdin_encoding", "plain"),
        ("generation", "1"),
    ];
    let Answer::Failure(said) = dom0.call(Function::OvsOfctl, &members) else {
        panic!("taken for a success")
    };
    assert_eq!(said[0], "DRAWBRIDGE_OUTPUT_UNPARSABLE");
}

#[test]
fn a_program_that_reads_nothing_is_no_error() {
    let dom0 = Dom0::new();
    dom0.fake("ovs-ofctl", "exit 3");
    let flows = "cookie=0x4457427200000001,table=60,actions=drop\n".repeat(20_000);
    let members = [
        ("args", "add-flows xenbr0 -"),
        ("stdin", &*flows),
        ("stdin_encoding", "plain"),
        ("generation", "1"),
    ];
    // Larger than argv, but the library takes it: only argv itself is bounded.
    let mut call = arguments(&members);
    call.insert("stdin".to_owned(), drawbridge_wire::payload::compress(flows.as_bytes()));
    call.insert("stdin_encoding".to_owned(), "zlib+base64".to_owned());
    dom0.signer.sign(HOST_UUID, Function::OvsOfctl, &mut call, now(), nonce());
    assert_eq!(dom0.serve(&document("ovs-ofctl", &call)).reply().exit_code, 3);
}
