//! E2 to E7 and I1 to I6: what a filtered port lets pass, once its sender is known to be honest.

use std::net::Ipv6Addr;

use super::{Connection, Pass, Reason, Verdict, default};
use crate::model::{Action, Direction, Icmp, Port, Remote, Rule, Service};
use crate::packet::{Packet, Payload, Transport, icmpv6};
use crate::resolve::{HostPolicy, PeerSet};

pub(super) fn judge<'a>(
    host: &'a HostPolicy,
    direction: Direction,
    port: &'a Port,
    packet: &Packet,
    connection: Connection,
) -> Verdict<'a> {
    let deny = |reason| Verdict::Deny { reason };
    // E2, I1
    if is_essential(direction, packet) {
        return Verdict::Allow { rule: Pass::Essential };
    }
    // E3, I2
    if connection == Connection::Invalid || matches!(packet.transport(), Some(Transport::Fragment(_))) {
        return deny(Reason::Invalid);
    }
    // E4, I3; a cut one does not come here.
    if let Connection::Reply { .. } | Connection::Related { .. } = connection {
        return Verdict::Allow { rule: Pass::Connection };
    }
    // E5, I4: the first that matches decides.
    if let Some(provider) = host.provider.iter().find(|p| matches(host, &p.rule, direction, packet)) {
        return match provider.action {
            Action::Allow => Verdict::Allow { rule: Pass::Provider(provider) },
            Action::Deny => deny(Reason::Provider(provider)),
        };
    }
    // E6, I5: any that matches decides.
    for group in port.groups.iter().filter_map(|id| host.groups.get(id)) {
        if let Some(rule) = group.rules.iter().find(|rule| matches(host, rule, direction, packet)) {
            return Verdict::Allow { rule: Pass::Group(group, rule) };
        }
    }
    // E7, I6
    default()
}

/// E2, I1: what no guest can live without.
pub(super) fn is_essential(direction: Direction, packet: &Packet) -> bool {
    match direction {
        Direction::Egress => is_essential_from_guest(packet),
        Direction::Ingress => is_essential_to_guest(packet),
    }
}

/// E2: ARP, a DHCP client, neighbour discovery and MLD of a host.
fn is_essential_from_guest(packet: &Packet) -> bool {
    match &packet.payload {
        Payload::Arp(_) => true,
        Payload::Ipv4(ip) => ip.transport == Transport::udp(68, 67),
        Payload::Ipv6(ip) => match ip.transport {
            Transport::Icmp { kind, .. } => matches!(
                kind,
                icmpv6::ROUTER_SOLICITATION
                    | icmpv6::NEIGHBOR_SOLICITATION
                    | icmpv6::NEIGHBOR_ADVERTISEMENT
                    | icmpv6::MLD_REPORT
                    | icmpv6::MLD_DONE
                    | icmpv6::MLDV2_REPORT
            ),
            _ => ip.transport == Transport::udp(546, 547),
        },
        Payload::Other(_) => false,
    }
}

/// I1: ARP, a DHCP server's answers, neighbour discovery; a router and a DHCPv6 server speak from a link-local address.
fn is_essential_to_guest(packet: &Packet) -> bool {
    match &packet.payload {
        Payload::Arp(_) => true,
        Payload::Ipv4(ip) => ip.transport == Transport::udp(67, 68),
        Payload::Ipv6(ip) => match ip.transport {
            Transport::Icmp {
                kind: icmpv6::NEIGHBOR_SOLICITATION | icmpv6::NEIGHBOR_ADVERTISEMENT, ..
            } => true,
            Transport::Icmp { kind: icmpv6::ROUTER_ADVERTISEMENT | icmpv6::MLD_QUERY, .. } => {
                is_link_local(ip.source)
            }
            _ => ip.transport == Transport::udp(547, 546) && is_link_local(ip.source),
        },
        Payload::Other(_) => false,
    }
}

/// `fe80::/10`
fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Whether a rule of either kind speaks of this packet.
fn matches(host: &HostPolicy, rule: &Rule, direction: Direction, packet: &Packet) -> bool {
    let (Some(family), Some((source, destination))) = (packet.family(), packet.addresses()) else {
        return false;
    };
    let remote = match direction {
        Direction::Egress => destination,
        Direction::Ingress => source,
    };
    let members = |peers| host.peers.get(&peers).is_some_and(|nets| nets.iter().any(|n| n.contains(&remote)));
    rule.direction == direction
        && rule.family == family
        && serves(rule.service, packet)
        && match &rule.remote {
            Remote::Any => true,
            Remote::Prefix(net) => net.contains(&remote),
            Remote::Group(id) => members(PeerSet::Group(id.clone())),
            Remote::Set(id) => members(PeerSet::Set(id.clone())),
        }
}

fn serves(service: Service, packet: &Packet) -> bool {
    let (Some(protocol), Some(transport)) = (packet.protocol(), packet.transport()) else { return false };
    match (service, transport) {
        (Service::Any, _) => true,
        (Service::Protocol(p), _) => p == protocol,
        (Service::Ports(p, range), Transport::Ports { destination, .. }) => {
            p == protocol && range.contains(*destination)
        }
        (Service::Icmp(p, Icmp { kind, code }), Transport::Icmp { kind: k, code: c, .. }) => {
            p == protocol && kind == *k && code.is_none_or(|code| code == *c)
        }
        _ => false,
    }
}
