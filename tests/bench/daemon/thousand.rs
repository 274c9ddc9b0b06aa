//! A pool of 1,000 VMs: what it takes to watch it, and to start with a store of 10,000 groups and 100,000 rules.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::crowd::Crowd;
use e2e::lab::{Backend, Daemon, Lab};
use e2e::usage::Usage;
use sqlx::{Connection, Row};
use store::{Kind, Store};

use super::{as_shipped, lab, mib};
use crate::stats::{ms, ratio, timed};

/// With [`MORE_GROUPS`], 100,000 rules.
const CROWD: Crowd = Crowd { hosts: 8, guests: 125, rules: 19 };
/// Groups that no port has, and rules of each.
const MORE_GROUPS: u16 = 9000;
const MORE_RULES: u16 = 9;

/// How long an idle daemon is watched: every host is looked at twice.
const IDLE: Duration = Duration::from_secs(60);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

const EMPTY: Crowd = Crowd { hosts: 1, guests: 0, rules: 0 };

pub(crate) fn measure(plugin: &Path) -> Result<String> {
    let (pool, empty) = (lab(&CROWD, Backend::Legacy, plugin)?, lab(&EMPTY, Backend::Legacy, plugin)?);
    let policy = CROWD.policy(&[]);
    let mut daemon = as_shipped(&pool)?.start_with(&policy)?;
    let idle = as_shipped(&empty)?.start_with("")?;
    let mut text =
        idle_for_a_while(&[("1 host, no VMs", &idle), ("8 hosts, 1,000 VMs × 19 rules", &daemon)])?;
    drop(idle);

    let more = (0..MORE_GROUPS).map(group).collect::<Vec<_>>();
    // An answer has to come within a minute.
    more.chunks(1000).try_for_each(|some| daemon.add_policy(&some.concat()).map(drop))?;
    daemon.settle_by_its_word()?;
    daemon.terminate()?;
    text.push_str(&bare(&pool, &daemon)?);
    text.push_str(&start(&mut daemon)?);
    Ok(text.trim_end().to_owned())
}

/// What they take while nothing happens.
fn idle_for_a_while(daemons: &[(&str, &Daemon<'_>)]) -> Result<String> {
    let usages = || daemons.iter().map(|(_, daemon)| daemon.usage()).collect::<Result<Vec<Usage>>>();
    let before = usages()?;
    std::thread::sleep(IDLE);
    let mut text = "Idle, every host looked at each 5 s:\n\n| | processor time a minute | of one processor | memory |\n|---|---|---|---|\n".to_owned();
    for ((what, _), (before, after)) in daemons.iter().zip(before.iter().zip(usages()?)) {
        let took = after.processor - before.processor;
        let part = took.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
        let _ = writeln!(text, "| {what} | {} | {part:.2} % | {} |", ms(took), mib(after.memory));
    }
    Ok(text + "\n")
}

/// A group that is in the store and nowhere else.
fn group(number: u16) -> String {
    let mut text = format!("[[group]]\nid = \"more{number}\"\nimplicit_rules = \"none\"\n\n");
    for rule in 0..MORE_RULES {
        let port = 1000 + rule;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "[[group.rule]]\ndirection = \"ingress\"\nethertype = \"ipv4\"\nprotocol = \"tcp\"\nports = {port}\n\n"
        );
    }
    text
}

/// Every row read by the bare library, and the store opened without a daemon.
fn bare(lab: &Lab, daemon: &Daemon<'_>) -> Result<String> {
    let url = format!("sqlite:{}", daemon.store().display());
    let (rows, read) = timed(|| lab.block_on(rows(&url)));
    let (opened, opening) = timed(|| lab.block_on(Store::open(&url)));
    let opened = opened?;
    let (groups, rules) = (opened.state().count(Kind::Group), opened.state().count(Kind::Rule));
    lab.block_on(opened.close());
    Ok(format!(
        "Start with {groups} groups and {rules} rules:\n\n| | time | ratio |\n|---|---|---|\n\
         | {} rows read by bare sqlx | {} | 1 |\n| the store opened | {} | {} |\n",
        rows?,
        ms(read),
        ms(opening),
        ratio(opening, read)
    ))
}

async fn rows(url: &str) -> Result<usize> {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await?;
    let mut count = 0;
    for table in ["projects", "groups", "sets", "rules", "provider_rules", "ports", "port_groups"] {
        let select = sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"));
        for row in sqlx::query(select).fetch_all(&mut connection).await? {
            ensure!(!row.is_empty());
            count += 1;
        }
    }
    connection.close().await?;
    Ok(count)
}

/// The daemon started anew over hosts that are as they should be.
fn start(daemon: &mut Daemon<'_>) -> Result<String> {
    let begun = Instant::now();
    daemon.start()?;
    let answers = begun.elapsed();
    let since = |is_so: &dyn Fn() -> Result<bool>| -> Result<Duration> {
        while !is_so()? {
            std::thread::sleep(PAUSE);
        }
        Ok(begun.elapsed())
    };
    let planned = since(&|| Ok(daemon.number("plan_number")? > 0))?;
    let at_plan = daemon.usage()?;
    daemon.settle_by_its_word()?;
    let done = begun.elapsed();
    let after = daemon.usage()?;
    let mut text = String::new();
    let _ = writeln!(text, "| the daemon's socket answers (READY) | {} | |", ms(answers));
    let _ = writeln!(text, "| it has a plan of all hosts | {} | |", ms(planned));
    let _ = writeln!(text, "| 8 hosts read and found to be as they should be | {} | |", ms(done));
    let _ = writeln!(
        text,
        "\nMemory: {} with the first plan, {} with all hosts done, {} at most.",
        mib(at_plan.memory),
        mib(after.memory),
        mib(after.peak)
    );
    Ok(text)
}
