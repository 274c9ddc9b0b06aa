//! DHCP (RFC 2131) and DHCPv6 (RFC 8415): the client's first message and the server's answer a guest must not give.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Mac;
use super::ip::{Path, UDP};

/// All DHCPv6 servers and relays on the link.
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// A BOOTP message with its options: 1 from a client, 2 from a server.
fn bootp(operation: u8, client: Mac, offered: Ipv4Addr, server: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0];
    // Transaction, seconds, flags (broadcast), client's own address: none yet.
    message.extend([0x44, 0x57, 0x42, 0x31, 0, 0, 0x80, 0, 0, 0, 0, 0]);
    message.extend(offered.octets());
    message.extend(server.octets());
    message.extend([0; 4]);
    message.extend(client.0);
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63]);
    message.extend(options);
    message.push(255);
    message
}

/// A client without an address asks everyone for one.
#[must_use]
pub fn discover(client: Mac) -> Vec<u8> {
    let path = Path::V4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let none = Ipv4Addr::UNSPECIFIED;
    path.frame(Mac::BROADCAST, client, UDP, &path.udp(68, 67, &bootp(1, client, none, none, &[53, 1, 1])))
}

/// A server offers `offered` to `client`.
#[must_use]
pub fn offer(server: (Mac, Ipv4Addr), client: Mac, offered: Ipv4Addr) -> Vec<u8> {
    let path = Path::V4(server.1, Ipv4Addr::BROADCAST);
    let options = [&[53, 1, 2, 54, 4][..], &server.1.octets()].concat();
    path.frame(
        Mac::BROADCAST,
        server.0,
        UDP,
        &path.udp(67, 68, &bootp(2, client, offered, server.1, &options)),
    )
}

/// A DHCPv6 client looks for servers.
#[must_use]
pub fn solicit(client: Mac) -> Vec<u8> {
    let path = Path::V6(client.link_local(), ALL_SERVERS);
    let message = [&[1, 0x44, 0x57, 0x42, 0, 1, 0, 10, 0, 3, 0, 1][..], &client.0].concat();
    path.frame(Mac::of_ipv6_group(ALL_SERVERS), client, UDP, &path.udp(546, 547, &message))
}

/// A DHCPv6 server announces itself to `client`.
#[must_use]
pub fn advertise(server: Mac, client: Mac) -> Vec<u8> {
    let path = Path::V6(server.link_local(), client.link_local());
    let message = [&[2, 0x44, 0x57, 0x42, 0, 2, 0, 10, 0, 3, 0, 1][..], &server.0].concat();
    path.frame(client, server, UDP, &path.udp(547, 546, &message))
}
