//! E1: is the sender who it says it is?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Spoof;
use crate::ids::Mac;
use crate::model::{Port, Protocol};
use crate::packet::{Arp, ICMP_REDIRECT, Ipv4, Ipv6, Packet, Payload, Transport, icmpv6};

pub(super) fn check(port: &Port, packet: &Packet) -> Result<(), Spoof> {
    // E1.1
    if !macs(port).any(|mac| mac == packet.source) {
        return Err(Spoof::Mac);
    }
    match &packet.payload {
        Payload::Arp(arp) => arp_sender(port, packet.source, arp),
        Payload::Ipv4(ip) => ipv4(port, packet.source, ip),
        Payload::Ipv6(ip) => ipv6(port, packet.source, ip),
        Payload::Other(_) => Ok(()),
    }
}

/// The port's MAC and those of its pairs.
fn macs(port: &Port) -> impl Iterator<Item = Mac> + '_ {
    port.pairs.iter().filter_map(|pair| pair.mac).chain([port.mac])
}

/// Whether the port may send from `address` with `mac`.
fn owns(port: &Port, mac: Mac, address: IpAddr) -> bool {
    let fixed = mac == port.mac && port.addresses.contains(&address);
    let pair = port.pairs.iter().any(|p| p.mac.unwrap_or(port.mac) == mac && p.net.contains(&address));
    fixed || pair || (address == mac.link_local() && macs(port).any(|m| m == mac))
}

/// Whether the address is the port's, with whichever of its MACs.
fn claims(port: &Port, address: Ipv6Addr) -> bool {
    macs(port).any(|mac| owns(port, mac, address.into()))
}

/// E1.2
fn arp_sender(port: &Port, mac: Mac, arp: &Arp) -> Result<(), Spoof> {
    let own = arp.sender_mac == mac && owns(port, mac, arp.sender.into());
    if own { Ok(()) } else { Err(Spoof::Arp) }
}

/// E1.3, E1.6
fn ipv4(port: &Port, mac: Mac, ip: &Ipv4) -> Result<(), Spoof> {
    let discover = ip.source.is_unspecified()
        && ip.destination == Ipv4Addr::BROADCAST
        && mac == port.mac
        && ip.transport == Transport::udp(68, 67);
    if discover {
        return Ok(());
    }
    if !owns(port, mac, ip.source.into()) {
        return Err(Spoof::Ipv4);
    }
    match ip.transport {
        Transport::Ports { protocol: Protocol::UDP, source: 67, destination: 68 } => Err(Spoof::DhcpServer),
        Transport::Icmp { kind: ICMP_REDIRECT, .. } => Err(Spoof::Router),
        _ => Ok(()),
    }
}

/// E1.4, E1.5, E1.6
fn ipv6(port: &Port, mac: Mac, ip: &Ipv6) -> Result<(), Spoof> {
    let Transport::Icmp { kind, target, .. } = ip.transport else {
        return match ip.transport {
            _ if !owns(port, mac, ip.source.into()) => Err(Spoof::Ipv6),
            Transport::Ports { protocol: Protocol::UDP, source: 547, destination: 546 } => {
                Err(Spoof::DhcpServer)
            }
            _ => Ok(()),
        };
    };
    let duplicate_detection = ip.source.is_unspecified() && kind == icmpv6::NEIGHBOR_SOLICITATION;
    if kind == icmpv6::NEIGHBOR_ADVERTISEMENT || duplicate_detection {
        // Behind an extension header nobody looks for the target, and nobody honest puts one there.
        let own = ip.extensions.is_empty() && target.is_some_and(|target| claims(port, target));
        if !own {
            return Err(Spoof::Nd);
        }
    }
    let configuration =
        matches!(kind, icmpv6::ROUTER_SOLICITATION | icmpv6::MLD_REPORT | icmpv6::MLDV2_REPORT);
    if duplicate_detection || (ip.source.is_unspecified() && configuration) {
        return Ok(());
    }
    if !owns(port, mac, ip.source.into()) {
        return Err(Spoof::Ipv6);
    }
    match kind {
        icmpv6::ROUTER_ADVERTISEMENT | icmpv6::REDIRECT => Err(Spoof::Router),
        _ => Ok(()),
    }
}
