//! 2,000 edits a second for half a minute, on two hosts with a hundred guests each.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::crowd::{Crowd, Opening};
use e2e::lab::{Backend, Daemon};
use e2e::load::{Edited, Load};
use e2e::usage::Usage;

use super::{as_shipped, lab, mib};
use crate::stats::{Stats, ms, ratio};

const CROWD: Crowd = Crowd { hosts: 2, guests: 100, rules: 20 };
const RATE: u32 = 2000;
const SECONDS: u32 = 30;
/// Of the reads that the edits are compared with.
const READING: u32 = 10;
const CONNECTIONS: u32 = 64;
/// So many ports stay open.
const KEPT: usize = 1000;

/// What is read: a rule that stands.
const READ: Opening = Opening { guest: 0, port: 9999 };

pub(crate) fn measure(plugin: &Path) -> Result<String> {
    let lab = lab(&CROWD, Backend::Legacy, plugin)?;
    let daemon = as_shipped(&lab)?.start_with(&CROWD.policy(&[READ]))?;
    let reading = Load { rate: RATE, calls: RATE * READING, before: 0, connections: CONNECTIONS };
    let reads = Stats::of(reading.read(&daemon.socket(), &READ.id())?);

    let (counted, before) = (counted(&daemon)?, daemon.usage()?);
    let begun = Instant::now();
    let editing = Load { calls: RATE * SECONDS, ..reading };
    let (edited, memory) = watched(&daemon, || editing.edit(&daemon.socket(), CROWD.count(), KEPT))?;
    let lasted = begun.elapsed();
    daemon.settle_by_its_word()?;
    let (settled, after) = (begun.elapsed() - lasted, daemon.usage()?);
    let Edited { delays, refused, open } = edited;
    let (done, edits) = (delays.len(), Stats::of(delays));
    // Not only by its word.
    lab.set_policy(&CROWD.policy(&[open, vec![READ]].concat()))?;
    daemon.settle()?;

    let Crowd { hosts, guests, rules } = CROWD;
    let mut text = format!(
        "{RATE} calls/s, {CONNECTIONS} connections, {hosts} hosts × {guests} guests × {rules} rules, legacy:\n\n\
         | | p50 | p99 | worst |\n|---|---|---|---|\n"
    );
    for (what, stats) in [(format!("reads, {READING} s"), &reads), (format!("edits, {SECONDS} s"), &edits)] {
        let _ = writeln!(text, "| {what} | {} | {} | {} |", ms(stats.median), ms(stats.p99), ms(stats.worst));
    }
    let _ = writeln!(
        text,
        "| ratio | {} | {} | |\n",
        ratio(edits.median, reads.median),
        ratio(edits.p99, reads.p99)
    );
    let refusals: u32 = refused.values().sum();
    let acknowledged = done - usize::try_from(refusals)?;
    let _ = writeln!(
        text,
        "{acknowledged} edits acknowledged in {:.1} s, {refusals} refused {refused:?}; all enforced {} after the last answer.",
        lasted.as_secs_f64(),
        ms(settled)
    );
    for ((what, before), after) in NUMBERS.iter().zip(counted).zip(self::counted(&daemon)?) {
        let _ = write!(text, "{what}: {}. ", after - before);
    }
    let processor = (after.processor - before.processor).as_secs_f64() / (lasted + settled).as_secs_f64();
    let _ = write!(
        text,
        "The daemon took {processor:.2} processors.\nMemory before: {}; each 5 s:",
        mib(before.memory)
    );
    for usage in memory.iter().step_by(5) {
        let _ = write!(text, " {}", mib(usage.memory));
    }
    let _ = write!(text, "; after: {}; at most {}.", mib(after.memory), mib(after.peak));
    Ok(text)
}

/// What the daemon counts, and how that is called here.
const NUMBERS: [&str; 3] = ["Plans", "Reconciles of both hosts", "Reconciles that wrote"];

fn counted(daemon: &Daemon<'_>) -> Result<[u64; 3]> {
    let number = |name| daemon.number(name);
    Ok([number("plan_number")?, number("host_reconciles_total")?, number("host_writes_total")?])
}

/// Does the work, and asks every second what the daemon takes meanwhile.
fn watched<T: Send>(daemon: &Daemon<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<(T, Vec<Usage>)> {
    let (pid, over) = (daemon.pid()?, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| -> Result<Vec<Usage>> {
            let mut usages = Vec::new();
            while !over.load(Ordering::Relaxed) {
                usages.push(Usage::of(pid)?);
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok(usages)
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let usages = watching.join().map_err(|_| anyhow::anyhow!("the watch panicked"))??;
        ensure!(!usages.is_empty(), "nobody watched");
        Ok((done?, usages))
    })
}
