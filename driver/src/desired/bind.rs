//! A port of the policy and the VIF it is, where that is plugged.

use std::collections::{BTreeSet, HashMap};

use ruleset::ids::{Interface, Mac};
use ruleset::model::Port;
use store::PortTarget;
use xenapi::{DefaultLockingMode, Host, Network, PowerState, Ref, Vif, Vm};

use super::{Announced, Binding, Problem, Subject};
use crate::intake::inventory::Inventory;
use crate::intake::policy_file::PortSpec;
use crate::locking::{self, Locking, VifLocking};

/// A record and XAPI's reference of it.
type Found<'a, R> = (&'a Ref<R>, &'a R);

/// An inventory by what policies call things: a pool has thousands of VMs, and every port looks for its own.
pub(super) struct Index<'a> {
    pub inventory: &'a Inventory,
    announced: &'a Announced,
    names: HashMap<&'a str, Vec<Found<'a, Vm>>>,
    uuids: HashMap<String, Found<'a, Vm>>,
    devices: HashMap<(&'a Ref<Vm>, u32), Found<'a, Vif>>,
    vifs: HashMap<String, Found<'a, Vif>>,
}

impl<'a> Index<'a> {
    pub(super) fn of(inventory: &'a Inventory, announced: &'a Announced) -> Self {
        let mut names: HashMap<&str, Vec<_>> = HashMap::new();
        let mut uuids = HashMap::new();
        for (reference, vm) in inventory.vms.iter().filter(|(_, vm)| vm.is_guest()) {
            names.entry(&vm.name_label).or_default().push((reference, vm));
            uuids.insert(vm.uuid.to_string(), (reference, vm));
        }
        let devices = inventory.vifs.iter().map(|(reference, vif)| ((&vif.vm, vif.device), (reference, vif)));
        let vifs = inventory.vifs.iter().map(|(reference, vif)| (vif.uuid.to_string(), (reference, vif)));
        Self { inventory, announced, names, uuids, devices: devices.collect(), vifs: vifs.collect() }
    }

    /// The guests that go by this name or uuid.
    fn guests(&self, name: &str) -> Vec<Found<'a, Vm>> {
        let mut found: Vec<_> = self.names.get(name).cloned().unwrap_or_default();
        // A name may be the VM's own uuid.
        found.extend(self.uuids.get(name).filter(|(_, vm)| vm.name_label != name));
        found
    }
}

/// A port found in the pool; `live` if its VIF has an interface in some dom0.
pub(super) struct Bound {
    pub port: Port,
    pub live: Option<Live>,
    /// Hosts where it is about to have one, and the bridge there.
    pub coming: Vec<(Ref<Host>, Interface)>,
    /// What is to be locked again while it is not.
    pub idle: Option<VifLocking>,
}

pub(super) struct Live {
    pub host: Ref<Host>,
    pub domid: u32,
    pub device: u32,
    pub bridge: Interface,
    pub locking: VifLocking,
}

pub(super) fn about(spec: &PortSpec, message: &str) -> Problem {
    let PortSpec { port: store::Port { target, .. }, origin } = spec;
    let vm = match target {
        PortTarget::Device { vm, .. } => vm.clone(),
        PortTarget::Vif(uuid) => uuid.to_string(),
    };
    let subject = Subject::Port(target.clone(), origin.clone());
    Problem { subject, vm: Some(vm), message: message.to_owned() }
}

/// Finds a port's VIF, and what is to be done about it.
///
/// # Errors
/// What the pool does not have, or has twice.
pub(super) fn bind(spec: &PortSpec, index: &Index<'_>) -> Result<(Ref<Vif>, Binding, Bound), String> {
    let inventory = index.inventory;
    let (vm_ref, vm, vif_ref, vif) = match &spec.port.target {
        PortTarget::Device { vm, device } => {
            let (vm_ref, vm) = match index.guests(vm)[..] {
                [found] => found,
                [] => return Err("the pool has no VM of this name or uuid".to_owned()),
                [..] => return Err("several VMs have this name: write the uuid".to_owned()),
            };
            let vif = index.devices.get(&(vm_ref, *device));
            let (vif_ref, vif) = vif.ok_or("the VM has no VIF of this device number")?;
            (vm_ref, vm, *vif_ref, *vif)
        }
        PortTarget::Vif(uuid) => {
            let (vif_ref, vif) = index.vifs.get(uuid.as_str()).ok_or("the pool has no VIF of this uuid")?;
            let vm = inventory.vms.get_key_value(&vif.vm).filter(|(_, vm)| vm.is_guest());
            let (vm_ref, vm) = vm.ok_or("its VM is none of a tenant's")?;
            (vm_ref, vm, *vif_ref, *vif)
        }
    };
    let network = inventory.networks.get(&vif.network).ok_or("its network is gone")?;
    if inventory.bypasses_dom0(network) {
        return Err("its network is SR-IOV: packets bypass dom0 and cannot be filtered".to_owned());
    }
    let port = Port {
        vif: vif.uuid.to_string().parse().map_err(|e: ruleset::ids::InvalidId| e.to_string())?,
        mac: Mac(vif.mac.0),
        addresses: spec.port.addresses.clone(),
        pairs: spec.port.pairs.clone(),
        groups: spec.port.groups.clone(),
        security: spec.port.security,
    };
    let live = live(vm, vif_ref, vif, network, &port)?;
    let coming = coming((vm_ref, vm), vif, network, index)?;
    // XAPI remembers the mode: the next start would put the VIF on the bridge before its rules stand.
    let default_is_disabled = network.default_locking_mode == DefaultLockingMode::Disabled;
    let back = VifLocking {
        reference: vif_ref.clone(),
        name: format!("{} device {}", vm.name_label, vif.device),
        wanted: Locking::NetworkDefault,
        found: vif.clone(),
        default_is_disabled,
    };
    let is_open = live.is_none() && default_is_disabled && !back.steps().is_empty();
    let idle = is_open.then_some(back);
    let binding = Binding {
        origin: spec.origin.clone(),
        vif: port.vif.clone(),
        vm: vm_ref.clone(),
        host: live.as_ref().map(|live| live.host.clone()),
        groups: spec.port.groups.clone(),
    };
    Ok((vif_ref.clone(), binding, Bound { port, live, coming, idle }))
}

/// Where the VIF has an interface, if it has: not for a VM that is halted or suspended, nor for a VIF unplugged.
pub(super) fn live(
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

/// Where the VIF is about to have an interface: its VM migrates, starts or resumes, or somebody has announced it.
///
/// XAPI names the destination when a migration begins, and says that the VM is there when it already runs there.
fn coming(
    (vm_ref, vm): (&Ref<Vm>, &Vm),
    vif: &Vif,
    network: &Network,
    index: &Index<'_>,
) -> Result<Vec<(Ref<Host>, Interface)>, String> {
    let up = matches!(vm.power_state, PowerState::Running | PowerState::Paused);
    // What is not plugged into a VM that runs does not migrate with it; a start plugs everything.
    if up && !vif.currently_attached {
        return Ok(Vec::new());
    }
    // The host may be its own: live storage motion gives it a new domain there.
    let scheduled = vm.scheduled_to_be_resident_on.non_null();
    let announced = index.announced.get(vm_ref).filter(|host| **host != vm.resident_on);
    let destinations: BTreeSet<&Ref<Host>> = scheduled.into_iter().chain(announced).collect();
    let bridge = |host: &Ref<Host>| {
        let bridge = network.bridge.parse().map_err(|e: ruleset::ids::InvalidId| e.to_string())?;
        Ok((host.clone(), bridge))
    };
    destinations.into_iter().map(bridge).collect()
}
