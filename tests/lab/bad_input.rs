//! What can be wrong outside our code: the file, the password, the certificate, one host of many. The message says
//! what and where, nothing is changed by guess, and the other hosts still get their rules.

use anyhow::{Result, ensure};
use e2e::lab::{Backend, Lab, Run};
use e2e::probe::{Expectation, check};
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;
use xapi_mock::faults::{Fault, HostState, PluginFault};

use crate::on_bridge_and_ovs;

/// A plugin of another release: it answers, in a version nobody here speaks.
const FOREIGN_PLUGIN: &str = r#"#!/bin/sh
echo '<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member><member>\
<name>Value</name><value>{"version":"99.0.0","exit_code":0,"stdout":"","stderr":"","encoding":"plain"}</value></member>\
</struct></value></param></params></methodResponse>'
"#;

fn start(backend: Backend) -> Result<Lab> {
    pool(backend).start()
}

/// What must hold on `host1` when `host2` got nothing: everything that does not touch a guest there.
fn on_host1(lab: &Lab) -> Result<Vec<Expectation>> {
    let elsewhere = ["web2", "plain"];
    let mut all = expectations(lab)?;
    all.retain(|one| !elsewhere.contains(&one.probe.to.name.as_str()));
    ensure!(all.len() > 20);
    Ok(all)
}

/// The run failed, and says all of these words.
#[track_caller]
fn assert_says(run: &Run, words: &[&str]) {
    assert!(!run.status.success(), "it should have failed:\n{}", run.stdout);
    for word in words {
        assert!(
            run.stdout.contains(word) || run.stderr.contains(word),
            "no {word:?} in:\n{}\n{}",
            run.stdout,
            run.stderr
        );
    }
}

/// No host's plugin was called: what was wrong showed before anything was attempted.
#[track_caller]
fn assert_untouched(lab: &Lab) -> Result<()> {
    for host in ["host1", "host2"] {
        let calls = lab.audit(host)?;
        assert!(calls.is_empty(), "{host} was called:\n{}", calls.join("\n"));
    }
    Ok(())
}

on_bridge_and_ovs! {
    fn a_host_without_the_plugin(backend) {
        let lab = pool(backend).without_plugin("host2").start()?;
        let run = lab.apply()?;
        assert_says(&run, &["host2", "plugin"]);
        ensure!(run.failed()? == ["host2"], "{}", run.stdout);
        check(on_host1(&lab)?);
    }

    fn a_plugin_of_another_version(backend) {
        let lab = start(backend)?;
        lab.host("host2")?.write(
            "/etc/xapi.d/plugins/drawbridge",
            0o755,
            FOREIGN_PLUGIN.replace("\\\n", "").as_bytes(),
        )?;
        let run = lab.apply()?;
        assert_says(&run, &["host2", "99.0.0"]);
        ensure!(run.failed()? == ["host2"], "{}", run.stdout);
        check(on_host1(&lab)?);
    }

    fn a_host_that_does_not_know_the_key(backend) {
        let lab = start(backend)?;
        lab.host("host2")?.write("/etc/drawbridge/authorized_keys", 0o600, b"# nobody\n")?;
        let run = lab.apply()?;
        assert_says(&run, &["host2", "DRAWBRIDGE_NO_AUTHORIZED_KEY"]);
        ensure!(run.failed()? == ["host2"], "{}", run.stdout);
        check(on_host1(&lab)?);
    }

    fn a_host_offline(backend) {
        let lab = start(backend)?;
        lab.mock()?.faults().inject(Fault::Host { host: "host2".to_owned(), state: HostState::Offline });
        let run = lab.apply()?;
        assert_says(&run, &["host2", "HOST_OFFLINE"]);
        ensure!(run.failed()? == ["host2"], "{}", run.stdout);
        check(on_host1(&lab)?);
        // It comes back, and the next run brings it up to date.
        lab.mock()?.faults().inject(Fault::Host { host: "host2".to_owned(), state: HostState::Online });
        lab.apply()?.success()?;
        check(expectations(&lab)?);
    }

    fn a_plugin_that_dies(backend) {
        let lab = start(backend)?;
        let fault = Fault::Plugin { host: Some("host2".to_owned()), action: PluginFault::Die, times: 100 };
        lab.mock()?.faults().inject(fault);
        let run = lab.apply()?;
        ensure!(run.failed()? == ["host2"], "{}", run.stdout);
        check(on_host1(&lab)?);
        lab.mock()?.faults().inject(Fault::Clear);
        lab.apply()?.success()?;
        check(expectations(&lab)?);
    }

    /// The toolstack restarted in between: the program logs in again and nobody notices.
    fn lost_sessions(backend) {
        let lab = start(backend)?;
        lab.mock()?.faults().inject(Fault::DropSessions);
        lab.apply()?.success()?;
        check(expectations(&lab)?);
    }

    fn an_unknown_vm(backend) {
        let lab = start(backend)?;
        let port = "\n[[port]]\nvm = \"ghost\"\ndevice = 0\ngroups = [\"web\"]\n";
        lab.set_policy(&format!("{POLICY}{port}"))?;
        let line = (POLICY.lines().count() + 2).to_string();
        assert_says(&lab.apply()?, &["ghost", &line]);
        // Everybody else has their rules all the same.
        check(expectations(&lab)?);
        assert_says(&lab.hook("create", "ghost")?, &["ghost"]);
    }

    fn a_hook_for_a_vm_that_is_not_there(backend) {
        let lab = start(backend)?;
        assert_says(&lab.hook("create", "nobody")?, &["nobody"]);
        assert_says(&lab.hook("host-init", "host9")?, &["host9"]);
        assert_untouched(&lab)?;
    }

    fn a_wrong_password(backend) {
        let lab = start(backend)?;
        lab.set_password("drawbridge")?;
        let run = lab.apply()?;
        assert_says(&run, &["root"]);
        ensure!(
            !run.stdout.contains("portcullis") && !run.stderr.contains("portcullis"),
            "the password was printed"
        );
        assert_untouched(&lab)?;
    }

    fn another_certificate(backend) {
        let lab = start(backend)?;
        let seen = lab.mock()?.fingerprint();
        let other = "00:".repeat(31) + "00";
        lab.trust_only(&other)?;
        assert_says(&lab.apply()?, &["certificate"]);
        assert_untouched(&lab)?;
        lab.trust_only(&seen)?;
        lab.apply()?.success()?;
    }

    fn a_broken_policy_file(backend) {
        let lab = start(backend)?;
        lab.apply()?.success()?;
        let before = [lab.writes("host1")?, lab.writes("host2")?];
        for (edit, mistake, words) in [
            ("ports = 5432", "ports = \"high\"", ["line 9", "column"]),
            ("ports = 5432", "port = 5432", ["line 9", "port"]),
            ("ports = 5432", "ports = 54321234", ["line 9", "column"]),
            ("direction = \"ingress\"", "direction = \"inwards\"", ["line 7", "inwards"]),
            ("remote_group = \"web\"", "remote_group = \"wbe\"", ["line 10", "wbe"]),
            ("remote_group = \"web\"", "remote_cidr = \"10.0.0.0/33\"", ["line 10", "10.0.0.0/33"]),
            ("[[group]]", "[[group]", ["line 2", "column"]),
        ] {
            let broken = POLICY.replacen(edit, mistake, 1);
            ensure!(broken != POLICY, "{edit:?} does not stand in the policy");
            lab.set_policy(&broken)?;
            for run in [lab.apply()?, lab.plan()?, lab.hook("create", "web1")?] {
                ensure!(run.status.code() == Some(2), "{mistake}: {}", run.status);
                assert_says(&run, &words);
            }
        }
        ensure!(before == [lab.writes("host1")?, lab.writes("host2")?], "a broken file was applied");
        check(expectations(&lab)?.into_iter().filter(|one| one.probe.family == Family::V4));
    }
}
