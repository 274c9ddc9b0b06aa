//! Uploads: parts that only mean something together.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;

use drawbridge_wire::{Family, Function, Invocation, signed_calls};
use support::{Answer, Dom0, HOST_UUID, arguments, document, nonce, now, signer};

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

/// One key's uploads took the places of all others'.
#[test]
fn one_keys_uploads_take_no_place_of_anothers() {
    let dom0 = Dom0::new();
    let other = dom0.second_signer();
    let calls = staged(&dom0, 1);
    let mut theirs = calls[0].clone();
    theirs.extend(arguments(&[("parts", "2"), ("stdin", "x")]));
    let part = |number: &str| {
        let mut call = theirs.clone();
        call.extend(arguments(&[("part", number)]));
        other.sign(HOST_UUID, Function::IptablesRestore, &mut call, now(), nonce());
        send(&dom0, &call)
    };
    part("1").reply();
    for n in 0..2 * drawbridge_wire::limits::UPLOADS {
        let upload = format!("{n:0>32}");
        let changes = [("upload", upload.as_str()), ("part", "1"), ("parts", "64"), ("stdin", "x")];
        send(&dom0, &resigned(&dom0, &calls[0], &changes)).reply();
    }
    // Still there: the parts are joined, and are not what was announced.
    assert_eq!(part("2").code(), "DRAWBRIDGE_BAD_HASH");
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
