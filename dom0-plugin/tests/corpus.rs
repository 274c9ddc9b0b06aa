//! The corpus: one file per call that must be refused (`reject/`) or let through (`accept/`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use drawbridge_wire::{Code, Family, Function, payload};
use support::case::{Case, load};
use support::{Answer, Dom0, HOST_UUID, arguments, document, nonce, now, signer};

/// The call of a case, signed unless it says otherwise, made once.
fn make(dom0: &Dom0, case: &Case) -> Answer {
    if let Some(document) = &case.document {
        return dom0.serve(&document.replace("{SESSION}", support::SESSION));
    }
    let function = case.get("function").unwrap_or("iptables-restore");
    let mut members = members(case);
    let (stranger, _) = signer();
    let signer = if case.get("signer") == Some("stranger") { &stranger } else { &dom0.signer };
    let host = case.get("host").unwrap_or(HOST_UUID);
    let skew: i64 = case.get("skew").map_or(0, |text| text.parse().unwrap());
    if case.get("signer") != Some("nobody") {
        // An unknown function cannot be signed for; the refusal comes before the signature is looked at.
        let signed_as = function.parse().unwrap_or(Function::IptablesSave);
        signer.sign(host, signed_as, &mut members, now().saturating_add_signed(skew), nonce());
    }
    for change in case.all("after-signing") {
        let (key, value) = change.split_once('=').unwrap();
        members.insert(key.to_owned(), value.to_owned());
    }
    dom0.serve(&document(function, &members))
}

fn members(case: &Case) -> BTreeMap<String, String> {
    let mut members = arguments(&[]);
    for key in [
        "args",
        "family",
        "generation",
        "accept",
        "upload",
        "part",
        "parts",
        "sha256",
        "stdin_encoding",
        "stdin",
    ] {
        if let Some(value) = case.get(key) {
            members.insert(key.to_owned(), value.to_owned());
        }
    }
    for member in case.all("member") {
        let (key, value) = member.split_once('=').unwrap();
        members.insert(key.to_owned(), value.to_owned());
    }
    if !members.contains_key("args") && case.get("no-args").is_none() {
        members.insert("args".to_owned(), String::new());
    }
    let many = |key, byte| case.get(key).map(|count| vec![byte; count.parse().unwrap()]);
    let many = many("zeros", 0).or_else(|| many("newlines", b'\n'));
    if let Some(stdin) = many.as_ref().or(case.stdin.as_ref()) {
        members.insert("stdin".to_owned(), payload::compress(stdin));
        members.insert("stdin_encoding".to_owned(), "zlib+base64".to_owned());
    }
    members
}

/// Brings dom0 into the state a case is about.
fn prepare(dom0: &Dom0, case: &Case) {
    for file in case.all("file") {
        let (name, text) = file.split_once('=').unwrap();
        dom0.write(name, text);
    }
    for mode in case.all("mode") {
        let (name, mode) = mode.split_once('=').unwrap();
        support::set_mode(&dom0.dir.join(name), u32::from_str_radix(mode, 8).unwrap());
    }
    for fake in case.all("program") {
        let (name, script) = fake.split_once('=').unwrap();
        dom0.write("raw", &support::boundary(Family::Ipv4));
        let boundary = format!("cat {}/raw;", dom0.dir.display());
        dom0.fake(name, &script.replace("{BOUNDARY}", &boundary));
    }
    for gone in case.all("without") {
        std::fs::remove_file(dom0.dir.join(gone)).unwrap();
    }
}

/// Whether the switch was looked at in order to write.
fn is_look(started: &str) -> bool {
    started.starts_with("ovs-vsctl --format=csv")
}

#[test]
fn rejected() {
    let mut failures = Vec::new();
    for (name, case) in load("reject") {
        let dom0 = Dom0::new();
        prepare(&dom0, &case);
        let answer = make(&dom0, &case);
        let expected = case.get("code").unwrap_or_else(|| panic!("{name}: no code"));
        assert!(expected.parse::<Code>().is_ok(), "{name}: {expected} is not a code");
        let Answer::Failure(texts) = answer else {
            failures.push(format!("{name}: was let through: {answer:?}"));
            continue;
        };
        if texts[0] != expected {
            failures.push(format!("{name}: expected {expected}, got {texts:?}"));
        }
        let detail = texts[1..].join(": ");
        for wanted in case.all("detail") {
            if !detail.contains(wanted) {
                failures.push(format!("{name}: {wanted:?} is not in {detail:?}"));
            }
        }
        // Nothing was run that could have changed something, unless the case is about a program that misbehaves.
        let started = dom0.started();
        if case.get("program").is_none()
            && !started.iter().all(|line| line.starts_with("ovs-vsctl br-exists") || is_look(line))
        {
            failures.push(format!("{name}: started {started:?}"));
        }
        assert!(!dom0.dir.join("state/generation").exists() || case.get("program").is_some(), "{name}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn accepted() {
    let mut failures = Vec::new();
    for (name, case) in load("accept") {
        let dom0 = Dom0::new();
        prepare(&dom0, &case);
        match make(&dom0, &case) {
            Answer::Success(reply) if reply.exit_code == 0 => {
                let started = dom0.started();
                if started != case.all("runs") {
                    failures.push(format!("{name}: started {started:?}"));
                }
            }
            other => failures.push(format!("{name}: {other:?}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
