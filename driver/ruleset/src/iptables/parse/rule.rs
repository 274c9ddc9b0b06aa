//! One rule from its printed form; `None` for anything we could not have written.

use super::names::protocol_number;
use crate::iptables::mark::{MARK_MASK, Mark, PacketMark};
use crate::iptables::rule::{CtDirection, CtStates, IfPattern, Match, Rule, Target};
use crate::model::{Icmp, PortRange, Protocol};

/// Matches that look at nothing unless an option says so. Others do (`-m socket` alone is a condition), and a rule with
/// one is not what the rest of its words says.
const MODULES: [&str; 15] = [
    "physdev",
    "tcp",
    "udp",
    "sctp",
    "dccp",
    "udplite",
    "multiport",
    "icmp",
    "icmp6",
    "conntrack",
    "connmark",
    "mark",
    "mac",
    "addrtype",
    "u32",
];

/// Parses matches and target, without `-A chain`.
pub(super) fn parse(spec: &str) -> Option<Rule> {
    let words = shell_words::split(spec).ok()?;
    let mut words = words.iter().map(String::as_str).peekable();
    let mut protocol: Option<Protocol> = None;
    // Which of two modules `--mark` belongs to.
    let mut module = "";
    let mut matches = Vec::new();
    let mut target = None;
    while let Some(word) = words.next() {
        if target.is_some() {
            return None;
        }
        let negated = word == "!";
        let option = if negated { words.next()? } else { word };
        if negated && !matches!(option, "--mark" | "--dst-type") {
            return None;
        }
        match option {
            "-m" => module = words.next().filter(|name| MODULES.contains(name))?,
            "-s" => matches.push(Match::Source(words.next()?.parse().ok()?)),
            "-d" => matches.push(Match::Destination(words.next()?.parse().ok()?)),
            "-i" => matches.push(Match::InBridge(words.next()?.parse().ok()?)),
            "-o" => matches.push(Match::OutBridge(words.next()?.parse().ok()?)),
            // A second one would change whose ports were meant.
            "-p" if protocol.is_none() => {
                let p = Protocol(protocol_number(words.next()?)?);
                protocol = Some(p);
                matches.push(Match::Protocol(p));
            }
            "--sport" | "--sports" => matches.push(Match::SourcePorts(protocol?, ports(words.next()?)?)),
            "--dport" | "--dports" => matches.push(Match::DestinationPorts(protocol?, ports(words.next()?)?)),
            "--icmp-type" => matches.push(Match::Icmp(icmp(words.next()?)?)),
            "--icmpv6-type" => matches.push(Match::Icmpv6(icmp(words.next()?)?)),
            "--dst-type" if negated && words.next()? == "LOCAL" => matches.push(Match::NotForDom0),
            "--physdev-in" => matches.push(Match::PhysdevIn(pattern(words.next()?)?)),
            "--physdev-out" => matches.push(Match::PhysdevOut(pattern(words.next()?)?)),
            "--physdev-is-bridged" => matches.push(Match::IsBridged),
            "--ctstate" => {
                let states = states(words.next()?)?;
                let direction = if words.next_if_eq(&"--ctdir").is_some() {
                    Some(match words.next()? {
                        "ORIGINAL" => CtDirection::Original,
                        "REPLY" => CtDirection::Reply,
                        _ => return None,
                    })
                } else {
                    None
                };
                matches.push(Match::Conntrack(states, direction));
            }
            "--mark" if module == "connmark" => {
                matches.push(Match::ConnMark { negated, mark: mark(words.next()?)? });
            }
            "--mark" if module == "mark" => {
                matches.push(Match::PacketMark { negated, mark: packet_mark(words.next()?)? });
            }
            "--mac-source" => matches.push(Match::MacSource(words.next()?.parse().ok()?)),
            "--u32" => matches.push(Match::U32(u32_test(words.next()?)?)),
            "-g" => target = Some(Target::Goto(words.next()?.parse().ok()?)),
            "-j" => target = Some(jump(&mut words)?),
            _ => return None,
        }
    }
    Some(Rule::new(matches, target?))
}

fn jump<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Target> {
    Some(match words.next()? {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "CONNMARK" if words.next()? == "--set-xmark" => Target::SetMark(mark(words.next()?)?),
        "MARK" if words.next()? == "--set-xmark" => Target::SetPacketMark(packet_mark(words.next()?)?),
        "CT" if words.next()? == "--zone" => Target::Zone(words.next()?.parse().ok()?),
        chain => Target::Jump(chain.parse().ok()?),
    })
}

fn ports(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    PortRange::new(first.parse().ok()?, last.parse().ok()?).ok()
}

fn icmp(text: &str) -> Option<Icmp> {
    Some(match text.split_once('/') {
        None => Icmp { kind: text.parse().ok()?, code: None },
        Some((kind, code)) => Icmp { kind: kind.parse().ok()?, code: Some(code.parse().ok()?) },
    })
}

fn pattern(text: &str) -> Option<IfPattern> {
    Some(match text.strip_suffix('+') {
        None => IfPattern::Exactly(text.parse().ok()?),
        Some(prefix) => IfPattern::Prefix(prefix.parse().ok()?),
    })
}

fn states(text: &str) -> Option<CtStates> {
    let mut names =
        text.split(',').map(|name| CtStates::NAMES.iter().find(|(known, _)| *known == name).map(|(_, s)| *s));
    let first = names.next()??;
    names.try_fold(first, |all, state| Some(all.and(state?)))
}

fn mark(text: &str) -> Option<Mark> {
    let (value, mask) = text.split_once('/')?;
    (number(mask)? == MARK_MASK).then(|| Mark::new(number(value)?)).flatten()
}

fn packet_mark(text: &str) -> Option<PacketMark> {
    let (value, mask) = text.split_once('/')?;
    PacketMark::new(number(value)?, number(mask)?)
}

/// What `--u32` can hold; nothing that would end the quotation it is printed in.
fn u32_test(text: &str) -> Option<String> {
    let known = |b: u8| b.is_ascii_hexdigit() || b"x=&:,<>@".contains(&b);
    text.bytes().all(known).then(|| text.to_owned())
}

fn number(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
