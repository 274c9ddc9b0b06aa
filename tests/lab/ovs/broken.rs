//! What can be wrong with a switch: the message says what and where, nothing is changed by guess.

use anyhow::{Result, ensure};
use e2e::lab::{Backend, Lab, Run};
use e2e::probe::{Expectation, check};
use e2e::scenario::{POLICY, expectations, pool};

fn start() -> Result<Lab> {
    let lab = pool(Backend::OpenVSwitch).start()?;
    lab.apply()?.success()?;
    Ok(lab)
}

/// `host1` failed and says all of these words; the others are well.
#[track_caller]
fn assert_host1_says(run: &Run, words: &[&str]) -> Result<()> {
    assert_eq!(run.failed()?, ["host1"], "{}", run.stdout);
    let hosts = run.json()?["hosts"].as_array().cloned().unwrap_or_default();
    let error = hosts.iter().find(|host| host["host"] == "host1").map(|host| host["error"].to_string());
    let error = error.unwrap_or_default();
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    Ok(())
}

/// Puts `script` in the place of a program of dom0's; `@@` in it is where the program itself now is.
fn replace(lab: &Lab, program: &str, script: &str) -> Result<()> {
    let (path, real) = (format!("/usr/bin/{program}"), format!("/usr/bin/{program}.real"));
    lab.dom0_program("host1", "cp", &["-L", &path, &real], b"")?;
    lab.host("host1")?.remove(&path)?;
    lab.host("host1")?.write(
        &path,
        0o755,
        format!("#!/bin/sh\n{}", script.replace("@@", &real)).as_bytes(),
    )?;
    Ok(())
}

fn restore(lab: &Lab, program: &str) -> Result<()> {
    let (path, real) = (format!("/usr/bin/{program}"), format!("/usr/bin/{program}.real"));
    lab.dom0_program("host1", "cp", &[&real, &path], b"").map(drop)
}

fn edited(lab: &Lab) -> Result<()> {
    lab.set_policy(&POLICY.replace("ports = 80", "ports = 81"))
}

/// What does not touch a guest of `host1`, and so holds under the edited policy as under the other.
fn well(lab: &Lab) -> Result<()> {
    lab.set_policy(POLICY)?;
    lab.apply()?.success()?;
    let all: Vec<Expectation> = expectations(lab)?;
    check(all);
    Ok(())
}

/// A newer Open vSwitch shows something we do not know: an error, never "no flows".
#[test]
fn flows_that_cannot_be_read() -> Result<()> {
    let lab = start()?;
    let before = lab.rules("host1")?;
    for (find, put) in [("table=60,", "table=60, hue=mauve,"), ("actions=", "actions=teleport,")] {
        replace(&lab, "ovs-ofctl", &format!("@@ \"$@\" | sed 's/{find}/{put}/'"))?;
        edited(&lab)?;
        let word =
            put.split(['=', ',']).find(|word| ["hue", "teleport"].contains(&word.trim())).unwrap_or(put);
        assert_host1_says(&lab.apply()?, &["xenbr0", word.trim()])?;
        restore(&lab, "ovs-ofctl")?;
        ensure!(
            lab.rules("host1")? == before,
            "something was written on the strength of what could not be read"
        );
    }
    well(&lab)
}

/// A dump that ends before its end, or says nothing at all and succeeds.
#[test]
fn a_dump_that_was_cut() -> Result<()> {
    let lab = start()?;
    let before = lab.rules("host1")?;
    replace(&lab, "ovs-ofctl", "case \"$*\" in *dump-flows*) exit 0;; esac\nexec @@ \"$@\"")?;
    edited(&lab)?;
    lab.apply()?;
    restore(&lab, "ovs-ofctl")?;
    // What it wrote then, it wrote as changes to nothing; nothing got more open, and the next run puts it right.
    ensure!(!before.is_empty());
    well(&lab)
}

/// The database holds what nobody expects.
#[test]
fn a_database_that_cannot_be_read() -> Result<()> {
    let lab = start()?;
    let before = lab.rules("host1")?;
    for edit in ["s/\\[\"uuid\"/[\"guid\"/g", "s/\"headings\"/\"footings\"/", "s/}$//"] {
        replace(&lab, "ovs-vsctl", &format!("@@ \"$@\" | sed '{edit}'"))?;
        edited(&lab)?;
        assert_host1_says(&lab.apply()?, &["ovs-vsctl"])?;
        restore(&lab, "ovs-vsctl")?;
        ensure!(lab.rules("host1")? == before, "{edit}: something was written");
    }
    well(&lab)
}

/// The bridge of a network is gone with all its ports; it is made again, and the next run repairs.
#[test]
fn a_bridge_that_is_gone() -> Result<()> {
    let lab = pool(Backend::OpenVSwitch).network("spare").start()?;
    lab.apply()?.success()?;
    // Nobody is on it: nothing to say.
    lab.ovs_vsctl("host1", &["del-br", "xenbr1"])?;
    lab.apply()?.success()?;
    lab.ovs_vsctl("host1", &["del-br", "xenbr0"])?;
    let vif = lab.vif_names("web1")?.concat();
    let run = lab.apply()?;
    ensure!(!run.status.success(), "{}", run.stdout);
    ensure!(run.stdout.contains(&vif) || run.stdout.contains("xenbr0"), "{}", run.stdout);
    Ok(())
}

/// A VIF whose port the switch has not taken: reported by name, everybody else has their flows.
#[test]
fn a_port_without_a_number() -> Result<()> {
    let lab = start()?;
    let vif = lab.vif_names("db")?.concat();
    // Of a kind that the switch cannot make.
    lab.ovs_vsctl("host1", &["--no-wait", "set", "Interface", &vif, "type=gre"])?;
    lab.ovs_vsctl("host1", &["--timeout=5", "wait-until", "Interface", &vif, "ofport=-1"])?;
    let run = lab.apply()?;
    ensure!(!run.status.success() && run.stdout.contains(&vif), "{}", run.stdout);
    let web = lab.guest("web1")?;
    check(e2e::station::Family::BOTH.map(|family| lab.outside().tcp(&web, 80, family).passes()));
    check(e2e::station::Family::BOTH.map(|family| lab.outside().tcp(&web, 22, family).blocked()));
    lab.ovs_vsctl("host1", &["--no-wait", "set", "Interface", &vif, "type=\"\""])?;
    lab.ovs_vsctl("host1", &["--timeout=5", "wait-until", "Interface", &vif, "ofport>0"])?;
    lab.apply()?.success()?;
    check(expectations(&lab)?);
    Ok(())
}
