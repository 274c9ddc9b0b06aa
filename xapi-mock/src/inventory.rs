//! From configuration to records.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

use drawbridge_wire::xmlrpc::Value;

use crate::config::{HostConfig, NetworkConfig, NetworkLocking, PoolConfig, VifConfig, VmConfig, uuid_of};
use crate::dataplane::{BridgeSpec, Content, HostFile, HostSpec, NetworkBackend, VlanSpec};
use crate::db::{Db, Record, map};
use crate::domain;
use crate::schema::Class;

/// What a guest configures on a VIF: known to the guest alone, so in no record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addressing {
    pub(crate) addresses: Vec<String>,
    pub(crate) gateways: Vec<String>,
}

/// The reference of the object with this uuid.
pub(crate) fn ref_of(uuid: &str) -> String {
    format!("OpaqueRef:{}", uuid_of("ref", uuid))
}

pub(crate) fn host_uuid(host: &HostConfig) -> String {
    host.uuid.clone().unwrap_or_else(|| uuid_of("host", &host.name))
}

fn network_uuid(network: &NetworkConfig) -> String {
    network.uuid.clone().unwrap_or_else(|| uuid_of("network", &network.name))
}

/// The uuid a configured VM has.
pub(crate) fn vm_uuid(vm: &VmConfig) -> String {
    vm.uuid.clone().unwrap_or_else(|| uuid_of("VM", &vm.name))
}

fn bridge(index: usize, network: &NetworkConfig) -> String {
    let stem = if network.vlan.is_some() { "xapi" } else { "xenbr" };
    network.bridge.clone().unwrap_or_else(|| format!("{stem}{index}"))
}

/// A locally administered unicast MAC, the same for the same name.
pub(crate) fn mac_of(name: &str) -> String {
    let digest = hmac_sha256::Hash::hash(name.as_bytes());
    let [a, b, c, d, e, ..] = digest;
    format!("02:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
}

/// The hosts as the data plane makes them.
///
/// # Errors
/// The plugins' directory cannot be read.
pub(crate) fn host_specs(config: &PoolConfig) -> io::Result<Vec<HostSpec>> {
    let plugins = config.plugins.as_deref().map_or_else(|| Ok(Vec::new()), plugin_files)?;
    let spec = |host: &HostConfig| {
        let bridges = config.networks.iter().enumerate().map(|(index, network)| BridgeSpec {
            name: bridge(index, network),
            network_uuid: network_uuid(network),
            management_address: (host.management.as_ref())
                .filter(|management| management.network == network.name)
                .map(|management| management.address.clone()),
            vlan: (network.vlan.zip(config.parent_of(network)))
                .map(|(tag, (index, parent))| VlanSpec { parent: bridge(index, parent), tag }),
        });
        let files = host.files.iter().map(|file| HostFile {
            path: file.path.clone(),
            mode: file.permission().unwrap_or(0o644),
            content: match (&file.text, &file.source) {
                (_, Some(source)) => Content::CopyOf(source.clone()),
                (text, None) => Content::Bytes(text.clone().unwrap_or_default().into_bytes()),
            },
        });
        HostSpec {
            uuid: host_uuid(host),
            name: host.name.clone(),
            bridges: bridges.collect(),
            network_backend: config.backend_of(host),
            iptables: config.iptables,
            // What a host names itself stands above what all have.
            files: plugins.iter().cloned().chain(files).collect(),
        }
    };
    Ok(config.hosts.iter().map(spec).collect())
}

/// The files of a directory, as plugins.
fn plugin_files(folder: &Path) -> io::Result<Vec<HostFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = fs::metadata(entry.path())?;
        if metadata.is_file() {
            files.push(HostFile {
                path: Path::new("/etc/xapi.d/plugins").join(entry.file_name()),
                mode: metadata.permissions().mode() & 0o7777,
                content: Content::CopyOf(entry.path()),
            });
        }
    }
    Ok(files)
}

/// Records for everything configured. `addresses` are the hosts', in their order. Nothing runs yet.
pub(crate) fn populate(config: &PoolConfig, addresses: &[String]) -> Db {
    let mut db = Db::default();
    for (index, network) in config.networks.iter().enumerate() {
        add_network(&mut db, &bridge(index, network), network);
    }
    for (host, address) in config.hosts.iter().zip(addresses) {
        add_host(&mut db, config, host, address);
    }
    let master = config.hosts.first().map(|host| ref_of(&host_uuid(host))).unwrap_or_default();
    let uuid = uuid_of("pool", &config.name);
    let pool =
        Record::new(Class::Pool, &uuid).with("name_label", config.name.as_str()).with("master", master);
    db.insert(Class::Pool, &ref_of(&uuid), pool);
    db
}

fn add_network(db: &mut Db, bridge: &str, network: &NetworkConfig) {
    let uuid = network_uuid(network);
    let locking = match network.default_locking_mode {
        NetworkLocking::Unlocked => "unlocked",
        NetworkLocking::Disabled => "disabled",
    };
    let record = Record::new(Class::Network, &uuid)
        .with("name_label", network.name.as_str())
        .with("bridge", bridge)
        .with("managed", true)
        .with("MTU", Value::Int(network.mtu.into()))
        .with("default_locking_mode", locking)
        .with("other_config", map(&network.other_config));
    db.insert(Class::Network, &ref_of(&uuid), record);
}

fn add_host(db: &mut Db, config: &PoolConfig, host: &HostConfig, address: &str) {
    let uuid = host_uuid(host);
    let reference = ref_of(&uuid);
    let metrics_uuid = uuid_of("host_metrics", &uuid);
    let metrics = Record::new(Class::HostMetrics, &metrics_uuid).with("live", true);
    db.insert(Class::HostMetrics, &ref_of(&metrics_uuid), metrics);

    let dom0_uuid = uuid_of("control domain", &uuid);
    let dom0_ref = ref_of(&dom0_uuid);
    let dom0 = Record::new(Class::Vm, &dom0_uuid)
        .with("name_label", format!("Control domain on host: {}", host.name))
        .with("power_state", "Running")
        .with("resident_on", reference.as_str())
        .with("affinity", reference.as_str())
        .with("is_control_domain", true);
    db.insert(Class::Vm, &dom0_ref, dom0);

    let mut record = Record::new(Class::Host, &uuid)
        .with("name_label", host.name.as_str())
        .with("hostname", host.name.as_str())
        .with("address", host.announced.map_or_else(|| address.to_owned(), |announced| announced.to_string()))
        .with("enabled", true)
        .with("API_version_major", Value::Int(2))
        .with("API_version_minor", Value::Int(21))
        .with("metrics", ref_of(&metrics_uuid))
        .with("control_domain", dom0_ref.as_str())
        .with("software_version", map(&software_version(host, config.backend_of(host))))
        .with("other_config", map(&host.other_config));
    record.insert("resident_VMs", &dom0_ref);

    let pif_uuid_of = |network: &NetworkConfig| uuid_of("PIF", &format!("{uuid}/{}", network.name));
    for (index, network) in config.networks.iter().enumerate() {
        let pif_uuid = pif_uuid_of(network);
        let (device, carrier) = config.parent_of(network).unwrap_or((index, network));
        let network_ref = ref_of(&network_uuid(network));
        let management = host.management.as_ref().filter(|management| management.network == network.name);
        let ip = management.and_then(|management| management.address.split('/').next()).unwrap_or_default();
        let mut pif = Record::new(Class::Pif, &pif_uuid)
            .with("device", format!("eth{device}"))
            .with("MAC", mac_of(&pif_uuid_of(carrier)))
            .with("MTU", Value::Int(network.mtu.into()))
            .with("VLAN", Value::Int(network.vlan.map_or(-1, i64::from)))
            .with("network", network_ref.as_str())
            .with("host", reference.as_str())
            .with("IP", ip)
            .with("management", management.is_some())
            .with("physical", network.vlan.is_none());
        pif.set("currently_attached", true);
        let pif_ref = ref_of(&pif_uuid);
        db.insert(Class::Pif, &pif_ref, pif);
        record.insert("PIFs", &pif_ref);
        db.update(Class::Network, &network_ref, |network| network.insert("PIFs", &pif_ref));
    }
    db.insert(Class::Host, &reference, record);
    domain::note_start(db, &reference, true);
}

/// An XCP-ng 8.3, unless the configuration says otherwise.
fn software_version(host: &HostConfig, backend: NetworkBackend) -> BTreeMap<String, String> {
    let defaults = [
        ("product_brand", "XCP-ng"),
        ("product_version", "8.3.0"),
        ("platform_version", "3.4.0"),
        ("xapi", "26.1"),
        ("xapi_build", "26.1.4"),
        ("xen", "4.17.6"),
        ("linux", "4.19.0+1"),
        ("network_backend", backend.as_str()),
    ];
    let defaults = defaults.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    defaults.chain(host.software_version.clone()).collect()
}

/// Adds a halted VM with its VIFs; what its guest configures goes to `addressing`, by VIF.
pub(crate) fn add_vm(db: &mut Db, vm: &VmConfig, addressing: &mut BTreeMap<String, Addressing>) {
    let uuid = vm_uuid(vm);
    let reference = ref_of(&uuid);
    let named = |db: &Db, class, name: &str| db.find(class, "name_label", name).next().map(str::to_owned);
    let mut record = Record::new(Class::Vm, &uuid)
        .with("name_label", vm.name.as_str())
        .with("power_state", "Halted")
        .with("domid", Value::Int(-1))
        .with("actions_after_crash", "restart")
        .with("is_a_template", vm.template || vm.snapshot_of.is_some())
        .with("is_a_snapshot", vm.snapshot_of.is_some())
        .with("xenstore_data", map(&vm.xenstore_data))
        .with("other_config", map(&vm.other_config));
    if let Some(host) = vm.affinity.as_deref().and_then(|host| named(db, Class::Host, host)) {
        record.set("affinity", host);
    }
    if let Some(original) = vm.snapshot_of.as_deref().and_then(|original| named(db, Class::Vm, original)) {
        record.set("snapshot_of", original.as_str());
        db.update(Class::Vm, &original, |vm| vm.insert("snapshots", &reference));
    }
    db.insert(Class::Vm, &reference, record);
    for vif in &vm.vifs {
        if let Some(network) = named(db, Class::Network, &vif.network) {
            let vif_ref = add_vif(db, vm, &uuid, vif, &network);
            let inside = Addressing { addresses: vif.addresses.clone(), gateways: vif.gateways.clone() };
            addressing.insert(vif_ref, inside);
        }
    }
}

fn add_vif(db: &mut Db, vm: &VmConfig, vm_uuid: &str, vif: &VifConfig, network: &str) -> String {
    let uuid = uuid_of("VIF", &format!("{vm_uuid}/{}", vif.device));
    let mtu = db.get(Class::Network, network).map(|network| network.number("MTU")).unwrap_or(1500);
    let allowed = |list: &[String]| list.iter().map(String::as_str).collect::<Value>();
    let record = Record::new(Class::Vif, &uuid)
        .with("device", vif.device.to_string())
        .with("network", network)
        .with("VM", ref_of(vm_uuid))
        .with("MAC", vif.mac.clone().unwrap_or_else(|| mac_of(&format!("{}/{}", vm.name, vif.device))))
        .with("MAC_autogenerated", vif.mac.is_none())
        .with("MTU", Value::Int(vif.mtu.unwrap_or(mtu).into()))
        .with("locking_mode", vif.locking_mode.as_str())
        .with("ipv4_allowed", allowed(&vif.ipv4_allowed))
        .with("ipv6_allowed", allowed(&vif.ipv6_allowed))
        .with("other_config", map(&vif.other_config));
    let reference = ref_of(&uuid);
    db.insert_vif(&reference, record);
    reference
}
