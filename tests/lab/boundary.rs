//! Between guests' frames and dom0's own firewall: whatever comes in by a bridge port, dom0's INPUT takes nothing for a
//! connection of its own unless dom0 itself spoke; and dom0's own traffic goes on.
//!
//! Open vSwitch hosts do not pass frames through iptables; these are about Linux bridges.

mod containers;
mod forged;
mod records;

use anyhow::{Result, ensure};
use e2e::lab::{Guest, Iptables, Lab};
use e2e::station::Family;

use crate::on_both;

/// `vm` is filtered; `stranger`, on the same network, is on no port; nobody filters on `other`, where `far` is.
fn pool(iptables: Iptables) -> e2e::lab::Builder {
    let policy = "[[group]]\nid = 'web'\nrule = [{ direction = 'ingress', protocol = 'tcp', ports = 80 }]\n\
                  [[port]]\nvm = 'vm'\ndevice = 0\ngroups = ['web']\naddresses = ['10.20.0.11', 'fd20::11']\n";
    Lab::builder(iptables)
        .host_count(1)
        .network("other")
        .guest(Guest::new("vm", "host1", 11))
        .guest(Guest::new("stranger", "host1", 12))
        .guest(Guest::new("far", "host1", 13).on(&[1]))
        .policy(policy)
}

/// How the boundary stands, as the plugin says.
fn standing(lab: &Lab) -> Result<String> {
    let said = lab.drawbridge(&["call", "host1", "iptables-save"])?.success()?.stdout;
    let word = said.lines().find_map(|line| line.strip_prefix("# drawbridge boundary="));
    Ok(word.unwrap_or("not said").to_owned())
}

on_both! {
    /// Another program takes it away, puts a rule before it, changes it: each is said by a plan, and put right by the next
    /// write, of whatever it is.
    fn what_others_do_to_it_is_said_and_put_right(iptables) {
        let lab = pool(iptables).start()?;
        ensure!(standing(&lab)? == "missing");
        lab.apply()?.success()?;
        ensure!(standing(&lab)? == "stands");
        for family in Family::BOTH {
            let program = if family == Family::V4 { "iptables" } else { "ip6tables" };
            let damage: [&[&str]; 4] = [
                &["-t", "raw", "-D", "PREROUTING", "1"],
                &["-t", "raw", "-I", "PREROUTING", "1", "-i", "xenbr9", "-j", "CT", "--zone", "9"],
                &["-t", "raw", "-F", "dwb-dom0-forged"],
                &["-t", "raw", "-I", "dwb-dom0-zone", "1", "-j", "RETURN"],
            ];
            for args in damage {
                lab.dom0_program("host1", program, args, b"")?;
                let plan = lab.plan()?;
                ensure!(plan.changed()? == ["host1"], "{args:?}: {plan:?}");
                lab.apply()?.success()?;
                let plan = lab.plan()?.success()?;
                ensure!(plan.changed()?.is_empty(), "{args:?}: {plan:?}");
                let said = lab.iptables_save("host1", family)?;
                let jumps: Vec<_> = said.lines().filter(|line| line.contains("-j dwb-dom0")).collect();
                ensure!(jumps.len() == 1, "{said}");
            }
        }
    }
}
