//! What a packet pays on an Open vSwitch host. The Lab's switch runs in user space, on a thread of its own, so what counts is
//! what arrives: the sender is faster than the switch.

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use drawbridge::desired::HostDesired;
use drawbridge::run::Pool;
use e2e::lab::{Backend, Guest, Lab, OUTSIDE, ipv4};
use e2e::station::Station;

use super::{BRIDGE, Bench, policy};
use crate::load::{self, GUEST_PORT};

const WINDOW: Duration = Duration::from_millis(700);
const ROUNDS: usize = 5;
/// The guest's address number in the Lab.
const NUMBER: u8 = 11;

/// What connection tracking costs by itself.
const TRACKED: &str = "\
table=0,priority=9,ip,ct_state=-trk,actions=ct(table=1)
table=1,priority=9,ip,ct_state=+new,actions=ct(commit),NORMAL
table=1,priority=9,ip,ct_state=+est,actions=NORMAL
";

pub(super) fn measure(plugin: &Path) -> Result<String> {
    let lab = Lab::builder(Backend::OpenVSwitch)
        .host_count(1)
        .guest(Guest::new("guest", "host1", NUMBER))
        .plugin(plugin.to_owned())
        .start()?;
    lab.ovs_vsctl("host1", &["set", "Interface", "vif1.0", "external_ids:xs-vif-uuid=v0"])?;
    let mut text = format!(
        "Established, one flow of small datagrams, packets that arrive per second, the middle one of {ROUNDS} rounds of {} ms. Ratios \
         to `ct()` with nothing else (\"no rules\") on a switch of as many ports, since a switch in user space asks each of them:\n\n\
         | | to the guest | ratio | from the guest | ratio |\n|---|---|---|---|---|\n",
        WINDOW.as_millis()
    );
    let pool = Pool::open(&lab.config_path())?;
    let (host, _) = lab.block_on(pool.host("host1"))?;
    let mut ports = 1;
    for vifs in [1, 50, 200] {
        policy::add_ports(&lab, BRIDGE, ports..vifs)?;
        ports = vifs;
        let shipped = rates(&lab)?;
        lab.ovs_ofctl("host1", &["add-flows", BRIDGE, "-"], TRACKED.as_bytes())?;
        let tracked = rates(&lab)?;
        lab.ovs_ofctl("host1", &["--strict", "del-flows", BRIDGE, "priority=9,ip,ct_state=-trk"], b"")?;
        lab.ovs_ofctl("host1", &["del-flows", BRIDGE, "table=1"], b"")?;
        let wanted = load::host_with_guest(vifs, 100, NUMBER)?;
        let wanted = HostDesired { backend: xenapi::Backend::OpenVSwitch, ..wanted };
        let bench = Bench::new(&lab, &pool, &host)?;
        bench.run(&wanted)?;
        let ours = rates(&lab)?;
        bench.clear()?;
        let lines = [
            ("as shipped: no connection tracking", shipped),
            ("no rules", tracked),
            ("Drawbridge, × 100 rules", ours),
        ];
        for (name, (to, from)) in lines {
            let (to_ratio, from_ratio) = (to / tracked.0, from / tracked.1);
            writeln!(
                text,
                "| {vifs} VIFs, {name} | {to:.0} | {to_ratio:.2} | {from:.0} | {from_ratio:.2} |"
            )?;
        }
    }
    Ok(text.trim_end().to_owned())
}

/// To the guest and back.
fn rates(lab: &Lab) -> Result<(f64, f64)> {
    let (mut to, mut from) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (there, back) = connect(lab)?;
        let addresses = (there.local_addr()?, back.local_addr()?);
        to.push(arriving(&there, &back).with_context(|| format!("{addresses:?}"))?);
        from.push(arriving(&back, &there)?);
    }
    let middle = |mut all: Vec<f64>| {
        all.sort_unstable_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    Ok((middle(to), middle(from)))
}

/// Two sockets that have heard from each other.
fn connect(lab: &Lab) -> Result<(UdpSocket, UdpSocket)> {
    let bind = |station: &Station, number, port| -> Result<UdpSocket> {
        let address = SocketAddr::from((ipv4(0, number), port));
        let socket = station.namespace.enter(move || UdpSocket::bind(address))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(socket)
    };
    let guest = bind(&lab.guest("guest")?, NUMBER, GUEST_PORT)?;
    let outside = bind(lab.outside(), OUTSIDE, 0)?;
    outside.connect(guest.local_addr()?)?;
    guest.connect(outside.local_addr()?)?;
    let mut buffer = [0; 64];
    let deadline = Instant::now() + Duration::from_secs(2);
    for (from, to) in [(&outside, &guest), (&guest, &outside)] {
        loop {
            from.send(b"hello")?;
            match to.recv(&mut buffer) {
                Ok(_) => break,
                Err(error) if Instant::now() > deadline => return Err(error).context("nothing arrives"),
                Err(_) => {}
            }
        }
    }
    Ok((outside, guest))
}

/// Packets a second that get from one to the other.
fn arriving(from: &UdpSocket, to: &UdpSocket) -> Result<f64> {
    let over = Arc::new(AtomicBool::new(false));
    let sending = {
        let (over, from) = (Arc::clone(&over), from.try_clone()?);
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // A full queue is what is wanted.
                let _ = from.send(b"packet");
            }
        })
    };
    let (start, mut seen, mut buffer) = (Instant::now(), 0u32, [0; 64]);
    while start.elapsed() < WINDOW {
        seen += u32::from(to.recv(&mut buffer).is_ok());
    }
    let rate = f64::from(seen) / start.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
    // What is still under way is not the next one's.
    while to.recv(&mut buffer).is_ok() {}
    Ok(rate)
}
