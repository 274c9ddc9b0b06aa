//! The same again and again: what happens once in a hundred times shows. (Policy changes under traffic: case D4.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::lab::Guest;
use e2e::tap::Tap;

use crate::first_packet::{LOUD, flood, forbidden, with_loud};
use crate::on_each;

/// Twice a boot, and once for each kind of iptables: two hundred transitions in a run.
const BOOTS: usize = if cfg!(feature = "soak") { 1000 } else { 50 };
/// How long a guest that was let go may flood before the next transition.
const HEARD: Duration = Duration::from_millis(60);
/// How long a guest that was let go may take to say its first word.
const SPOKEN: Duration = Duration::from_secs(20);

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
            // A busy machine may let it wait for its first word.
            let given_up = Instant::now() + SPOKEN;
            while sent.load(Ordering::Relaxed) == before && Instant::now() < given_up {
                std::thread::sleep(Duration::from_millis(1));
            }
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
}
