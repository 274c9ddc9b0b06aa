//! Every path the plugin uses, in one place. The program always uses [`Paths::production`]: no argument, no
//! environment variable and no configuration changes it. Tests of the library pass their own.

use std::path::{Path, PathBuf};

use drawbridge_wire::Family;

use crate::authorise::Program;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Public keys of those who may call.
    pub authorized_keys: PathBuf,
    /// Settings; may be absent.
    pub config: PathBuf,
    /// XenServer's inventory, which names this host's uuid.
    pub inventory: PathBuf,
    /// What must be remembered until the next boot; on a tmpfs.
    pub state: PathBuf,
    /// What must be remembered across boots.
    pub lasting: PathBuf,
    /// The kernel's number of this boot.
    pub boot_id: PathBuf,
    /// syslog's socket.
    pub syslog: PathBuf,
    /// The folder of `bridge-nf-call-iptables` and `bridge-nf-call-ip6tables`.
    pub bridge_nf: PathBuf,
    /// The kernel's network settings.
    pub net: PathBuf,
    /// The kernel's list of network interfaces.
    pub interfaces: PathBuf,
    /// The file on which newer iptables serialise.
    pub xtables_lock: PathBuf,
    /// Folders that programs may write to, where iptables has its lock and Open vSwitch its sockets. All others are read-only
    /// to them, and [`Self::state`] is.
    pub writable: Vec<PathBuf>,
    /// Folders of the iptables programs, the first that has one wins.
    pub iptables: Vec<PathBuf>,
    /// Folders of the Open vSwitch programs, the first that has one wins.
    pub openvswitch: Vec<PathBuf>,
}

impl Paths {
    /// dom0's.
    #[must_use]
    pub fn production() -> Self {
        Self {
            authorized_keys: "/etc/drawbridge/authorized_keys".into(),
            config: "/etc/drawbridge/dom0.toml".into(),
            inventory: "/etc/xensource-inventory".into(),
            state: "/run/drawbridge".into(),
            lasting: "/var/lib/drawbridge".into(),
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            syslog: "/dev/log".into(),
            bridge_nf: "/proc/sys/net/bridge".into(),
            net: "/proc/sys/net".into(),
            interfaces: "/sys/class/net".into(),
            xtables_lock: "/run/xtables.lock".into(),
            writable: vec!["/run".into()],
            iptables: vec!["/usr/sbin".into(), "/sbin".into()],
            openvswitch: vec!["/usr/bin".into(), "/usr/sbin".into()],
        }
    }

    /// The program's absolute path, if it is installed.
    pub(crate) fn program(&self, program: Program) -> Option<PathBuf> {
        let folders = match program {
            Program::Save(_) | Program::Restore(_) => &self.iptables,
            Program::Ofctl | Program::Vsctl => &self.openvswitch,
        };
        folders.iter().map(|folder| folder.join(program.name())).find(|path| path.exists())
    }

    /// The switch that sends bridged packets through iptables.
    pub(crate) fn bridge_nf_call(&self, family: Family) -> PathBuf {
        self.bridge_nf.join(match family {
            Family::Ipv4 => "bridge-nf-call-iptables",
            Family::Ipv6 => "bridge-nf-call-ip6tables",
        })
    }

    /// The record of guarded bridges, by the rules of this family.
    pub(crate) fn guarded(&self, family: Family) -> PathBuf {
        self.lasting.join(match family {
            Family::Ipv4 => "guarded-ipv4",
            Family::Ipv6 => "guarded-ipv6",
        })
    }

    /// The record of what passes on guarded bridges all the same, by the rules of this family.
    pub(crate) fn lifelines(&self, family: Family) -> PathBuf {
        self.lasting.join(match family {
            Family::Ipv4 => "lifelines-ipv4",
            Family::Ipv6 => "lifelines-ipv6",
        })
    }

    /// The record of guarded networks, by flows.
    pub(crate) fn guarded_flows(&self) -> PathBuf {
        self.lasting.join("guarded-flows")
    }

    /// The record of what passes on guarded networks all the same, by flows.
    pub(crate) fn lifelines_flows(&self) -> PathBuf {
        self.lasting.join("lifelines-flows")
    }

    /// What this family's rules cost, since the boot.
    pub(crate) fn load(&self, family: Family) -> PathBuf {
        self.in_state(match family {
            Family::Ipv4 => "load-ipv4",
            Family::Ipv6 => "load-ipv6",
        })
    }

    /// A path below the state directory.
    pub(crate) fn in_state(&self, name: impl AsRef<Path>) -> PathBuf {
        self.state.join(name)
    }
}
