//! Hosts full of guests, each guest with a group of its own: what takes size to show.

use std::fmt::Write as _;

use crate::lab::{Backend, Builder, Guest, Lab, OUTSIDE, ipv4, ipv6};

/// Guests of one network: their numbers have to fit beside hosts and [`OUTSIDE`].
const OF_A_NETWORK: u16 = 240;
/// The number of a network's first guest.
const FIRST: u8 = 11;

/// How many there are of everything. Guests are counted through, host by host.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Hosts.
    pub hosts: u8,
    /// Guests of each host.
    pub guests: u16,
    /// Rules of each guest's group; two of them are the egress rules that every new group has.
    pub rules: u16,
}

/// A rule beside those: everybody may send to this UDP port of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// Which guest.
    pub guest: u16,
    /// UDP port.
    pub port: u16,
}

impl Opening {
    /// The rule's id.
    #[must_use]
    pub fn id(self) -> String {
        format!("open-{}-{}", self.guest, self.port)
    }
}

/// The id of a guest's group, which is the VM's name, too.
#[must_use]
pub fn group(guest: u16) -> String {
    format!("g{guest}")
}

/// A guest's network and number.
#[must_use]
pub fn place(guest: u16) -> (u8, u8) {
    let [_, network] = (guest / OF_A_NETWORK).to_be_bytes();
    let [_, number] = (guest % OF_A_NETWORK).to_be_bytes();
    let number = number + FIRST;
    (network, if number < OUTSIDE { number } else { number + 1 })
}

impl Crowd {
    /// All guests.
    #[must_use]
    pub fn count(&self) -> u16 {
        u16::from(self.hosts) * self.guests
    }

    /// The pool, without a policy.
    #[must_use]
    pub fn lab(&self, backend: impl Into<Backend>) -> Builder {
        let networks = self.count().div_ceil(OF_A_NETWORK);
        let builder = Lab::builder(backend).host_count(self.hosts);
        let builder = (1..networks).fold(builder, |builder, n| builder.network(&format!("lan{n}")));
        (0..self.count()).fold(builder, |builder, n| {
            let (network, number) = place(n);
            let host = format!("host{}", n / self.guests + 1);
            builder.guest(Guest::new(&group(n), &host, number).on(&[network]))
        })
    }

    /// The policy file: every tenth rule of a group admits the group's own members, the others one address each; and these
    /// openings.
    #[must_use]
    pub fn policy(&self, openings: &[Opening]) -> String {
        let mut text = String::new();
        for n in 0..self.count() {
            // Writing to a string does not fail.
            let _ = write!(text, "[[group]]\nid = \"{}\"\n\n", group(n));
            for rule in 0..self.rules.saturating_sub(2) {
                let remote = if rule % 10 == 0 {
                    format!("remote_group = \"{}\"", group(n))
                } else {
                    format!("remote_cidr = \"192.168.{}.{}/32\"", rule / 256, rule % 256)
                };
                let port = 1000 + rule;
                let _ = write!(text, "{INGRESS}protocol = \"tcp\"\nports = {port}\n{remote}\n\n");
            }
            for opening in openings.iter().filter(|opening| opening.guest == n) {
                let (id, port) = (opening.id(), opening.port);
                let _ = write!(text, "{INGRESS}id = \"{id}\"\nprotocol = \"udp\"\nports = {port}\n\n");
            }
        }
        for n in 0..self.count() {
            let ((network, number), name) = (place(n), group(n));
            let addresses = format!("\"{}\", \"{}\"", ipv4(network, number), ipv6(network, number));
            let _ = write!(
                text,
                "[[port]]\nvm = \"{name}\"\ndevice = 0\ngroups = [\"{name}\"]\naddresses = [{addresses}]\n\n"
            );
        }
        text
    }
}

/// How an IPv4 rule of the last group begins.
const INGRESS: &str = "[[group.rule]]\ndirection = \"ingress\"\nethertype = \"ipv4\"\n";
