//! How a Lab is made.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use drawbridge_wire::generate_keypair;
use xapi_mock::Mock;
use xapi_mock::config::{
    DataPlaneKind, FileConfig, HostConfig, Management, NetworkConfig, NetworkLocking, PoolConfig, UserConfig,
    VifConfig, VmConfig,
};
use xapi_mock::dataplane::NetworkBackend;
use xenapi::{Client, ClientConfig, Tls};

use super::driver::PRIVATE_KEY;
use super::scratch::Scratch;
use super::{Iptables, Lab, OUTSIDE, addresses, bridge, ipv4, mac, namespace, station};
use crate::frame::Mac;

/// Who logs in.
pub(super) const USER: &str = "root";
/// With what.
pub(super) const PASSWORD: &str = "portcullis";

/// The environment variable that names the plugin to install, such as the static one that goes into the package.
const PLUGIN: &str = "DRAWBRIDGE_DOM0_PROGRAM";

/// A guest to be.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its VM's name.
    pub name: String,
    /// The host it starts on.
    pub host: String,
    /// The last part of its addresses.
    pub number: u8,
    /// The network each of its interfaces is on, by number.
    pub networks: Vec<u8>,
    /// The network whose addresses it has, where that is not the one it is on.
    pub addresses_of: Option<u8>,
    /// The network whose hardware address it has, where that is not the one it is on.
    pub mac_of: Option<u8>,
    /// Runs when the Lab is ready.
    pub running: bool,
}

impl Guest {
    /// One with an interface on `lan` that runs when the Lab is ready.
    #[must_use]
    pub fn new(name: &str, host: &str, number: u8) -> Self {
        Self {
            name: name.to_owned(),
            host: host.to_owned(),
            number,
            networks: vec![0],
            addresses_of: None,
            mac_of: None,
            running: true,
        }
    }

    /// One that is started by the test.
    #[must_use]
    pub fn halted(mut self) -> Self {
        self.running = false;
        self
    }

    /// With the addresses it would have on another network.
    #[must_use]
    pub const fn with_addresses_of(mut self, network: u8) -> Self {
        self.addresses_of = Some(network);
        self
    }

    /// With the hardware address it would have on another network.
    #[must_use]
    pub const fn with_mac_of(mut self, network: u8) -> Self {
        self.mac_of = Some(network);
        self
    }

    /// Its hardware address on the `network`-th network.
    pub(super) fn mac(&self, network: u8) -> Mac {
        mac(self.mac_of.unwrap_or(network), self.number)
    }

    /// With interfaces on these networks, in order.
    #[must_use]
    pub fn on(mut self, networks: &[u8]) -> Self {
        self.networks = networks.to_vec();
        self
    }
}

/// What enforces on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Linux bridges, `iptables-nft`.
    Nft,
    /// Linux bridges, `iptables-legacy`, what dom0 has.
    Legacy,
    /// Open vSwitch.
    OpenVSwitch,
}

impl Backend {
    const fn network_backend(self) -> NetworkBackend {
        match self {
            Self::Nft | Self::Legacy => NetworkBackend::Bridge,
            Self::OpenVSwitch => NetworkBackend::OpenVSwitch,
        }
    }

    const fn iptables(self) -> Iptables {
        match self {
            Self::Legacy | Self::OpenVSwitch => Iptables::Legacy,
            Self::Nft => Iptables::Nft,
        }
    }
}

impl From<Iptables> for Backend {
    fn from(iptables: Iptables) -> Self {
        match iptables {
            Iptables::Nft => Self::Nft,
            Iptables::Legacy => Self::Legacy,
        }
    }
}

/// What a Lab is to consist of.
#[derive(Debug)]
pub struct Builder {
    backend: Backend,
    switches: BTreeMap<String, NetworkBackend>,
    hosts: u8,
    networks: Vec<NetworkConfig>,
    guests: Vec<Guest>,
    policy: String,
    without_plugin: Vec<String>,
    announced: BTreeMap<String, Ipv4Addr>,
    plugin: Option<PathBuf>,
}

impl Lab {
    /// Two hosts on `lan`, no guests, an empty policy.
    #[must_use]
    pub fn builder(backend: impl Into<Backend>) -> Builder {
        Builder {
            backend: backend.into(),
            switches: BTreeMap::new(),
            hosts: 2,
            networks: vec![NetworkConfig {
                name: "lan".to_owned(),
                bridge: Some(bridge(0)),
                ..NetworkConfig::default()
            }],
            guests: Vec::new(),
            policy: String::new(),
            without_plugin: Vec::new(),
            announced: BTreeMap::new(),
            plugin: None,
        }
    }
}

impl Builder {
    /// This many hosts, `host1` (the pool's master) and up.
    #[must_use]
    pub const fn host_count(mut self, hosts: u8) -> Self {
        self.hosts = hosts;
        self
    }

    /// This host has another switch than the others.
    #[must_use]
    pub fn switch_of(mut self, host: &str, network_backend: NetworkBackend) -> Self {
        self.switches.insert(host.to_owned(), network_backend);
        self
    }

    /// One more network, a VLAN of `lan`'s uplinks.
    #[must_use]
    pub fn vlan(mut self, name: &str, tag: u16) -> Self {
        self = self.network(name);
        if let Some(network) = self.networks.last_mut() {
            (network.vlan, network.parent) = (Some(tag), Some("lan".to_owned()));
        }
        self
    }

    /// One more network.
    #[must_use]
    pub fn network(mut self, name: &str) -> Self {
        let number = self.networks.len();
        let bridge = Some(format!("xenbr{number}"));
        self.networks.push(NetworkConfig { name: name.to_owned(), bridge, ..NetworkConfig::default() });
        self
    }

    /// The network of this name is guarded: nothing passes a VIF that has no rules.
    #[must_use]
    pub fn guarded(mut self, name: &str) -> Self {
        for network in self.networks.iter_mut().filter(|network| network.name == name) {
            network.default_locking_mode = NetworkLocking::Disabled;
            network.other_config.insert("drawbridge:guarded".to_owned(), "true".to_owned());
        }
        self
    }

    /// One more guest.
    #[must_use]
    pub fn guest(mut self, guest: Guest) -> Self {
        self.guests.push(guest);
        self
    }

    /// The policy file's text.
    #[must_use]
    pub fn policy(mut self, text: &str) -> Self {
        text.clone_into(&mut self.policy);
        self
    }

    /// This host's dom0 lacks the plugin.
    #[must_use]
    pub fn without_plugin(mut self, host: &str) -> Self {
        self.without_plugin.push(host.to_owned());
        self
    }

    /// This host says that its XAPI has this address, which it has not: another part of the Lab stands for it.
    #[must_use]
    pub fn announced(mut self, host: &str, address: Ipv4Addr) -> Self {
        self.announced.insert(host.to_owned(), address);
        self
    }

    /// Another plugin than the one of this tree.
    #[must_use]
    pub fn plugin(mut self, path: PathBuf) -> Self {
        self.plugin = Some(path);
        self
    }

    /// Makes it so.
    ///
    /// # Errors
    /// Not root, a program is missing or not built, or the system refused.
    pub fn start(self) -> Result<Lab> {
        check_machine(self.backend.iptables(), self.has_ovs())?;
        let plugin = match &self.plugin {
            _ if self.hosts().all(|host| self.without_plugin.contains(&host)) => PathBuf::new(),
            Some(path) => path.clone(),
            // The static one that hosts get, where `make test` built it.
            None => match std::env::var_os(PLUGIN) {
                Some(path) => path.into(),
                None => built("drawbridge-dom0")?,
            },
        };
        let (private, public) = generate_keypair()?;
        let scratch = Scratch::new()?;
        scratch.write(PRIVATE_KEY, 0o600, private.expose())?;

        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mock = runtime.block_on(Mock::start(self.pool(&plugin, &public.to_string())))?;
        let plane = mock.data_plane().context("the mock has no data plane")?;
        let outside =
            plane.add_station(&bridge(0), "outside", &mac(0, OUTSIDE).to_string(), &addresses(0, OUTSIDE))?;
        let tls = Tls::PinnedSha256(vec![mock.fingerprint().parse()?]);
        let mut config = ClientConfig::new(mock.master_url(), USER, PASSWORD.to_owned().into(), tls);
        config.connect_timeout = Duration::from_secs(5);
        let client = runtime.block_on(async { Client::new(config) })?;

        let lab = Lab {
            client,
            outside: station("outside", "eth0", namespace(&outside)?, 0, OUTSIDE),
            stations: Mutex::new(vec![outside]),
            plane: Arc::clone(&plane),
            guests: self.guests,
            networks: self.networks.into_iter().map(|network| network.name).collect(),
            scratch,
            mock: Some(mock),
            runtime,
        };
        lab.configure()?;
        lab.set_policy(&self.policy)?;
        Ok(lab)
    }

    fn hosts(&self) -> impl Iterator<Item = String> {
        (1..=self.hosts).map(|number| format!("host{number}"))
    }

    fn switch(&self, host: &str) -> NetworkBackend {
        self.switches.get(host).copied().unwrap_or_else(|| self.backend.network_backend())
    }

    fn has_ovs(&self) -> bool {
        self.hosts().any(|host| self.switch(&host) == NetworkBackend::OpenVSwitch)
    }

    fn pool(&self, plugin: &Path, authorized: &str) -> PoolConfig {
        let host = |(number, name): (u8, String)| {
            let mut files = vec![FileConfig {
                path: "/etc/drawbridge/authorized_keys".into(),
                mode: Some("0600".to_owned()),
                text: Some(format!("{authorized}\n")),
                source: None,
            }];
            if !self.without_plugin.contains(&name) {
                files.push(FileConfig {
                    path: "/etc/xapi.d/plugins/drawbridge".into(),
                    mode: Some("0755".to_owned()),
                    text: None,
                    source: Some(plugin.to_owned()),
                });
            }
            let management =
                Some(Management { network: "lan".to_owned(), address: format!("{}/24", ipv4(0, number)) });
            let network_backend = Some(self.switch(&name));
            let announced = self.announced.get(&name).map(|address| (*address).into());
            HostConfig { name, announced, management, network_backend, files, ..HostConfig::default() }
        };
        PoolConfig {
            data_plane: DataPlaneKind::Netns,
            iptables: self.backend.iptables(),
            hosts: (1..).zip(self.hosts()).map(host).collect(),
            networks: self.networks.clone(),
            users: vec![UserConfig {
                name: USER.to_owned(),
                password: PASSWORD.to_owned(),
                role: Default::default(),
            }],
            vms: self.guests.iter().map(|guest| self.vm(guest)).collect(),
            ..PoolConfig::default()
        }
    }

    fn vm(&self, guest: &Guest) -> VmConfig {
        let vif = |(device, network): (u32, u8)| VifConfig {
            device,
            network: self
                .networks
                .get(usize::from(network))
                .map_or_else(String::new, |network| network.name.clone()),
            mac: Some(guest.mac(network).to_string()),
            addresses: addresses(guest.addresses_of.unwrap_or(network), guest.number),
            ..VifConfig::default()
        };
        VmConfig {
            name: guest.name.clone(),
            affinity: Some(guest.host.clone()),
            running: guest.running,
            vifs: (0..).zip(guest.networks.iter().copied()).map(vif).collect(),
            ..VmConfig::default()
        }
    }
}

/// What the Lab needs of the machine, with what to do about it.
fn check_machine(iptables: Iptables, ovs: bool) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the Lab makes network namespaces and bridges: run it as root");
    let iptables = match iptables {
        Iptables::Nft => "iptables-nft",
        Iptables::Legacy => "iptables-legacy",
    };
    let always = [("ip", "iproute2"), (iptables, "iptables"), ("ebtables-nft", "ebtables or iptables")];
    let for_ovs = [("ovs-vswitchd", "openvswitch-switch"), ("ethtool", "ethtool")];
    for (program, package) in always.iter().chain(for_ovs.iter().filter(|_| ovs)) {
        let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists());
        ensure!(found, "{program} is missing: install the package {package}");
    }
    Ok(())
}

/// A program of this workspace, as cargo built it beside this one.
pub(super) fn built(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let folder = exe.parent().context("no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().context("no folder")? } else { folder };
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{} is not built: run `cargo build --workspace --bins` (make test and make demo do)",
        path.display()
    );
    Ok(path)
}
