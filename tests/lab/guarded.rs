//! A guarded network is closed until somebody opens it, guest by guest.

use anyhow::Result;
use e2e::lab::{Iptables, Lab};
use e2e::probe::{Expectation, check};
use e2e::scenario::{dom0_boots, expectations, pool};
use e2e::station::{Family, Station};
use xenapi::LockingMode;

use crate::on_both;

fn start(iptables: Iptables) -> Result<Lab> {
    let lab = pool(iptables).guarded("lan").start()?;
    lab.apply()?.success()?;
    Ok(lab)
}

/// Nothing passes between the two, either way.
fn closed(one: &Station, other: &Station) -> Vec<Expectation> {
    Family::BOTH
        .into_iter()
        .flat_map(|family| {
            [
                one.tcp(other, 22, family).blocked(),
                other.tcp(one, 22, family).blocked(),
                one.udp(other, 53, family).blocked(),
                other.echo(one, family).blocked(),
            ]
        })
        .collect()
}

on_both! {
    /// Who has rules talks by them; who has none is off the network, even if somebody opens its VIF by hand.
    fn without_a_port_nothing_passes(iptables) {
        let lab = start(iptables)?;
        let (plain, outside) = (lab.guest("plain")?, lab.outside());
        let ruled = expectations(&lab)?.into_iter();
        check(ruled.filter(|one| [&one.probe.from, &one.probe.to].iter().all(|end| end.name != "plain")));
        check(closed(&plain, outside));
        lab.set_locking_mode("plain", 0, LockingMode::Unlocked)?;
        check(closed(&plain, outside));
        check(closed(&plain, &lab.guest("web2")?));
    }

    /// A guest suspended, resumed, terminated and created again is never open in between.
    fn whoever_leaves_is_closed_again(iptables) {
        let lab = start(iptables)?;
        let outside = lab.outside();
        lab.hard_shutdown("web1")?;
        lab.hook("terminate", "web1")?.success()?;
        // Started by somebody who knows nothing of hooks.
        lab.start("web1", false)?;
        check(closed(&lab.guest("web1")?, outside));
        lab.hook("create", "web1")?.success()?;
        check([outside.tcp(&lab.guest("web1")?, 80, Family::V4).passes()]);
    }

    /// dom0 lost power and came back; its guests are started before anybody has given it rules.
    fn a_boot_of_dom0_opens_nothing(iptables) {
        let lab = start(iptables)?;
        lab.hard_shutdown("db")?;
        dom0_boots(&lab, "host1")?;
        lab.start("db", false)?;
        check(closed(&lab.guest("db")?, lab.outside()));
        lab.hook("host-init", "host1")?.success()?;
        check([lab.guest("web2")?.tcp(&lab.guest("db")?, 5432, Family::V4).passes()]);
    }
}
