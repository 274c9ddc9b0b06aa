//! A guest that talks from its first instant is heard by nobody it must not reach. (Created: case D1.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::frame::Mac;
use e2e::frame::ip::{Path, TCP, UDP, flag};
use e2e::lab::{Backend, Builder, Guest, Iptables, Lab, OUTSIDE, ipv4, ipv6, mac};
use e2e::scenario::{POLICY, pool};
use e2e::tap::Tap;

use crate::on_each;

/// The talkative guest's number.
pub(crate) const LOUD: u8 = 15;

on_each! {
    /// One that comes back is given its rules, then let go.
    fn resume(backend) {
        let lab = with_loud(backend).guest(Guest::new("loud", "host1", LOUD)).start()?;
        lab.apply()?.success()?;
        lab.suspend("loud")?;
        lab.hook("suspend", "loud")?.success()?;
        listen_to_boot(&lab, |lab| {
            lab.resume("loud", true)?;
            lab.hook("resume", "loud")?.success()?;
            lab.unpause("loud")
        })?;
    }

    /// On a guarded network nothing has to be paused: a VIF without rules passes nothing, so the guest may run from
    /// the start, reboot by itself, and say what it likes until its rules stand.
    fn guarded_network(backend) {
        let lab = with_loud(backend).guarded("lan").guest(Guest::new("loud", "host1", LOUD).halted()).start()?;
        lab.apply()?.success()?;
        listen_to_boot(&lab, |lab| lab.start("loud", false))?;
        lab.hook("create", "loud")?.success()?;
        listen_to_boot(&lab, |lab| lab.clean_reboot("loud"))?;
        listen_to_boot(&lab, |lab| lab.hook("reboot", "loud")?.success().map(drop))?;
    }
}

/// The scenario, with a group for the talkative guest that lets nothing in or out.
pub(crate) fn with_loud(backend: Backend) -> Builder {
    pool(backend).policy(&format!("{POLICY}{}", include_str!("policy/loud.toml")))
}

/// Frames the guest must not get out: it may serve nobody and reach nobody, and it lies about who it is.
pub(crate) fn forbidden() -> Vec<Vec<u8>> {
    let (own, out) = (mac(0, LOUD), mac(0, OUTSIDE));
    let four = Path::V4(ipv4(0, LOUD), ipv4(0, OUTSIDE));
    let six = Path::V6(ipv6(0, LOUD), ipv6(0, OUTSIDE));
    let liar = Path::V4(ipv4(0, 13), ipv4(0, OUTSIDE));
    vec![
        four.frame(out, own, TCP, &four.tcp((1000, 80), flag::SYN, (1, 0), b"")),
        six.frame(out, own, TCP, &six.tcp((1000, 80), flag::SYN, (1, 0), b"")),
        four.frame(out, own, UDP, &four.udp(1000, 53, b"first")),
        six.frame(out, own, UDP, &six.udp(1000, 53, b"first")),
        four.frame(Mac::BROADCAST, own, UDP, &four.udp(1000, 9, b"everybody")),
        liar.frame(out, own, UDP, &liar.udp(1000, 53, b"not me")),
        liar.frame(out, mac(0, 13), UDP, &liar.udp(1000, 53, b"not me at all")),
    ]
}

/// Does `boot` while the guest sends [`forbidden`] frames from its first instant on and for a while after; nothing of
/// them may reach the machine outside.
fn listen_to_boot(lab: &Lab, boot: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let forbidden = Arc::new(forbidden());
    let sent = Arc::new(AtomicU64::new(0));
    let (_, vm) = lab.vm("loud")?;
    let (frames, counter) = (Arc::clone(&forbidden), Arc::clone(&sent));
    lab.plane().set_boot(&vm.uuid.to_string(), move || flood(&frames, &counter));
    let outside = lab.outside().namespace.enter(|| Tap::open("eth0"))?;
    boot(lab)?;
    std::thread::sleep(Duration::from_millis(400));
    let leaked =
        outside.drain()?.into_iter().filter(|seen| !seen.outgoing && forbidden.contains(&seen.bytes)).count();
    let sent = sent.load(Ordering::Relaxed);
    // A guest on a port that is off the bridge cannot send at all until it is on.
    ensure!(sent > 0 || lab.is_guarded("lan")?, "the guest never spoke: the test shows nothing");
    ensure!(leaked == 0, "{leaked} of {sent} forbidden frames got out");
    Ok(())
}

/// Sends without a pause for half a second. Runs in the guest.
pub(crate) fn flood(frames: &[Vec<u8>], sent: &AtomicU64) {
    let Ok(tap) = Tap::open("eth0") else { return };
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        for frame in frames {
            if tap.send(frame).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The test itself can see a leak: the same flood from a guest that is nobody's business arrives.
#[test]
fn an_unfiltered_guest_is_heard() -> Result<()> {
    let lab = Lab::builder(Iptables::Nft).guest(Guest::new("loud", "host1", LOUD).halted()).start()?;
    let error = listen_to_boot(&lab, |lab| lab.start("loud", false)).err();
    let error = error.ok_or_else(|| anyhow::anyhow!("nothing was heard"))?;
    ensure!(error.to_string().contains("got out"), "{error:#}");
    Ok(())
}
