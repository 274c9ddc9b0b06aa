//! `VIF.*` and `network.*`: what is not a plain getter or setter.

use std::net::{Ipv4Addr, Ipv6Addr};

use drawbridge_wire::xmlrpc::Value;
use uuid::Uuid;

use super::{Call, Methods, type_error};
use crate::config::Role;
use crate::db::{Db, Record};
use crate::domain;
use crate::error::{ApiError, Reply};
use crate::inventory::{mac_of, ref_of};
use crate::pool::Claim;
use crate::schema::Class;

pub(super) fn register(methods: &mut Methods) {
    use Role::{PoolOperator, VmAdmin};
    methods.add_async("VIF.create", 1, VmAdmin, create);
    methods.add_async("VIF.destroy", 1, VmAdmin, destroy);
    methods.add_async("VIF.plug", 1, VmAdmin, plug);
    methods.add_async("VIF.unplug", 1, VmAdmin, unplug);
    methods.add_async("VIF.set_locking_mode", 2, PoolOperator, |call| {
        let mode = call.text(1)?;
        if !["network_default", "locked", "unlocked", "disabled"].contains(&mode) {
            return Err(type_error("vif_locking_mode", call.arg(1)));
        }
        change(call, |vif| vif.set("locking_mode", mode))
    });
    for (field, valid) in FAMILIES {
        methods.add(format!("VIF.set_{field}"), 2, PoolOperator, move |call| {
            let mut addresses = call.texts(1)?;
            addresses.sort();
            addresses.dedup();
            for address in &addresses {
                assert_address(field, valid, address)?;
            }
            change(call, |vif| vif.set(field, addresses.into_iter().collect::<Value>()))
        });
        methods.add(format!("VIF.add_{field}"), 2, PoolOperator, move |call| {
            let address = call.text(1)?;
            assert_address(field, valid, address)?;
            change(call, |vif| vif.insert(field, address))
        });
        methods.add(format!("VIF.remove_{field}"), 2, PoolOperator, move |call| {
            let address = call.text(1)?;
            change(call, |vif| vif.remove(field, address))
        });
    }
    methods.add_async("network.set_default_locking_mode", 2, PoolOperator, set_default_locking_mode);
}

type Valid = fn(&str) -> bool;

const FAMILIES: [(&str, Valid); 2] = [
    ("ipv4_allowed", |address| address.parse::<Ipv4Addr>().is_ok()),
    ("ipv6_allowed", |address| address.parse::<Ipv6Addr>().is_ok()),
];

fn assert_address(field: &str, valid: Valid, address: &str) -> Result<(), ApiError> {
    if valid(address) { Ok(()) } else { Err(ApiError::new("INVALID_IP_ADDRESS_SPECIFIED", [field])) }
}

/// Keeps lifecycle calls off the VIF's VM.
fn claim<'a>(call: &'a Call, vif: &str) -> Result<Claim<'a>, ApiError> {
    let vm = call.pool.db().get(Class::Vif, vif)?.text("VM").to_owned();
    Ok(call.pool.claim(&vm))
}

/// Changes what locks the VIF; if it stands on a bridge, there, too.
fn change(call: &Call, change: impl FnOnce(&mut Record)) -> Reply {
    let vif = call.text(0)?;
    let pool = &call.pool;
    let _claim = claim(call, vif)?;
    let live = {
        let mut db = pool.db();
        db.try_update(Class::Vif, vif, |vif| {
            change(vif);
            Ok(())
        })?;
        let record = db.get(Class::Vif, vif)?;
        let vm = db.get(Class::Vm, record.text("VM"))?;
        let active =
            record.flag("currently_attached") && matches!(vm.text("power_state"), "Running" | "Paused");
        let uuid = vm.text("uuid").to_owned();
        let host = vm.text("resident_on").to_owned();
        let port = active.then(|| domain::port(&db, vif, vm.number("domid"), pool.addressing(vif)));
        port.transpose()?.map(|port| (host, uuid, port))
    };
    if let Some((host, uuid, port)) = live {
        pool.reach(&host)?;
        pool.data_plane.set_locking(&uuid, &port)?;
    }
    Ok(Value::from(""))
}

/// Where a VIF's domain is.
struct Standing {
    host: String,
    vm_uuid: String,
    domid: u32,
}

/// `valid_operations`: a VIF is plugged and unplugged while its VM runs, and only if that changes something.
fn standing(db: &Db, vif: &str, attached: bool) -> Result<Standing, ApiError> {
    let record = db.get(Class::Vif, vif)?;
    let vm_ref = record.text("VM");
    let vm = db.get(Class::Vm, vm_ref)?;
    let state = vm.text("power_state");
    if state != "Running" {
        return Err(ApiError::new("VM_BAD_POWER_STATE", [vm_ref, "running", &state.to_lowercase()]));
    }
    match (record.flag("currently_attached"), attached) {
        (true, false) => Err(ApiError::new("DEVICE_ALREADY_ATTACHED", [vif])),
        (false, true) => Err(ApiError::new("DEVICE_ALREADY_DETACHED", [vif])),
        _ => Ok(Standing {
            host: vm.text("resident_on").to_owned(),
            vm_uuid: vm.text("uuid").to_owned(),
            domid: vm.number("domid"),
        }),
    }
}

fn plug(call: &Call) -> Reply {
    let (pool, vif) = (&call.pool, call.text(0)?);
    let _claim = claim(call, vif)?;
    let (at, port) = {
        let db = pool.db();
        let at = standing(&db, vif, false)?;
        let port = domain::port(&db, vif, at.domid, pool.addressing(vif))?;
        (at, port)
    };
    pool.reach(&at.host)?;
    pool.data_plane.plug(&at.vm_uuid, &port)?;
    pool.db().update(Class::Vif, vif, |vif| vif.set("currently_attached", true));
    Ok(Value::from(""))
}

fn unplug(call: &Call) -> Reply {
    let (pool, vif) = (&call.pool, call.text(0)?);
    let _claim = claim(call, vif)?;
    let (at, device) = {
        let db = pool.db();
        (standing(&db, vif, true)?, db.get(Class::Vif, vif)?.number("device"))
    };
    pool.reach(&at.host)?;
    pool.data_plane.unplug(&at.vm_uuid, device)?;
    pool.db().update(Class::Vif, vif, |vif| vif.set("currently_attached", false));
    Ok(Value::from(""))
}

/// `(record)`. The members the mock keeps are read, others ignored; device, network and VM must be there.
fn create(call: &Call) -> Reply {
    let given = call.arg(0);
    let text = |name: &str| match given.member(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(type_error("string", other)),
        None => Err(ApiError::internal(format!("Rpc.Runtime_error(\"Undefined field {name}\", _)"))),
    };
    let (device, network, vm) = (text("device")?, text("network")?, text("VM")?);
    let mut db = call.pool.db();
    db.get(Class::Network, network)?;
    let power_state = db.get(Class::Vm, vm)?.text("power_state").to_owned();
    let Ok(number) = device.parse::<u32>() else { return Err(ApiError::new("INVALID_DEVICE", [device])) };
    let uuid = Uuid::new_v4().to_string();
    let own_mac = given.member("MAC").and_then(Value::as_str).unwrap_or_default();
    let has_seed = db.get(Class::Vm, vm)?.get("other_config").member("mac_seed").is_some();
    let mac = if own_mac.is_empty() && has_seed { mac_of(&uuid) } else { own_mac.to_owned() };
    if !valid_mac(&mac) {
        return Err(ApiError::new("MAC_INVALID", [mac]));
    }
    let devices = db.vifs_of(vm);
    if devices.iter().any(|vif| db.get(Class::Vif, vif).is_ok_and(|vif| vif.number("device") == number)) {
        return Err(ApiError::new("DEVICE_ALREADY_EXISTS", [device]));
    }
    let mtu = match given.member("MTU") {
        Some(Value::String(text)) => {
            let number = text.parse();
            number.map_err(|_| ApiError::internal(format!("Failure(\"int_of_string\", {text:?})")))?
        }
        Some(Value::Int(mtu)) => *mtu,
        _ => 1500,
    };
    let or_default = |name: &str, default: Value| given.member(name).cloned().unwrap_or(default);
    // Only a suspended VM can get a VIF that counts as attached already.
    let attached =
        power_state == "Suspended" && given.member("currently_attached") == Some(&Value::Bool(true));
    let record = Record::new(Class::Vif, &uuid)
        .with("device", number.to_string())
        .with("network", network)
        .with("VM", vm)
        .with("MAC", mac)
        .with("MAC_autogenerated", own_mac.is_empty())
        .with("MTU", Value::Int(mtu))
        .with("currently_attached", attached)
        .with("locking_mode", or_default("locking_mode", Value::from("network_default")))
        .with("ipv4_allowed", or_default("ipv4_allowed", Value::Array(Vec::new())))
        .with("ipv6_allowed", or_default("ipv6_allowed", Value::Array(Vec::new())))
        .with("other_config", or_default("other_config", Value::Struct(Vec::new())));
    let reference = ref_of(&uuid);
    db.insert_vif(&reference, record);
    Ok(Value::from(reference))
}

/// `Helpers.is_valid_MAC`: six groups of two hexadecimal digits.
fn valid_mac(mac: &str) -> bool {
    let groups: Vec<_> = mac.split(':').collect();
    groups.len() == 6
        && groups.iter().all(|group| group.len() == 2 && group.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn destroy(call: &Call) -> Reply {
    let vif = call.text(0)?;
    let _claim = claim(call, vif)?;
    let mut db = call.pool.db();
    let record = db.get(Class::Vif, vif)?;
    let vm = db.get(Class::Vm, record.text("VM"))?;
    if record.flag("currently_attached") && vm.text("power_state") == "Running" {
        return Err(ApiError::not_allowed("VIF currently attached to a running VM"));
    }
    db.delete_vif(vif);
    Ok(Value::from(""))
}

/// XAPI does not change this under VIFs that stand on the network.
fn set_default_locking_mode(call: &Call) -> Reply {
    let (network, mode) = (call.text(0)?, call.text(1)?);
    if !["unlocked", "disabled"].contains(&mode) {
        return Err(type_error("network_default_locking_mode", call.arg(1)));
    }
    let mut db = call.pool.db();
    let in_use = |vif: &&str| db.get(Class::Vif, vif).is_ok_and(|vif| vif.flag("currently_attached"));
    if let Some(vif) = db.find(Class::Vif, "network", network).find(in_use) {
        return Err(ApiError::new("VIF_IN_USE", [network, vif]));
    }
    db.try_update(Class::Network, network, |network| {
        network.set("default_locking_mode", mode);
        Ok(Value::from(""))
    })
}
