//! From an edit to the kernel, told by packets; and a host that is looked at though nothing has changed.

mod wire;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use drawbridge::dom0::Dom0;
use drawbridge::run::Pool;
use e2e::crowd::{Crowd, Opening, group};
use e2e::lab::{Backend, Daemon, Lab};
use e2e::load::rule;
use ruleset::iptables::plan;
use ruleset::model::Family;

use super::{as_shipped, lab, wanted};
use crate::flows::Bench;
use crate::stats::{Stats, ms, ratio, timed};
use wire::Wire;

/// Edits: every other one opens the port, the others close it.
const EDITS: usize = 60;
/// Looks at an unchanged host.
const LOOKS: usize = 20;
/// Turns of the bare programs.
const TURNS: usize = 5;

const OPENING: Opening = Opening { guest: 0, port: 7777 };

pub(crate) fn measure(plugin: &Path) -> Result<String> {
    let mut text = format!(
        "From the sending of an edit to the first packet that passes, or the last one, at a packet a millisecond; {EDITS} edits of one \
         rule:\n\n| guests × 20 rules | bare | answered, p50 | enforced, p50 | p99 | ratio of the p50 | bare read | nothing changed | ratio | \
         plugin calls |\n|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for backend in [Backend::Legacy, Backend::Nft, Backend::OpenVSwitch] {
        for guests in [1, 200] {
            text.push_str(&one(plugin, backend, Crowd { hosts: 1, guests, rules: 20 })?);
        }
    }
    Ok(text.trim_end().to_owned())
}

fn one(plugin: &Path, backend: Backend, crowd: Crowd) -> Result<String> {
    let lab = lab(&crowd, backend, plugin)?;
    let mut daemon = as_shipped(&lab)?.start_with(&crowd.policy(&[]))?;
    let (answered, enforced) = edits(&lab, &daemon)?;
    let (looks, calls) = looks(&lab, &daemon)?;
    daemon.terminate()?;
    let (bare, read) = bare(&lab, backend, &crowd)?;
    Ok(format!(
        "| {} × {}, {} | {} | {} | {} | {} | {} | {} | {} | {} | {calls} |\n",
        crowd.guests,
        crowd.rules,
        format!("{backend:?}").to_lowercase(),
        ms(bare),
        ms(answered.median),
        ms(enforced.median),
        ms(enforced.p99),
        ratio(enforced.median, bare),
        ms(read),
        ms(looks.median),
        ratio(looks.median, read),
    ))
}

/// From sending an edit to its answer, and to the packet that tells.
fn edits(lab: &Lab, daemon: &Daemon<'_>) -> Result<(Stats, Stats)> {
    let wire = Wire::start(lab, OPENING)?;
    let (mut answered, mut enforced) = (Vec::new(), Vec::new());
    for turn in 0..EDITS {
        daemon.settle_by_its_word()?;
        let is_opened = turn % 2 == 0;
        ensure!(
            wire.is_silent() == is_opened,
            "before edit {turn} packets {}",
            if is_opened { "pass" } else { "do not pass" }
        );
        wire.forget();
        let begun = wire.now();
        if is_opened {
            daemon.call(daemon.api().create_rule(&group(OPENING.guest), &rule(OPENING)))?;
        } else {
            daemon.call(daemon.api().delete(&format!("/v1/rules/{}", OPENING.id()), None))?;
        }
        answered.push(wire.now() - begun);
        let told = if is_opened {
            wire.first()?
        } else {
            daemon.settle_by_its_word()?;
            wire.last().context("no packet passed while the port was open")?
        };
        enforced.push(told.saturating_sub(begun));
    }
    Ok((Stats::of(answered), Stats::of(enforced)))
}

/// How long it takes the daemon to find that a host is as it should be, and in how many plugin calls.
fn looks(lab: &Lab, daemon: &Daemon<'_>) -> Result<(Stats, usize)> {
    daemon.settle_by_its_word()?;
    let (writes, mut took, mut calls) = (lab.writes("host1")?, Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        let (before, looked) = (daemon.call(daemon.api().watch(None))?, lab.audit("host1")?.len());
        let (seen, time) = timed(|| -> Result<()> {
            daemon.call(daemon.api().refresh(&group(0), false))?;
            let now = daemon.call(daemon.api().watch(Some(&before)))?;
            ensure!(now.engine > before.engine, "the host was not looked at");
            Ok(())
        });
        seen?;
        took.push(time);
        calls.push(lab.audit("host1")?.len() - looked);
    }
    ensure!(lab.writes("host1")? == writes, "an unchanged host was written");
    calls.sort_unstable();
    Ok((Stats::of(took), calls.get(LOOKS / 2).copied().unwrap_or_default()))
}

/// The same edit by the bare programs, and a read of what stands.
fn bare(lab: &Lab, backend: Backend, crowd: &Crowd) -> Result<(Duration, Duration)> {
    let pool = Pool::open(&lab.config_path())?;
    let (reference, record) = lab.block_on(pool.host("host1"))?;
    let policies = [&[OPENING][..], &[]].map(|openings| wanted(lab, &pool, &crowd.policy(openings), "host1"));
    let (mut edits, mut reads) = (Vec::new(), Vec::new());
    let flows = match backend {
        Backend::OpenVSwitch => Some(Bench::new(lab, &pool, &reference)?),
        Backend::Nft | Backend::Legacy => None,
    };
    let host = lab.host("host1")?;
    let dom0 =
        Dom0 { client: &pool.client, signer: &pool.signer, host: &reference, uuid: record.uuid.to_string() };
    let run = |program: &str, args: &[&str], stdin: &str| -> Result<Duration> {
        let (output, took) = timed(|| host.command(program, args, stdin.as_bytes()));
        let output = output?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(took)
    };
    for wanted in policies.iter().cycle().take(2 * TURNS) {
        let wanted = wanted.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        if let Some(flows) = &flows {
            edits.push(flows.bare(&flows.input(wanted, &flows.dump()?)?)?);
            reads.push(flows.bare_read()?);
            continue;
        }
        let observed = lab.block_on(dom0.observe(Family::Ipv4))?;
        let input = plan(&wanted.policy, Family::Ipv4, &observed, 1)?.input.context("nothing to change")?;
        edits.push(
            run("iptables-restore", &["--noflush", "--wait"], &input)? + run("iptables-save", &[], "")?,
        );
        reads.push(run("iptables-save", &[], "")? + run("ip6tables-save", &[], "")?);
    }
    Ok((Stats::of(edits).median, Stats::of(reads).median))
}
