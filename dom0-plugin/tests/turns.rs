//! Calls at the same time: who waits for whom.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::ffi::OsString;
use std::thread;
use std::time::{Duration, Instant};

use drawbridge_wire::{Family, Function, Invocation, signed_calls};
use support::{Answer, Dom0, HOST_UUID, document, now};

const RULES: &str = "*filter\n:dwb-x - [0:0]\nCOMMIT\n";

/// Reads (no `stdin`) or writes, as a document.
fn call(dom0: &Dom0, family: Family, stdin: Option<&str>, generation: u64) -> String {
    let function = if stdin.is_some() { Function::IptablesRestore } else { Function::IptablesSave };
    let invocation = Invocation {
        function,
        args: vec![],
        family,
        stdin: stdin.map(|text| text.as_bytes().to_vec()),
        generation: Some(generation),
    };
    document(function.as_str(), &signed_calls(&invocation, &dom0.signer, HOST_UUID, now()).unwrap()[0])
}

/// A dom0 whose programs take half a second, and say when they begin and end.
fn slow() -> Dom0 {
    let dom0 = Dom0::new();
    // Somebody has written since the boot: what stands, in short, is known.
    for family in ["ipv4", "ipv6"] {
        let members = [
            ("args", ""),
            ("stdin", RULES),
            ("stdin_encoding", "plain"),
            ("generation", "1"),
            ("family", family),
        ];
        dom0.call(Function::IptablesRestore, &members).reply();
    }
    let log = dom0.dir.join("said");
    for family in ["iptables", "ip6tables"] {
        let around = |name: &str, does: &str| {
            let log = log.display();
            format!("echo '{name} begins' >>{log}; sleep 0.5; echo '{name} ends' >>{log}; {does}")
        };
        let dump = "printf '*filter\\n:INPUT ACCEPT [0:0]\\nCOMMIT\\n'";
        dom0.fake(&format!("{family}-save"), &around("read", dump));
        dom0.fake(&format!("{family}-restore"), &around("write", "cat >/dev/null"));
    }
    dom0
}

/// Makes calls, each a moment after the one before. How long all took, and what they answered.
fn together(dom0: &Dom0, documents: Vec<String>) -> (Duration, Vec<Answer>) {
    let (started, paths) = (Instant::now(), &dom0.paths);
    let answers = thread::scope(|scope| {
        let running: Vec<_> = documents
            .into_iter()
            .map(|document| {
                let argv: [OsString; 2] = ["drawbridge".into(), document.into()];
                let running = scope.spawn(move || dom0_plugin::serve(argv.into_iter(), paths));
                thread::sleep(Duration::from_millis(150));
                running
            })
            .collect();
        running.into_iter().map(|running| Answer::read(&running.join().unwrap())).collect()
    });
    (started.elapsed(), answers)
}

/// A driver reads both families at a time, with one generation; and another may do so, too.
#[test]
fn reads_do_not_wait_for_each_other() {
    let dom0 = slow();
    let reads = [(Family::Ipv4, 5), (Family::Ipv6, 5), (Family::Ipv4, 6)];
    let documents = reads.map(|(family, generation)| call(&dom0, family, None, generation));
    let (took, answers) = together(&dom0, documents.into());
    answers.into_iter().for_each(|answer| assert_eq!(answer.reply().exit_code, 0));
    assert!(took < Duration::from_millis(1400), "{took:?}");
    assert!(dom0.read("said").starts_with("read begins\nread begins\n"), "{}", dom0.read("said"));
}

/// Otherwise the reader would not see what the older writer is about to write, and nobody would be refused.
#[test]
fn a_read_in_order_to_write_waits_for_the_write_that_runs() {
    let dom0 = slow();
    let documents = vec![call(&dom0, Family::Ipv4, Some(RULES), 5), call(&dom0, Family::Ipv4, None, 6)];
    let (_, answers) = together(&dom0, documents);
    answers.into_iter().for_each(|answer| assert_eq!(answer.reply().exit_code, 0));
    // The trial, the run, what stands after it; then the other call.
    let log = "write begins\nwrite ends\nwrite begins\nwrite ends\nread begins\nread ends\nread begins\nread ends\n";
    assert_eq!(dom0.read("said"), log);
}

#[test]
fn an_older_write_waits_for_a_read_and_is_refused() {
    let dom0 = slow();
    let documents = vec![call(&dom0, Family::Ipv4, None, 6), call(&dom0, Family::Ipv4, Some(RULES), 5)];
    let (_, mut answers) = together(&dom0, documents);
    assert_eq!(answers.pop().unwrap().code(), "DRAWBRIDGE_STALE_GENERATION");
    assert_eq!(dom0.read("said"), "read begins\nread ends\n");
}

/// Reads that overlap for ever would keep a writer waiting for ever.
#[test]
fn reads_that_come_after_a_write_wait_for_it() {
    let dom0 = slow();
    let read = |generation| call(&dom0, Family::Ipv6, None, generation);
    let documents = vec![read(5), call(&dom0, Family::Ipv4, Some(RULES), 5), read(5)];
    let (_, answers) = together(&dom0, documents);
    answers.into_iter().for_each(|answer| assert_eq!(answer.reply().exit_code, 0));
    assert!(dom0.read("said").starts_with("read begins\nread ends\nwrite begins\n"), "{}", dom0.read("said"));
}

/// Six with large input at a time took 1.5 GiB.
#[test]
fn only_so_many_calls_have_room_at_a_time() {
    let dom0 = Dom0::new();
    dom0.write("etc/dom0.toml", "lock_seconds = 1\n");
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    let hold = |place: String| {
        let held = std::fs::File::create(dom0.paths.state.join(place)).unwrap();
        held.lock().unwrap();
        held
    };
    let writers = drawbridge_wire::limits::WRITERS_AT_ONCE;
    let held: Vec<_> = (1..=writers).map(|n| hold(format!("room-with-input-{n}"))).collect();
    assert_eq!(dom0.restore(1, RULES).code(), "DRAWBRIDGE_BUSY");
    // Those without input have room of their own.
    dom0.call(Function::IptablesSave, &[("args", "")]).reply();
    held[writers - 1].unlock().unwrap();
    dom0.restore(1, RULES).reply();
    let readers = drawbridge_wire::limits::READERS_AT_ONCE;
    let _held: Vec<_> = (1..=readers).map(|n| hold(format!("room-{n}"))).collect();
    assert_eq!(dom0.call(Function::IptablesSave, &[("args", "")]).code(), "DRAWBRIDGE_BUSY");
}
