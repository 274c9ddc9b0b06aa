//! A host's policy of a given size, as neutron was measured with, and the interfaces it is about.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;

use anyhow::{Result, ensure};
use drawbridge::desired::HostDesired;
use e2e::lab::Lab;
use ruleset::ids::GroupId;
use ruleset::model::{Group, Policy, Port, PortRange, Protocol, Remote, Rule, Service};
use ruleset::resolve::{Attachment, resolve};
use xenapi::Backend;

use crate::load::{self, FIRST_DOMID};

/// How much there is of everything.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) ports: u16,
    /// Of each port.
    pub(super) rules: u16,
    /// Of the group that each port admits; all run elsewhere.
    pub(super) members: u16,
}

/// The smallest edits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    None,
    /// One more rule on the first port.
    Rule,
    /// One more member of the group that every port admits.
    Member,
}

/// Each port has a group of its own: a rule for the members, one for a thousand TCP ports, the others for one port from one
/// address each.
pub(super) fn host(size: Size, edit: Edit) -> Result<HostDesired> {
    let Size { ports, rules, members } = size;
    let mut policy = Policy::default();
    let admitted = group("members", Vec::new())?;
    let mut attachments = Vec::new();
    for n in 0..ports {
        let more = u16::from(edit == Edit::Rule && n == 0);
        let mut all: Vec<Rule> =
            (0..rules.saturating_sub(2) + more).map(load::rule).collect::<Result<_>>()?;
        let tcp = |id: &str, first, last, remote| -> Result<Rule> {
            let service = Service::Ports(Protocol::TCP, PortRange::new(first, last)?);
            Ok(Rule { id: id.parse()?, service, remote, ..load::rule(0)? })
        };
        all.push(tcp("range", 5000, 5999, Remote::Any)?);
        all.push(tcp("members", 22, 22, Remote::Group(admitted.id.clone()))?);
        let group = group(&format!("g{n}"), all)?;
        let (port, domid) = (load::port(n, &group)?, FIRST_DOMID + u32::from(n));
        attachments.push(Attachment { port, domid, device: 0, bridge: super::BRIDGE.parse()? });
        policy.groups.insert(group.id.clone(), group);
    }
    let mut live: Vec<Port> = attachments.iter().map(|a| a.port.clone()).collect();
    for n in 0..members + u16::from(edit == Edit::Member) {
        live.push(load::port(10_000 + n, &admitted)?);
    }
    policy.groups.insert(admitted.id.clone(), admitted);
    let policy = resolve(&policy, &live, attachments, BTreeSet::new())?;
    Ok(HostDesired { backend: Backend::OpenVSwitch, ..load::desired(policy) })
}

fn group(id: &str, rules: Vec<Rule>) -> Result<Group> {
    let id: GroupId = id.parse()?;
    Ok(Group { id, rules })
}

/// Puts the VIFs of these ports on the switch; nobody is behind them.
pub(super) fn add_ports(lab: &Lab, bridge: &str, ports: Range<u16>) -> Result<()> {
    let (mut links, mut args) = (String::new(), Vec::new());
    for n in ports {
        let vif = format!("vif{}.0", FIRST_DOMID + u32::from(n));
        writeln!(links, "link add {vif} type veth peer name far{n}")?;
        writeln!(links, "link set {vif} up")?;
        let words =
            format!("-- add-port {bridge} {vif} -- set Interface {vif} external_ids:xs-vif-uuid=v{n}");
        args.extend(words.split(' ').map(str::to_owned));
    }
    if args.is_empty() {
        return Ok(());
    }
    let output = lab.host("host1")?.command("ip", &["-batch", "-"], links.as_bytes())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lab.ovs_vsctl("host1", &args.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
}
