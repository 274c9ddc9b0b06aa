//! A host's policy of a given size: a group of its own for every VIF.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use drawbridge::desired::HostDesired;
use ruleset::ids::GroupId;
use ruleset::model::{
    Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, Remote, Rule, Service,
};
use ruleset::resolve::{Attachment, HostPolicy, resolve};
use xenapi::Backend;

/// The port on which the Lab's guest listens in measurements.
pub(crate) const GUEST_PORT: u16 = 7777;

/// The domain ids of ports that exist in the policy only: the Lab's guest has the first.
pub(crate) const FIRST_DOMID: u32 = 1000;

/// The smallest edits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    None,
    /// One more rule on the first port.
    Rule,
    /// One more member of the first port's group, on another host.
    Member,
}

/// `vifs` ports with `rules` rules each, of which every tenth admits the members of the port's group.
pub(crate) fn host(vifs: u16, rules: u16, edit: Edit) -> Result<HostDesired> {
    let mut policy = Policy::default();
    let mut attachments = Vec::new();
    for vif in 0..vifs {
        let count = if edit == Edit::Rule && vif == 0 { rules + 1 } else { rules };
        let id: GroupId = format!("g{vif}").parse()?;
        let own = |n: u16| -> Result<Rule> {
            let rule = rule(n)?;
            Ok(if n.is_multiple_of(10) { Rule { remote: Remote::Group(id.clone()), ..rule } } else { rule })
        };
        let rules = (0..count).map(own).collect::<Result<_>>()?;
        let group = Group { id: id.clone(), rules };
        attachments.push(Attachment {
            port: port(vif, &group)?,
            domid: FIRST_DOMID + u32::from(vif),
            device: 0,
            bridge: "xenbr0".parse()?,
        });
        policy.groups.insert(id, group);
    }
    let mut live: Vec<Port> = attachments.iter().map(|a| a.port.clone()).collect();
    if let (Edit::Member, Some(group)) = (edit, policy.groups.values().next()) {
        live.push(port(vifs, group)?);
    }
    Ok(desired(resolve(&policy, &live, attachments, BTreeSet::new())?))
}

pub(crate) fn desired(policy: HostPolicy) -> HostDesired {
    HostDesired { backend: Backend::Bridge, policy, locking: Vec::new(), locked: BTreeMap::new() }
}

pub(crate) fn rule(n: u16) -> Result<Rule> {
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

pub(crate) fn port(n: u16, group: &Group) -> Result<Port> {
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

/// The same with the Lab's guest as one of the `vifs` ports; its last rules, after as many others, admit
/// [`GUEST_PORT`].
pub(crate) fn host_with_guest(vifs: u16, rules: u16, number: u8) -> Result<HostDesired> {
    let mut policy = Policy::default();
    let mut attachments = Vec::new();
    for vif in 0..vifs {
        let mut found: Vec<Rule> = (0..rules).map(rule).collect::<Result<_>>()?;
        if vif == 0 {
            found.truncate(usize::from(rules.saturating_sub(2)));
            for protocol in [Protocol::TCP, Protocol::UDP] {
                let service = Service::Ports(protocol, PortRange::new(GUEST_PORT, GUEST_PORT)?);
                found.push(Rule {
                    id: protocol.to_string().parse()?,
                    service,
                    remote: Remote::Any,
                    ..rule(0)?
                });
            }
        }
        let id = format!("g{vif}").parse()?;
        let group = Group { id, rules: found };
        let mut port = port(vif, &group)?;
        let mut domid = FIRST_DOMID + u32::from(vif);
        if vif == 0 {
            port.mac = e2e::lab::mac(0, number).to_string().parse()?;
            port.addresses = vec![e2e::lab::ipv4(0, number).into()];
            domid = 1;
        }
        attachments.push(Attachment { port, domid, device: 0, bridge: "xenbr0".parse()? });
        policy.groups.insert(group.id.clone(), group);
    }
    let live: Vec<Port> = attachments.iter().map(|a| a.port.clone()).collect();
    Ok(desired(resolve(&policy, &live, attachments, BTreeSet::new())?))
}

/// The same policy as peers lay it out: one list of jumps, a chain a VIF and direction, one rule a line.
pub(crate) fn flat(vifs: u16, rules: u16, number: u8) -> String {
    use std::fmt::Write as _;
    let (mut chains, mut jumps, mut lines) = (String::new(), String::new(), String::new());
    for vif in (0..vifs).rev() {
        let name =
            if vif == 0 { "vif1.0".to_owned() } else { format!("vif{}.0", FIRST_DOMID + u32::from(vif)) };
        let address = if vif == 0 {
            e2e::lab::ipv4(0, number).to_string()
        } else {
            format!("10.9.{}.{}", vif / 256, vif % 256)
        };
        let _ = write!(chains, ":flat-i-{vif} - [0:0]\n:flat-o-{vif} - [0:0]\n");
        let _ =
            writeln!(jumps, "-A flat -m physdev --physdev-out {name} --physdev-is-bridged -j flat-i-{vif}");
        let _ =
            writeln!(jumps, "-A flat -m physdev --physdev-in {name} --physdev-is-bridged -j flat-o-{vif}");
        for direction in ["i", "o"] {
            let _ = writeln!(lines, "-A flat-{direction}-{vif} -m conntrack --ctstate INVALID -j DROP");
            let _ = writeln!(
                lines,
                "-A flat-{direction}-{vif} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            );
        }
        let _ = writeln!(lines, "-A flat-o-{vif} ! -s {address}/32 -j DROP");
        for n in 0..rules.saturating_sub(2) {
            let _ = writeln!(
                lines,
                "-A flat-i-{vif} -s 192.168.{}.{}/32 -p tcp -m tcp --dport {} -j ACCEPT",
                n / 256,
                n % 256,
                1000 + n
            );
        }
        if vif == 0 {
            for protocol in ["tcp", "udp"] {
                let _ =
                    writeln!(lines, "-A flat-i-0 -p {protocol} -m {protocol} --dport {GUEST_PORT} -j ACCEPT");
            }
        }
        let _ = write!(lines, "-A flat-i-{vif} -j DROP\n-A flat-o-{vif} -j DROP\n");
    }
    format!(
        "*filter\n:flat - [0:0]\n{chains}-I FORWARD 1 -m physdev --physdev-is-bridged -j flat\n{jumps}-A flat -j ACCEPT\n{lines}COMMIT\n"
    )
}

/// Takes it away again.
pub(crate) fn flat_removed(vifs: u16) -> String {
    use std::fmt::Write as _;
    let (mut flush, mut remove) = (String::new(), String::new());
    for name in
        (0..vifs).flat_map(|v| [format!("flat-i-{v}"), format!("flat-o-{v}")]).chain(["flat".to_owned()])
    {
        let _ = writeln!(flush, "-F {name}");
        let _ = writeln!(remove, "-X {name}");
    }
    format!("*filter\n-D FORWARD -m physdev --physdev-is-bridged -j flat\n{flush}{remove}COMMIT\n")
}
