//! Several writers at a time, and calls that fail half way.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::lab::{Iptables, Run};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use xapi_mock::faults::{Fault, PluginFault};

use crate::on_bridge_and_ovs;

on_bridge_and_ovs! {
    /// Nobody writes on the strength of what is no longer so: who is overtaken reads again, and in the end all succeed.
    fn many_writers(backend) {
        let lab = pool(backend).start()?;
        let runs: Vec<Run> = thread::scope(|scope| {
            let hooks = ["web1", "db", "web2"].map(|vm| scope.spawn(|| lab.hook("create", vm)));
            let applies = [(); 4].map(|()| scope.spawn(|| lab.apply()));
            hooks
                .into_iter()
                .chain(applies)
                .map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Result<_>>()
        })?;
        for run in runs {
            run.success()?;
        }
        ensure!(lab.plan()?.success()?.changed()?.is_empty(), "something is left to do");
        check(expectations(&lab)?);
    }

    /// The connection breaks after the write was done: the driver says it does not know, and the next run finds it done.
    fn an_answer_that_got_lost(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        lab.set_policy(&POLICY.replace("ports = 80", "ports = 81"))?;
        for _ in 0..4 {
            lab.mock()?.faults().inject(Fault::Cut { method: Some("host.call_plugin".to_owned()), times: 1 });
            let run = lab.apply()?;
            ensure!(run.status.success() || run.failed()?.len() == 1, "{}", run.stdout);
        }
        lab.mock()?.faults().inject(Fault::Clear);
        lab.set_policy(POLICY)?;
        lab.apply()?.success()?;
        check(expectations(&lab)?);
    }

    /// XAPI sets no time limit for a plugin; the driver does, and the other host does not wait for it.
    fn a_plugin_that_hangs(backend) {
        let lab = pool(backend).start()?;
        lab.set_call_timeout(3)?;
        let fault = Fault::Plugin { host: Some("host2".to_owned()), action: PluginFault::Hang, times: 10 };
        lab.mock()?.faults().inject(fault);
        let run = lab.apply()?;
        ensure!(run.failed()? == ["host2"], "{}\n{}", run.stdout, run.stderr);
        lab.mock()?.faults().inject(Fault::Clear);
        lab.apply()?.success()?;
        check(expectations(&lab)?);
    }

    /// Any host of the pool may be named; the driver finds the master.
    fn asked_through_a_slave(backend) {
        let lab = pool(backend).start()?;
        lab.talk_to("host2")?;
        lab.apply()?.success()?;
        check(expectations(&lab)?);
    }

    /// Neither dom0's log nor anything the program prints shows what would let somebody in.
    fn no_secret_is_written_anywhere(backend) {
        let lab = pool(backend).start()?;
        let key = std::fs::read_to_string(lab.private_key())?;
        let seed = key.split_whitespace().last().unwrap_or_default();
        ensure!(seed.len() > 40, "no key");
        let mut said = String::new();
        for run in [lab.drawbridge_with_log("trace", "plan")?, lab.drawbridge_with_log("trace", "apply")?] {
            ensure!(run.status.success(), "{}", run.stderr);
            said.push_str(&run.stdout);
            said.push_str(&run.stderr);
        }
        for host in ["host1", "host2"] {
            let lines = lab.host(host)?.syslog().join("\n");
            ensure!(lines.contains("result=ok"), "nothing was logged: {lines}");
            ensure!(!lines.contains("OpaqueRef"), "dom0's log shows a session: {lines}");
            said.push_str(&lines);
        }
        for secret in [seed, "portcullis"] {
            let at = said.find(secret);
            ensure!(
                at.is_none(),
                "a secret is shown: …{}…",
                at.map_or("", |at| &said[at.saturating_sub(200)..at])
            );
        }
    }
}

/// Another program of dom0's holds the xtables lock for a while, as xapi's own scripts do: the plugin waits its turn.
#[test]
fn the_xtables_lock_is_taken() -> Result<()> {
    let lab = pool(Iptables::Legacy).start()?;
    let held = Duration::from_millis(1500);
    let host = lab.host("host1")?;
    let _holder = host.spawn("flock", &["/run/xtables.lock", "sleep", &held.as_secs_f32().to_string()])?;
    let deadline = Instant::now() + Duration::from_secs(2);
    while host.command("flock", &["--nonblock", "/run/xtables.lock", "true"], b"")?.status.success() {
        ensure!(Instant::now() < deadline, "the lock was never held");
    }
    let started = Instant::now();
    lab.apply()?.success()?;
    ensure!(started.elapsed() > held / 2, "the lock was not waited for");
    check(expectations(&lab)?);
    Ok(())
}
