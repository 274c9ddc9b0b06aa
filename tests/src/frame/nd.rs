//! Neighbour discovery (RFC 4861) and multicast listener discovery (RFC 3810): what IPv6 needs on a link, and what
//! a guest must not forge.

use std::net::Ipv6Addr;

use super::ip::{ICMPV6, Path};
use super::{IPV6, Mac, ethernet};

/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All routers that listen to version 2 reports.
const ALL_MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// The group that everyone who may own `address` listens to.
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// A link-layer address option; 1 is the source's, 2 the target's.
fn link_layer(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac.0].concat()
}

fn multicast(source: (Mac, Ipv6Addr), group: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let path = Path::V6(source.1, group);
    path.frame(Mac::of_ipv6_group(group), source.0, ICMPV6, &path.icmp(kind, 0, body))
}

/// "Who owns `target`?" With source `::` it is duplicate address detection, which carries no option.
#[must_use]
pub fn solicitation(source: (Mac, Ipv6Addr), target: Ipv6Addr) -> Vec<u8> {
    let mut body = [&[0; 4][..], &target.octets()].concat();
    if !source.1.is_unspecified() {
        body.extend(link_layer(1, source.0));
    }
    multicast(source, solicited_node(target), 135, &body)
}

/// "I own `target`", to all nodes, overriding what they knew.
#[must_use]
pub fn advertisement(source: (Mac, Ipv6Addr), target: Ipv6Addr) -> Vec<u8> {
    let body = [&[0x20, 0, 0, 0][..], &target.octets(), &link_layer(2, source.0)].concat();
    multicast(source, ALL_NODES, 136, &body)
}

/// "Is there a router?"
#[must_use]
pub fn router_solicitation(source: (Mac, Ipv6Addr)) -> Vec<u8> {
    multicast(source, ALL_ROUTERS, 133, &[&[0; 4][..], &link_layer(1, source.0)].concat())
}

/// "I am a router and this prefix (64 bits) is on the link; make yourself an address in it."
#[must_use]
pub fn router_advertisement(source: (Mac, Ipv6Addr), prefix: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![64, 0, 0x07, 0x08];
    body.extend([0; 8]);
    body.extend(link_layer(1, source.0));
    // Prefix information: on link, autonomous; valid for an hour, preferred for half of it.
    body.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x07, 0x08, 0, 0, 0, 0]);
    body.extend(prefix.octets());
    multicast(source, ALL_NODES, 134, &body)
}

/// "To reach `destination`, go through `better`."
#[must_use]
pub fn redirect(
    source: (Mac, Ipv6Addr),
    victim: (Mac, Ipv6Addr),
    better: Ipv6Addr,
    destination: Ipv6Addr,
) -> Vec<u8> {
    let path = Path::V6(source.1, victim.1);
    let body = [&[0; 4][..], &better.octets(), &destination.octets()].concat();
    path.frame(victim.0, source.0, ICMPV6, &path.icmp(137, 0, &body))
}

/// "I listen to `group`" (version 2), behind a hop-by-hop header with a router alert, as the protocol demands.
#[must_use]
pub fn listener_report(source: (Mac, Ipv6Addr), group: Ipv6Addr) -> Vec<u8> {
    let path = Path::V6(source.1, ALL_MLD_ROUTERS);
    // One record, "exclude nothing".
    let body = [&[0, 0, 0, 1, 4, 0, 0, 0][..], &group.octets()].concat();
    let mut payload = vec![ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    payload.extend(path.icmp(143, 0, &body));
    ethernet(Mac::of_ipv6_group(ALL_MLD_ROUTERS), source.0, IPV6, &path.packet(0, &payload))
}
