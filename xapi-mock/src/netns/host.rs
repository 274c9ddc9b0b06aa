//! A host: dom0's network and file system, its bridges and its firewall as shipped.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use nix::net::if_::if_nametoindex;

use super::files;
use super::port::Name;
use super::process::{self, PLUGINS_DIR, ProcessSpace, Program};
use super::space::{Space, sysctl};
use super::switch::Switch;
use super::syslog::Syslog;
use crate::dataplane::HostSpec;

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
    locked_vifs: Mutex<BTreeSet<String>>,
}

impl Host {
    pub(super) fn build(spec: &HostSpec, switch: &Switch, processes: &Arc<ProcessSpace>) -> io::Result<Self> {
        let files = files::prepare(&spec.uuid, &spec.files)?;
        let mut bridges = Vec::new();
        for bridge in &spec.bridges {
            let address: Option<IpNet> = bridge
                .management_address
                .as_deref()
                .map(|it| it.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error)))
                .transpose()?;
            bridges.push((bridge.name.parse::<Name>()?, bridge.network_uuid.as_str(), address));
        }
        let mut socket = None;
        let space = Space::with_files(processes, || {
            tune()?;
            files::furnish(spec.iptables, &files)?;
            socket = Some(Syslog::bind()?);
            Ok(())
        })?;
        let syslog = Syslog::listen(socket.ok_or_else(|| io::Error::other("no /dev/log"))?)?;
        let host = Self {
            name: spec.name.clone(),
            uuid: spec.uuid.clone(),
            space: Arc::new(space),
            syslog,
            locked_vifs: Mutex::default(),
        };
        // The rules stand before the first link does.
        host.firewall("iptables-restore", FIREWALL)?;
        host.firewall("ip6tables-restore", FIREWALL_IPV6)?;
        host.space.ip(&["link set dev lo up".to_owned()])?;
        for (index, (bridge, network, address)) in bridges.iter().enumerate() {
            host.bridge(bridge, *address)?;
            let uplink = format!("eth{index}");
            let port = switch.connect(network, bridge, &host.space, &uplink)?;
            host.space.ip(&[format!("link set dev {uplink} master {bridge} up")])?;
            host.space.await_forwarding(&uplink)?;
            switch.space.await_forwarding(&port)?;
        }
        Ok(host)
    }

    fn firewall(&self, restore: &str, rules: &str) -> io::Result<()> {
        let output = self.space.program(&Program::new(restore, &[]).stdin(rules.as_bytes()))?;
        process::success(restore, &output).map(drop)
    }

    fn bridge(&self, name: &Name, address: Option<IpNet>) -> io::Result<()> {
        self.space.ip(&[new_bridge(name)])?;
        // dom0 has IPv6 switched off but for an IPv6 management network.
        if let Some(IpNet::V6(_)) = address {
            self.space.in_network(|| sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "0"))?;
        }
        let mut lines = Vec::new();
        if let Some(address) = address {
            lines.push(format!("address add {address} dev {name}{}", no_dad(address)));
        }
        lines.push(format!("link set dev {name} up"));
        self.space.ip(&lines)
    }

    /// Names of the VIFs that have rules in ebtables. Whoever changes those holds this.
    pub(super) fn locked_vifs(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.locked_vifs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_link(&self, name: &str) -> io::Result<bool> {
        self.space.in_network(|| Ok(if_nametoindex(name).is_ok()))
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

/// The line that makes a bridge which forwards from its first moment, and everything.
pub(super) fn new_bridge(name: &impl std::fmt::Display) -> String {
    format!("link add name {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
}

/// How an address is added so that it serves at once.
pub(super) fn no_dad(address: IpNet) -> &'static str {
    match address {
        IpNet::V4(_) => "",
        IpNet::V6(_) => " nodad",
    }
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
