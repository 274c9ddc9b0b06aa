//! Nobody of the driver is there, and the switch has lost its flows: guarded networks are closed all the same, by what
//! `drawbridge-flows.path` starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::frame::ip::{Path, UDP};
use e2e::lab::{Backend, Builder, Guest, Lab, ipv4, ipv6};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::{Family, Station};
use e2e::tap::Tap;
use xapi_mock::netns::HostHandle;

use super::restart::RESTARTS;

const PID: &str = "/run/openvswitch/ovs-vswitchd.pid";

/// Every network of the bridge is guarded.
#[test]
fn a_bridge() -> Result<()> {
    let lab = with_loud(pool(Backend::OpenVSwitch).network("fenced")).start()?;
    closes_itself(&lab)
}

/// A guarded VLAN beside an open network.
#[test]
fn a_vlan() -> Result<()> {
    let lab = with_loud(pool(Backend::OpenVSwitch).vlan("fenced", 100)).start()?;
    closes_itself(&lab)
}

fn with_loud(builder: Builder) -> Builder {
    let loud = include_str!("../policy/loud.toml")
        .replace("10.20.0.15", "10.20.1.15")
        .replace("fd20::f", "fd20:1::f");
    builder
        .guarded("fenced")
        .guest(Guest::new("loud", "host1", 15).on(&[1]))
        .policy(&format!("{POLICY}{loud}"))
}

#[expect(
    clippy::print_stdout,
    reason = "how long the switch was open is of interest, and differs from machine to machine"
)]
fn closes_itself(lab: &Lab) -> Result<()> {
    lab.apply()?.success()?;
    let (loud, beyond) = (lab.guest("loud")?, lab.add_station_on(1, "beyond", 201)?);
    let (web, outside, dom0) = (lab.guest("web1")?, lab.outside().clone(), lab.dom0("host1")?);
    for (name, restart) in RESTARTS {
        let unit = Unit::watch(lab.host("host1")?);
        let (said, answered) = (shouts(&loud, 15, &beyond, 201), shouts(&beyond, 201, &loud, 15));
        let (out, back) = (Shouter::start(&loud, &said), Shouter::start(&beyond, &answered));
        let (ears, inside) = (listen(&beyond)?, listen(&loud)?);
        restart(lab)?;
        unit.until_run()?;
        let (early, late) = (heard(&ears, &said)?, heard(&inside, &answered)?);
        println!(
            "{name}: before the switch was closed {early} frames got out and {late} in, of one a ms and kind"
        );
        thread::sleep(Duration::from_millis(500));
        let (got_out, got_in) = (heard(&ears, &said)?, heard(&inside, &answered)?);
        let tried = (out.stop()?, back.stop()?);
        ensure!(tried.0 > 100 && tried.1 > 100, "{name}: only {tried:?} frames were tried");
        ensure!((got_out, got_in) == (0, 0), "{name}: {got_out} frames got out and {got_in} in");
        // Who is not guarded is as open as without a driver, and so is dom0.
        check(Family::BOTH.map(|family| outside.tcp(&web, 22, family).passes()));
        check([dom0.echo(&outside, Family::V4).passes(), outside.echo(&dom0, Family::V4).passes()]);
        let closed = lab.rules("host1")?;
        ensure!(!closed.is_empty() && closed.iter().all(|flow| flow.contains(CLOSED)), "{closed:#?}");
        // A second start finds its own and changes nothing.
        run(&lab.host("host1")?)?;
        ensure!(lab.rules("host1")? == closed, "{:#?}", lab.rules("host1")?);
        lab.hook("host-init", "host1")?.success()?;
        ensure!(
            !lab.rules("host1")?.iter().any(|flow| flow.contains(CLOSED)),
            "{name}: closed flows are left"
        );
        check(expectations(lab)?);
        ensure!(lab.plan()?.success()?.changed()?.is_empty(), "{name}: something is left to do");
        // And one that comes late takes nothing away.
        let written = lab.rules("host1")?;
        run(&lab.host("host1")?)?;
        ensure!(lab.rules("host1")? == written, "{name}: the driver's flows were changed");
    }
    Ok(())
}

/// What closed flows are known by.
const CLOSED: &str = "cookie=0x4457427200000000";

fn run(host: &HostHandle) -> Result<()> {
    let done = host.command("/etc/xapi.d/plugins/drawbridge", &["boot", "flows"], b"")?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// `drawbridge-flows.path` and its service: another pid in the file, and the run starts.
struct Unit {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Unit {
    fn watch(host: HostHandle) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let before = host.read(PID).ok();
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let now = host.read(PID).ok();
                if now.is_some() && now != before {
                    return run(&host);
                }
                thread::sleep(Duration::from_millis(1));
            }
            anyhow::bail!("the switch did not start")
        });
        Self { over, thread }
    }

    /// Waits for its run. Call when the switch has started.
    fn until_run(self) -> Result<()> {
        thread::sleep(Duration::from_millis(100));
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the unit panicked"))?
    }
}

/// Says the same frames again and again.
struct Shouter {
    over: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<u64>>,
}

impl Shouter {
    fn start(who: &Station, frames: &[Vec<u8>]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (stop, frames) = (Arc::clone(&over), frames.to_vec());
        let thread = who.namespace.spawn(move || {
            let tap = Tap::open("eth0")?;
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                for frame in &frames {
                    // The link goes down with the switch.
                    sent += u64::from(tap.send(frame).is_ok());
                }
                thread::sleep(Duration::from_millis(1));
            }
            Ok(sent)
        });
        Self { over, thread }
    }

    fn stop(self) -> Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| anyhow::anyhow!("the shouter panicked"))??)
    }
}

fn listen(who: &Station) -> Result<Tap> {
    Ok(who.namespace.enter(|| Tap::open("eth0"))?)
}

fn heard(ears: &Tap, frames: &[Vec<u8>]) -> Result<usize> {
    Ok(ears.drain()?.iter().filter(|seen| !seen.outgoing && frames.contains(&seen.bytes)).count())
}

/// Datagrams of both families, and one to everybody.
fn shouts(from: &Station, own: u8, to: &Station, other: u8) -> Vec<Vec<u8>> {
    let four = Path::V4(ipv4(1, own), ipv4(1, other));
    let six = Path::V6(ipv6(1, own), ipv6(1, other));
    let many = e2e::frame::Mac::BROADCAST;
    vec![
        four.frame(to.mac, from.mac, UDP, &four.udp(1000, 53, b"shout")),
        six.frame(to.mac, from.mac, UDP, &six.udp(1000, 53, b"shout")),
        four.frame(many, from.mac, UDP, &four.udp(1000, 9, b"everybody")),
    ]
}
