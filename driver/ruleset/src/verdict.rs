//! The reference verdict: what docs/security.md says, in code, and nothing about how a back end does it.
//!
//! The comments name the rules as that page numbers them: H for the hop, E for what a guest sends, I for what it
//! receives. Both back ends are tested against this.

mod lifeline;
mod side;
mod source;

use std::fmt;

use crate::DEFAULT_VERDICT;
use crate::model::{Action, Direction, Group, Port, PortSecurity, ProviderRule, Rule};
use crate::packet::Packet;
use crate::resolve::HostPolicy;

/// One way through a host: from an interface of a bridge to another of the same bridge.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// Where the packet comes in.
    pub from: Endpoint<'a>,
    /// Where it goes out.
    pub to: Endpoint<'a>,
    /// The bridge.
    pub bridge: &'a str,
}

/// One end of a hop.
#[derive(Clone, Copy, Debug)]
pub enum Endpoint<'a> {
    /// A port of the policy.
    Port(&'a Port),
    /// A guest's VIF that is no port of the policy.
    OtherVif,
    /// Anything else: the wire, dom0 itself.
    Elsewhere,
}

/// What connection tracking says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// The first packet of a connection, or one more before any answer.
    New,
    /// Of an answered connection, in the direction of its first packet.
    Original,
    /// In the other direction.
    Reply {
        /// The connection was cut: the rules refused its last packet in the original direction.
        cut: bool,
    },
    /// An ICMP error about a connection, in either direction.
    Related {
        /// As for a reply.
        cut: bool,
    },
    /// Belongs to no connection and can begin none, or is damaged.
    Invalid,
    /// Not tracked: neighbour discovery and MLD.
    Untracked,
}

impl Connection {
    fn is_cut(self) -> bool {
        matches!(self, Self::Reply { cut: true } | Self::Related { cut: true })
    }
}

/// What one side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The packet passes this side.
    Allow {
        /// By what.
        rule: Pass<'a>,
    },
    /// It is dropped.
    Deny {
        /// Why.
        reason: Reason<'a>,
    },
}

/// What both sides say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage<'a> {
    /// The packet arrives.
    Passes {
        /// What let it pass on the sender's side.
        egress: Pass<'a>,
        /// What let it pass on the receiver's side.
        ingress: Pass<'a>,
    },
    /// It is dropped.
    Stops {
        /// The side that dropped it.
        side: Direction,
        /// Why.
        reason: Reason<'a>,
    },
}

/// What lets a packet pass one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass<'a> {
    /// H2, H3: nothing is checked on this side.
    Unfiltered,
    /// E2, I1: what no guest can live without.
    Essential,
    /// E4, I3: a reply to, or an error about, an allowed connection.
    Connection,
    /// E5, I4: a rule of the operator's.
    Provider(&'a ProviderRule),
    /// E6, I5: a rule of a group.
    Group(&'a Group, &'a Rule),
    /// E7, I6, were the default otherwise.
    Default,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// H1: a VIF without rules on a guarded network.
    UnknownVif,
    /// E1: the sender is not who it says it is.
    Source(Spoof),
    /// E3, I2: no connection, and none can begin so; or a fragment whose datagram never becomes whole.
    Invalid,
    /// H4: the connection was cut.
    Cut,
    /// E5, I4: a rule of the operator's.
    Provider(&'a ProviderRule),
    /// E7, I6: nothing lets it pass.
    Default,
}

/// What a source check found (E1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoof {
    /// E1.1: the MAC is not the port's.
    Mac,
    /// E1.2: ARP in another's name.
    Arp,
    /// E1.3: an IPv4 source that is not the port's.
    Ipv4,
    /// E1.4: an IPv6 source that is not the port's.
    Ipv6,
    /// E1.5: neighbour discovery for an address that is not the port's.
    Nd,
    /// E1.6: a guest acts as DHCP server.
    DhcpServer,
    /// E1.6: a guest acts as router.
    Router,
}

impl Verdict<'_> {
    /// Whether the packet passes this side.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

impl Passage<'_> {
    /// Whether the packet arrives.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Passes { .. })
    }
}

/// Whether a packet passes a hop: H1 to H5.
///
/// `host` gives the groups, the members and the operator's rules; the ports are those of the hop.
#[must_use]
pub fn verdict<'a>(
    host: &'a HostPolicy,
    hop: &Hop<'a>,
    packet: &Packet,
    connection: Connection,
) -> Passage<'a> {
    for (side, end) in [(Direction::Egress, hop.from), (Direction::Ingress, hop.to)] {
        // H1
        if matches!(end, Endpoint::OtherVif)
            && host.is_guarded(hop.bridge)
            && !lifeline::holds(host, hop.bridge, side, packet, connection)
        {
            return Passage::Stops { side, reason: Reason::UnknownVif };
        }
    }
    // H4: what was cut stays cut, whatever it looks like, until its original direction is allowed again.
    if connection.is_cut() {
        return Passage::Stops { side: Direction::Egress, reason: Reason::Cut };
    }
    // H5: the sender's side, then the receiver's.
    let side = |direction, end| match end {
        Endpoint::Port(port) => verdict_of_port(host, direction, port, packet, connection),
        // H3
        Endpoint::OtherVif | Endpoint::Elsewhere => Verdict::Allow { rule: Pass::Unfiltered },
    };
    let egress = match side(Direction::Egress, hop.from) {
        Verdict::Allow { rule } => rule,
        Verdict::Deny { reason } => return Passage::Stops { side: Direction::Egress, reason },
    };
    match side(Direction::Ingress, hop.to) {
        Verdict::Allow { rule } => Passage::Passes { egress, ingress: rule },
        Verdict::Deny { reason } => Passage::Stops { side: Direction::Ingress, reason },
    }
}

/// Whether a packet passes one port: E1 to E7 for what its guest sends, I1 to I6 for what it receives.
#[must_use]
pub fn verdict_of_port<'a>(
    host: &'a HostPolicy,
    direction: Direction,
    port: &'a Port,
    packet: &Packet,
    connection: Connection,
) -> Verdict<'a> {
    if connection.is_cut() {
        return Verdict::Deny { reason: Reason::Cut };
    }
    match (port.security, direction) {
        // H2
        (PortSecurity::Off, _) => Verdict::Allow { rule: Pass::Unfiltered },
        (PortSecurity::On, Direction::Egress) => match source::check(port, packet) {
            Err(spoof) => Verdict::Deny { reason: Reason::Source(spoof) },
            Ok(()) => side::judge(host, direction, port, packet, connection),
        },
        (PortSecurity::On, Direction::Ingress) => side::judge(host, direction, port, packet, connection),
    }
}

/// E7, I6.
fn default<'a>() -> Verdict<'a> {
    match DEFAULT_VERDICT {
        Action::Allow => Verdict::Allow { rule: Pass::Default },
        Action::Deny => Verdict::Deny { reason: Reason::Default },
    }
}

impl Pass<'_> {
    /// The rule's number in docs/security.md.
    #[must_use]
    pub fn number(&self, side: Direction) -> &'static str {
        let (egress, ingress) = match self {
            Self::Unfiltered => ("H2", "H2"),
            Self::Essential => ("E2", "I1"),
            Self::Connection => ("E4", "I3"),
            Self::Provider(_) => ("E5", "I4"),
            Self::Group(..) => ("E6", "I5"),
            Self::Default => ("E7", "I6"),
        };
        by_side(side, egress, ingress)
    }
}

impl Reason<'_> {
    /// The rule's number in docs/security.md.
    #[must_use]
    pub fn number(&self, side: Direction) -> &'static str {
        let (egress, ingress) = match self {
            Self::UnknownVif => ("H1", "H1"),
            Self::Cut => ("H4", "H4"),
            Self::Source(spoof) => (spoof.number(), spoof.number()),
            Self::Invalid => ("E3", "I2"),
            Self::Provider(_) => ("E5", "I4"),
            Self::Default => ("E7", "I6"),
        };
        by_side(side, egress, ingress)
    }
}

fn by_side(side: Direction, egress: &'static str, ingress: &'static str) -> &'static str {
    match side {
        Direction::Egress => egress,
        Direction::Ingress => ingress,
    }
}

impl Spoof {
    fn number(self) -> &'static str {
        match self {
            Self::Mac => "E1.1",
            Self::Arp => "E1.2",
            Self::Ipv4 => "E1.3",
            Self::Ipv6 => "E1.4",
            Self::Nd => "E1.5",
            Self::DhcpServer | Self::Router => "E1.6",
        }
    }
}

impl fmt::Display for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfiltered => f.write_str("nothing is checked on this side"),
            Self::Essential => f.write_str("what every guest needs (ARP, DHCP, neighbour discovery)"),
            Self::Connection => f.write_str("it belongs to an allowed connection"),
            Self::Provider(provider) => write!(f, "provider rule {}", provider.rule.id),
            Self::Group(group, rule) => write!(f, "rule {} of group {}", rule.id, group.id),
            Self::Default => f.write_str("the default"),
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVif => f.write_str("a VIF without rules on a guarded network passes nothing"),
            Self::Source(spoof) => spoof.fmt(f),
            Self::Invalid => f.write_str("it belongs to no connection and can begin none"),
            Self::Cut => f.write_str("its connection was cut when the rules no longer allowed it"),
            Self::Provider(provider) => write!(f, "provider rule {}", provider.rule.id),
            Self::Default => f.write_str("no rule allows it"),
        }
    }
}

impl fmt::Display for Spoof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mac => "the source MAC is not the port's",
            Self::Arp => "the ARP sender is not the port's",
            Self::Ipv4 => "the IPv4 source is not the port's",
            Self::Ipv6 => "the IPv6 source is not the port's",
            Self::Nd => "the neighbour discovery target is not the port's",
            Self::DhcpServer => "a guest may not act as DHCP server",
            Self::Router => "a guest may not act as router",
        })
    }
}

#[cfg(test)]
mod tests;
