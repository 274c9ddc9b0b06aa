//! What a change costs where it is made and where it is carried out: compile and compare here, one commit in the kernel there.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use drawbridge::dom0::Dom0;
use drawbridge::run::Pool;
use e2e::lab::Lab;
use e2e::scenario::dom0_boots;
use ruleset::iptables::{Observed, plan};
use ruleset::model::Family;

use crate::load::{self, Edit};
use crate::stats::{Stats, ms, timed};

const RUNS: usize = 15;

/// IPv4, at four sizes. Nothing but iptables-restore itself is timed on the host.
pub(crate) fn measure(lab: &Lab) -> Result<String> {
    let pool = Pool::open(&lab.config_path())?;
    let (reference, record) = lab.block_on(pool.host("host1"))?;
    let uuid = record.uuid.to_string();
    let dom0 = Dom0 { client: &pool.client, signer: &pool.signer, host: &reference, uuid };
    let host = lab.host("host1")?;
    let restore = |input: &str| -> Result<_> {
        let (output, took) =
            timed(|| host.command("iptables-restore", &["--noflush", "--wait"], input.as_bytes()));
        let output = output?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(took)
    };
    let observe = || -> Result<Observed> { Ok(lab.block_on(dom0.observe(Family::Ipv4))?) };

    let mut text =
        format!("Compile and compare, and a bare restore of what comes of it; best of {RUNS}:\n\n");
    let _ = writeln!(
        text,
        "| VIFs × rules | change | compile + compare | bytes | kernel commit |\n|---|---|---|---|---|"
    );
    for (vifs, rules) in [(10, 20), (100, 20), (200, 100), (500, 100)] {
        let base = load::host(vifs, rules, Edit::None)?;
        for (what, edit) in [
            ("cold", None),
            ("nothing", Some(Edit::None)),
            ("one rule", Some(Edit::Rule)),
            ("one member", Some(Edit::Member)),
        ] {
            let wanted = load::host(vifs, rules, edit.unwrap_or(Edit::None))?;
            let (mut compared, mut committed, mut bytes) = (vec![], vec![], 0);
            for _ in 0..RUNS {
                if edit.is_none() {
                    dom0_boots(lab, "host1")?;
                } else if let Some(input) = plan(&base.policy, Family::Ipv4, &observe()?, 1)?.input {
                    restore(&input)?;
                }
                let observed = observe()?;
                let (planned, took) = timed(|| plan(&wanted.policy, Family::Ipv4, &observed, 1));
                compared.push(took);
                // Turning bridged packets on is the plugin's work, and no part of this.
                let input = planned?.input.filter(|input| input.as_str() != "*filter\nCOMMIT\n");
                if edit == Some(Edit::None) {
                    ensure!(input.is_none(), "nothing was to change");
                    continue;
                }
                let input = input.context("nothing to change")?;
                bytes = input.len();
                committed.push(restore(&input)?);
            }
            let commit = if committed.is_empty() { "none".to_owned() } else { ms(Stats::of(committed).best) };
            let compare = ms(Stats::of(compared).best);
            let _ = writeln!(text, "| {vifs} × {rules} | {what} | {compare} | {bytes} | {commit} |");
        }
    }
    dom0_boots(lab, "host1")?;
    Ok(text.trim_end().to_owned())
}
