//! Who is meant by `--from` and `--to`.

use std::net::IpAddr;

use ipnet::IpNet;
use ruleset::ids::{Interface, Mac, VifUuid};
use ruleset::model::Family;
use xenapi::{Host, Ref, Vif, Vm};

use super::Wanted;
use crate::intake::inventory::Inventory;

/// One end of a packet's way.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// In words.
    pub label: String,
    /// Its addresses; of a port the first of each family counts.
    pub addresses: Vec<IpAddr>,
    /// Where it is plugged; `None` if it is no VM of the pool.
    pub place: Option<Place>,
}

/// Where a VIF is.
#[derive(Debug)]
pub(super) struct Place {
    pub host: Ref<Host>,
    pub bridge: Interface,
    pub vif: VifUuid,
    pub mac: Mac,
    /// Its name in dom0.
    pub interface: String,
}

/// Why an end is not found.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum EndpointError {
    #[error("the pool has no VM of this name or uuid, and it is no address")]
    Unknown,
    #[error("several VMs have this name: give the uuid")]
    Ambiguous,
    #[error("the VM has no VIF of this device number")]
    NoDevice,
    #[error("the VM is not running: nothing passes it")]
    NotRunning,
    #[error("the VM is in no policy, so its addresses are not known: give its address instead")]
    NoAddress,
}

impl Endpoint {
    pub(super) fn find(text: &str, wanted: &Wanted, inventory: &Inventory) -> Result<Self, EndpointError> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self::of_address(address, wanted)),
            Err(_) => Self::of_vm(text, wanted, inventory),
        }
    }

    /// The first address of a family.
    pub(super) fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| Family::of(&IpNet::from(*a)) == family)
    }

    /// An address of a port, or of somebody outside.
    fn of_address(address: IpAddr, wanted: &Wanted) -> Self {
        for (host, wanted) in wanted {
            for attachment in &wanted.policy.attachments {
                if attachment.port.member_addresses().any(|net| net.contains(&address)) {
                    let [interface, _] = attachment.interfaces();
                    let place = Place {
                        host: host.clone(),
                        bridge: attachment.bridge.clone(),
                        vif: attachment.port.vif.clone(),
                        mac: attachment.port.mac,
                        interface: interface.clone(),
                    };
                    let label = format!("{address} ({interface})");
                    return Self { label, addresses: vec![address], place: Some(place) };
                }
            }
        }
        Self { label: address.to_string(), addresses: vec![address], place: None }
    }

    fn of_vm(text: &str, wanted: &Wanted, inventory: &Inventory) -> Result<Self, EndpointError> {
        // A VM's name may hold a '#': the whole first.
        let (name, device) = match text.rsplit_once('#') {
            Some((name, device)) if inventory.guests(text).next().is_none() => {
                (name, Some(device.parse::<u32>().map_err(|_| EndpointError::Unknown)?))
            }
            _ => (text, None),
        };
        let mut guests = inventory.guests(name);
        let (reference, vm) = guests.next().ok_or(EndpointError::Unknown)?;
        if guests.next().is_some() {
            return Err(EndpointError::Ambiguous);
        }
        let mut vifs: Vec<&Vif> = inventory.vifs.values().filter(|vif| vif.vm == *reference).collect();
        vifs.sort_unstable_by_key(|vif| vif.device);
        let vif = vifs.into_iter().find(|vif| device.is_none_or(|d| vif.device == d));
        let vif = vif.ok_or(EndpointError::NoDevice)?;
        let place = place(vm, vif, inventory).ok_or(EndpointError::NotRunning)?;
        let attachments = wanted.get(&place.host).into_iter().flat_map(|h| &h.policy.attachments);
        let port = attachments.into_iter().find(|a| a.port.vif == place.vif);
        let port = port.ok_or(EndpointError::NoAddress)?;
        let addresses = port.port.addresses.clone();
        let label = format!("{} ({})", vm.name_label, place.interface);
        Ok(Self { label, addresses, place: Some(place) })
    }
}

fn place(vm: &Vm, vif: &Vif, inventory: &Inventory) -> Option<Place> {
    let host = vm.resident_on.non_null()?.clone();
    let domid = vm.domid?;
    let bridge = inventory.networks.get(&vif.network)?.bridge.parse().ok()?;
    let interface = format!("vif{domid}.{}", vif.device);
    let id = vif.uuid.to_string().parse().ok()?;
    vif.currently_attached.then_some(Place { host, bridge, vif: id, mac: Mac(vif.mac.0), interface })
}
