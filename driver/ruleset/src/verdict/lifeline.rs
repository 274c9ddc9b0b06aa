//! H1's exception: the driver's own VM reaches XAPI from a guarded network before its interface is known.

use super::{Connection, side};
use crate::model::{Direction, Family, Protocol};
use crate::packet::{Packet, Payload, Transport};
use crate::resolve::{HostPolicy, Lifeline, XAPI};

/// Whether a VIF without rules on this guarded bridge may send, or be sent, the packet.
pub(super) fn holds(
    host: &HostPolicy,
    bridge: &str,
    direction: Direction,
    packet: &Packet,
    connection: Connection,
) -> bool {
    host.lifelines_on(bridge).any(|line| match direction {
        Direction::Egress => {
            let honest = !matches!(&packet.payload, Payload::Arp(arp) if arp.sender_mac != line.mac);
            packet.source == line.mac && honest && (needs(line, direction, packet) || asks_xapi(line, packet))
        }
        Direction::Ingress => needs(line, direction, packet) || answers(line, packet, connection),
    })
}

/// What no guest can live without, E2 and I1, if XAPI is reached in that family.
fn needs(line: &Lifeline, direction: Direction, packet: &Packet) -> bool {
    let family = match packet.payload {
        Payload::Arp(_) => Some(Family::Ipv4),
        _ => packet.family(),
    };
    family.is_some_and(|family| line.speaks(family)) && side::is_essential(direction, packet)
}

fn asks_xapi(line: &Lifeline, packet: &Packet) -> bool {
    let to_host = packet.addresses().is_some_and(|(_, destination)| line.hosts.contains(&destination));
    to_host
        && matches!(
            packet.transport(),
            Some(Transport::Ports { protocol: Protocol::TCP, destination: XAPI, .. })
        )
}

/// Replies only: nobody begins a connection with the VM.
fn answers(line: &Lifeline, packet: &Packet, connection: Connection) -> bool {
    let from_host = packet.addresses().is_some_and(|(source, _)| line.hosts.contains(&source));
    from_host
        && matches!(connection, Connection::Reply { .. })
        && matches!(packet.transport(), Some(Transport::Ports { protocol: Protocol::TCP, source: XAPI, .. }))
}
