//! A host: dom0's network and file system, its bridges and its firewall as shipped.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::Arc;

use nix::net::if_::if_nametoindex;

use super::bridge::{Bridge, Wire, new_bridge};
use super::files;
use super::locking::{self, LockedVifs};
use super::ovs::Vswitch;
use super::port::{Id, Lock, Name, Port};
use super::process::{self, PLUGINS_DIR, ProcessSpace, Program};
use super::reboot;
use super::space::{Space, sysctl};
use super::switch::Switch;
use super::syslog::Syslog;
use crate::dataplane::{HostSpec, NetworkBackend};

/// What XenServer's and XCP-ng's release packages make of `/etc/sysconfig/iptables`.
const FIREWALL: &str = include_str!("iptables");
/// The same of `/etc/sysconfig/ip6tables`.
const FIREWALL_IPV6: &str = include_str!("ip6tables");

/// One host of the pool.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) uuid: String,
    pub(super) space: Arc<Space>,
    syslog: Syslog,
    backend: Backend,
}

/// What switches packets, with what is to be remembered of it.
#[derive(Debug)]
enum Backend {
    Bridge(LockedVifs),
    OpenVSwitch(Vswitch),
}

impl Host {
    pub(super) fn build(spec: &HostSpec, switch: &Switch, processes: &Arc<ProcessSpace>) -> io::Result<Self> {
        let files = files::prepare(spec)?;
        let bridges = Bridge::all(&spec.bridges)?;
        let mut socket = None;
        let space = Space::with_files(processes, || {
            tune()?;
            files::furnish(spec, &files)?;
            socket = Some(Syslog::bind()?);
            Ok(())
        })?;
        let space = Arc::new(space);
        let syslog = Syslog::listen(socket.ok_or_else(|| io::Error::other("no /dev/log"))?)?;
        // The rules stand before the first link does.
        ship_firewall(&space)?;
        space.ip(&["link set dev lo up".to_owned()])?;
        let cables = Cables::lay(&space, switch, processes, &bridges, spec.network_backend)?;
        let backend = match spec.network_backend {
            NetworkBackend::Bridge => {
                make_bridges(&space, &bridges, &cables)?;
                Backend::Bridge(LockedVifs::default())
            }
            NetworkBackend::OpenVSwitch => {
                cables.send_whole(switch)?;
                Backend::OpenVSwitch(Vswitch::new(&space, bridges)?)
            }
        };
        cables.await_forwarding(&space, switch)?;
        Ok(Self { name: spec.name.clone(), uuid: spec.uuid.clone(), space, syslog, backend })
    }

    pub(super) const fn network_backend(&self) -> NetworkBackend {
        match self.backend {
            Backend::Bridge(_) => NetworkBackend::Bridge,
            Backend::OpenVSwitch(_) => NetworkBackend::OpenVSwitch,
        }
    }

    /// Whether guests have to send frames as they are to be on the wire.
    pub(super) const fn switches_in_user_space(&self) -> bool {
        matches!(self.backend, Backend::OpenVSwitch(_))
    }

    pub(super) fn vswitch(&self) -> io::Result<&Vswitch> {
        match &self.backend {
            Backend::OpenVSwitch(vswitch) => Ok(vswitch),
            Backend::Bridge(_) => {
                let message = format!("host {} has the Linux bridge, not Open vSwitch", self.name);
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        }
    }

    /// The line that puts a VIF on its bridge, where that is all [`lock`](Self::lock) would do.
    pub(super) fn joining(&self, port: &Port) -> Option<String> {
        let alone = matches!(self.backend, Backend::Bridge(_)) && port.lock == Lock::Unlocked;
        alone.then(|| format!("link set dev {} master {} up", port.vif(), port.bridge))
    }

    /// Makes of a VIF of `vm` what its locking says: the steps of xenopsd's `setup-vif-rules`.
    pub(super) fn lock(&self, vm: &Id, port: &Port) -> io::Result<()> {
        match &self.backend {
            Backend::Bridge(locked) => locking::apply(&self.space, locked, port),
            Backend::OpenVSwitch(vswitch) => vswitch.lock(vm, port),
        }
    }

    /// Waits until packets pass a VIF, the guest's end being up; not if its locking keeps it off its bridge.
    pub(super) fn await_forwarding(&self, port: &Port) -> io::Result<()> {
        match self.backend {
            Backend::Bridge(_) => self.space.await_forwarding(&port.vif()),
            Backend::OpenVSwitch(_) if port.lock == Lock::Disabled => Ok(()),
            Backend::OpenVSwitch(_) => self.space.await_carrier(&port.vif()),
        }
    }

    /// Takes away what there is of a VIF besides its link.
    pub(super) fn clear(&self, port: &Port) -> io::Result<()> {
        match &self.backend {
            Backend::Bridge(locked) => locking::clear(&self.space, locked, &port.vif()),
            Backend::OpenVSwitch(vswitch) => vswitch.clear(port),
        }
    }

    pub(super) fn has_link(&self, name: &str) -> io::Result<bool> {
        self.space.in_network(|| Ok(if_nametoindex(name).is_ok()))
    }

    /// Leaves of it what a reboot of dom0 would; its domains are gone already.
    pub(super) fn reset(&self) -> io::Result<()> {
        reboot::kill_programs(&self.space)?;
        reboot::clear_run(&self.space)?;
        reboot::clear_tables(&self.space)?;
        ship_firewall(&self.space)?;
        self.space.in_network(tune)?;
        reboot::forget_connections(&self.space)?;
        match &self.backend {
            Backend::Bridge(_) => Ok(()),
            Backend::OpenVSwitch(vswitch) => vswitch.boot(),
        }
    }

    pub(super) fn syslog(&self) -> Vec<String> {
        self.syslog.lines()
    }

    pub(super) fn plugins(&self) -> io::Result<Vec<String>> {
        self.space.inside(|| {
            let entries = match fs::read_dir(PLUGINS_DIR) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut names = Vec::new();
            for entry in entries {
                // A name that is not UTF-8 cannot be asked for.
                names.extend(entry?.file_name().into_string());
            }
            names.sort();
            Ok(names)
        })
    }
}

fn ship_firewall(space: &Space) -> io::Result<()> {
    firewall(space, "iptables-restore", FIREWALL)?;
    firewall(space, "ip6tables-restore", FIREWALL_IPV6)
}

fn firewall(space: &Space, restore: &str, rules: &str) -> io::Result<()> {
    let output = space.program(&Program::new(restore, &[]).stdin(rules.as_bytes()))?;
    process::success(restore, &output).map(drop)
}

/// The host's links into the switch, by the name of the bridge they belong to.
struct Cables(HashMap<Name, Cable>);

struct Cable {
    /// The end in dom0.
    uplink: Name,
    /// The end in the switch.
    port: String,
}

impl Cables {
    /// An Open vSwitch tags the frames of a VLAN itself. A Linux bridge gets them without tag by an uplink that is
    /// named as the VLAN's device in dom0.
    fn lay(
        space: &Space,
        switch: &Switch,
        processes: &Arc<ProcessSpace>,
        bridges: &[Bridge],
        backend: NetworkBackend,
    ) -> io::Result<Self> {
        let mut cables = Self(HashMap::new());
        for bridge in bridges {
            let Bridge { name, network, wire, .. } = bridge;
            let uplink: Name = match wire {
                Wire::Uplink(uplink) => uplink.clone(),
                Wire::Vlan { parent, tag } => {
                    let device = format!("{}.{tag}", cables.of(parent)?.uplink);
                    switch.trunk(bridge);
                    if backend == NetworkBackend::OpenVSwitch {
                        continue;
                    }
                    switch.untag(processes, name.as_str())?;
                    device.parse()?
                }
            };
            let port = switch.connect(network, name, space, &uplink)?;
            cables.0.insert(name.clone(), Cable { uplink, port });
        }
        let up = |cable: &Cable| format!("link set dev {} up", cable.uplink);
        space.ip(&cables.0.values().map(up).collect::<Vec<_>>())?;
        Ok(cables)
    }

    fn of(&self, bridge: &Name) -> io::Result<&Cable> {
        let cable = self.0.get(bridge);
        cable.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{bridge}: no bridge with an uplink"))
        })
    }

    fn send_whole(&self, switch: &Switch) -> io::Result<()> {
        self.0.values().try_for_each(|cable| switch.space.send_whole(&cable.port))
    }

    fn await_forwarding(&self, space: &Space, switch: &Switch) -> io::Result<()> {
        self.0.values().try_for_each(|cable| {
            space.await_forwarding(&cable.uplink.to_string())?;
            switch.space.await_forwarding(&cable.port)
        })
    }
}

fn make_bridges(space: &Space, bridges: &[Bridge], cables: &Cables) -> io::Result<()> {
    for bridge in bridges {
        let name = &bridge.name;
        space.ip(&[new_bridge(name)])?;
        bridge.tune(space)?;
        let mut lines = bridge.up();
        lines.push(format!("link set dev {} master {name}", cables.of(name)?.uplink));
        space.ip(&lines)?;
    }
    Ok(())
}

/// dom0's kernel parameters, as its `sysctl.d` has them.
fn tune() -> io::Result<()> {
    for program in ["iptables", "ip6tables", "arptables"] {
        sysctl(&format!("bridge/bridge-nf-call-{program}"), "0")?;
    }
    for interface in ["all", "default"] {
        sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
        sysctl(&format!("ipv6/conf/{interface}/accept_dad"), "0")?;
    }
    sysctl("ipv6/conf/default/disable_ipv6", "1")
}
