//! What connects the hosts: one bridge per network, in a namespace of its own.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use super::bridge::{Bridge, Wire, new_bridge, no_dad};
use super::host::Host;
use super::port::{Id, Mac, Name};
use super::process::ProcessSpace;
use super::space::{Space, next_index, sysctl};
use crate::dataplane::{BridgeSpec, HostSpec, Iptables, NetworkBackend, VlanSpec};

/// The common switch.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) space: Arc<Space>,
    wiring: Mutex<Wiring>,
    /// One for each VLAN that somebody without tags is on.
    taggers: Mutex<Vec<Host>>,
}

#[derive(Debug, Default)]
struct Wiring {
    /// Network's uuid → its bridge here.
    networks: HashMap<String, String>,
    /// Name of a bridge in some dom0 → uuid of its network.
    bridges: HashMap<String, String>,
    /// The same of a VLAN's → what it is there.
    vlans: HashMap<String, Bridge>,
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
        Ok(Self { space: Arc::new(space), wiring: Mutex::default(), taggers: Mutex::default() })
    }

    fn wiring(&self) -> MutexGuard<'_, Wiring> {
        self.wiring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `space` a link named `uplink` into the network that `bridge` belongs to. Answers its other end here.
    pub(super) fn connect(
        &self,
        network: &Id,
        bridge: &Name,
        space: &Space,
        uplink: &Name,
    ) -> io::Result<String> {
        let mut wiring = self.wiring();
        let mut lines = Vec::new();
        let known = wiring.networks.get(network.as_str()).cloned();
        let segment = known.unwrap_or_else(|| {
            let segment = format!("net{}", wiring.networks.len());
            lines.extend([new_bridge(&segment), format!("link set dev {segment} up")]);
            segment
        });
        wiring.ports += 1;
        let port = format!("port{}", wiring.ports);
        lines.push(plug(&port, &uplink.to_string(), "", space));
        lines.push(format!("link set dev {port} master {segment} up"));
        self.space.ip(&lines)?;
        wiring.networks.insert(network.to_string(), segment);
        wiring.bridges.entry(bridge.to_string()).or_insert_with(|| network.to_string());
        Ok(port)
    }

    /// Notes that the network of `bridge` is a VLAN. The switch takes tagged frames as they come.
    pub(super) fn trunk(&self, bridge: &Bridge) {
        if let Wire::Vlan { .. } = bridge.wire {
            self.wiring().vlans.entry(bridge.name.to_string()).or_insert_with(|| bridge.clone());
        }
    }

    /// Lets whoever sends no tags [`connect`](Self::connect) to the VLAN of the pool's bridge `bridge`.
    ///
    /// An Open vSwitch does the tagging between a bridge of the VLAN's own here and its parent's: not every kernel
    /// knows VLANs.
    pub(super) fn untag(&self, processes: &Arc<ProcessSpace>, bridge: &str) -> io::Result<()> {
        // Held throughout, so that nobody does it twice.
        let mut taggers = self.taggers.lock().unwrap_or_else(PoisonError::into_inner);
        let (vlan, parent, tag, trunk) = {
            let wiring = self.wiring();
            let Some(vlan) = wiring.vlans.get(bridge).filter(|_| !wiring.bridges.contains_key(bridge)) else {
                return Ok(());
            };
            let Wire::Vlan { parent, tag } = &vlan.wire else { return Ok(()) };
            (vlan.clone(), parent.clone(), *tag, wiring.network(parent.as_str())?)
        };
        let spec = |name: &Name, network: String, vlan| BridgeSpec {
            name: name.to_string(),
            network_uuid: network,
            management_address: None,
            vlan,
        };
        let tagged = VlanSpec { parent: parent.to_string(), tag: tag.number() };
        let bridges =
            vec![spec(&parent, trunk, None), spec(&vlan.name, vlan.network.to_string(), Some(tagged))];
        let tagger = Host::build(
            &HostSpec {
                uuid: "tagger".to_owned(),
                name: format!("tagger of {bridge}"),
                bridges,
                network_backend: NetworkBackend::OpenVSwitch,
                iptables: Iptables::default(),
                files: Vec::new(),
            },
            self,
            processes,
        )?;
        let access: Name = "access".parse()?;
        let port = self.connect(&vlan.network, &vlan.name, &tagger.space, &access)?;
        self.space.send_whole(&port)?;
        tagger.space.ip(&[format!("link set dev {access} up")])?;
        tagger.vswitch()?.add_access(&vlan.name, &access)?;
        self.space.await_forwarding(&port)?;
        taggers.push(tagger);
        Ok(())
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
        self.untag(processes, bridge)?;
        let mut wiring = self.wiring();
        let network = wiring.network(bridge)?;
        let segment = wiring.networks.get(&network).cloned().unwrap_or_default();
        wiring.ports += 1;
        let port = format!("port{}", wiring.ports);
        self.space.ip(&[
            plug(&port, "eth0", &format!("address {mac}"), &space),
            format!("link set dev {port} master {segment} up"),
        ])?;
        let mut lines = vec!["link set dev lo up".to_owned()];
        lines.extend(addresses.iter().map(|&it| format!("address add {it} dev eth0{}", no_dad(it))));
        space.ip(&lines)?;
        space.raise(&["eth0".to_owned()])?;
        self.space.await_forwarding(&port)?;
        Ok(space)
    }
}

impl Wiring {
    /// The uuid of the network that `bridge` belongs to in dom0.
    fn network(&self, bridge: &str) -> io::Result<String> {
        let network = self.bridges.get(bridge).cloned();
        network.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{bridge}: no such bridge")))
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
