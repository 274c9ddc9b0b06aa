//! The same again and again: what happens once in a hundred times shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::flow::Flow;
use e2e::frame::ip::{Path, UDP};
use e2e::lab::{Guest, OUTSIDE, ipv4, ipv6, mac};
use e2e::scenario::{POLICY, pool};
use e2e::station::Family;
use e2e::tap::Tap;

use crate::first_packet::{LOUD, flood, forbidden, with_loud};
use crate::on_each;

/// Twice a boot, and once for each kind of iptables: two hundred transitions in a run.
const BOOTS: usize = 50;
/// Policy changes under traffic.
const REFRESHES: usize = 100;
/// How long a guest that was let go may flood before the next transition.
const HEARD: Duration = Duration::from_millis(60);

on_each! {
    /// A guest that floods from its first instant is started and resumed over and over: none of what it must not send
    /// gets out.
    fn no_transition_leaks(backend) {
        let lab = with_loud(backend).guest(Guest::new("loud", "host1", LOUD).halted()).start()?;
        lab.apply()?.success()?;
        let (frames, sent) = (Arc::new(forbidden()), Arc::new(AtomicU64::new(0)));
        let (_, vm) = lab.vm("loud")?;
        let (in_guest, counter) = (Arc::clone(&frames), Arc::clone(&sent));
        lab.plane().set_boot(&vm.uuid.to_string(), move || flood(&in_guest, &counter));
        let outside = lab.outside().namespace.enter(|| Tap::open("eth0"))?;
        let (mut leaked, mut silent) = (0, 0);
        let mut listen = |before: u64| -> Result<()> {
            std::thread::sleep(HEARD);
            leaked += outside.drain()?.iter().filter(|seen| !seen.outgoing && frames.contains(&seen.bytes)).count();
            silent += usize::from(sent.load(Ordering::Relaxed) == before);
            Ok(())
        };
        for _ in 0..BOOTS {
            let before = sent.load(Ordering::Relaxed);
            lab.start("loud", true)?;
            lab.hook("create", "loud")?.success()?;
            lab.unpause("loud")?;
            listen(before)?;
            lab.suspend("loud")?;
            lab.hook("suspend", "loud")?.success()?;
            let before = sent.load(Ordering::Relaxed);
            lab.resume("loud", true)?;
            lab.hook("resume", "loud")?.success()?;
            lab.unpause("loud")?;
            listen(before)?;
            lab.hard_shutdown("loud")?;
            lab.hook("terminate", "loud")?.success()?;
        }
        ensure!(silent == 0, "the guest did not speak after {silent} of {} transitions", 2 * BOOTS);
        ensure!(leaked == 0, "{leaked} forbidden frames got out");
    }

    /// A hundred changes, half of which raise the epoch, under traffic that is allowed and traffic that is not: none
    /// of the one is lost, none of the other arrives.
    fn no_refresh_blinks(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        let (web, db, outside) = (lab.guest("web1")?, lab.guest("db")?, lab.outside());
        let mut flows = Vec::new();
        for family in Family::BOTH {
            for probe in [outside.tcp(&web, 80, family), web.tcp(&db, 5432, family), web.udp(outside, 53, family)] {
                flows.push((probe.to_string(), Flow::start(&probe)?));
            }
        }
        // From outside to web1, UDP 80: refused before, in between and after.
        let refused = refused();
        let ears = web.namespace.enter(|| Tap::open("eth0"))?;
        let over = Arc::new(AtomicBool::new(false));
        let shouting = {
            let (over, refused) = (Arc::clone(&over), refused.clone());
            outside.namespace.spawn(move || -> std::io::Result<u64> {
                let tap = Tap::open("eth0")?;
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) {
                    for frame in &refused {
                        tap.send(frame)?;
                        sent += 1;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(sent)
            })
        };
        let mut leaked = 0;
        for round in 0..REFRESHES {
            let more = "[[group.rule]]\ndirection = \"ingress\"\nprotocol = \"tcp\"\nports = 8080\n";
            let policy = POLICY.replacen("[[port]]", &format!("{more}\n[[port]]"), 1);
            lab.set_policy(if round % 2 == 0 { &policy } else { POLICY })?;
            ensure!(!lab.apply()?.success()?.changed()?.is_empty(), "round {round} changed nothing");
            leaked += ears.drain()?.iter().filter(|seen| !seen.outgoing && refused.contains(&seen.bytes)).count();
        }
        over.store(true, Ordering::Relaxed);
        let sent = shouting.join().map_err(|_| anyhow::anyhow!("the shouter panicked"))??;
        ensure!(sent > 100, "only {sent} refused frames were sent");
        ensure!(leaked == 0, "{leaked} of {sent} refused frames arrived");
        for (name, flow) in flows {
            ensure!(flow.alive(Duration::from_secs(2)), "{name} was cut");
            let report = flow.stop()?;
            ensure!(report.undisturbed(), "{name} noticed: {report:?}");
        }
    }
}

fn refused() -> Vec<Vec<u8>> {
    let (web, out) = (mac(0, 11), mac(0, OUTSIDE));
    let four = Path::V4(ipv4(0, OUTSIDE), ipv4(0, 11));
    let six = Path::V6(ipv6(0, OUTSIDE), ipv6(0, 11));
    vec![
        four.frame(web, out, UDP, &four.udp(1000, 80, b"refused")),
        six.frame(web, out, UDP, &six.udp(1000, 80, b"refused")),
    ]
}
