//! What the pool consists of: the TOML file's content, and the same for programs that use the library.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dataplane::{Iptables, NetworkBackend};

/// Names become uuids in this namespace: equal configurations give equal uuids and references.
const NAMESPACE: Uuid = Uuid::from_u128(0x9d0f_3c0a_5b1e_4a86_b6a9_6d6f_636b_7870);

/// The uuid an object gets that names none: version 5 over its class and name.
#[must_use]
pub fn uuid_of(class: &str, name: &str) -> String {
    Uuid::new_v5(&NAMESPACE, format!("{class}/{name}").as_bytes()).to_string()
}

/// The whole pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// `pool.name_label`.
    pub name: String,
    /// Address of the first host, the pool's master. Every further host without an `address` of its own takes the
    /// next IP address; all listen on one port, as real hosts do. Port 0: a free one is chosen.
    pub listen: SocketAddr,
    /// What stands behind the records.
    pub data_plane: DataPlaneKind,
    /// What switches packets in the hosts, unless a host says otherwise.
    pub network_backend: NetworkBackend,
    /// Which back end `iptables` has in every host's dom0.
    pub iptables: Iptables,
    /// The directory whose files are every host's `/etc/xapi.d/plugins`.
    pub plugins: Option<PathBuf>,
    /// How long a wrong password is thought over. XAPI takes 5000.
    pub wrong_password_delay_ms: u64,
    /// The first is the pool's master.
    pub hosts: Vec<HostConfig>,
    /// Every host has a bridge for each.
    pub networks: Vec<NetworkConfig>,
    /// Who may log in.
    pub users: Vec<UserConfig>,
    /// VMs, snapshots and templates.
    pub vms: Vec<VmConfig>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            name: "mock".to_owned(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            data_plane: DataPlaneKind::None,
            network_backend: NetworkBackend::default(),
            iptables: Iptables::default(),
            plugins: None,
            wrong_password_delay_ms: 0,
            hosts: Vec::new(),
            networks: Vec::new(),
            users: vec![UserConfig {
                name: "root".to_owned(),
                password: "mock".to_owned(),
                role: Role::PoolAdmin,
            }],
            vms: Vec::new(),
        }
    }
}

/// What stands behind the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataPlaneKind {
    /// Nothing: no packets; plugins run in the mock's own file system.
    #[default]
    None,
    /// Linux namespaces: bridges, vifs, guests. Needs root.
    Netns,
}

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// `host.name_label` and `host.hostname`; unique.
    pub name: String,
    /// Default: derived from the name.
    pub uuid: Option<String>,
    /// `host.address`, where the host listens. Default: counted up from the pool's `listen`.
    pub address: Option<IpAddr>,
    /// `host.address`, where it is to be another than the one on which the host listens: whoever goes by it does not find
    /// XAPI there.
    pub announced: Option<IpAddr>,
    /// dom0's own address on one of the networks. Data plane only.
    pub management: Option<Management>,
    /// `host.software_version:network_backend`. Default: the pool's.
    pub network_backend: Option<NetworkBackend>,
    /// Laid over `host.software_version`.
    pub software_version: BTreeMap<String, String>,
    /// `host.other_config`.
    pub other_config: BTreeMap<String, String>,
    /// Files of the host's private file system. Data plane `netns` only.
    pub files: Vec<FileConfig>,
}

/// dom0's own address on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Management {
    /// The network's name.
    pub network: String,
    /// In CIDR form.
    pub address: String,
}

/// A file of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// Absolute path in the host.
    pub path: PathBuf,
    /// Permission bits in octal, `"0644"`.
    pub mode: Option<String>,
    /// The content itself, or
    pub text: Option<String>,
    /// a file of this machine to copy.
    pub source: Option<PathBuf>,
}

/// A network, with its PIF on every host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// `network.name_label`; unique.
    pub name: String,
    /// Default: derived from the name.
    pub uuid: Option<String>,
    /// Default: `xenbr<n>`, a VLAN's `xapi<n>`, counted in order.
    pub bridge: Option<String>,
    /// Its frames travel with this tag, 1 to 4094, on the wire of another network.
    pub vlan: Option<u16>,
    /// With `vlan`: the name of that other network. Default: the first that is no VLAN.
    pub parent: Option<String>,
    /// What VIFs with `network_default` do.
    pub default_locking_mode: NetworkLocking,
    /// Bytes.
    pub mtu: u32,
    /// `network.other_config`.
    pub other_config: BTreeMap<String, String>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            uuid: None,
            bridge: None,
            vlan: None,
            parent: None,
            default_locking_mode: NetworkLocking::Unlocked,
            mtu: 1500,
            other_config: BTreeMap::new(),
        }
    }
}

/// `network.default_locking_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkLocking {
    /// VIFs pass everything.
    #[default]
    Unlocked,
    /// VIFs pass nothing.
    Disabled,
}

/// Who may log in, and as what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// User name.
    pub name: String,
    /// In the clear: the mock guards nothing.
    pub password: String,
    /// Default: `pool-admin`.
    #[serde(default)]
    pub role: Role,
}

/// XAPI's roles, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads everything.
    ReadOnly,
    /// Starts and stops VMs.
    VmOperator,
    /// Makes VMs.
    VmAdmin,
    /// Chooses where VMs run.
    VmPowerAdmin,
    /// All but dom0 and users.
    PoolOperator,
    /// Everything.
    #[default]
    PoolAdmin,
}

impl Role {
    const STRONGEST_FIRST: [(Self, &'static str); 6] = [
        (Self::PoolAdmin, "pool-admin"),
        (Self::PoolOperator, "pool-operator"),
        (Self::VmPowerAdmin, "vm-power-admin"),
        (Self::VmAdmin, "vm-admin"),
        (Self::VmOperator, "vm-operator"),
        (Self::ReadOnly, "read-only"),
    ];

    /// The names of this role and all stronger ones, as XAPI lists them in `RBAC_PERMISSION_DENIED`.
    pub(crate) fn and_stronger(self) -> String {
        let names: Vec<_> =
            Self::STRONGEST_FIRST.iter().filter(|(role, _)| *role >= self).map(|(_, name)| *name).collect();
        names.join(", ")
    }
}

/// A VM, a snapshot or a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VmConfig {
    /// `VM.name_label`; unique in the file, though XAPI does not ask for that.
    pub name: String,
    /// Default: derived from the name.
    pub uuid: Option<String>,
    /// Name of the host it starts on if that is alive.
    pub affinity: Option<String>,
    /// Runs when the mock is ready.
    pub running: bool,
    /// Is a template.
    pub template: bool,
    /// Is a snapshot of this VM.
    pub snapshot_of: Option<String>,
    /// `VM.other_config`.
    pub other_config: BTreeMap<String, String>,
    /// `VM.xenstore_data`.
    pub xenstore_data: BTreeMap<String, String>,
    /// Its VIFs.
    pub vifs: Vec<VifConfig>,
}

/// A VIF.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VifConfig {
    /// `eth<device>` in the guest.
    pub device: u32,
    /// The network's name.
    pub network: String,
    /// Default: derived from the VM's name and the device.
    pub mac: Option<String>,
    /// Default: the network's.
    pub mtu: Option<u32>,
    /// `VIF.locking_mode`.
    pub locking_mode: VifLocking,
    /// `VIF.ipv4_allowed`.
    pub ipv4_allowed: Vec<String>,
    /// `VIF.ipv6_allowed`.
    pub ipv6_allowed: Vec<String>,
    /// `VIF.other_config`.
    pub other_config: BTreeMap<String, String>,
    /// What the guest configures at boot, in CIDR form.
    pub addresses: Vec<String>,
    /// The guest's default routes, at most one of each family.
    pub gateways: Vec<String>,
}

/// `VIF.locking_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VifLocking {
    /// What the network says.
    #[default]
    NetworkDefault,
    /// Own MAC and the allowed addresses only.
    Locked,
    /// Everything.
    Unlocked,
    /// Nothing.
    Disabled,
}

impl VifLocking {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkDefault => "network_default",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
            Self::Disabled => "disabled",
        }
    }
}

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not this TOML; says where.
    #[error("{path}: {source}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where, with the line.
        source: Box<toml::de::Error>,
    },
    /// No host is configured.
    #[error("a pool needs at least one host")]
    NoHost,
    /// A name stands twice, or is empty.
    #[error("{class} {name:?}: names must be unique and not empty")]
    Name {
        /// Kind of object.
        class: &'static str,
        /// The name.
        name: String,
    },
    /// Something refers to what is not there.
    #[error("{owner}: there is no {class} {name:?}")]
    Unknown {
        /// Who refers to it.
        owner: String,
        /// Kind of object.
        class: &'static str,
        /// The name.
        name: String,
    },
    /// A value is out of its domain.
    #[error("{owner}: {problem}")]
    Invalid {
        /// Whose value.
        owner: String,
        /// What is wrong.
        problem: String,
    },
}

impl PoolConfig {
    /// Reads and checks a TOML file. Relative paths in it are taken from its folder.
    ///
    /// # Errors
    /// [`ConfigError`], with the line for what TOML can point at.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let files =
            config.hosts.iter_mut().flat_map(|host| &mut host.files).filter_map(|file| file.source.as_mut());
        for relative in files.chain(config.plugins.as_mut()) {
            *relative = folder.join(&relative);
        }
        config.check()?;
        Ok(config)
    }

    /// Checks what the types do not: names are unique and refer to something.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.hosts.is_empty() {
            return Err(ConfigError::NoHost);
        }
        let hosts = unique("host", self.hosts.iter().map(|host| &host.name))?;
        let networks = unique("network", self.networks.iter().map(|network| &network.name))?;
        unique("user", self.users.iter().map(|user| &user.name))?;
        let vms = unique("vm", self.vms.iter().map(|vm| &vm.name))?;
        for host in &self.hosts {
            if let Some(management) = &host.management {
                known(&networks, "network", &management.network, || format!("host {:?}", host.name))?;
            }
            for file in &host.files {
                file.check(&host.name)?;
            }
        }
        let mut tags = BTreeSet::new();
        for network in &self.networks {
            let owner = || format!("network {:?}", network.name);
            if let Some(parent) = &network.parent {
                known(&networks, "network", parent, owner)?;
            }
            let problem = match (network.vlan, self.parent_of(network)) {
                (None, _) if network.parent.is_some() => "a parent without vlan",
                (None, _) => continue,
                (Some(0 | 4095..), _) => "a VLAN's tag is one of 1 to 4094",
                (Some(_), None) => "a VLAN needs a parent that is none",
                (Some(tag), Some((parent, _))) if !tags.insert((parent, tag)) => {
                    "the tag is taken on that parent"
                }
                (Some(_), Some(_)) => continue,
            };
            return Err(ConfigError::Invalid { owner: owner(), problem: problem.to_owned() });
        }
        for vm in &self.vms {
            let owner = || format!("vm {:?}", vm.name);
            if let Some(host) = &vm.affinity {
                known(&hosts, "host", host, owner)?;
            }
            if let Some(original) = &vm.snapshot_of {
                known(&vms, "vm", original, owner)?;
            }
            if vm.running && (vm.template || vm.snapshot_of.is_some()) {
                return Err(ConfigError::Invalid {
                    owner: owner(),
                    problem: "only a plain VM can run".to_owned(),
                });
            }
            let mut devices = BTreeSet::new();
            for vif in &vm.vifs {
                known(&networks, "network", &vif.network, owner)?;
                if !devices.insert(vif.device) {
                    let problem = format!("two VIFs have device {}", vif.device);
                    return Err(ConfigError::Invalid { owner: owner(), problem });
                }
            }
        }
        Ok(())
    }
}

impl PoolConfig {
    /// The network on whose wire a VLAN travels, with its place in the list.
    pub(crate) fn parent_of(&self, network: &NetworkConfig) -> Option<(usize, &NetworkConfig)> {
        network.vlan?;
        let named = |it: &NetworkConfig| network.parent.as_ref().is_none_or(|parent| *parent == it.name);
        self.networks.iter().enumerate().find(|(_, it)| it.vlan.is_none() && named(it))
    }

    /// What switches packets in this host.
    pub(crate) fn backend_of(&self, host: &HostConfig) -> NetworkBackend {
        host.network_backend.unwrap_or(self.network_backend)
    }
}

impl FileConfig {
    fn check(&self, host: &str) -> Result<(), ConfigError> {
        let problem = if !self.path.is_absolute() {
            "the path must be absolute"
        } else if self.text.is_some() == self.source.is_some() {
            "give either text or source"
        } else if self.permission().is_none() {
            "mode is no octal number"
        } else {
            return Ok(());
        };
        let owner = format!("host {host:?}, file {}", self.path.display());
        Err(ConfigError::Invalid { owner, problem: problem.to_owned() })
    }

    /// `mode` as a number; 0644 if none is given.
    pub(crate) fn permission(&self) -> Option<u32> {
        let Some(mode) = &self.mode else { return Some(0o644) };
        u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777)
    }
}

fn unique<'a>(
    class: &'static str,
    names: impl Iterator<Item = &'a String>,
) -> Result<BTreeSet<&'a str>, ConfigError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name.as_str()) {
            return Err(ConfigError::Name { class, name: name.clone() });
        }
    }
    Ok(seen)
}

fn known(
    names: &BTreeSet<&str>,
    class: &'static str,
    name: &str,
    owner: impl Fn() -> String,
) -> Result<(), ConfigError> {
    if names.contains(name) {
        return Ok(());
    }
    Err(ConfigError::Unknown { owner: owner(), class, name: name.to_owned() })
}
