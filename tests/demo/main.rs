//! Walks a small cloud through everything that happens to guests and hosts, sends real packets after each step, and
//! prints one table. `--backend openvswitch` gives the hosts Open vSwitch instead of Linux bridges. Exit code 0 if every line is as expected, 1 if not, 2 if the walk could not be made.

mod story;
mod table;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use e2e::lab::Backend;
use e2e::probe;
use e2e::scenario::pool;
use table::Table;

fn main() -> ExitCode {
    let started = Instant::now();
    let mut table = Table::new(io::stdout().is_terminal());
    match walk(&mut table) {
        Ok(()) => {
            let (lines, wrong) = (table.lines(), table.wrong());
            let seconds = started.elapsed().as_secs_f32();
            table::print(&format!("\n{lines} lines, {wrong} not as expected; {seconds:.1} s"));
            ExitCode::from(u8::from(wrong > 0))
        }
        Err(error) => {
            table::complain(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
fn backend() -> Result<Backend> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["--backend", "bridge"] => Ok(Backend::Nft),
        ["--backend", "openvswitch"] => Ok(Backend::OpenVSwitch),
        _ => bail!("usage: demo [--backend bridge|openvswitch], or make demo BACKEND=openvswitch"),
    }
}

fn walk(table: &mut Table) -> Result<()> {
    let progress = |what: &str| {
        if io::stderr().is_terminal() {
            table::complain(&format!("… {what}"));
        }
    };
    progress("starting the pool");
    let backend = backend()?;
    let lab = pool(backend).start()?;
    table::print(&story::cast(backend));
    Table::header();
    for story::Step { name, act } in story::STEPS {
        progress(name);
        let scene = act(&lab)?;
        Table::step(name, &scene.what);
        for (host, vif) in scene.gone {
            let left = lab.rules_left_of(host, &vif)?.len();
            let seen = if left == 0 { "none".to_owned() } else { left.to_string() };
            table.fact(&format!("rules about {vif}, {host}"), "none", &seen);
        }
        table.outcomes(probe::run(scene.probes));
    }
    Ok(())
}
