//! The driver's own VM on a guarded network: wherever it comes up, it reaches XAPI, whether its driver has heard of it or not.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::flow::Flow;
use e2e::lab::{Backend, Guest, Lab, OUTSIDE, ipv4, mac};
use e2e::probe::{Expectation, check};
use e2e::process;
use e2e::scenario::{dom0_boots, pool};
use e2e::station::Family;

use xenapi::LockingMode;

use crate::on_each;

/// The number of `driver`, which no other guest of any Lab has.
const DRIVER: u8 = 77;

/// XAPI's port.
const XAPI: u16 = 443;

/// A card of this machine with the hardware address of `driver`: the program then takes that VM for the one it runs in.
struct Card(String);

impl Card {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let card = Self(format!("dwb{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        ip(&["link", "add", "name", &card.0, "address", &mac(0, DRIVER).to_string(), "type", "bridge"])?;
        Ok(card)
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.0]);
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let done = process::run(Path::new("ip"), args, b"")?;
    ensure!(done.status.success(), "ip {args:?}: {done:?}");
    Ok(())
}

/// XAPI of `host1` is where its dom0 has an address, that of `host2` somewhere outside.
fn start(backend: Backend) -> Result<Lab> {
    let lab = pool(backend)
        .guest(Guest::new("driver", "host1", DRIVER))
        .announced("host1", ipv4(0, 1))
        .announced("host2", ipv4(0, OUTSIDE))
        .guarded("lan")
        .start()?;
    lab.apply()?.success()?;
    // Another stranger, on the bridge as well.
    lab.set_locking_mode("plain", 0, LockingMode::Unlocked)?;
    Ok(lab)
}

/// XAPI and nothing else; and nobody else reaches even that.
fn reaches_xapi_only(lab: &Lab) -> Result<Vec<Expectation>> {
    lab.forget_neighbours("driver")?;
    let (driver, outside, web) = (lab.guest("driver")?, lab.outside(), lab.guest("web2")?);
    lab.forget_neighbours("plain")?;
    let mut expected = vec![
        driver.tcp(outside, XAPI, Family::V4).passes(),
        driver.tcp(&lab.dom0("host1")?, XAPI, Family::V4).passes(),
        driver.tcp(outside, 80, Family::V4).blocked(),
        driver.udp(outside, XAPI, Family::V4).blocked(),
        driver.echo(outside, Family::V4).blocked(),
        driver.tcp(&web, 80, Family::V4).blocked(),
        driver.tcp(&web, XAPI, Family::V4).blocked(),
        outside.tcp(&driver, XAPI, Family::V4).blocked(),
        outside.tcp(&driver, 22, Family::V4).blocked(),
        outside.udp(&driver, 53, Family::V4).blocked(),
        // No host has an address of this family.
        driver.tcp(outside, XAPI, Family::V6).blocked(),
    ];
    let plain = lab.guest("plain")?;
    expected.extend([
        plain.tcp(outside, XAPI, Family::V4).blocked(),
        plain.tcp(&driver, XAPI, Family::V4).blocked(),
        driver.tcp(&plain, XAPI, Family::V4).blocked(),
    ]);
    Ok(expected)
}

/// It has no port in the policy: once its interface is known, it is open.
fn is_known(lab: &Lab) -> Result<Vec<Expectation>> {
    lab.forget_neighbours("driver")?;
    let (driver, outside) = (lab.guest("driver")?, lab.outside());
    Ok(vec![
        driver.tcp(outside, XAPI, Family::V4).passes(),
        driver.tcp(outside, 80, Family::V4).passes(),
        outside.tcp(&driver, 22, Family::V4).passes(),
    ])
}

on_each! {
    /// It migrates, faster than it hears of it: its connection to XAPI goes on, every other has to wait.
    fn it_migrates_and_nobody_hears(backend) {
        let _card = Card::new()?;
        let lab = start(backend)?;
        check(is_known(&lab)?);
        let (driver, outside) = (lab.guest("driver")?, lab.outside());
        let calls = Flow::start(&driver.tcp(outside, XAPI, Family::V4))?;
        let other = Flow::start(&driver.tcp(outside, 7, Family::V4))?;
        lab.migrate("driver", "host2")?;
        ensure!(calls.lives(), "the driver has lost XAPI");
        check(reaches_xapi_only(&lab)?);
        // What stood before it came gets in no more than what is new.
        ensure!(!other.alive(Duration::from_secs(2)), "another connection passes");
        // It goes on from there, by the same connection.
        lab.apply()?.success()?;
        check(is_known(&lab)?);
        ensure!(calls.lives(), "its connection was cut");
    }

    /// dom0 boots, and the driver's VM with it: what closes the network until the driver comes does not keep it from coming.
    fn it_starts_after_dom0(backend) {
        let _card = Card::new()?;
        let lab = start(backend)?;
        lab.hard_shutdown("driver")?;
        // The hook gives others back to the network's default: this VIF stays on the bridge.
        lab.hook("terminate", "driver")?.success()?;
        dom0_boots(&lab, "host1")?;
        lab.start("driver", false)?;
        check(reaches_xapi_only(&lab)?);
        lab.hook("host-init", "host1")?.success()?;
        check(is_known(&lab)?);
    }
}
