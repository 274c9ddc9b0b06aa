//! Writing a rule as iptables-save prints it.

use std::fmt;

use super::rule::{CtDirection, CtStates, IfPattern, Match, Rule, Target};
use crate::model::{Icmp, PortRange, Protocol};

impl fmt::Display for Rule {
    /// Matches and target, without `-A chain`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous: Option<&Match> = None;
        for m in self.matches() {
            let opened = previous.is_some_and(|p| module(p) == module(m) && module(m).is_some());
            if let (false, Some(module)) = (opened, module(m)) {
                write!(f, "-m {module} ")?;
            }
            write!(f, "{m} ")?;
            previous = Some(m);
        }
        write!(f, "{}", self.target)
    }
}

/// The extension a match belongs to; two of one extension share one `-m`.
fn module(m: &Match) -> Option<&'static str> {
    Some(match m {
        Match::Source(_)
        | Match::Destination(_)
        | Match::InBridge(_)
        | Match::OutBridge(_)
        | Match::Protocol(_) => {
            return None;
        }
        Match::SourcePorts(p, _) | Match::DestinationPorts(p, _) => match *p {
            Protocol::TCP => "tcp",
            Protocol::UDP => "udp",
            Protocol::SCTP => "sctp",
            Protocol::DCCP => "dccp",
            // iptables has no match of UDP-Lite's own.
            _ => "multiport",
        },
        Match::Icmp(_) => "icmp",
        Match::Icmpv6(_) => "icmp6",
        Match::NotForDom0 => "addrtype",
        Match::PhysdevIn(_) | Match::PhysdevOut(_) | Match::IsBridged => "physdev",
        Match::Conntrack(..) => "conntrack",
        Match::ConnMark { .. } => "connmark",
        Match::PacketMark { .. } => "mark",
        Match::MacSource(_) => "mac",
        Match::U32(_) => "u32",
    })
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(net) => write!(f, "-s {net}"),
            Self::Destination(net) => write!(f, "-d {net}"),
            Self::InBridge(name) => write!(f, "-i {name}"),
            Self::OutBridge(name) => write!(f, "-o {name}"),
            Self::Protocol(p) => write!(f, "-p {}", protocol_name(*p)),
            Self::SourcePorts(p, range) => {
                write!(f, "--{} {}", if multiport(*p) { "sports" } else { "sport" }, Ports(*range))
            }
            Self::DestinationPorts(p, range) => {
                write!(f, "--{} {}", if multiport(*p) { "dports" } else { "dport" }, Ports(*range))
            }
            Self::Icmp(icmp) => write!(f, "--icmp-type {}", TypeCode(*icmp)),
            Self::Icmpv6(icmp) => write!(f, "--icmpv6-type {}", TypeCode(*icmp)),
            Self::NotForDom0 => f.write_str("! --dst-type LOCAL"),
            Self::PhysdevIn(name) => write!(f, "--physdev-in {name}"),
            Self::PhysdevOut(name) => write!(f, "--physdev-out {name}"),
            Self::IsBridged => f.write_str("--physdev-is-bridged"),
            Self::Conntrack(states, direction) => {
                write!(f, "--ctstate {states}")?;
                match direction {
                    None => Ok(()),
                    Some(CtDirection::Original) => f.write_str(" --ctdir ORIGINAL"),
                    Some(CtDirection::Reply) => f.write_str(" --ctdir REPLY"),
                }
            }
            Self::ConnMark { negated, mark } => {
                write!(f, "{}--mark {mark}", if *negated { "! " } else { "" })
            }
            Self::PacketMark { negated, mark } => {
                write!(f, "{}--mark {mark}", if *negated { "! " } else { "" })
            }
            Self::MacSource(mac) => write!(f, "--mac-source {mac}"),
            Self::U32(test) => write!(f, "--u32 \"{test}\""),
        }
    }
}

/// The names iptables-save itself prints without asking `/etc/protocols` (`xshared.c`, `xtables_chain_protos`),
/// as far as both 1.4.21 and 1.8 have them; every other protocol goes by number.
const PRINTED_NAMES: [(Protocol, &str); 6] = [
    (Protocol::TCP, "tcp"),
    (Protocol::UDP, "udp"),
    (Protocol::UDPLITE, "udplite"),
    (Protocol::ICMP, "icmp"),
    (Protocol::ICMPV6, "ipv6-icmp"),
    (Protocol::SCTP, "sctp"),
];

fn protocol_name(p: Protocol) -> String {
    PRINTED_NAMES
        .iter()
        .find(|(known, _)| *known == p)
        .map_or_else(|| p.0.to_string(), |(_, name)| (*name).to_owned())
}

fn multiport(p: Protocol) -> bool {
    p == Protocol::UDPLITE
}

struct Ports(PortRange);

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.first(), self.0.last());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}:{last}") }
    }
}

struct TypeCode(Icmp);

impl fmt::Display for TypeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.code {
            None => write!(f, "{}", self.0.kind),
            Some(code) => write!(f, "{}/{code}", self.0.kind),
        }
    }
}

impl fmt::Display for IfPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => write!(f, "{name}"),
            Self::Prefix(prefix) => write!(f, "{prefix}+"),
        }
    }
}

impl fmt::Display for CtStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, state) in Self::NAMES {
            if self.contains(state) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("-j ACCEPT"),
            Self::Drop => f.write_str("-j DROP"),
            Self::Return => f.write_str("-j RETURN"),
            Self::Jump(chain) => write!(f, "-j {chain}"),
            Self::Goto(chain) => write!(f, "-g {chain}"),
            Self::SetMark(mark) => write!(f, "-j CONNMARK --set-xmark {mark}"),
            Self::SetPacketMark(mark) => write!(f, "-j MARK --set-xmark {mark}"),
            Self::Zone(zone) => write!(f, "-j CT --zone {zone}"),
        }
    }
}
