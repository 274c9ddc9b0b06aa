//! Which store counts, and which driver: a daemon that comes late, with an old store, with an empty one, beside another.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use drawbridge_wire::xmlrpc::Value;
use e2e::lab::{Backend, Daemon, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;
use e2e::traffic::Traffic;
use nix::sys::signal::Signal;
use xapi_mock::faults::Fault;
use xenapi::LockingMode;

use super::editor::{Editor, any_below, policy_of, some_time};
use super::faults::{ROUNDS, SOMETIME};
use crate::{on_bridge_and_ovs, on_each};

/// The store's files, as a backup has them: the daemon does not run.
fn copy_store(from: &Path, to: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        // What is newer than the copy does not belong to it.
        let _ = std::fs::remove_file(name(to));
        if std::fs::exists(name(from))? {
            std::fs::copy(name(from), name(to))?;
        }
    }
    Ok(())
}

/// What `web1` answers on: 80 by the scenario's policy, 81 by the other one.
fn serves(lab: &Lab, open: u16) -> Result<()> {
    let (web1, outside) = (lab.guest("web1")?, lab.outside());
    check(Family::BOTH.into_iter().flat_map(|family| {
        [outside.tcp(&web1, open, family).passes(), outside.tcp(&web1, 161 - open, family).blocked()]
    }));
    Ok(())
}

fn other_policy() -> String {
    POLICY.replace("ports = 80", "ports = 81")
}

/// It reads and does not write, and says why.
fn stands_by(daemon: &Daemon<'_>, why: &str) -> Result<()> {
    daemon.until(&format!("it stands by: {why}"), |daemon| Ok(daemon.trouble().contains(why)))?;
    ensure!(daemon.hosts()?.iter().all(|host| host.status == api::control::HostStatus::Standby));
    let refused = daemon.hook("host-init", "host1").err().context("a hook succeeded")?;
    ensure!(refused.to_string().contains(why), "{refused}");
    Ok(())
}

on_each! {
    /// While it was down its hosts booted, and guests started elsewhere and under other names.
    fn after_the_whole_pool(backend) {
        let lab = pool(backend).start()?;
        let mut daemon = lab.daemon("a")?.start_with(POLICY)?;
        daemon.kill()?;
        for hosts in [&["host2"][..], &["host1", "host2"]] {
            for host in hosts {
                lab.block_on(lab.mock()?.stop_host(host))?;
            }
            for host in hosts {
                lab.dom0_program(host, "/etc/xapi.d/plugins/drawbridge", &["boot"], b"")?;
                lab.block_on(lab.mock()?.start_host(host))?;
            }
            for guest in ["web1", "db", "web2", "plain"] {
                if !lab.is_running(guest)? {
                    lab.start(guest, false)?;
                }
            }
            daemon.start()?;
            // Whoever comes before it has begun to write is not sent away.
            daemon.hook("host-init", "host1")?;
            daemon.settle()?;
            check(expectations(&lab)?);
            daemon.kill()?;
        }
    }
}

on_bridge_and_ovs! {
    /// A store is filled and said to count in one breath: what is written is what it holds then, not what it held before, which
    /// was nothing.
    fn filled_and_adopted_at_once(backend) {
        let lab = pool(backend).start()?;
        let mut first = lab.daemon("a")?.start_with(POLICY)?;
        let traffic = Traffic::start(&lab)?;
        for name in ["b", "c", "d"] {
            first.kill()?;
            first = lab.daemon(name)?.start()?;
            first.set_policy(POLICY)?;
            first.adopt()?;
            first.settle()?;
        }
        traffic.judge_connections()?;
    }

    /// A new store is empty: nothing is taken from the hosts until somebody says that it counts.
    fn with_an_empty_store(backend) {
        let lab = pool(backend).start()?;
        lab.daemon("a")?.start_with(POLICY)?;
        let writes = lab.writes("host1")?;
        let locking = lab.vif("web1", 0)?.1.locking_mode;
        let empty = lab.daemon("empty")?.start()?;
        stands_by(&empty, "the store is new")?;
        check(expectations(&lab)?);
        // Filled, it is still not said to count.
        empty.set_policy(&other_policy())?;
        std::thread::sleep(Duration::from_secs(3));
        stands_by(&empty, "the store is new")?;
        check(expectations(&lab)?);
        ensure!(lab.writes("host1")? == writes, "something was written");
        ensure!(lab.vif("web1", 0)?.1.locking_mode == locking && locking != LockingMode::Disabled);
        empty.adopt()?;
        empty.settle()?;
        serves(&lab, 81)?;
    }

    /// A backup is brought back: what was enforced since stays until somebody says that the backup counts.
    fn with_an_old_store(backend) {
        let lab = pool(backend).start()?;
        let mut daemon = lab.daemon("a")?.start_with(POLICY)?;
        daemon.terminate()?;
        let (store, backup) = (daemon.store(), daemon.store().with_extension("backup"));
        copy_store(&store, &backup)?;
        daemon.start()?;
        daemon.set_policy(&other_policy())?;
        daemon.settle()?;
        daemon.terminate()?;
        copy_store(&backup, &store)?;
        daemon.start()?;
        stands_by(&daemon, "bring the newer store back")?;
        serves(&lab, 81)?;
        daemon.adopt()?;
        lab.set_policy(POLICY)?;
        daemon.settle()?;
        serves(&lab, 80)?;
        // It counts from now on.
        daemon.kill()?;
        daemon.start()?;
        daemon.settle()?;
    }

    /// The driver that came later has the pool; the one before stops writing and says so. Guests do not notice.
    fn beside_another(backend) {
        let lab = pool(backend).start()?;
        let mut first = lab.daemon("first")?.start_with(POLICY)?;
        let traffic = Traffic::start(&lab)?;
        for _ in 0..ROUNDS {
            first.set_policy(POLICY)?;
            let mut second = lab.daemon("second")?.start()?;
            second.set_policy(&format!("{POLICY}{}", include_str!("../policy/web3.toml")))?;
            some_time(SOMETIME);
            second.adopt()?;
            stands_by(&first, "has taken this pool over")?;
            second.settle()?;
            // The first one's edits are kept, and not enforced.
            let writes = lab.writes("host1")?;
            first.store_policy(&other_policy())?;
            some_time(SOMETIME);
            second.settle()?;
            ensure!(lab.writes("host1")? == writes, "the driver that stands by has written");
            // To take the pool back: stop the other, start anew, and say which store counts.
            second.kill()?;
            first.kill()?;
            first.start()?;
            stands_by(&first, "bring the newer store back")?;
            first.set_policy(POLICY)?;
            first.adopt()?;
            first.settle()?;
            check(expectations(&lab)?);
        }
        traffic.judge_connections()?;
    }

    /// XAPI lets nobody replace the pool's record at once: between the old and the new one there is none. Who stands by still does.
    fn a_record_that_is_gone_for_a_moment(backend) {
        let lab = pool(backend).start()?;
        let first = lab.daemon("first")?.start_with(POLICY)?;
        let second = lab.daemon("second")?.start()?;
        second.set_policy(&other_policy())?;
        second.adopt()?;
        stands_by(&first, "has taken this pool over")?;
        second.settle()?;
        let writes = lab.writes("host1")?;
        let pools = lab.xapi("pool.get_all", vec![])?;
        let Value::Array(pools) = pools else { bail!("{pools:?}") };
        let pool = pools.into_iter().next().context("no pool")?;
        lab.xapi("pool.remove_from_other_config", vec![pool, "drawbridge:writer".into()])?;
        std::thread::sleep(Duration::from_secs(5));
        stands_by(&first, "has taken this pool over")?;
        second.settle()?;
        ensure!(lab.writes("host1")? == writes, "a driver that stands by has written");
    }

    /// A driver sleeps, as its VM does when it is paused, in the middle of its work. Another takes the pool over. When the first
    /// one wakes it is high time to look at its hosts, and its connection to XAPI may be gone: it writes nothing.
    fn one_that_slept(backend) {
        let lab = pool(backend).start()?;
        let mut first = lab.daemon("first")?.as_shipped().look_after(1).start_with(POLICY)?;
        let traffic = Traffic::start(&lab)?;
        for _ in 0..ROUNDS {
            let editor = Editor::start(&first)?;
            some_time(SOMETIME);
            first.signal(Signal::SIGSTOP)?;
            let mut second = lab.daemon("second")?.as_shipped().start()?;
            second.set_policy(&format!("{POLICY}{}", include_str!("../policy/web3.toml")))?;
            second.adopt()?;
            second.settle()?;
            some_time(SOMETIME);
            if any_below(2) == 1 {
                lab.mock()?.restart_toolstack("host1")?;
                second.settle()?;
            }
            let writes = || -> Result<_> { Ok((lab.writes("host1")?, lab.writes("host2")?)) };
            let before = writes()?;
            first.signal(Signal::SIGCONT)?;
            let whole = Instant::now();
            some_time(SOMETIME);
            editor.end(&first)?;
            stands_by(&first, "has taken this pool over")?;
            second.settle_since(whole)?;
            ensure!(writes()? == before, "the driver that slept has written\n{}", first.log());
            second.kill()?;
            first.kill()?;
            first.start()?;
            stands_by(&first, "bring the newer store back")?;
            lab.set_policy(&policy_of(&first)?)?;
            first.adopt()?;
            first.settle()?;
        }
        check(expectations(&lab)?);
        traffic.judge_connections()?;
    }
}

/// XAPI notes who writes, and the answer to that is lost: the driver sees in the record that the pool is its own.
#[test]
fn the_answer_to_its_claim_is_lost() -> Result<()> {
    let lab = pool(Backend::Nft).start()?;
    let mut daemon = lab.daemon("a")?.start_with(POLICY)?;
    // Now and then it hears first that the old record is gone, and writes once more.
    for _ in 0..8 {
        daemon.terminate()?;
        let method = Some("pool.add_to_other_config".to_owned());
        lab.mock()?.faults().inject(Fault::Cut { method, times: 1 });
        daemon.start()?;
        daemon.settle()?;
    }
    let lost = daemon.log().matches("does not say yet that this driver writes").count();
    ensure!(lost == 8, "{lost} of 8 answers were lost");
    Ok(())
}
