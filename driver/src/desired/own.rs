//! The driver's own VM is never cut off from XAPI: a driver that has locked itself out could not mend anything.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use ruleset::ids::{GroupId, Interface, InvalidId, Mac};
use ruleset::model::{
    Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, Remote, Rule, Service,
};
use xenapi::{Ref, Vif};

use super::bind::{Bound, live};
use crate::intake::inventory::Inventory;

/// XAPI's port.
const HTTPS: u16 = 443;

/// The group that lets a VM reach the XAPI of every host. A policy file cannot define it: there, ids of groups with
/// this prefix are refused.
fn group_id() -> Result<GroupId, InvalidId> {
    format!("{}xapi", crate::intake::policy_file::RESERVED_PREFIX).parse()
}

/// The policy with that group.
pub(super) fn with_group(policy: &Policy, inventory: &Inventory) -> Policy {
    let mut policy = policy.clone();
    let (Ok(id), Ok(https)) = (group_id(), PortRange::new(HTTPS, HTTPS)) else { return policy };
    let addresses = inventory.hosts.values().filter_map(|host| host.address.parse::<IpAddr>().ok());
    let rule = |(n, address): (usize, IpAddr)| {
        let net = IpNet::from(address);
        Some(Rule {
            id: format!("host-{n}").parse().ok()?,
            direction: Direction::Egress,
            family: Family::of(&net),
            service: Service::Ports(Protocol::TCP, https),
            remote: Remote::Prefix(net),
            description: String::new(),
        })
    };
    let rules = addresses.enumerate().filter_map(rule).collect();
    let group = Group {
        id: id.clone(),
        name: String::new(),
        description: String::new(),
        project: String::new(),
        rules,
    };
    policy.groups.insert(id, group);
    policy
}

/// Sees to it that the VIFs with these MAC addresses reach XAPI: a port of the policy gets the group; a VIF that the
/// policy does not know and a guarded network would close is not filtered.
pub(super) fn keep_reachable(
    bound: &mut Vec<Bound>,
    seen: &BTreeSet<Ref<Vif>>,
    inventory: &Inventory,
    guarded: &BTreeSet<Interface>,
    own: &BTreeSet<Mac>,
) {
    for (reference, vif) in inventory.vifs.iter().filter(|(_, vif)| own.contains(&Mac(vif.mac.0))) {
        let Some(vm) = inventory.vms.get(&vif.vm).filter(|vm| vm.is_guest()) else { continue };
        if seen.contains(reference) {
            let uuid = vif.uuid.to_string();
            for found in bound.iter_mut().filter(|b| b.port.vif.as_str() == uuid) {
                found.port.groups.extend(group_id());
            }
            continue;
        }
        let (Some(network), Ok(id)) = (inventory.networks.get(&vif.network), vif.uuid.to_string().parse())
        else {
            continue;
        };
        let port = Port {
            vif: id,
            mac: Mac(vif.mac.0),
            addresses: Vec::new(),
            pairs: Vec::new(),
            groups: Vec::new(),
            security: PortSecurity::Off,
        };
        if let Ok(Some(live)) = live(vm, reference, vif, network, &port)
            && guarded.contains(&live.bridge)
        {
            tracing::warn!(
                vm = vm.name_label,
                "the driver's own VM is on a guarded network and in no policy: left open"
            );
            bound.push(Bound { port, live: Some(live), coming: Vec::new(), idle: None });
        }
    }
}
