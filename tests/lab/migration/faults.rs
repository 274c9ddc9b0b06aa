//! Something breaks in the middle of a migration. Wherever the guest is afterwards its rules stand, and nothing of it is left
//! where it is not; no refused packet has passed meanwhile, and no connection was cut.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::lab::{Backend, Daemon, Lab};
use xapi_mock::faults::{Fault, HostState, MigrationFault};

use super::{LIBERAL, Meanwhile, enforced, start, unknown_on};
use crate::daemon::{ROUNDS, any_below, some_time};
use crate::{assert_nothing_of, on_bridge_and_ovs};

/// How long what breaks takes, at most.
const WHILE: Duration = Duration::from_secs(1);

/// Migrates `db` again and again, and lets something break meanwhile. On a network that is guarded nobody announces it: the
/// guest passes nothing until it is known. On another, it is announced. One that is held lasts until the fault is over.
fn weather(
    backend: Backend,
    guarded: bool,
    held: bool,
    fault: impl Fn(&Lab, &mut Daemon<'_>, &str) -> Result<()>,
) -> Result<()> {
    let lab = start(backend, guarded)?;
    for host in ["host1", "host2"] {
        lab.host(host)?.run(|| std::fs::write(LIBERAL, "1"))?;
    }
    let mut daemon = lab.daemon("a")?.as_shipped().start_with(e2e::scenario::POLICY)?;
    let meanwhile = Meanwhile::start(&lab)?;
    let mut arrived = 0;
    for _ in 0..ROUNDS {
        let (from, to) = way(&lab)?;
        let old = lab.vif_names("db")?;
        if !guarded {
            daemon.pre_migrate("db", to)?;
        }
        let faults = lab.mock()?.faults();
        if held {
            faults.inject(Fault::Migration { action: MigrationFault::Hold, times: 1 });
        }
        std::thread::scope(|scope| {
            // It may fail for what breaks.
            let migrated = scope.spawn(|| lab.migrate("db", to));
            let broke = fault(&lab, &mut daemon, to);
            faults.inject(Fault::Clear);
            let _ = migrated.join().map_err(|_| anyhow::anyhow!("the migration panicked"))?;
            broke
        })?;
        let whole = Instant::now();
        if !guarded {
            // The compute driver says how it ended; what was announced to a daemon that was killed is forgotten.
            daemon.hook("post-migrate", "db")?;
        }
        daemon.settle_since(whole)?;
        if way(&lab)?.0 == to {
            arrived += 1;
            assert_nothing_of(&lab, from, &old)?;
        }
        unknown_on(&lab, way(&lab)?.1)?;
        // Before the next, or TCP tries again at ever worse moments until nobody waits for it any more.
        meanwhile.alive()?;
    }
    ensure!(arrived > 0, "no migration came to its end: the test shows nothing");
    meanwhile.judge()?;
    enforced(&lab)
}

/// Where `db` is, and where it is not.
fn way(lab: &Lab) -> Result<(&'static str, &'static str)> {
    Ok(if lab.domain("db")?.host().name() == "host1" { ("host1", "host2") } else { ("host2", "host1") })
}

/// The daemon is killed at some moment and started at another; the guest is handed over before, between or after.
fn killed(lab: &Lab, daemon: &mut Daemon<'_>) -> Result<()> {
    let handed_over_late = any_below(2) == 1;
    some_time(WHILE);
    daemon.kill()?;
    some_time(WHILE);
    if !handed_over_late {
        lab.mock()?.faults().inject(Fault::Clear);
        some_time(WHILE);
    }
    daemon.start()?;
    some_time(WHILE);
    Ok(())
}

/// The network to where the guest goes is cut, or its toolstack is away: before it is handed over, or just then, or after.
fn cut_off(lab: &Lab, host: &str) -> Result<()> {
    let states = [HostState::Silent, HostState::Unreachable, HostState::Offline];
    let state = *states.get(usize::try_from(any_below(3))?).context("one of three")?;
    let faults = lab.mock()?.faults();
    some_time(Duration::from_millis(100));
    faults.inject(Fault::Host { host: host.to_owned(), state });
    some_time(2 * WHILE);
    faults.inject(Fault::Host { host: host.to_owned(), state: HostState::Online });
    Ok(())
}

on_bridge_and_ovs! {
    fn the_daemon_is_killed(backend) {
        weather(backend, true, true, |lab, daemon, _| killed(lab, daemon))?;
    }

    fn the_daemon_is_killed_when_it_was_announced(backend) {
        weather(backend, false, true, |lab, daemon, _| killed(lab, daemon))?;
    }

    fn the_destination_is_cut_off(backend) {
        weather(backend, true, false, |lab, _, to| cut_off(lab, to))?;
    }

    fn the_destination_is_cut_off_when_it_was_announced(backend) {
        weather(backend, false, false, |lab, _, to| cut_off(lab, to))?;
    }
}
