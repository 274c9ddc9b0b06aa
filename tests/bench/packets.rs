//! What a packet pays: an established flow, and new connections, from outside to a guest, on hosts with 1, 50 and 500
//! VIFs × 100 rules; beside no rules at all, and beside a flat layout that carries the same policy.
//!
//! On veth and bridge the sender's own system call carries the packet all the way, so that what is timed is the work per packet:
//! the processor time of the threads that send, which other work on the machine lengthens little.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drawbridge::desired::HostDesired;
use drawbridge::dom0::{Dom0, generation};
use drawbridge::reconcile::{Mode, reconcile};
use drawbridge::report::Status;
use drawbridge::run::Pool;
use e2e::lab::{Guest, Iptables, Lab};
use e2e::scenario::dom0_boots;
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::load::{self, GUEST_PORT};

/// How long each measurement lasts; each is repeated, and the middle one counts.
const WINDOW: Duration = Duration::from_millis(700);
const ROUNDS: usize = 5;
/// The guest's address number in the Lab.
const NUMBER: u8 = 11;

/// A second's worth of processor time.
#[derive(Clone, Copy)]
struct Rates {
    /// Established, to the guest.
    packets: f64,
    /// Established, from the guest: these pay for the source checks.
    answers: f64,
    connections: f64,
}

pub(crate) fn measure(iptables: Iptables, plugin: &std::path::Path) -> Result<String> {
    let lab = Lab::builder(iptables)
        .host_count(1)
        .guest(Guest::new("guest", "host1", NUMBER))
        .plugin(plugin.to_owned())
        .start()?;
    let shipped = rates(&lab)?;
    // One rule that sees every packet: what bridge netfilter and conntrack cost by themselves.
    let host = lab.host("host1")?;
    let alone = "*filter\n-I FORWARD 1 -m conntrack --ctstate NEW,ESTABLISHED,RELATED -j ACCEPT\nCOMMIT\n";
    load_bare(&lab, alone)?;
    host.run(|| std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1"))?;
    let tracked = rates(&lab)?;
    load_bare(&lab, &alone.replace("-I FORWARD 1", "-D FORWARD"))?;

    let mut text = format!(
        "From outside to a guest and back, per second of processor time, the middle one of {ROUNDS} rounds of {} ms. Ratios to bridge \
         netfilter with one rule (\"no rules\"):\n\n",
        WINDOW.as_millis()
    );
    let _ = writeln!(
        text,
        "| | established, packets/s to the guest | ratio | from the guest | ratio | new TCP connections/s | ratio |\n|---|---|---|---|---|---|---|"
    );
    let mut line = |name: &str, r: Rates| {
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {:.2} | {:.0} | {:.2} | {:.0} | {:.2} |",
            r.packets,
            r.packets / tracked.packets,
            r.answers,
            r.answers / tracked.answers,
            r.connections,
            r.connections / tracked.connections
        );
    };
    line("dom0 as shipped: iptables sees nothing", shipped);
    line("no rules", tracked);
    for vifs in [1, 50, 500] {
        apply(&lab, &load::host_with_guest(vifs, 100, NUMBER)?)?;
        line(&format!("Drawbridge, {vifs} VIFs × 100 rules"), rates(&lab)?);
        dom0_boots(&lab, "host1")?;
        host.run(|| std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1"))?;
        load_bare(&lab, &load::flat(vifs, 100, NUMBER))?;
        line(&format!("flat layout, {vifs} VIFs × 100 rules"), rates(&lab)?);
        load_bare(&lab, &load::flat_removed(vifs))?;
    }
    Ok(text.trim_end().to_owned())
}

fn apply(lab: &Lab, desired: &HostDesired) -> Result<()> {
    let pool = Pool::open(&lab.config_path())?;
    let (reference, record) = lab.block_on(pool.host("host1"))?;
    let uuid = record.uuid.to_string();
    let dom0 = Dom0 { client: &pool.client, signer: &pool.signer, host: &reference, uuid };
    let mode = Mode::Apply { generation: generation() };
    let report = lab.block_on(reconcile(&dom0, "host1", desired, mode, 1));
    ensure!(report.status != Status::Failed, "{:?}", report.error);
    Ok(())
}

fn load_bare(lab: &Lab, input: &str) -> Result<()> {
    let output = lab.host("host1")?.command("iptables-restore", &["--noflush"], input.as_bytes())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn rates(lab: &Lab) -> Result<Rates> {
    let mut rounds = [vec![], vec![], vec![]];
    for _ in 0..ROUNDS {
        let (packets, answers) = packets(lab)?;
        for (found, rate) in rounds.iter_mut().zip([packets, answers, connections(lab)?]) {
            found.push(rate);
        }
    }
    let [packets, answers, connections] = rounds.map(middle);
    Ok(Rates { packets, answers, connections })
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// Seconds for which the calling thread has had a processor, softirqs on its back included (`CONFIG_IRQ_TIME_ACCOUNTING` would
/// leave them out).
fn processor_time() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanoseconds).as_secs_f64())
}

fn guest_address() -> SocketAddr {
    SocketAddr::from((e2e::lab::ipv4(0, NUMBER), GUEST_PORT))
}

/// Small datagrams on one connection that was answered, to the guest and back.
fn packets(lab: &Lab) -> Result<(f64, f64)> {
    let receiver = lab.guest("guest")?.namespace.enter(|| UdpSocket::bind(guest_address()))?;
    let sender = lab.outside().namespace.enter(|| UdpSocket::bind("0.0.0.0:0"))?;
    receiver.set_read_timeout(Some(Duration::from_secs(2)))?;
    sender.set_read_timeout(Some(Duration::from_secs(2)))?;
    sender.connect(guest_address())?;
    let mut buffer = [0; 64];
    sender.send(b"first")?;
    let (_, from) = receiver.recv_from(&mut buffer).context("the guest hears nothing")?;
    receiver.send_to(b"answer", from)?;
    sender.recv(&mut buffer).context("the answer does not come")?;
    receiver.connect(from)?;
    Ok((flood(&sender)?, flood(&receiver)?))
}

/// Packets a second of processor time that this end can send.
fn flood(socket: &UdpSocket) -> Result<f64> {
    let (start, before) = (Instant::now(), processor_time()?);
    let mut sent = 0u32;
    while start.elapsed() < WINDOW {
        for _ in 0..64 {
            socket.send(b"packet")?;
        }
        sent += 64;
    }
    Ok(f64::from(sent) / (processor_time()? - before))
}

/// Connections opened and closed, one after the other.
fn connections(lab: &Lab) -> Result<f64> {
    let listener = lab.guest("guest")?.namespace.enter(|| TcpListener::bind(guest_address()))?;
    let over = Arc::new(AtomicBool::new(false));
    let accepting = {
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                drop(listener.accept());
            }
            processor_time()
        })
    };
    let (opened, opening) = lab.outside().namespace.enter(move || {
        let (start, before) = (Instant::now(), processor_time()?);
        let mut opened = 0u32;
        while start.elapsed() < WINDOW {
            let mut stream = TcpStream::connect_timeout(&guest_address(), Duration::from_secs(2))?;
            // Until the listener has taken it: or its queue would overflow, and a second's wait be measured.
            let _ = stream.read(&mut [0])?;
            // Closed at once and without TIME_WAIT, or the ports run out.
            setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
            opened += 1;
        }
        over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect_timeout(&guest_address(), Duration::from_secs(2)));
        anyhow::Ok((f64::from(opened), processor_time()? - before))
    })?;
    let accepting = accepting.join().map_err(|_| anyhow::anyhow!("the listener panicked"))??;
    Ok(opened / (opening + accepting))
}
