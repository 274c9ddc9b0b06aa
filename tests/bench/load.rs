//! A host's policy of a given size: a group of its own for every VIF.

use std::collections::BTreeSet;

use anyhow::Result;
use drawbridge::desired::HostDesired;
use ruleset::model::{
    Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, Remote, Rule, Service,
};
use ruleset::resolve::{Attachment, resolve};

/// `vifs` ports with `rules` rules each, and with `extra` one more rule on the first.
pub(crate) fn host(vifs: u16, rules: u16, extra: bool) -> Result<HostDesired> {
    let mut policy = Policy::default();
    let mut attachments = Vec::new();
    for vif in 0..vifs {
        let count = if extra && vif == 0 { rules + 1 } else { rules };
        let id = format!("g{vif}").parse()?;
        let rules = (0..count).map(rule).collect::<Result<_>>()?;
        let group =
            Group { id, name: String::new(), description: String::new(), project: String::new(), rules };
        attachments.push(Attachment {
            port: port(vif, &group)?,
            domid: u32::from(vif) + 1,
            device: 0,
            bridge: "xenbr0".parse()?,
        });
        policy.groups.insert(group.id.clone(), group);
    }
    let live: Vec<Port> = attachments.iter().map(|a| a.port.clone()).collect();
    Ok(HostDesired { policy: resolve(&policy, &live, attachments, BTreeSet::new())?, locking: Vec::new() })
}

fn rule(n: u16) -> Result<Rule> {
    let [a, b] = n.to_be_bytes();
    Ok(Rule {
        id: format!("r{n}").parse()?,
        direction: Direction::Ingress,
        family: Family::Ipv4,
        service: Service::Ports(Protocol::TCP, PortRange::new(1000 + n, 1000 + n)?),
        remote: Remote::Prefix(format!("192.168.{a}.{b}/32").parse()?),
        description: String::new(),
    })
}

fn port(n: u16, group: &Group) -> Result<Port> {
    let [a, b] = n.to_be_bytes();
    Ok(Port {
        vif: format!("v{n}").parse()?,
        mac: format!("00:16:3e:00:{a:02x}:{b:02x}").parse()?,
        addresses: vec![format!("10.0.{a}.{b}").parse()?],
        pairs: Vec::new(),
        groups: vec![group.id.clone()],
        security: PortSecurity::On,
    })
}
