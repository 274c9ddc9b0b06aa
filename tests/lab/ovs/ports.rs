//! OpenFlow numbers and VLANs.

use anyhow::{Context, Result, ensure};
use e2e::lab::{Backend, Guest, Lab};
use e2e::probe::{Expectation, check};
use e2e::scenario::{POLICY, expectations, pool, spoofing};
use e2e::station::Family;
use xenapi::LockingMode;

/// A VIF that is plugged again has another number: the flows follow, and none of the old number is left.
#[test]
fn a_port_that_is_plugged_again() -> Result<()> {
    let lab = pool(Backend::OpenVSwitch).start()?;
    lab.apply()?.success()?;
    let vif = lab.vif_names("web1")?.concat();
    let old = lab.ofport("host1", &vif)?;
    lab.unplug("web1", 0)?;
    lab.hook("terminate", "web1")?.success()?;
    ensure!(lab.rules_left_of("host1", &vif)?.is_empty(), "{:#?}", lab.rules_left_of("host1", &vif)?);
    lab.plug("web1", 0)?;
    ensure!(lab.ofport("host1", &vif)? != old, "the number did not change: the test shows nothing");
    lab.hook("create", "web1")?.success()?;
    check(expectations(&lab)?);
    no_number_without_port(&lab, "host1")
}

/// XAPI takes a port off its bridge and puts it back whenever its locking mode is set.
#[test]
fn a_locking_mode_that_is_set() -> Result<()> {
    let lab = pool(Backend::OpenVSwitch).start()?;
    lab.apply()?.success()?;
    for mode in [LockingMode::Unlocked, LockingMode::Disabled, LockingMode::NetworkDefault] {
        lab.set_locking_mode("web1", 0, mode)?;
        lab.apply()?.success()?;
        check(expectations(&lab)?);
        no_number_without_port(&lab, "host1")?;
    }
    Ok(())
}

/// A network that is a VLAN: a fake bridge, its flows on the parent. On one host with a Linux bridge, too.
#[test]
fn a_vlan() -> Result<()> {
    let lab = pool(Backend::OpenVSwitch)
        .vlan("tenants", 100)
        .guest(Guest::new("nas", "host1", 16).on(&[0, 1]))
        .guest(Guest::new("peer", "host2", 17).on(&[1]))
        .guest(Guest::new("near", "host1", 18).on(&[1]))
        .policy(&format!("{POLICY}{}", include_str!("../policy/nas.toml").replace("backup", "tenants")))
        .start()?;
    lab.apply()?.success()?;
    let (nas, peer, near) = (lab.guest_nic("nas", 1)?, lab.guest("peer")?, lab.guest("near")?);
    let beyond = lab.add_station_on(1, "beyond", 201)?;
    let mut all: Vec<Expectation> = Vec::new();
    for family in Family::BOTH {
        for from in [&peer, &near] {
            all.push(from.tcp(&nas, 873, family).passes());
            all.push(from.tcp(&nas, 22, family).blocked());
            all.push(from.echo(&nas, family).blocked());
        }
        all.push(peer.tcp(&near, 22, family).passes());
    }
    check(all);
    ensure!(lab.switches("host1")? == ["xenbr0"], "{:?}", lab.switches("host1")?);
    ensure!(
        lab.rules("host1")?.iter().any(|flow| flow.contains("dl_vlan=100")),
        "no flow speaks of the VLAN: {:#?}",
        lab.rules("host1")?
    );
    check(spoofing(&nas, &beyond));
    check(spoofing(&nas, &near));
    check(expectations(&lab)?);
    Ok(())
}

/// Every number a flow of ours names is a port's.
fn no_number_without_port(lab: &Lab, host: &str) -> Result<()> {
    let left = lab.rules_left_of(host, "vif0.0").context("asking the switch")?;
    ensure!(left.is_empty(), "{host} speaks of ports that are gone: {left:#?}");
    Ok(())
}
