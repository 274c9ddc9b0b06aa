//! What breaks while somebody edits and guests talk. Within 10 s of the end of it every kernel holds what the store says; no
//! acknowledged edit is lost, no refused packet has passed, and no connection that is allowed was cut.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::{ClientError, Code};
use e2e::lab::{Backend, Daemon, Iptables, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::traffic::Traffic;
use xapi_mock::faults::{Fault, HostState, PluginFault};
use xenapi::LockingMode;

use super::editor::{Editor, any_below, policy_of, some_time};
use crate::on_bridge_and_ovs;

/// How often each thing breaks.
pub(crate) const ROUNDS: usize = if cfg!(feature = "soak") { 50 } else { 3 };
/// An hour in the plugin's numbers of writers: nanoseconds.
const HOUR: u64 = 3_600_000_000_000;
/// A fault comes at some moment of so long.
pub(super) const SOMETIME: Duration = Duration::from_millis(400);

/// Lets something break again and again, under a daemon that is no more patient than it is by default.
fn weather(backend: Backend, fault: impl Fn(&Lab, &mut Daemon<'_>) -> Result<()>) -> Result<()> {
    weather_in(&pool(backend).start()?, ROUNDS, fault)
}

/// The same in a pool of the caller's, so many times.
#[expect(clippy::print_stdout, reason = "how long it took is what a soak is read for")]
pub(super) fn weather_in(
    lab: &Lab,
    rounds: usize,
    fault: impl Fn(&Lab, &mut Daemon<'_>) -> Result<()>,
) -> Result<()> {
    let mut daemon = lab.daemon("a")?.as_shipped().start_with(POLICY)?;
    let traffic = Traffic::start(lab)?;
    let (mut acknowledged, mut slowest) = (0, Duration::ZERO);
    for _ in 0..rounds {
        let editor = Editor::start(&daemon)?;
        some_time(SOMETIME);
        fault(lab, &mut daemon)?;
        let whole = Instant::now();
        some_time(SOMETIME);
        acknowledged += editor.end(&daemon)?.acknowledged;
        lab.set_policy(&policy_of(&daemon)?)?;
        slowest = slowest.max(daemon.settle_since(whole)?);
    }
    println!("{rounds} rounds, {acknowledged} edits; the slowest was over after {slowest:?}");
    ensure!(acknowledged > rounds, "{acknowledged} edits in {rounds} rounds: the test shows nothing");
    check(expectations(lab)?);
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

/// Edits are taken, hooks are told that XAPI is out of reach, and whoever asks whether all is well, too.
fn without_xapi(daemon: &Daemon<'_>) -> Result<()> {
    let answer = daemon.hook("host-init", "host2");
    let Err(ClientError::Problem(problem)) = answer else { bail!("a hook succeeded: {answer:?}") };
    ensure!(problem.code == Code::XapiUnavailable, "{problem:?}");
    let trouble = daemon.trouble();
    ensure!(trouble.contains("XAPI cannot be asked"), "readyz says {trouble:?}");
    let generation = || -> Result<u64> { Ok(daemon.call(daemon.api().status())?.generation) };
    let before = generation()?;
    daemon.until("an edit is taken", |_| Ok(generation()? > before))
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

    /// XAPI forgets all sessions. Nobody says so, and connections last.
    fn sessions_end(backend) {
        weather(backend, |lab, _| {
            for _ in 0..3 {
                lab.mock()?.faults().inject(Fault::DropSessions);
                some_time(SOMETIME);
            }
            Ok(())
        })?;
    }

    /// The master's XAPI ends, is away for a while, and comes back with neither sessions nor memory.
    fn xapi_restarts(backend) {
        weather(backend, |lab, _| {
            lab.mock()?.restart_toolstack("host1")?;
            for_a_while(lab, "host1", HostState::Unreachable)?;
            lab.mock()?.restart_toolstack("host1")?;
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

    /// The network between the driver and XAPI is cut: packets vanish, or are refused.
    fn xapi_out_of_reach(backend) {
        weather(backend, |lab, daemon| {
            let state = [HostState::Silent, HostState::Unreachable][usize::from(any_below(2) == 1)];
            let faults = lab.mock()?.faults();
            faults.inject(Fault::Host { host: "host1".to_owned(), state });
            let told = without_xapi(daemon).with_context(|| format!("{state:?}"));
            some_time(Duration::from_secs(2));
            faults.inject(Fault::Host { host: "host1".to_owned(), state: HostState::Online });
            told
        })?;
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
    fn numbers_jump(backend) {
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

on_bridge_and_ovs! {
    /// The clocks of driver and dom0 are further apart than dom0 lets pass: it refuses every call, and both who waits and who
    /// asks how the host is are told by how much.
    fn clocks_differ(backend) {
        let lab = pool(backend).start()?;
        for host in ["host1", "host2"] {
            lab.loosen_clock(host)?;
        }
        weather_in(&lab, ROUNDS, |lab, daemon| {
            let host = ["host1", "host2"][usize::from(any_below(2) == 1)];
            let off = i64::try_from(125 + any_below(4000))? * [1, -1][usize::from(any_below(2) == 1)];
            lab.set_clock_off(host, off)?;
            let told = refused_by_clock(daemon, host, off);
            some_time(SOMETIME);
            lab.set_clock_off(host, 0)?;
            told
        })?;
    }
}

fn refused_by_clock(daemon: &Daemon<'_>, host: &str, off: i64) -> Result<()> {
    let answer = daemon.hook("host-init", host);
    let Err(ClientError::Problem(problem)) = answer else { bail!("a hook succeeded: {answer:?}") };
    ensure!(problem.code == Code::NotEnforced, "{problem:?}");
    let said = daemon.host(host)?.last_error.unwrap_or_default();
    // A call may take until the next second.
    let names = |off: i64| said.contains(&format!("{off}"));
    ensure!(said.contains("CLOCK_SKEW") && (names(off) || names(off - 1)), "{off}: {said}");
    Ok(())
}

/// Another program of dom0's holds the xtables lock for so many seconds.
fn the_xtables_lock_is_held(seconds: &str, rounds: usize) -> Result<()> {
    let lab = pool(Iptables::Legacy).start()?;
    weather_in(&lab, rounds, |lab, _| {
        let host = lab.host("host1")?;
        let holder = host.spawn("flock", &["/run/xtables.lock", "sleep", seconds])?;
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

/// Now and then it is free in time, now and then not.
#[test]
fn the_xtables_lock_is_held_for_a_moment() -> Result<()> {
    the_xtables_lock_is_held("6", ROUNDS)
}

/// Longer than any plugin waits for it.
#[test]
fn the_xtables_lock_is_held_for_long() -> Result<()> {
    the_xtables_lock_is_held("20", if cfg!(feature = "soak") { ROUNDS } else { 1 })
}

/// A guest ends while XAPI locks nothing: its hook says so, and later its next start finds its VIF closed all the same.
#[test]
fn a_vif_that_could_not_be_locked() -> Result<()> {
    let lab = pool(Backend::Nft).guarded("lan").start()?;
    let daemon = lab.daemon("a")?.start_with(POLICY)?;
    let method = Some("VIF.set_locking_mode".to_owned());
    let code = "INTERNAL_ERROR".to_owned();
    lab.mock()?.faults().inject(Fault::Refuse { method, code, params: Vec::new(), times: u32::MAX });
    lab.hard_shutdown("web2")?;
    daemon
        .until("XAPI has refused it", |daemon| Ok(daemon.log().contains("still open for the next start")))?;
    ensure!(lab.vif("web2", 0)?.1.locking_mode == LockingMode::Locked);
    let refused = format!("{:?}", daemon.hook("terminate", "web2").err());
    ensure!(refused.contains("still open for the next start"), "{refused}");
    lab.mock()?.faults().inject(Fault::Clear);
    daemon
        .until("the VIF is locked", |_| Ok(lab.vif("web2", 0)?.1.locking_mode == LockingMode::NetworkDefault))
}
