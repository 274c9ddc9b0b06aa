//! The seam between XAPI's records and what moves packets: every lifecycle call ends in one of these.
//!
//! A host is named by its `name`, a VM by its uuid. Calls block; the server makes each on a thread of its own, and
//! never two at a time for one VM.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What XenServer's `setup-vif-rules` does for a VIF; `network_default` is already resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locking {
    /// No rules.
    Unlocked,
    /// The port is not on the bridge at all.
    Disabled,
    /// Only this MAC with these addresses; an empty list admits none of that family.
    Locked {
        /// Plain IPv4 addresses, as in `VIF.ipv4_allowed`.
        ipv4: Vec<String>,
        /// Plain IPv6 addresses, as in `VIF.ipv6_allowed`.
        ipv6: Vec<String>,
    },
}

/// One virtual interface of a domain: `vif<domid>.<device>` in dom0, `eth<device>` in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VifPort {
    /// The domain's id on its host.
    pub domid: u32,
    /// `VIF.device`.
    pub device: u32,
    /// `VIF.uuid`.
    pub uuid: String,
    /// `network.uuid`.
    pub network_uuid: String,
    /// Name of the bridge in dom0.
    pub bridge: String,
    /// The guest end's MAC.
    pub mac: String,
    /// Bytes.
    pub mtu: u32,
    /// XAPI's own locking of the port.
    pub locking: Locking,
    /// What the guest itself configures, in CIDR form.
    pub addresses: Vec<String>,
    /// The guest's default routes: at most one address of each family.
    pub gateways: Vec<String>,
}

/// A bridge every host of the pool has, connected to the same network on the other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSpec {
    /// The bridge's name, `xenbr0`.
    pub name: String,
    /// Equal on all hosts: this is what connects them.
    pub network_uuid: String,
    /// dom0's own address on this bridge, in CIDR form.
    pub management_address: Option<String>,
    /// The bridge has no uplink of its own but is a VLAN of another's.
    pub vlan: Option<VlanSpec>,
}

/// What makes a bridge a VLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanSpec {
    /// Name of the bridge whose uplink carries the tagged frames.
    pub parent: String,
    /// 1 to 4094.
    pub tag: u16,
}

/// What switches packets in dom0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkBackend {
    /// The Linux bridge.
    #[default]
    Bridge,
    /// Open vSwitch, what XenServer and XCP-ng install.
    OpenVSwitch,
}

impl NetworkBackend {
    /// As `host.software_version` has it under `network_backend`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::OpenVSwitch => "openvswitch",
        }
    }
}

/// Which of the two kernel back ends `iptables` drives in dom0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Iptables {
    /// `iptables-nft`, the default of current distributions.
    #[default]
    Nft,
    /// `iptables-legacy`, what dom0 has.
    Legacy,
}

/// What a file in a host's private file system holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A copy of this file of the machine the mock runs on.
    CopyOf(PathBuf),
}

/// A file that appears in a host's private file system, owned by root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFile {
    /// Absolute path in the host.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub content: Content,
}

/// A host to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpec {
    /// `host.uuid`.
    pub uuid: String,
    /// `host.name_label`, unique in the pool.
    pub name: String,
    /// Its bridges.
    pub bridges: Vec<BridgeSpec>,
    /// What its bridges are.
    pub network_backend: NetworkBackend,
    /// Its iptables.
    pub iptables: Iptables,
    /// Files laid over the machine's own `/etc` and so on.
    pub files: Vec<HostFile>,
}

/// How a plugin's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself. 126 and 127 also stand for "could not be executed" and "not there", as in xapi's helper.
    Code(i32),
    /// By a signal, named as OCaml names it (`SIGKILL`).
    Signal(String),
}

/// What a plugin's run left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRun {
    /// How it ended.
    pub exit: Exit,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

/// What stands behind the pool's hosts.
pub trait DataPlane: Send + Sync {
    /// Makes a host with its bridges and files.
    ///
    /// # Errors
    /// The system refused; nothing of the host is left.
    fn add_host(&self, spec: &HostSpec) -> io::Result<()>;

    /// Makes a domain whose VIFs stand on their bridges while the guest does not run yet.
    ///
    /// # Errors
    /// The system refused, or the VM has a domain already; nothing new is left.
    fn create_domain(&self, host: &str, vm_uuid: &str, ports: &[VifPort]) -> io::Result<()>;

    /// Lets the guest run. The first time after [`create_domain`](Self::create_domain) it boots: its ends come up,
    /// its boot program starts, its addresses are configured. After [`pause_guest`](Self::pause_guest) it only goes on.
    ///
    /// # Errors
    /// The system refused, or there is no such domain.
    fn run_guest(&self, vm_uuid: &str) -> io::Result<()>;

    /// The guest neither sends nor answers until [`run_guest`](Self::run_guest); its VIFs stay.
    ///
    /// # Errors
    /// The system refused, or there is no such domain.
    fn pause_guest(&self, vm_uuid: &str) -> io::Result<()>;

    /// Removes guest and VIFs. No domain: nothing to do.
    ///
    /// # Errors
    /// The system refused.
    fn destroy_domain(&self, vm_uuid: &str) -> io::Result<()>;

    /// Adds a VIF to a domain; a guest that runs configures it.
    ///
    /// # Errors
    /// The system refused, or there is no such domain.
    fn plug(&self, vm_uuid: &str, port: &VifPort) -> io::Result<()>;

    /// Removes a VIF from a domain.
    ///
    /// # Errors
    /// The system refused, or there is no such VIF.
    fn unplug(&self, vm_uuid: &str, device: u32) -> io::Result<()>;

    /// Applies `port.locking` to a VIF that stands: link down, off the bridge, on again, link up.
    ///
    /// # Errors
    /// The system refused, or there is no such VIF.
    fn set_locking(&self, vm_uuid: &str, port: &VifPort) -> io::Result<()>;

    /// Makes a second domain for a VM, the receiving one of a migration: its VIFs stand on their bridges while the guest
    /// still runs in the first.
    ///
    /// # Errors
    /// The system refused, or the VM has no domain; nothing new is left.
    fn receive_domain(&self, host: &str, vm_uuid: &str, ports: &[VifPort]) -> io::Result<()>;

    /// Ends a migration: the guest stops in the first domain and goes on in the one that
    /// [`receive_domain`](Self::receive_domain) made; then the first is removed.
    ///
    /// # Errors
    /// The system refused, or there are no two domains.
    fn hand_over(&self, vm_uuid: &str) -> io::Result<()>;

    /// Removes what [`receive_domain`](Self::receive_domain) made; the guest stays where it is.
    ///
    /// # Errors
    /// The system refused.
    fn refuse_domain(&self, vm_uuid: &str) -> io::Result<()>;

    /// What a reboot of a host's dom0 leaves of it: bridges, the firewall as shipped, and its files but for `/run`.
    /// Domains on it are gone, programs in it killed.
    ///
    /// # Errors
    /// No such host, or the system refused.
    fn reset_host(&self, host: &str) -> io::Result<()>;

    /// The names in the host's `/etc/xapi.d/plugins`; none if there is no such directory.
    ///
    /// # Errors
    /// No such host, or the directory cannot be read.
    fn plugins(&self, host: &str) -> io::Result<Vec<String>>;

    /// Runs `plugin`, one of [`plugins`](Self::plugins), the way xapi does: `argv` is its path and `method_call`,
    /// the environment `PATH=/sbin:/usr/sbin:/bin:/usr/bin` alone, stdin a write-only `/dev/null`, stdout and stderr
    /// files, SIGPIPE ignored, own session, working directory `/`. There is no time limit.
    ///
    /// # Errors
    /// No such host, or the mock itself failed. A plugin that cannot be executed is no error but [`Exit`] 126 or 127.
    fn run_plugin(&self, host: &str, plugin: &str, method_call: &str) -> io::Result<PluginRun>;

    /// Ends everything: running plugins are killed, guests and hosts removed. Calls made later fail.
    fn shut_down(&self);
}
