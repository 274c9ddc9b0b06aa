//! Walks a small cloud through everything that happens to guests and hosts, sends real packets after each step, and
//! prints one table. Exit code 0 if every line is as expected, 1 if not, 2 if the walk could not be made.

mod table;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use e2e::lab::{Iptables, Lab};
use e2e::probe;
use e2e::scenario::{dom0_boots, expectations, pool};
use table::Table;

fn main() -> ExitCode {
    let started = Instant::now();
    let mut table = Table::new(io::stdout().is_terminal());
    match walk(&mut table) {
        Ok(()) => {
            let wrong = table.wrong();
            let seconds = started.elapsed().as_secs_f32();
            table.footer(&format!("{} probes, {wrong} not as expected, {seconds:.1} s", table.lines()));
            ExitCode::from(u8::from(wrong > 0))
        }
        Err(error) => {
            table::complain(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

/// One step: what is done, and the words for it.
type Step<'a> = (&'a str, &'a dyn Fn(&Lab) -> Result<()>);

fn walk(table: &mut Table) -> Result<()> {
    let progress = |what: &str| {
        if io::stderr().is_terminal() {
            table::complain(&format!("… {what}"));
        }
    };
    progress("starting a pool of two hosts, four guests and a machine outside");
    let lab = pool(Iptables::Nft).start()?;
    let steps: &[Step<'_>] = &[
        ("apply", &|lab| lab.apply()?.success().map(drop)),
        ("create", &|lab| {
            lab.hard_shutdown("db")?;
            lab.hook("terminate", "db")?.success()?;
            lab.start("db", true)?;
            lab.hook("create", "db")?.success()?;
            lab.unpause("db")
        }),
        ("reboot", &|lab| {
            lab.clean_reboot("web1")?;
            lab.hook("reboot", "web1")?.success().map(drop)
        }),
        ("suspend", &|lab| {
            lab.suspend("web1")?;
            lab.hook("suspend", "web1")?.success().map(drop)
        }),
        ("resume", &|lab| {
            lab.resume("web1", true)?;
            lab.hook("resume", "web1")?.success()?;
            lab.unpause("web1")
        }),
        ("terminate", &|lab| {
            lab.hard_shutdown("web2")?;
            lab.hook("terminate", "web2")?.success().map(drop)
        }),
        ("host boots", &|lab| {
            dom0_boots(lab, "host1")?;
            lab.hook("host-init", "host1")?.success().map(drop)
        }),
    ];
    table.header();
    for (name, step) in steps {
        progress(name);
        step(&lab)?;
        for outcome in probe::run(expectations(&lab)?) {
            table.line(name, &outcome);
        }
    }
    Ok(())
}
