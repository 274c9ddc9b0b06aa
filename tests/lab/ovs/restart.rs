//! `ovs-vswitchd` and `ovsdb-server` end and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::frame::ip::{Path, TCP, UDP, flag};
use e2e::lab::{Backend, Guest, Lab, ipv4, ipv6};
use e2e::probe::{Expectation, check};
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::{Family, Station};
use e2e::tap::Tap;

pub(super) type Restart = fn(&Lab) -> Result<()>;

/// The ways a switch comes back without flows.
pub(super) const RESTARTS: [(&str, Restart); 3] = [
    ("restarted", |lab| Ok(lab.host("host1")?.restart_ovs()?)),
    ("killed", |lab| {
        lab.host("host1")?.kill_ovs()?;
        Ok(lab.host("host1")?.start_ovs()?)
    }),
    ("stopped", |lab| {
        lab.host("host1")?.stop_ovs()?;
        Ok(lab.host("host1")?.start_ovs()?)
    }),
];

/// What the next run finds, it repairs: in one call, in a constant number of plugin calls, whatever was lost.
#[test]
fn the_next_run_repairs() -> Result<()> {
    let lab = pool(Backend::OpenVSwitch).start()?;
    lab.apply()?.success()?;
    for (name, restart) in RESTARTS {
        restart(&lab)?;
        ensure!(lab.rules("host1")?.is_empty(), "{name}: the flows are still there");
        ensure!(lab.plan()?.success()?.changed()? == ["host1"], "{name}: not noticed");
        let before = lab.audit("host1")?.len();
        lab.hook("host-init", "host1")?.success()?;
        let calls = lab.audit("host1")?.len() - before;
        ensure!(calls <= 8, "{name}: repaired with {calls} plugin calls");
        check(expectations(&lab)?);
        ensure!(lab.plan()?.success()?.changed()?.is_empty(), "{name}: something is left to do");
    }
    Ok(())
}

/// Neither the end of a switch nor its return opens a guarded network whose bridge is `secure`, as XAPI makes it for
/// `network.other_config:vswitch-controller-fail-mode`. (A `standalone` bridge forwards everything without flows.)
#[test]
fn a_guarded_network_stays_closed() -> Result<()> {
    let loud = include_str!("../policy/loud.toml")
        .replace("10.20.0.15", "10.20.1.15")
        .replace("fd20::f", "fd20:1::f");
    let lab = pool(Backend::OpenVSwitch)
        .network("fenced")
        .guarded("fenced")
        .guest(Guest::new("loud", "host1", 15).on(&[1]))
        .guest(Guest::new("nas", "host1", 16).on(&[0, 1]))
        .policy(&format!("{POLICY}{loud}{}", include_str!("../policy/nas.toml")))
        .start()?;
    for host in ["host1", "host2"] {
        lab.ovs_vsctl(host, &["set-fail-mode", "xenbr1", "secure"])?;
        lab.ovs_ofctl(host, &["add-flow", "xenbr1", "priority=0,actions=NORMAL"], b"")?;
    }
    lab.apply()?.success()?;
    let (loud, nas) = (lab.guest("loud")?, lab.guest_nic("nas", 1)?);
    let beyond = lab.add_station_on(1, "beyond", 201)?;
    let forbidden = shouts(&loud, &beyond);
    for (name, restart) in RESTARTS {
        let ears = beyond.namespace.enter(|| Tap::open("eth0"))?;
        let over = Arc::new(AtomicBool::new(false));
        let shouting = {
            let (over, frames) = (Arc::clone(&over), forbidden.clone());
            loud.namespace.spawn(move || -> std::io::Result<u64> {
                let tap = Tap::open("eth0")?;
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) {
                    for frame in &frames {
                        // The link goes down with the switch.
                        sent += u64::from(tap.send(frame).is_ok());
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(sent)
            })
        };
        restart(&lab)?;
        thread::sleep(Duration::from_millis(300));
        lab.hook("host-init", "host1")?.success()?;
        thread::sleep(Duration::from_millis(100));
        over.store(true, Ordering::Relaxed);
        let sent = shouting.join().map_err(|_| anyhow::anyhow!("the shouter panicked"))??;
        let heard =
            ears.drain()?.into_iter().filter(|seen| !seen.outgoing && forbidden.contains(&seen.bytes));
        let heard = heard.count();
        ensure!(sent > 100 && heard == 0, "{name}: {heard} of {sent} forbidden frames got out");
        let call = |path: Path, port| {
            path.frame(nas.mac, beyond.mac, TCP, &path.tcp((1000, port), flag::SYN, (1, 0), b""))
        };
        for path in [Path::V4(ipv4(1, 201), ipv4(1, 16)), Path::V6(ipv6(1, 201), ipv6(1, 16))] {
            check([
                beyond.frame(&nas, "TCP to 873", call(path, 873)).passes(),
                beyond.frame(&nas, "TCP to 22", call(path, 22)).blocked(),
            ]);
        }
    }
    Ok(())
}

/// Nobody talks through a switch that is down.
#[test]
fn a_dead_switch_is_closed() -> Result<()> {
    let lab = pool(Backend::OpenVSwitch).start()?;
    lab.apply()?.success()?;
    let (web, outside) = (lab.guest("web1")?, lab.outside().clone());
    let closed = |one: &Station, other: &Station| -> Vec<Expectation> {
        Family::BOTH
            .into_iter()
            .flat_map(|family| [one.tcp(other, 80, family).blocked(), other.udp(one, 53, family).blocked()])
            .collect()
    };
    lab.host("host1")?.kill_ovs()?;
    check(closed(&outside, &web));
    let run = lab.apply()?;
    ensure!(run.failed()? == ["host1"], "{}", run.stdout);
    lab.host("host1")?.stop_ovs()?;
    check(closed(&outside, &web));
    lab.set_policy(&POLICY.replace("ports = 80", "ports = 81"))?;
    let run = lab.apply()?;
    ensure!(run.failed()? == ["host1"] && run.changed()? == ["host2"], "{}", run.stdout);
    lab.host("host1")?.start_ovs()?;
    lab.set_policy(POLICY)?;
    lab.apply()?.success()?;
    check(expectations(&lab)?);
    Ok(())
}

/// What one that may reach nobody, and is nobody else, must not get out.
fn shouts(from: &Station, to: &Station) -> Vec<Vec<u8>> {
    let datagram = |path: Path| path.frame(to.mac, from.mac, UDP, &path.udp(1000, 53, b"shout"));
    vec![
        datagram(Path::V4(ipv4(1, 15), ipv4(1, 201))),
        datagram(Path::V6(ipv6(1, 15), ipv6(1, 201))),
        datagram(Path::V4(ipv4(1, 99), ipv4(1, 201))),
    ]
}
