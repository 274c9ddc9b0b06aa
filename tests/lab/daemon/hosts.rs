//! A host loses what stood there: dom0 boots, its switch starts anew, another hand is at its rules.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::frame::arp_request;
use e2e::lab::{Backend, NetworkBackend, OUTSIDE, ipv4, mac};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::tap::Tap;
use e2e::traffic::{Refused, Shouting, Traffic, refused};

use super::editor::{Editor, any_below, policy_of, some_time};
use super::faults::{ROUNDS, SOMETIME};
use crate::on_bridge_and_ovs;

/// Frames for `web2`: what it may not get, and a question that it gets once it is let on the network.
fn shouts() -> Vec<Vec<u8>> {
    let ask = arp_request((mac(0, OUTSIDE), ipv4(0, OUTSIDE)), ipv4(0, WEB2));
    [refused(WEB2), vec![ask]].concat()
}

/// The number of `web2`.
const WEB2: u8 = 13;

on_bridge_and_ovs! {
    /// dom0 boots: on a guarded network what comes up before the daemon has seen it is closed, then it has its rules. The
    /// other host does not notice.
    fn dom0_boots(backend) {
        let lab = pool(backend).guarded("lan").start()?;
        let daemon = lab.daemon("a")?.as_shipped().start_with(POLICY)?;
        let traffic = Traffic::start(&lab)?;
        let shouting = Shouting::start(lab.outside(), shouts());
        let (heard, leaked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (Arc::clone(&heard), Arc::clone(&leaked));
        let (_, web2) = lab.vm("web2")?;
        lab.plane().set_boot(&web2.uuid.to_string(), move || listen(&counters.0, &counters.1));
        for _ in 0..ROUNDS {
            let editor = Editor::start(&daemon)?;
            some_time(SOMETIME);
            lab.block_on(lab.mock()?.stop_host("host2"))?;
            some_time(SOMETIME);
            lab.dom0_program("host2", "/etc/xapi.d/plugins/drawbridge", &["boot"], b"")?;
            lab.block_on(lab.mock()?.start_host("host2"))?;
            some_time(SOMETIME);
            lab.start("web2", false)?;
            let whole = Instant::now();
            editor.end(&daemon)?;
            lab.set_policy(&policy_of(&daemon)?)?;
            daemon.settle_since(whole)?;
            lab.forget_neighbours("web2")?;
            if lab.network_backend("host2")? == NetworkBackend::OpenVSwitch {
                lab.forget_cached_flows("host2")?;
            }
            check(expectations(&lab)?);
        }
        ensure!(shouting.stop()? > 100 && heard.load(Ordering::Relaxed) > 0, "the guest heard nothing at all");
        let leaked = leaked.load(Ordering::Relaxed);
        ensure!(leaked == 0, "{leaked} refused frames reached the guest");
        traffic.judge_connections()?;
    }

    /// Somebody takes our rules out by hand; that is put right, and said.
    fn another_hand(backend) {
        let lab = pool(backend).start()?;
        let daemon = lab.daemon("a")?.as_shipped().start_with(POLICY)?;
        for _ in 0..ROUNDS {
            let host = ["host1", "host2"][usize::from(any_below(2) == 1)];
            let drifts = daemon.number("host_drifts_total")?;
            some_time(SOMETIME);
            lab.damage(host)?;
            let damaged = Instant::now();
            daemon.until("the drift is noticed", |daemon| Ok(daemon.number("host_drifts_total")? > drifts))?;
            ensure!(daemon.host(host)?.last_drift.is_some());
            daemon.settle_since(damaged)?;
            check(expectations(&lab)?);
        }
    }
}

/// A switch that starts anew has no flows, and nobody says so: the daemon sees it when it next looks, and brings them back. On a
/// bridge that is `secure` nothing passes until then. (A `standalone` one is open, as docs/security.md says; on either,
/// connections are lost with the switch.)
#[test]
fn switches_start_anew() -> Result<()> {
    let lab = pool(Backend::OpenVSwitch).start()?;
    let host = lab.host("host1")?;
    let normal = || lab.ovs_ofctl("host1", &["add-flow", "xenbr0", "priority=0,actions=NORMAL"], b"");
    lab.ovs_vsctl("host1", &["set-fail-mode", "xenbr0", "secure"])?;
    normal()?;
    let daemon = lab.daemon("a")?.as_shipped().start_with(POLICY)?;
    let refused = Refused::start(&lab)?;
    for round in 0..ROUNDS {
        let editor = Editor::start(&daemon)?;
        some_time(SOMETIME);
        match round % 3 {
            0 => {}
            1 => host.kill_ovs()?,
            _ => host.stop_ovs()?,
        }
        if round % 3 == 0 {
            host.restart_ovs()?;
        } else {
            some_time(Duration::from_secs(2));
            host.start_ovs()?;
        }
        let whole = Instant::now();
        some_time(SOMETIME);
        editor.end(&daemon)?;
        lab.set_policy(&policy_of(&daemon)?)?;
        daemon.settle_since(whole)?;
        // Whose flow it is, and when it comes back, is not ours to say.
        normal()?;
        check(expectations(&lab)?);
    }
    refused.judge()
}

/// Runs in the guest from its first instant on, until it has heard something.
fn listen(heard: &AtomicU64, leaked: &AtomicU64) {
    let Ok(tap) = Tap::open("eth0") else { return };
    let (refused, started) = (refused(WEB2), Instant::now());
    let mut own = 0;
    while started.elapsed() < Duration::from_secs(2)
        || (own == 0 && started.elapsed() < Duration::from_secs(20))
    {
        for captured in tap.drain().unwrap_or_default().iter().filter(|one| !one.outgoing) {
            own += 1;
            leaked.fetch_add(u64::from(refused.contains(&captured.bytes)), Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    heard.fetch_add(own, Ordering::Relaxed);
}
