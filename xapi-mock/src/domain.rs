//! Domains: what a running VM is on its host, in the records and in the data plane.

mod migrate;

use drawbridge_wire::xmlrpc::Value;
use jiff::Timestamp;

use crate::dataplane::{Locking, VifPort};
use crate::db::Db;
use crate::error::ApiError;
use crate::faults::HostState;
use crate::inventory::Addressing;
use crate::pool::Pool;
use crate::schema::{Class, NULL_REF};

pub(crate) use migrate::migrate;

/// Sets where a VM runs: a host and a domid, or nowhere.
fn set_residence(db: &mut Db, vm: &str, residence: Option<(&str, u32)>) {
    let (host, domid) = match residence {
        Some((host, domid)) => (host, i64::from(domid)),
        None => (NULL_REF, -1),
    };
    move_residence(db, vm, host);
    db.update(Class::Vm, vm, |record| record.set("domid", Value::Int(domid)));
}

/// `VM.atomic_set_resident_on`
fn move_residence(db: &mut Db, vm: &str, host: &str) {
    let old = db.get(Class::Vm, vm).map(|record| record.text("resident_on").to_owned()).unwrap_or_default();
    db.update(Class::Host, &old, |host| host.remove("resident_VMs", vm));
    db.update(Class::Host, host, |host| host.insert("resident_VMs", vm));
    db.update(Class::Vm, vm, |record| {
        record.set("resident_on", host);
        record.set("scheduled_to_be_resident_on", NULL_REF);
    });
}

/// Notes on which host a VM is about to run, or that it is on none.
pub(crate) fn schedule(pool: &Pool, vm: &str, host: &str) {
    pool.db().update(Class::Vm, vm, |vm| vm.set("scheduled_to_be_resident_on", host));
}

fn set_state(db: &mut Db, vm: &str, state: &str) {
    db.update(Class::Vm, vm, |record| record.set("power_state", state));
}

fn uuid(db: &Db, vm: &str) -> Result<String, ApiError> {
    Ok(db.get(Class::Vm, vm)?.text("uuid").to_owned())
}

/// The port a VIF has in the domain its VM runs in.
pub(crate) fn port(db: &Db, vif: &str, domid: u32, inside: Addressing) -> Result<VifPort, ApiError> {
    let record = db.get(Class::Vif, vif)?;
    let network = db.get(Class::Network, record.text("network"))?;
    let mode = match record.text("locking_mode") {
        "network_default" => network.text("default_locking_mode"),
        own => own,
    };
    let locking = match mode {
        "locked" => {
            Locking::Locked { ipv4: record.texts("ipv4_allowed"), ipv6: record.texts("ipv6_allowed") }
        }
        "disabled" => Locking::Disabled,
        _ => Locking::Unlocked,
    };
    Ok(VifPort {
        domid,
        device: record.number("device"),
        uuid: record.text("uuid").to_owned(),
        network_uuid: network.text("uuid").to_owned(),
        bridge: network.text("bridge").to_owned(),
        mac: record.text("MAC").to_owned(),
        mtu: record.number("MTU"),
        locking,
        addresses: inside.addresses,
        gateways: inside.gateways,
    })
}

/// Makes a domain on this host, the guest paused. `attached_only`: with the VIFs that were attached, as after a
/// suspend; else with all.
pub(crate) fn create(pool: &Pool, vm: &str, host: &str, attached_only: bool) -> Result<(), ApiError> {
    let name = pool.reach(host)?;
    let domid = pool.next_domid(host);
    let (uuid, vifs, ports) = {
        let db = pool.db();
        let mut vifs = db.vifs_of(vm);
        if attached_only {
            vifs.retain(|vif| db.get(Class::Vif, vif).is_ok_and(|vif| vif.flag("currently_attached")));
        }
        let ports: Result<Vec<_>, _> =
            vifs.iter().map(|vif| port(&db, vif, domid, pool.addressing(vif))).collect();
        (uuid(&db, vm)?, vifs, ports?)
    };
    pool.data_plane.create_domain(&name, &uuid, &ports)?;
    let mut db = pool.db();
    set_residence(&mut db, vm, Some((host, domid)));
    set_state(&mut db, vm, "Paused");
    for vif in vifs {
        db.update(Class::Vif, &vif, |vif| vif.set("currently_attached", true));
    }
    Ok(())
}

/// Lets the guest run.
pub(crate) fn run(pool: &Pool, vm: &str) -> Result<(), ApiError> {
    let uuid = uuid(&pool.db(), vm)?;
    pool.data_plane.run_guest(&uuid)?;
    set_state(&mut pool.db(), vm, "Running");
    Ok(())
}

/// Stops the guest where it is.
pub(crate) fn pause(pool: &Pool, vm: &str) -> Result<(), ApiError> {
    let uuid = uuid(&pool.db(), vm)?;
    pool.data_plane.pause_guest(&uuid)?;
    set_state(&mut pool.db(), vm, "Paused");
    Ok(())
}

/// [`create`], and [`run`] unless it is to stay paused. Nothing is left of a start that fails half way.
pub(crate) fn start(
    pool: &Pool,
    vm: &str,
    host: &str,
    paused: bool,
    attached_only: bool,
) -> Result<(), ApiError> {
    create(pool, vm, host, attached_only)?;
    if paused {
        return Ok(());
    }
    run(pool, vm).inspect_err(|_| {
        if let Err(error) = halt(pool, vm) {
            tracing::error!(?error, "a domain whose guest did not start cannot be removed");
        }
    })
}

/// Removes the domain, if there is one; the VM is Halted.
pub(crate) fn halt(pool: &Pool, vm: &str) -> Result<(), ApiError> {
    let uuid = uuid(&pool.db(), vm)?;
    pool.data_plane.destroy_domain(&uuid)?;
    set_halted(&mut pool.db(), vm);
    Ok(())
}

/// Removes the domain; the VM is Suspended and remembers which VIFs were attached.
pub(crate) fn suspend(pool: &Pool, vm: &str) -> Result<(), ApiError> {
    let uuid = uuid(&pool.db(), vm)?;
    pool.data_plane.destroy_domain(&uuid)?;
    let mut db = pool.db();
    set_state(&mut db, vm, "Suspended");
    set_residence(&mut db, vm, None);
    Ok(())
}

/// What xapi writes into its host's `other_config` when it starts: since when it runs, and with `boot` since when dom0
/// does. Seconds; never the same twice, which a real start takes care of by its duration.
pub(crate) fn note_start(db: &mut Db, host: &str, boot: bool) {
    let keys = ["agent_start_time", "boot_time"].into_iter().take(1 + usize::from(boot));
    db.update(Class::Host, host, |host| {
        let Some(Value::Struct(config)) = host.get_mut("other_config") else { return };
        for key in keys {
            let old = config.iter().position(|(known, _)| known == key).map(|place| config.remove(place).1);
            let old =
                old.as_ref().and_then(Value::as_str).and_then(|text| text.trim_end_matches('.').parse().ok());
            let now = Timestamp::now().as_second().max(old.map_or(0, |old: i64| old + 1));
            config.push((key.to_owned(), Value::from(format!("{now}."))));
        }
    });
}

/// What a host's xapi notes when it starts: of the VMs that ran there none does.
pub(crate) fn reset_residents(pool: &Pool, host: &str) {
    let mut db = pool.db();
    let residents: Vec<_> = db
        .all(Class::Vm)
        .filter(|(_, vm)| vm.text("resident_on") == host && !vm.flag("is_control_domain"))
        .map(|(vm, _)| vm.clone())
        .collect();
    for vm in residents {
        set_halted(&mut db, &vm);
    }
}

fn set_halted(db: &mut Db, vm: &str) {
    set_state(db, vm, "Halted");
    set_residence(db, vm, None);
    for vif in db.vifs_of(vm) {
        db.update(Class::Vif, &vif, |vif| vif.set("currently_attached", false));
    }
}

/// A new domain on the same host, running. The VM is Halted if that fails.
pub(crate) fn reboot(pool: &Pool, vm: &str) -> Result<(), ApiError> {
    let (uuid, host) = {
        let db = pool.db();
        let record = db.get(Class::Vm, vm)?;
        (record.text("uuid").to_owned(), record.text("resident_on").to_owned())
    };
    // Before anything is touched: a host that does not answer reboots nothing.
    pool.reach(&host)?;
    pool.data_plane.destroy_domain(&uuid)?;
    // For a moment there is no domain, whatever the power state says.
    pool.db().update(Class::Vm, vm, |record| record.set("domid", Value::Int(-1)));
    start(pool, vm, &host, false, false).inspect_err(|_| {
        if let Err(error) = halt(pool, vm) {
            tracing::error!(?error, "a VM that did not come up again cannot be halted");
        }
    })
}

/// The VM's affinity if that host is up, else the host with the fewest VMs.
pub(crate) fn choose_host(pool: &Pool, db: &Db, vm: &str) -> Result<String, ApiError> {
    let up = |host: &str| {
        db.get(Class::Host, host).is_ok_and(|record| {
            record.flag("enabled")
                && db.live(host)
                && pool.faults.host(record.text("name_label")) == HostState::Online
        })
    };
    let affinity = db.get(Class::Vm, vm)?.text("affinity");
    if up(affinity) {
        return Ok(affinity.to_owned());
    }
    db.all(Class::Host)
        .filter(|(host, _)| up(host))
        .min_by_key(|(_, record)| record.texts("resident_VMs").len())
        .map(|(host, _)| host.clone())
        .ok_or_else(|| ApiError::new::<String>("NO_HOSTS_AVAILABLE", []))
}
