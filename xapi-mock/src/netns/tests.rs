//! Needs root. Every test has a pool of its own, and nothing of it is visible to the others.

mod dom0;
mod domains;
mod frames;
mod locking;
mod migration;
mod ovs;
mod packet;
mod plugins;
mod vlan;

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use super::{GuestHandle, HostHandle, Netns, NsHandle};
use crate::dataplane::{
    BridgeSpec, Content, DataPlane, HostFile, HostSpec, Iptables, Locking, NetworkBackend, VifPort, VlanSpec,
};

/// How long a packet is waited for that should come, sent again all the while.
const ATTEMPTS: u32 = 20;

/// What hosts can have.
const BACKENDS: [NetworkBackend; 2] = [NetworkBackend::Bridge, NetworkBackend::OpenVSwitch];

/// A host with a bridge `xenbr0`.
fn spec(name: &str, network_backend: NetworkBackend) -> HostSpec {
    let (uuid, address) = if name == "one" { ("1111", "10.9.0.101/24") } else { ("2222", "10.9.0.102/24") };
    let bridge = BridgeSpec {
        name: "xenbr0".into(),
        network_uuid: "network".into(),
        management_address: Some(address.into()),
        vlan: None,
    };
    HostSpec {
        uuid: uuid.into(),
        name: name.into(),
        bridges: vec![bridge],
        network_backend,
        iptables: Iptables::Nft,
        files: Vec::new(),
    }
}

/// A pool of hosts `one` and `two` with a bridge `xenbr0` and files in each.
fn pool_with(iptables: Iptables, files: &[HostFile]) -> Netns {
    let plane = Netns::new().expect("run these tests as root");
    for name in ["one", "two"] {
        let spec = spec(name, NetworkBackend::Bridge);
        plane.add_host(&HostSpec { iptables, files: files.to_vec(), ..spec }).unwrap();
    }
    plane
}

/// A pool of hosts `one` and `two`, each with its own back end.
fn pool_of(backends: [NetworkBackend; 2]) -> Netns {
    let plane = Netns::new().expect("run these tests as root");
    for (name, backend) in ["one", "two"].into_iter().zip(backends) {
        plane.add_host(&spec(name, backend)).unwrap();
    }
    plane
}

fn pool() -> Netns {
    pool_with(Iptables::Nft, &[])
}

fn file(path: &str, mode: u32, text: &str) -> HostFile {
    HostFile { path: path.into(), mode, content: Content::Bytes(text.into()) }
}

fn mac(number: u8) -> String {
    format!("00:16:3e:00:00:{number:02x}")
}

/// Guest `number`'s address of either family.
fn v4(number: u8) -> IpAddr {
    format!("10.9.0.{number}").parse().unwrap()
}

fn v6(number: u8) -> IpAddr {
    format!("fd09::{number}").parse().unwrap()
}

/// Guest `number`'s first VIF.
fn port(domid: u32, number: u8) -> VifPort {
    VifPort {
        domid,
        device: 0,
        uuid: format!("vif-{number}"),
        network_uuid: "network".into(),
        bridge: "xenbr0".into(),
        mac: mac(number),
        mtu: 1500,
        locking: Locking::Unlocked,
        addresses: vec![format!("{}/24", v4(number)), format!("{}/64", v6(number))],
        gateways: vec![v4(254).to_string(), v6(254).to_string()],
    }
}

/// Starts guest `number` as domain `domid`.
fn start(plane: &Netns, host: &str, domid: u32, number: u8) -> GuestHandle {
    start_with(plane, host, &port(domid, number), number)
}

fn start_with(plane: &Netns, host: &str, port: &VifPort, number: u8) -> GuestHandle {
    let vm = format!("vm{number}");
    plane.create_domain(host, &vm, std::slice::from_ref(port)).unwrap();
    plane.run_guest(&vm).unwrap();
    plane.guest(&vm).unwrap()
}

fn host(plane: &Netns, name: &str) -> HostHandle {
    plane.host(name).unwrap()
}

fn names(ns: &NsHandle) -> Vec<String> {
    ns.links().unwrap().into_iter().map(|link| link.name).collect()
}

/// Whether a datagram from `from` reaches `address`, which `to` has.
fn reaches(from: &NsHandle, to: &NsHandle, address: IpAddr) -> bool {
    let receiver = to.run(|| UdpSocket::bind((address, 0)).unwrap());
    let target = receiver.local_addr().unwrap();
    let any: IpAddr = if address.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
    let sender = from.run(|| UdpSocket::bind((any, 0)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    (0..ATTEMPTS).any(|_| {
        // A refusal of the one before is reported here.
        let _sent = sender.send_to(b"probe", target);
        receiver.recv(&mut [0; 16]).is_ok()
    })
}

/// Whether none of some datagrams gets there.
fn is_cut(from: &NsHandle, to: &NsHandle, address: IpAddr) -> bool {
    let receiver = to.run(|| UdpSocket::bind((address, 0)).unwrap());
    let target = receiver.local_addr().unwrap();
    let any: IpAddr = if address.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
    let sender = from.run(|| UdpSocket::bind((any, 0)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    (0..3).all(|_| {
        let _sent = sender.send_to(b"probe", target);
        receiver.recv(&mut [0; 16]).is_err()
    })
}
