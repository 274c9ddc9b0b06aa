//! What every host of the pool should hold: the policy file's ports bound to XAPI's VIFs, each with its host.

mod own;

use std::collections::{BTreeMap, BTreeSet};

use ruleset::ids::{GroupId, Interface, Mac, VifUuid};
use ruleset::model::Port;
use ruleset::resolve::{Attachment, HostPolicy, PeerSet, ResolveError, resolve};
use xenapi::{Backend, DefaultLockingMode, Host, LockingMode, Network, PowerState, Ref, Vif, Vm};

use crate::intake::inventory::Inventory;
use crate::intake::policy_file::{PolicyFile, PortSpec};
use crate::locking::{self, Locking, VifLocking};

/// `network.other_config` key by which an operator guards a network.
pub const GUARDED_KEY: &str = "drawbridge:guarded";

/// The desired state of a pool.
#[derive(Debug, Default)]
pub struct Desired {
    /// By host; one that does not say which network back end it has is not here.
    pub hosts: BTreeMap<Ref<Host>, HostDesired>,
    /// VIFs of the policy that have no interface anywhere, with the locking they should have until they come back.
    pub idle: Vec<VifLocking>,
    /// What could not be bound. The rest is enforced all the same.
    pub problems: Vec<Problem>,
}

/// The desired state of a host.
#[derive(Debug)]
pub struct HostDesired {
    /// How it switches packets, as it says now.
    pub backend: Backend,
    /// For the rules.
    pub policy: HostPolicy,
    /// For XAPI's own VIF locking.
    pub locking: Vec<VifLocking>,
    /// VIFs that XAPI's own locking stands for and that are no ports of the policy, with the names they may have there.
    pub locked: BTreeMap<VifUuid, [String; 2]>,
}

impl HostDesired {
    /// Whether there is nothing to enforce on the host.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policy.attachments.is_empty() && self.policy.guarded.is_empty()
    }

    /// Whether a rule on this host refers to the members of one of these groups.
    #[must_use]
    pub fn refers_to(&self, groups: &BTreeSet<GroupId>) -> bool {
        self.policy.peers.keys().any(|peers| matches!(peers, PeerSet::Group(id) if groups.contains(id)))
    }
}

/// Something in the policy that the pool does not have, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// What it is about: a VM, a network, a host.
    pub subject: String,
    /// The VM, as the policy names it, if it concerns no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

/// A port found in the pool; `live` if its VIF has an interface in some dom0.
struct Bound {
    port: Port,
    live: Option<Live>,
    /// What is to be locked again while it is not.
    idle: Option<VifLocking>,
}

struct Live {
    host: Ref<Host>,
    domid: u32,
    device: u32,
    bridge: Interface,
    locking: VifLocking,
}

/// Binds a policy to a pool. `own` are the MAC addresses of the machine this runs on.
///
/// # Errors
/// [`ResolveError`] if the policy refers to what it does not define.
pub fn desired(
    file: &PolicyFile,
    inventory: &Inventory,
    own: &BTreeSet<Mac>,
) -> Result<Desired, ResolveError> {
    let mut problems = Vec::new();
    let mut bound: Vec<Bound> = Vec::new();
    let mut seen: BTreeSet<Ref<Vif>> = BTreeSet::new();
    for spec in &file.ports {
        match bind(spec, inventory) {
            Ok((vif, found)) if !seen.contains(&vif) => {
                seen.insert(vif);
                bound.push(found);
            }
            Ok(_) => problems.push(about(spec, "its VIF is described by another port of the policy already")),
            Err(message) => problems.push(about(spec, &message)),
        }
    }
    let guarded = guarded_bridges(file, inventory, &mut problems);
    own::keep_reachable(&mut bound, &seen, inventory, &guarded, own);
    let policy = own::with_group(&file.policy, inventory);
    let live: Vec<Port> = bound.iter().filter(|b| b.live.is_some()).map(|b| b.port.clone()).collect();

    let mut attachments: BTreeMap<Ref<Host>, (Vec<Attachment>, Vec<VifLocking>)> = BTreeMap::new();
    let mut idle = Vec::new();
    for Bound { port, live, idle: locking } in bound {
        idle.extend(locking);
        let Some(Live { host, domid, device, bridge, locking }) = live else { continue };
        let (ports, lockings) = attachments.entry(host).or_default();
        ports.push(Attachment { port, domid, device, bridge });
        lockings.push(locking);
    }
    let mut hosts = BTreeMap::new();
    let mut locked = locked_by_others(inventory, &seen);
    for (reference, host) in &inventory.hosts {
        let (attachments, mut locking) = attachments.remove(reference).unwrap_or_default();
        match host.backend() {
            Ok(backend) => {
                if backend == Backend::OpenVSwitch {
                    for (vif, attachment) in locking.iter_mut().zip(&attachments) {
                        vif.wanted = locking::wanted_on_switch(&attachment.port);
                    }
                }
                let policy = resolve(&policy, &live, attachments, guarded.clone())?;
                let locked = locked.remove(reference).unwrap_or_default();
                hosts.insert(reference.clone(), HostDesired { backend, policy, locking, locked });
            }
            Err(error) => problems.push(Problem {
                subject: format!("host {}", host.name_label),
                vm: None,
                message: error.to_string(),
            }),
        }
    }
    Ok(Desired { hosts, idle, problems })
}

/// By host, the VIFs that XAPI has locked, but for those the policy describes.
fn locked_by_others(
    inventory: &Inventory,
    described: &BTreeSet<Ref<Vif>>,
) -> BTreeMap<Ref<Host>, BTreeMap<VifUuid, [String; 2]>> {
    let mut locked: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (reference, vif) in &inventory.vifs {
        let is_locked = vif.locking_mode == LockingMode::Locked && vif.currently_attached;
        let Some(vm) = inventory.vms.get(&vif.vm).filter(|_| is_locked && !described.contains(reference))
        else {
            continue;
        };
        if let (Some(host), Some(domid), Ok(uuid)) =
            (vm.resident_on.non_null(), vm.domid, vif.uuid.to_string().parse())
        {
            let names = ["vif", "tap"].map(|kind| format!("{kind}{domid}.{}", vif.device));
            locked.entry(host.clone()).or_default().insert(uuid, names);
        }
    }
    locked
}

fn about(spec: &PortSpec, message: &str) -> Problem {
    Problem {
        subject: format!("VM {} device {} (line {})", spec.vm, spec.device, spec.line),
        vm: Some(spec.vm.clone()),
        message: message.to_owned(),
    }
}

fn bind(spec: &PortSpec, inventory: &Inventory) -> Result<(Ref<Vif>, Bound), String> {
    let mut guests = inventory.guests(&spec.vm);
    let (vm_ref, vm) = guests.next().ok_or("the pool has no VM of this name or uuid")?;
    if guests.next().is_some() {
        return Err("several VMs have this name: write the uuid".to_owned());
    }
    let vifs = inventory.vifs.iter().filter(|(_, vif)| vif.vm == *vm_ref);
    let (vif_ref, vif) = vifs
        .into_iter()
        .find(|(_, vif)| vif.device == spec.device)
        .ok_or("the VM has no VIF of this device number")?;
    let network = inventory.networks.get(&vif.network).ok_or("its network is gone")?;
    if inventory.bypasses_dom0(network) {
        return Err("its network is SR-IOV: packets bypass dom0 and cannot be filtered".to_owned());
    }
    let port = Port {
        vif: vif.uuid.to_string().parse().map_err(|e: ruleset::ids::InvalidId| e.to_string())?,
        mac: Mac(vif.mac.0),
        addresses: spec.addresses.clone(),
        pairs: spec.pairs.clone(),
        groups: spec.groups.clone(),
        security: spec.security,
    };
    let live = live(vm, vif_ref, vif, network, &port)?;
    // XAPI remembers the mode: the next start would put the VIF on the bridge before its rules stand.
    let default_is_disabled = network.default_locking_mode == DefaultLockingMode::Disabled;
    let idle = (live.is_none() && default_is_disabled).then(|| VifLocking {
        reference: vif_ref.clone(),
        name: format!("{} device {}", vm.name_label, vif.device),
        wanted: Locking::NetworkDefault,
        found: vif.clone(),
        default_is_disabled,
    });
    Ok((vif_ref.clone(), Bound { port, live, idle }))
}

/// Where the VIF has an interface, if it has: not for a VM that is halted or suspended, nor for a VIF unplugged.
fn live(
    vm: &Vm,
    vif_ref: &Ref<Vif>,
    vif: &Vif,
    network: &Network,
    port: &Port,
) -> Result<Option<Live>, String> {
    let up = matches!(vm.power_state, PowerState::Running | PowerState::Paused);
    let (true, true, Some(host), Some(domid)) =
        (up, vif.currently_attached, vm.resident_on.non_null(), vm.domid)
    else {
        return Ok(None);
    };
    let bridge = network.bridge.parse().map_err(|e: ruleset::ids::InvalidId| e.to_string())?;
    let locking = VifLocking {
        reference: vif_ref.clone(),
        name: format!("{} vif{domid}.{}", vm.name_label, vif.device),
        wanted: locking::wanted(port),
        found: vif.clone(),
        default_is_disabled: network.default_locking_mode == DefaultLockingMode::Disabled,
    };
    Ok(Some(Live { host: host.clone(), domid, device: vif.device, bridge, locking }))
}

fn guarded_bridges(
    file: &PolicyFile,
    inventory: &Inventory,
    problems: &mut Vec<Problem>,
) -> BTreeSet<Interface> {
    let mut networks: Vec<&Network> = inventory
        .networks
        .values()
        .filter(|n| n.other_config.get(GUARDED_KEY).is_some_and(|v| v == "true"))
        .collect();
    for name in &file.guarded_networks {
        let mut named =
            inventory.networks.values().filter(|n| n.name_label == *name || n.uuid.to_string() == *name);
        match (named.next(), named.next()) {
            (Some(network), None) => networks.push(network),
            (None, _) => problems.push(Problem {
                subject: format!("guarded network {name}"),
                vm: None,
                message: "the pool has no network of this name or uuid".to_owned(),
            }),
            (Some(_), Some(_)) => problems.push(Problem {
                subject: format!("guarded network {name}"),
                vm: None,
                message: "several networks have this name: write the uuid".to_owned(),
            }),
        }
    }
    let mut bridges = BTreeSet::new();
    for network in networks {
        match network.bridge.parse() {
            Ok(bridge) => {
                bridges.insert(bridge);
            }
            Err(error) => problems.push(Problem {
                subject: format!("guarded network {}", network.name_label),
                vm: None,
                message: format!("{error}"),
            }),
        }
    }
    bridges
}

/// The groups of a VM's ports in a policy.
#[must_use]
pub fn groups_of(file: &PolicyFile, names: &[&str]) -> BTreeSet<GroupId> {
    let ports = file.ports.iter().filter(|port| names.contains(&port.vm.as_str()));
    ports.flat_map(|port| port.groups.iter().cloned()).collect()
}

#[cfg(test)]
mod tests;
