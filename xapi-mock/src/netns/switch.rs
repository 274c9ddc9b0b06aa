//! What connects the hosts: one bridge per network, in a namespace of its own.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use super::host::{new_bridge, no_dad};
use super::port::{Mac, Name};
use super::process::ProcessSpace;
use super::space::{Space, next_index, sysctl};

/// The common switch.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) space: Arc<Space>,
    wiring: Mutex<Wiring>,
}

#[derive(Debug, Default)]
struct Wiring {
    /// Network's uuid → its bridge here.
    networks: HashMap<String, String>,
    /// Name of a bridge in some dom0 → uuid of its network.
    bridges: HashMap<String, String>,
    ports: u32,
}

impl Switch {
    pub(super) fn new(processes: &Arc<ProcessSpace>) -> io::Result<Self> {
        let space = Space::with_files(processes, || {
            for program in ["iptables", "ip6tables", "arptables"] {
                sysctl(&format!("bridge/bridge-nf-call-{program}"), "0")?;
            }
            sysctl("ipv6/conf/default/disable_ipv6", "1")
        })?;
        Ok(Self { space: Arc::new(space), wiring: Mutex::default() })
    }

    /// Gives `space` a link named `uplink` into the network that `bridge` belongs to. Answers its other end here.
    pub(super) fn connect(
        &self,
        network: &str,
        bridge: &Name,
        space: &Space,
        uplink: &str,
    ) -> io::Result<String> {
        let mut wiring = self.wiring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = Vec::new();
        let known = wiring.networks.get(network).cloned();
        let segment = known.unwrap_or_else(|| {
            let segment = format!("net{}", wiring.networks.len());
            lines.extend([new_bridge(&segment), format!("link set dev {segment} up")]);
            segment
        });
        wiring.ports += 1;
        let port = format!("port{}", wiring.ports);
        lines.push(plug(&port, uplink, "", space));
        lines.push(format!("link set dev {port} master {segment} up"));
        self.space.ip(&lines)?;
        wiring.networks.insert(network.to_owned(), segment);
        wiring.bridges.entry(bridge.to_string()).or_insert_with(|| network.to_owned());
        Ok(port)
    }

    /// A machine outside the pool, on the network of the pool's bridge `bridge`.
    pub(super) fn station(
        &self,
        processes: &Arc<ProcessSpace>,
        bridge: &str,
        mac: Mac,
        addresses: &[IpNet],
    ) -> io::Result<Space> {
        let space = Space::network(processes, tune_station)?;
        let mut wiring = self.wiring.lock().unwrap_or_else(PoisonError::into_inner);
        let network = wiring.bridges.get(bridge).and_then(|it| wiring.networks.get(it)).cloned();
        let segment = network
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{bridge}: no such bridge")))?;
        wiring.ports += 1;
        let port = format!("port{}", wiring.ports);
        self.space.ip(&[
            plug(&port, "eth0", &format!("address {mac}"), &space),
            format!("link set dev {port} master {segment} up"),
        ])?;
        let mut lines = vec!["link set dev lo up".to_owned()];
        lines.extend(addresses.iter().map(|&it| format!("address add {it} dev eth0{}", no_dad(it))));
        lines.push("link set dev eth0 up".into());
        space.ip(&lines)?;
        self.space.await_forwarding(&port)?;
        Ok(space)
    }
}

fn plug(port: &str, far: &str, options: &str, space: &Space) -> String {
    let (index, address) = (next_index(), space.address());
    format!("link add name {port} index {index} type veth peer name {far} {options} netns {address}")
}

/// Kernel parameters of everything that is not a host: addresses serve at once and outlive a pause, and a link that
/// comes up announces itself.
pub(super) fn tune_station() -> io::Result<()> {
    for interface in ["all", "default"] {
        sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
        sysctl(&format!("ipv4/conf/{interface}/arp_notify"), "1")?;
        sysctl(&format!("ipv6/conf/{interface}/disable_ipv6"), "0")?;
        sysctl(&format!("ipv6/conf/{interface}/accept_dad"), "0")?;
        sysctl(&format!("ipv6/conf/{interface}/keep_addr_on_down"), "1")?;
    }
    Ok(())
}
