//! Many edits at once: none is lost, few writes carry them all, and they leave nothing behind in memory. How fast that goes is
//! for `bench`.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use api::wire::Rule;
use e2e::crowd::{Crowd, Opening};
use e2e::lab::Daemon;
use e2e::load::{Edited, Load};

use crate::on_bridge_and_ovs;

const RATE: u32 = 2000;
const SECONDS: u32 = if cfg!(feature = "soak") { 30 } else { 1 };
/// Of each host.
const GUESTS: u16 = if cfg!(feature = "soak") { 100 } else { 4 };
/// So many ports stay open.
const KEPT: usize = 100;
/// The daemon may grow by so much, KiB, after the first quarter: less than the edits since would take if they were kept.
const SLACK: u64 = 24 * 1024;

on_bridge_and_ovs! {
    fn edits_by_the_thousand(backend) {
        let crowd = Crowd { hosts: 2, guests: GUESTS, rules: 20 };
        let lab = crowd.lab(backend).start()?;
        let daemon = lab.daemon("a")?.deadline(60).call_timeout(60).start_with(&crowd.policy(&[]))?;
        let writes = || -> Result<[usize; 2]> { Ok([lab.writes("host1")?, lab.writes("host2")?]) };
        let (all, before) = (RATE * SECONDS, writes()?);
        let some = edit(&daemon, &crowd, Load { rate: RATE, calls: all / 4, before: 0, connections: 64 })?;
        let early = daemon.usage()?.memory;
        let rest = Load { rate: RATE, calls: all - all / 4, before: all / 4, connections: 64 };
        let open = [some, edit(&daemon, &crowd, rest)?].concat();

        ensure!(stored(&daemon)? == open.iter().map(|it| it.id()).collect(), "the store is not as the answers said");
        lab.set_policy(&crowd.policy(&open))?;
        daemon.settle()?;
        for (before, after) in before.into_iter().zip(writes()?) {
            let writes = after - before;
            ensure!(writes > 0 && writes * 10 < usize::try_from(all)?, "{writes} writes for {all} edits");
        }
        let late = daemon.usage()?.memory;
        ensure!(late < early + SLACK, "from {early} to {late} KiB by {all} edits");
    }
}

/// What it left open. Nothing is refused.
fn edit(daemon: &Daemon<'_>, crowd: &Crowd, load: Load) -> Result<Vec<Opening>> {
    let Edited { delays, refused, open } = load.edit(&daemon.socket(), crowd.count(), KEPT)?;
    ensure!(
        refused.is_empty() && delays.len() == usize::try_from(load.calls)?,
        "{refused:?}\n{}",
        daemon.log()
    );
    Ok(open)
}

/// The openings in the store, by their ids.
fn stored(daemon: &Daemon<'_>) -> Result<BTreeSet<String>> {
    let rules: Vec<Rule> = daemon.call(daemon.api().list("/v1/rules", ""))?;
    Ok(rules.into_iter().map(|rule| rule.id).filter(|id| id.starts_with("open-")).collect())
}
