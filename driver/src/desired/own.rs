//! The driver's own VM is never cut off from XAPI: a driver that has locked itself out could not mend anything.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use ruleset::ids::{GroupId, Interface, InvalidId, Mac};
use ruleset::model::{
    Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, Remote, Rule, Service,
};
use ruleset::resolve::{Lifeline, XAPI};
use xenapi::{Ref, Vif, Vm};

use super::bind::{Bound, live};
use crate::intake::inventory::Inventory;

/// The group that lets a VM reach the XAPI of every host. A policy file cannot define it: there, ids of groups with
/// this prefix are refused.
fn group_id() -> Result<GroupId, InvalidId> {
    format!("{}xapi", store::RESERVED_PREFIX).parse()
}

/// The policy with that group.
pub(super) fn with_group(policy: &Policy, inventory: &Inventory) -> Policy {
    let mut policy = policy.clone();
    let (Ok(id), Ok(https)) = (group_id(), PortRange::new(XAPI, XAPI)) else { return policy };
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
    let rules = addresses(inventory).enumerate().filter_map(rule).collect();
    let group = Group { id: id.clone(), rules };
    policy.groups.insert(id, group);
    policy
}

/// Where XAPI is: the addresses of every host.
fn addresses(inventory: &Inventory) -> impl Iterator<Item = IpAddr> {
    inventory.hosts.values().filter_map(|host| host.address.parse().ok())
}

/// The guests' VIFs with these MAC addresses, plugged or not.
fn vifs<'a>(
    inventory: &'a Inventory,
    own: &'a BTreeSet<Mac>,
) -> impl Iterator<Item = (&'a Ref<Vif>, &'a Vif, &'a Vm)> {
    let own = inventory.vifs.iter().filter(|(_, vif)| own.contains(&Mac(vif.mac.0)));
    own.filter_map(|(reference, vif)| Some((reference, vif, inventory.vms.get(&vif.vm)?)))
        .filter(|(_, _, vm)| vm.is_guest())
}

/// Lifelines for the VIFs with these MAC addresses. On every host, for a VM may come up anywhere before its driver hears.
pub(super) fn lifelines(
    inventory: &Inventory,
    guarded: &BTreeSet<Interface>,
    own: &BTreeSet<Mac>,
) -> BTreeSet<Lifeline> {
    let hosts: BTreeSet<IpAddr> = addresses(inventory).collect();
    let lifeline = |(_, vif, _): (&Ref<Vif>, &Vif, &Vm)| {
        let network = inventory.networks.get(&vif.network)?;
        let bridge = guarded.iter().find(|bridge| bridge.as_str() == network.bridge)?.clone();
        Some(Lifeline { bridge, mac: Mac(vif.mac.0), hosts: hosts.clone() })
    };
    vifs(inventory, own).filter_map(lifeline).collect()
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
    for (reference, vif, vm) in vifs(inventory, own) {
        if seen.contains(reference) {
            let uuid = vif.uuid.to_string();
            for found in bound.iter_mut().filter(|b| b.port.vif.as_str() == uuid) {
                found.port.groups.extend(group_id());
                // Whoever starts the VM again must find it on the bridge: nobody else could put it there.
                found.idle = None;
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
