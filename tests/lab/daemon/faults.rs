//! What breaks while somebody edits and guests talk. Afterwards every kernel holds what the store says, no acknowledged edit
//! is lost, no refused packet has passed, and no connection that is allowed was cut.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::lab::{Backend, Daemon, Iptables, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::traffic::Traffic;
use xapi_mock::faults::{Fault, HostState, PluginFault};

use super::editor::{Editor, any_below, policy_of, some_time};
use crate::on_bridge_and_ovs;

/// How often each thing breaks.
pub(super) const ROUNDS: usize = if cfg!(feature = "soak") { 50 } else { 3 };
/// An hour in the plugin's numbers of writers: nanoseconds.
const HOUR: u64 = 3_600_000_000_000;
/// A fault comes at some moment of so long.
pub(super) const SOMETIME: Duration = Duration::from_millis(400);

/// Lets something break again and again.
fn weather(backend: Backend, fault: impl Fn(&Lab, &mut Daemon<'_>) -> Result<()>) -> Result<()> {
    let lab = pool(backend).start()?;
    let mut daemon = lab.daemon("a")?.start_with(POLICY)?;
    let traffic = Traffic::start(&lab)?;
    let mut acknowledged = 0;
    for _ in 0..ROUNDS {
        let editor = Editor::start(&daemon)?;
        some_time(SOMETIME);
        fault(&lab, &mut daemon)?;
        some_time(SOMETIME);
        acknowledged += editor.end(&daemon)?.acknowledged;
        lab.set_policy(&policy_of(&daemon)?)?;
        daemon.settle()?;
    }
    ensure!(acknowledged > ROUNDS, "{acknowledged} edits in {ROUNDS} rounds: the test shows nothing");
    check(expectations(&lab)?);
    traffic.judge_connections()
}

/// A host is in this state for a while.
fn for_a_while(lab: &Lab, host: &str, state: HostState) -> Result<()> {
    let faults = lab.mock()?.faults();
    faults.inject(Fault::Host { host: host.to_owned(), state });
    some_time(Duration::from_secs(3));
    faults.inject(Fault::Host { host: host.to_owned(), state: HostState::Online });
    Ok(())
}

on_bridge_and_ovs! {
    fn killed_while_editing(backend) {
        weather(backend, |_, daemon| {
            daemon.kill()?;
            daemon.start()
        })?;
    }

    /// Plugins die in the middle of what they do.
    fn plugins_killed(backend) {
        weather(backend, |lab, _| {
            let end = Instant::now() + Duration::from_millis(600);
            let mut killed = 0;
            while Instant::now() < end || killed == 0 {
                killed += lab.kill_plugins(["host1", "host2"][usize::from(any_below(2) == 1)])?;
                ensure!(Instant::now() < end + Duration::from_secs(60), "no plugin ever ran");
            }
            Ok(())
        })?;
    }

    fn plugins_die_or_hang(backend) {
        weather(backend, |lab, _| {
            let faults = lab.mock()?.faults();
            for action in [PluginFault::Die, PluginFault::Hang] {
                faults.inject(Fault::Plugin { host: None, action, times: 3 });
            }
            some_time(Duration::from_secs(2));
            faults.inject(Fault::Clear);
            Ok(())
        })?;
    }

    fn toolstack_restarts(backend) {
        weather(backend, |lab, _| {
            for host in ["host1", "host2", "host1"] {
                lab.mock()?.restart_toolstack(host)?;
                some_time(SOMETIME);
            }
            Ok(())
        })?;
    }

    /// The network between the driver and XAPI is cut.
    fn xapi_out_of_reach(backend) {
        weather(backend, |lab, _| for_a_while(lab, "host1", HostState::Silent))?;
    }

    /// The network between XAPI and a host is cut; or the host's XAPI is gone and the master does not know, or does.
    fn a_host_out_of_reach(backend) {
        weather(backend, |lab, _| {
            let states = [HostState::Silent, HostState::Unreachable, HostState::Offline];
            for_a_while(lab, "host2", states[usize::try_from(any_below(3))?])
        })?;
    }

    fn master_changes(backend) {
        weather(backend, |lab, _| {
            for host in ["host2", "host1"] {
                lab.mock()?.change_master(host)?;
                some_time(SOMETIME);
            }
            Ok(())
        })?;
    }

    /// XAPI's events leave out, repeat, come in another order; its count goes back.
    fn events_lie(backend) {
        use xapi_mock::faults::EventTrap::{DropDeletions, Duplicate, Reverse, TokenBack};
        weather(backend, |lab, _| {
            for trap in [DropDeletions, Duplicate, Reverse, TokenBack] {
                lab.mock()?.faults().inject(Fault::Events { trap, times: 2 });
            }
            lab.hard_reboot("web2")
        })?;
    }

    /// dom0 has seen a writer whose clock was ahead: ours gives higher numbers from then on, and so does one started anew.
    fn clocks_jump(backend) {
        weather(backend, |lab, daemon| {
            for host in ["host1", "host2"] {
                let seen = lab.host(host)?.read("/run/drawbridge/generation")?;
                let seen: u64 = String::from_utf8(seen)?.trim().parse()?;
                let ahead = seen + HOUR;
                lab.host(host)?.write("/run/drawbridge/generation", 0o600, format!("{ahead}\n").as_bytes())?;
            }
            some_time(SOMETIME);
            daemon.kill()?;
            daemon.start()
        })?;
    }
}

/// Another program of dom0's holds the xtables lock, longer than a plugin waits for it.
#[test]
fn the_xtables_lock_is_held() -> Result<()> {
    let held = if cfg!(feature = "soak") { "20" } else { "6" };
    weather(Iptables::Legacy.into(), |lab, _| {
        let host = lab.host("host1")?;
        let holder = host.spawn("flock", &["/run/xtables.lock", "sleep", held])?;
        let free = || host.command("flock", &["--nonblock", "/run/xtables.lock", "true"], b"");
        while free()?.status.success() {
            std::thread::sleep(Duration::from_millis(5));
        }
        while !free()?.status.success() {
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(holder);
        Ok(())
    })
}
