//! The command line against a daemon that works: policy files with plan and prune, and what is watched.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::lab::Backend;
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;
use serde_json::Value;

/// A plan changes nothing; what is applied is enforced; what a file no longer names stays, and goes when it is pruned.
#[test]
fn a_policy_file_with_plan_and_prune() -> Result<()> {
    let lab = pool(Backend::Nft).start()?;
    let daemon = lab.daemon("a")?.start_with(POLICY)?;
    let (web1, outside) = (lab.guest("web1")?, lab.outside());
    let serves = |open: u16, shut: u16| {
        check(Family::BOTH.into_iter().flat_map(|family| {
            [outside.tcp(&web1, open, family).passes(), outside.tcp(&web1, shut, family).blocked()]
        }));
    };
    let file = lab.scratch_path("wanted.toml");
    let name = file.to_str().context("no UTF-8")?;
    std::fs::write(&file, POLICY.replace("ports = 80", "ports = 81"))?;
    let generation = || -> Result<u64> { Ok(daemon.call(daemon.api().status())?.generation) };
    let before = generation()?;
    let plan = daemon.drawbridge(&["plan", "-f", name])?.success()?;
    ensure!(plan.stdout.contains("if applied to generation") && generation()? == before, "{plan:?}");
    serves(80, 81);
    daemon.drawbridge(&["apply", "-f", name])?.success()?;
    lab.set_policy(&std::fs::read_to_string(&file)?)?;
    daemon.settle()?;
    serves(81, 80);

    // A file that names nothing: nothing goes, unless it is pruned.
    std::fs::write(&file, "")?;
    let kept = daemon.drawbridge(&["apply", "-f", name])?.success()?;
    ensure!(kept.stdout.starts_with("apply: nothing to do"), "{kept:?}");
    let plan = daemon.drawbridge(&["plan", "-f", name, "--prune"])?.success()?;
    ensure!(plan.stdout.contains("remove group web\n"), "{plan:?}");
    let ports = daemon.drawbridge(&["--json", "port", "list"])?.success()?.json()?;
    ensure!(ports.as_array().map(Vec::len) == Some(3), "{ports}");
    daemon.drawbridge(&["apply", "-f", name, "--prune"])?.success()?;
    lab.set_policy("")?;
    daemon.settle()?;
    // Nobody is filtered any more.
    check([outside.tcp(&web1, 80, Family::V4).passes(), outside.tcp(&web1, 22, Family::V4).passes()]);
    let exported = daemon.drawbridge(&["export"])?.success()?;
    ensure!(!exported.stdout.contains("[["), "{exported:?}");
    Ok(())
}

/// Who watches sees a change when it happens, on its way and enforced.
#[test]
fn what_is_watched() -> Result<()> {
    let lab = pool(Backend::Nft).start()?;
    let daemon = lab.daemon("a")?.look_after(600).start_with(POLICY)?;
    let (path, socket) = (lab.scratch_path("watched"), daemon.socket());
    let args = ["--api", socket.to_str().context("no UTF-8")?, "--json", "watch"].map(OsStr::new);
    let mut watch =
        e2e::process::spawn(&e2e::lab::program()?, &args, &BTreeMap::new(), std::fs::File::create(&path)?)?;
    let told = |wanted: &dyn Fn(&Value) -> bool| -> Result<()> {
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(&path)?;
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if lines.any(|line| wanted(&line)) {
                return Ok(());
            }
            ensure!(started.elapsed() < Duration::from_secs(60), "{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    told(&|line| line["verdict"]["word"] == "ok")?;
    let newer = daemon.set_policy(&POLICY.replace("ports = 80", "ports = 81"))?;
    told(&|line| line["status"]["generation"] == newer && line["verdict"]["word"] == "ok")?;
    daemon.set_policy(POLICY)?;
    daemon.settle()?;
    watch.kill()?;
    watch.wait()?;
    check(expectations(&lab)?);
    Ok(())
}
