//! Beside others: XAPI's own flows and a third party's stay as they are, to the byte.

use anyhow::{Result, ensure};
use drawbridge_wire::xmlrpc::Value;
use e2e::lab::{Backend, Guest, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;
use xenapi::LockingMode;

/// Flows of a controller, of the PVS proxy, and of somebody who numbers cookies as we do. None of them changes what
/// passes.
const FLOWS: &str = "\
cookie=0x7,table=0,priority=32768,dl_src=02:00:00:00:00:99,actions=drop
cookie=0x7,table=0,priority=45500,dl_src=02:00:00:00:00:98,actions=drop
cookie=0x0,table=0,priority=60000,dl_src=02:00:00:00:00:97,actions=drop
cookie=0x29,table=0,priority=1000,udp,in_port=77,tp_dst=6910,actions=load:0x1->NXM_NX_REG0[],resubmit(,101)
cookie=0x29,table=101,priority=999,udp,actions=resubmit(,102)
cookie=0x29,table=102,priority=999,actions=NORMAL
cookie=0x4457427100000001,table=60,priority=7,dl_src=02:00:00:00:00:96,actions=drop
cookie=0x0,table=72,priority=3,dl_src=02:00:00:00:00:95,actions=drop
";

fn with_others() -> Result<Lab> {
    let lab = pool(Backend::OpenVSwitch).guest(Guest::new("other", "host1", 17)).start()?;
    for host in ["host1", "host2"] {
        lab.ovs_ofctl(host, &["add-flows", "xenbr0", "-"], FLOWS.as_bytes())?;
    }
    // XAPI's flows, cookie 1, for a VIF that is none of ours.
    let (other, _) = lab.vif("other", 0)?;
    let addresses = Value::Array(vec!["10.20.0.17".into()]);
    lab.xapi("VIF.set_ipv4_allowed", vec![(&other).into(), addresses])?;
    lab.set_locking_mode("other", 0, LockingMode::Locked)?;
    Ok(lab)
}

#[test]
fn others_flows_are_untouched() -> Result<()> {
    let lab = with_others()?;
    let before = [lab.foreign_flows("host1")?, lab.foreign_flows("host2")?];
    let xapis = before[0].iter().filter(|flow| flow.contains("cookie=0x1,")).count();
    ensure!(xapis > 5 && before[0].len() == FLOWS.lines().count() + xapis + 1, "{before:#?}");
    let same = |what: &str| -> Result<()> {
        for (host, before) in ["host1", "host2"].iter().zip(&before) {
            let after = lab.foreign_flows(host)?;
            ensure!(*before == after, "{host}, {what}: {before:#?} became {after:#?}");
        }
        Ok(())
    };
    lab.apply()?.success()?;
    same("apply")?;
    check(expectations(&lab)?);
    lab.clean_reboot("web1")?;
    lab.hook("reboot", "web1")?.success()?;
    same("reboot")?;
    lab.set_policy(&POLICY.replace("ports = 80", "ports = 81"))?;
    lab.apply()?.success()?;
    same("edit")?;
    lab.hard_shutdown("web1")?;
    lab.hook("terminate", "web1")?.success()?;
    same("terminate")?;
    lab.set_policy("")?;
    lab.apply()?.success()?;
    same("empty policy")?;
    ensure!(lab.rules("host2")?.is_empty(), "something of ours is left: {:#?}", lab.rules("host2")?);
    Ok(())
}

/// XAPI's locking goes on for a VIF that is none of ours, our flows above it or not.
#[test]
fn what_xapi_locks_stays_locked() -> Result<()> {
    let lab = with_others()?;
    lab.apply()?.success()?;
    let (other, web) = (lab.guest("other")?, lab.guest("web1")?);
    let lies = e2e::scenario::spoofing(&other, lab.outside());
    let lie = |name: &str| lies.iter().find(|one| one.probe.to_string().contains(name)).cloned();
    check([lie("IPv4 from a foreign address"), lie("ARP reply for a foreign address")].into_iter().flatten());
    check([
        other.tcp(lab.outside(), 80, Family::V4).passes(),
        other.tcp(&web, 80, Family::V4).passes(),
        other.tcp(&web, 22, Family::V4).blocked(),
    ]);
    Ok(())
}
