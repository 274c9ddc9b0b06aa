//! One rule: the closed set of matches and targets that we use, in one canonical order.

use ipnet::IpNet;

use super::mark::{Mark, PacketMark};
use crate::ids::{ChainName, Interface, Mac};
use crate::model::{Icmp, PortRange, Protocol};

/// A rule of one of our chains.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// What it matches; all must hold. Sorted, which is the order iptables-save prints.
    matches: Vec<Match>,
    /// What happens then.
    pub target: Target,
}

impl Rule {
    /// A rule from matches in any order.
    #[must_use]
    pub fn new(matches: impl IntoIterator<Item = Match>, target: Target) -> Self {
        let everybody =
            |m: &Match| matches!(m, Match::Source(net) | Match::Destination(net) if net.prefix_len() == 0);
        let mut matches: Vec<_> = matches.into_iter().filter(|m| !everybody(m)).collect();
        matches.sort_unstable();
        Self { matches, target }
    }

    /// A rule without matches.
    #[must_use]
    pub fn always(target: Target) -> Self {
        Self { matches: Vec::new(), target }
    }

    /// Its matches.
    #[must_use]
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }
}

/// One condition. The order of the variants is the order of printing: addresses, interfaces and protocol as
/// iptables-save fixes them, then the extensions as we write them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Match {
    /// `-s`; a prefix of length 0 matches everything and is left out, as iptables-save does.
    Source(IpNet),
    /// `-d`
    Destination(IpNet),
    /// `-i`: for a bridged packet, the bridge it came in by.
    InBridge(Interface),
    /// `-o`: for a bridged packet, the bridge it leaves by.
    OutBridge(Interface),
    /// `-p`
    Protocol(Protocol),
    /// `--sport`
    SourcePorts(Protocol, PortRange),
    /// `--dport`
    DestinationPorts(Protocol, PortRange),
    /// `-m icmp --icmp-type`
    Icmp(Icmp),
    /// `-m icmp6 --icmpv6-type`
    Icmpv6(Icmp),
    /// `-m addrtype ! --dst-type LOCAL`
    NotForDom0,
    /// `-m physdev --physdev-in`
    PhysdevIn(IfPattern),
    /// `-m physdev --physdev-out`
    PhysdevOut(IfPattern),
    /// `-m physdev --physdev-is-bridged`
    IsBridged,
    /// `-m conntrack --ctstate … [--ctdir …]`
    Conntrack(CtStates, Option<CtDirection>),
    /// `-m connmark [!] --mark`
    ConnMark {
        /// With `!`
        negated: bool,
        /// Value under our mask.
        mark: Mark,
    },
    /// `-m mark [!] --mark`
    PacketMark {
        /// With `!`
        negated: bool,
        /// Value under some of our bits.
        mark: PacketMark,
    },
    /// `-m mac --mac-source`
    MacSource(Mac),
    /// `-m u32 --u32`: bytes of the packet: ND targets, and ICMP type 255.
    U32(String),
}

/// An interface name or, with `+`, a prefix of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IfPattern {
    /// Exactly this interface.
    Exactly(Interface),
    /// Every interface whose name begins so.
    Prefix(Interface),
}

impl IfPattern {
    /// Whether an interface of this name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exactly(interface) => interface.as_str() == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

/// A set of conntrack states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CtStates(u8);

impl CtStates {
    /// `INVALID`
    pub const INVALID: Self = Self(1);
    /// `NEW`
    pub const NEW: Self = Self(2);
    /// `RELATED`
    pub const RELATED: Self = Self(4);
    /// `ESTABLISHED`
    pub const ESTABLISHED: Self = Self(8);
    /// `UNTRACKED`
    pub const UNTRACKED: Self = Self(16);

    /// Names in the order in which iptables prints them.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("INVALID", Self::INVALID),
        ("NEW", Self::NEW),
        ("RELATED", Self::RELATED),
        ("ESTABLISHED", Self::ESTABLISHED),
        ("UNTRACKED", Self::UNTRACKED),
    ];

    /// Both sets' states.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every state of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `--ctdir`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CtDirection {
    /// The direction of the connection's first packet.
    Original,
    /// The other.
    Reply,
}

/// What a rule does with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// `-j ACCEPT`
    Accept,
    /// `-j DROP`
    Drop,
    /// `-j RETURN`
    Return,
    /// `-j`: comes back when the chain is through.
    Jump(ChainName),
    /// `-g`: does not come back.
    Goto(ChainName),
    /// `-j CONNMARK --set-xmark`
    SetMark(Mark),
    /// `-j MARK --set-xmark`
    SetPacketMark(PacketMark),
    /// `-j CT --zone`
    Zone(u16),
}

impl Target {
    /// The chain it leads to.
    #[must_use]
    pub fn chain(&self) -> Option<&ChainName> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}
