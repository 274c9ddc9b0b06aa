//! The program as an administrator meets it.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use e2e::lab::{Iptables, Lab};
use e2e::probe::check;
use e2e::scenario::{expectations, pool};
use e2e::station::Family;

use crate::on_each;

fn start() -> Result<Lab> {
    pool(Iptables::Nft).start()
}

/// A plan names every change and makes none.
#[test]
fn a_plan_changes_nothing() -> Result<()> {
    let lab = start()?;
    // Without the comments, which tell the time.
    let rules = || -> Result<Vec<String>> {
        let saved = lab.iptables_save("host1", Family::V4)?;
        Ok(saved.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect())
    };
    let before = rules()?;
    let plan = lab.plan()?.success()?;
    ensure!(plan.changed()? == ["host1", "host2"], "{}", plan.stdout);
    ensure!(
        plan.stdout.contains("locking_mode locked"),
        "the VIFs' locking is not in the plan: {}",
        plan.stdout
    );
    ensure!(rules()? == before, "a plan wrote rules");
    ensure!(
        lab.writes("host1")? == 0 && lab.vif("web1", 0)?.1.ipv4_allowed.is_empty(),
        "a plan changed something"
    );
    // What was planned is what is done.
    let apply = lab.apply()?.success()?;
    ensure!(
        plan.json()?["hosts"][0]["changes"] == apply.json()?["hosts"][0]["changes"],
        "another plan was carried out"
    );
    Ok(())
}

/// For people: hosts by name, one line each; nothing on stderr where no terminal is.
#[test]
fn words_for_people() -> Result<()> {
    let lab = start()?;
    let run = lab.for_people(&["apply"])?.success()?;
    ensure!(run.stdout.lines().any(|line| line.starts_with("host1: changed, 2 ports")), "{}", run.stdout);
    ensure!(run.stderr.is_empty(), "progress where nobody looks: {}", run.stderr);
    ensure!(!run.stdout.contains('\u{1b}'), "colour in a file: {:?}", run.stdout);
    let again = lab.for_people(&["apply"])?.success()?;
    ensure!(again.stdout.lines().any(|line| line.starts_with("host1: unchanged")), "{}", again.stdout);
    Ok(())
}

/// A key made by the program opens dom0 once its line stands there, and closes it for the old one.
#[test]
fn a_new_key() -> Result<()> {
    let lab = start()?;
    let key = lab.private_key();
    std::fs::remove_file(&key)?;
    let out = key.to_str().context("the path is not UTF-8")?;
    let line = lab.drawbridge(&["keygen", "--out", out])?.success()?.stdout;
    ensure!(std::fs::metadata(&key)?.permissions().mode() & 0o777 == 0o600, "others can read the key");
    ensure!(!lab.drawbridge(&["keygen", "--out", out])?.status.success(), "a key was written over");
    let run = lab.apply()?;
    ensure!(
        run.failed()? == ["host1", "host2"] && run.stdout.contains("DRAWBRIDGE_UNKNOWN_SIGNER"),
        "{}",
        run.stdout
    );
    for host in ["host1", "host2"] {
        lab.host(host)?.write("/etc/drawbridge/authorized_keys", 0o600, line.as_bytes())?;
    }
    lab.apply()?.success()?;
    check(expectations(&lab)?);
    Ok(())
}

/// One call by hand: what dom0 says, cut to what is ours; what the plugin refuses, with its code.
#[test]
fn a_call_by_hand() -> Result<()> {
    let lab = start()?;
    lab.apply()?.success()?;
    let run = lab.drawbridge(&["call", "host1", "iptables-save", "--", "-t", "filter"])?.success()?;
    ensure!(
        run.stdout.contains("\n-I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-forward\n"),
        "{}",
        run.stdout
    );
    ensure!(
        run.stdout.starts_with("# drawbridge bridge-nf-call=1\n") && !run.stdout.contains("boundary="),
        "{}",
        run.stdout
    );
    ensure!(!run.stdout.contains("RH-Firewall"), "dom0's own rules left dom0: {}", run.stdout);
    let six = lab.drawbridge(&["call", "host1", "iptables-save", "--family", "ipv6"])?.success()?;
    ensure!(six.stdout.contains("fd20::b/128") && !six.stdout.contains("10.20.0.11"), "{}", six.stdout);
    for args in [&["-t", "nat"][..], &["--modprobe=/bin/true"], &["-f", "/etc/shadow"]] {
        let run = lab.drawbridge(&[&["call", "host1", "iptables-save", "--"], args].concat())?.failure()?;
        let said = run.stdout + &run.stderr;
        ensure!(said.contains("DRAWBRIDGE_ARGUMENT_REFUSED"), "{args:?}: {said}");
    }
    Ok(())
}

/// One guest's hook is no worse for what is wrong elsewhere: a compute driver would take it for its own guest's.
#[test]
fn a_hook_answers_for_its_own_guest() -> Result<()> {
    let lab = start()?;
    lab.apply()?.success()?;
    let ghost = "\n[[port]]\nvm = \"ghost\"\ndevice = 0\ngroups = [\"web\"]\n";
    lab.set_policy(&format!("{}{ghost}", e2e::scenario::POLICY))?;
    lab.clean_reboot("web1")?;
    let run = lab.hook("reboot", "web1")?.success()?;
    ensure!(run.stdout.contains("ghost"), "the problem is not even mentioned: {}", run.stdout);
    check(expectations(&lab)?);
    // What is wrong with its own port is its own problem, by whatever name it is called.
    let second = "\n[[port]]\nvm = \"web1\"\ndevice = 7\ngroups = [\"web\"]\n";
    lab.set_policy(&format!("{}{second}", e2e::scenario::POLICY))?;
    let (_, vm) = lab.vm("web1")?;
    for name in ["web1", &vm.uuid.to_string()] {
        let run = lab.hook("reboot", name)?.failure()?;
        ensure!(run.stdout.contains("VIF of this device number"), "{}", run.stdout);
    }
    lab.hook("reboot", "db")?.success()?;
    Ok(())
}

on_each! {
    /// A migration without a daemon: announced, the destination has the rules before the guest is there; when it is over, nothing
    /// of it is left where it was. Called off, nothing is left where it was to go.
    fn a_migration_by_hooks_alone(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        let of_db = |host: &str| -> Result<bool> {
            let own = "10.20.0.12";
            Ok(lab.rules(host)?.iter().any(|rule| rule.contains("dwb-s-") && e2e::lab::mentions(rule, own)))
        };
        let arrives = backend != e2e::lab::Backend::OpenVSwitch;
        for _ in 0..2 {
            lab.pre_migrate("db", "host2")?.success()?;
            ensure!(of_db("host2")? == arrives, "{:#?}", lab.rules("host2")?);
            lab.hook("post-migrate", "db")?.success()?;
            ensure!(!of_db("host2")?, "called off, and still there: {:#?}", lab.rules("host2")?);
        }
        lab.pre_migrate("db", "host2")?.success()?;
        let old = lab.vif_names("db")?;
        lab.migrate("db", "host2")?;
        let (db, outside) = (lab.guest("db")?, lab.outside());
        check(Family::BOTH.into_iter().flat_map(|family| {
            [outside.tcp(&db, 5432, family).blocked(), db.tcp(outside, 80, family).blocked()]
        }));
        lab.hook("post-migrate", "db")?.success()?;
        crate::assert_nothing_of(&lab, "host1", &old)?;
        check(expectations(&lab)?);
    }

    /// What the pool does not have ends a hook in the same way with a daemon and without.
    fn a_hook_about_what_is_not_there(backend) {
        let lab = pool(backend).guest(e2e::lab::Guest::new("idle", "host1", 16).halted()).start()?;
        let daemon = lab.daemon("a")?.start_with(e2e::scenario::POLICY)?;
        for words in [&["create", "nobody"][..], &["create", "idle"], &["host-init", "host9"], &["pre-migrate", "web1", "host9"]] {
            let by_file = lab.for_people(&[&["hook"], words].concat())?;
            let by_daemon = daemon.drawbridge(&[&["hook"], words].concat())?;
            ensure!(by_file.status.code() == Some(2) && by_daemon.status.code() == Some(2), "{by_file:?} {by_daemon:?}");
            ensure!(by_file.stderr == by_daemon.stderr && !by_file.stderr.is_empty(), "{by_file:?} {by_daemon:?}");
        }
    }
}
