//! One changed rule on a loaded host, end to end: reconcile through XAPI, TLS and plugin, beside a bare
//! `iptables-restore --noflush` of the same change and a bare `iptables-save`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use drawbridge::desired::HostDesired;
use drawbridge::dom0::{Dom0, generation};
use drawbridge::reconcile::{Mode, reconcile};
use drawbridge::report::{HostReport, Status};
use drawbridge::run::Pool;
use e2e::lab::{Iptables, Lab};
use ruleset::iptables::plan;
use ruleset::model::Family;

use crate::load::{self, Edit};
use crate::stats::{Stats, ms, ratio, timed};

const RUNS: usize = 20;

pub(crate) fn measure(plugin: &Path) -> Result<String> {
    let mut text = Vec::new();
    for iptables in [Iptables::Legacy, Iptables::Nft] {
        let lab = Lab::builder(iptables).host_count(1).plugin(plugin.to_owned()).start()?;
        text.push(format!("### iptables-{}", format!("{iptables:?}").to_lowercase()));
        for (vifs, rules) in [(10, 20), (100, 20), (200, 100)] {
            text.push(one_size(&lab, vifs, rules)?);
        }
    }
    Ok(text.join("\n\n"))
}

fn one_size(lab: &Lab, vifs: u16, rules: u16) -> Result<String> {
    let pool = Pool::open(&lab.config_path())?;
    let (reference, record) = lab.block_on(pool.host("host1"))?;
    let dom0 =
        Dom0 { client: &pool.client, signer: &pool.signer, host: &reference, uuid: record.uuid.to_string() };
    let (base, more) = (load::host(vifs, rules, Edit::None)?, load::host(vifs, rules, Edit::Rule)?);
    let carry_out = |desired: &HostDesired, mode| -> Result<(HostReport, Duration)> {
        let (report, took) = timed(|| lab.block_on(reconcile(&dom0, "host1", desired, mode, 1)));
        ensure!(report.status != Status::Failed, "{:?}", report.error);
        Ok((report, took))
    };
    let run = |desired| carry_out(desired, Mode::Apply { generation: generation() });
    let (cold, cold_took) = run(&base)?;
    let host = lab.host("host1")?;
    let (mut ours, mut amended, mut unchanged) = (vec![], vec![], vec![]);
    let (mut bare_restore, mut bare_save) = (vec![], vec![]);
    let mut bytes = 0;
    for turn in 0..RUNS {
        let (wanted, other) = if turn % 2 == 0 { (&more, &base) } else { (&base, &more) };
        // The same change by hand, then taken back, so that reconcile finds it to do.
        let observed = lab.block_on(dom0.observe(Family::Ipv4))?;
        let input = plan(&wanted.policy, Family::Ipv4, &observed, 1)?.input.context("nothing to change")?;
        let (output, took) =
            timed(|| host.command("iptables-restore", &["--noflush", "--wait"], input.as_bytes()));
        ensure!(output?.status.success(), "the bare restore failed");
        bare_restore.push(took);
        let (output, took) = timed(|| host.command("iptables-save", &[], b""));
        ensure!(output?.status.success(), "the bare save failed");
        bare_save.push(took);
        run(other)?;
        let (report, took) = run(wanted)?;
        ours.push(took);
        bytes = bytes.max(report.bytes_written);
        let (report, took) = run(wanted)?;
        ensure!(report.status == Status::Unchanged, "a second run changed something");
        unchanged.push(took);
        let standing = run(other)?.0.standing.context("it is not known what stands")?;
        amended.push(carry_out(wanted, Mode::Amend { before: other, standing })?.1);
    }
    let (ours, amended, unchanged) = (Stats::of(ours), Stats::of(amended), Stats::of(unchanged));
    let (bare_restore, bare_save) = (Stats::of(bare_restore), Stats::of(bare_save));
    let bare = bare_restore.median + bare_save.median;
    let mut text =
        format!("One rule of {vifs} VIFs × {rules} rules, {RUNS} runs:\n\n| | median |\n|---|---|\n");
    let _ =
        writeln!(text, "| bare `iptables-restore --noflush` of the change | {} |", ms(bare_restore.median));
    let _ = writeln!(text, "| bare `iptables-save` | {} |", ms(bare_save.median));
    let _ = writeln!(text, "| reconcile, one rule changed ({bytes} bytes sent) | {} |", ms(ours.median));
    let _ = writeln!(text, "| ratio to bare restore + save | {} |", ratio(ours.median, bare));
    let _ = writeln!(text, "| the same where it is known what stands | {} |", ms(amended.median));
    let _ = writeln!(text, "| ratio to bare restore + save | {} |", ratio(amended.median, bare));
    let _ = writeln!(text, "| reconcile, nothing changed (0 writes) | {} |", ms(unchanged.median));
    let _ = write!(text, "| cold load ({} bytes), once | {} |", cold.bytes_written, ms(cold_took));
    Ok(text)
}
