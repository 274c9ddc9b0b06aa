//! A pool whose hosts have different switches: one policy, one meaning.

use anyhow::{Result, ensure};
use e2e::flow::Flow;
use e2e::lab::{Backend, Lab, NetworkBackend};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool, spoofing};
use e2e::station::Family;

use crate::assert_nothing_of;

fn mixed(bridge: &str) -> Result<Lab> {
    let lab = pool(Backend::OpenVSwitch).switch_of(bridge, NetworkBackend::Bridge).start()?;
    lab.apply()?.success()?;
    Ok(lab)
}

/// The same group on both, members of one admitted by the other, whichever has which.
#[test]
fn one_group_on_both() -> Result<()> {
    for bridge in ["host1", "host2"] {
        let lab = mixed(bridge)?;
        check(expectations(&lab)?);
        check(spoofing(&lab.guest("web1")?, &lab.guest("plain")?));
        check(spoofing(&lab.guest("web2")?, lab.outside()));
        ensure!(lab.plan()?.success()?.changed()?.is_empty(), "something is left to do");
    }
    Ok(())
}

/// A member that goes is forgotten on both; one that comes is admitted on both; a rule that goes cuts on both.
#[test]
fn an_edit_reaches_both() -> Result<()> {
    let lab = mixed("host2")?;
    let (web, web2, db, outside) = (lab.guest("web1")?, lab.guest("web2")?, lab.guest("db")?, lab.outside());
    let mut cut = Vec::new();
    for family in Family::BOTH {
        cut.push(Flow::start(&outside.tcp(&web, 80, family))?);
        cut.push(Flow::start(&outside.tcp(&web2, 80, family))?);
    }
    let stays = Flow::start(&web2.tcp(&db, 5432, Family::V4))?;
    lab.set_policy(&POLICY.replace("ports = 80", "ports = 81"))?;
    ensure!(lab.apply()?.success()?.changed()? == ["host1", "host2"]);
    for flow in &cut {
        ensure!(flow.is_cut(), "a connection to port 80 lives on");
    }
    ensure!(stays.lives(), "cut too much");
    // TCP's own counters are of no use here: the connections that were cut count in them, too.
    let stays = stays.stop()?;
    ensure!(stays.broken.is_none() && !stays.stalled(), "a neighbour noticed: {stays:?}");
    drop(cut);
    lab.set_policy(POLICY)?;
    lab.apply()?.success()?;
    let old = lab.vif_names("web2")?;
    lab.hard_shutdown("web2")?;
    lab.hook("terminate", "web2")?.success()?;
    assert_nothing_of(&lab, "host2", &old)?;
    let thief = lab.add_station("thief", 13)?;
    check(Family::BOTH.map(|family| thief.tcp(&db, 5432, family).blocked()));
    check(expectations(&lab)?);
    Ok(())
}
