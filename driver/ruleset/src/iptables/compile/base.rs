//! What holds for every filtered port, whatever its groups: source checks and the few protocols a guest cannot live
//! without (design §3, egress 1 to 3, ingress 1 and 2).

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv6Net};

use super::groups::GroupChains;
use super::{DEFAULT_VERDICT, Names, denial, local};
use crate::ids::{ChainName, GroupId, InvalidId, Mac};
use crate::iptables::Chains;
use crate::iptables::mark::PacketMark;
use crate::iptables::rule::{CtStates, Match, Rule, Target};
use crate::model::{Direction, Family, Icmp, Port, PortRange, Protocol};
use crate::packet::{ICMP_REDIRECT, icmpv6};

fn icmp6(kind: u8) -> [Match; 2] {
    [Match::Protocol(Protocol::ICMPV6), Match::Icmpv6(Icmp { kind, code: None })]
}

/// One port.
pub(super) fn port_range(port: u16) -> Result<PortRange, InvalidId> {
    PortRange::new(port, port).map_err(|_| InvalidId::new("port", &port.to_string(), "it is 0"))
}

fn udp(source: u16, destination: u16) -> Result<[Match; 3], InvalidId> {
    Ok([
        Match::Protocol(Protocol::UDP),
        Match::SourcePorts(Protocol::UDP, port_range(source)?),
        Match::DestinationPorts(Protocol::UDP, port_range(destination)?),
    ])
}

/// `fe80::/10`
fn link_local() -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10))
}

/// `dwb-guard`: no guest plays DHCP server or router, from whatever address. Falls through to the caller.
pub(super) fn guard(family: Family) -> Result<Vec<Rule>, InvalidId> {
    let forbidden: Vec<Vec<Match>> = match family {
        Family::Ipv4 => vec![
            udp(67, 68)?.into(),
            vec![Match::Protocol(Protocol::ICMP), Match::Icmp(Icmp { kind: ICMP_REDIRECT, code: None })],
        ],
        Family::Ipv6 => {
            vec![
                udp(547, 546)?.into(),
                icmp6(icmpv6::ROUTER_ADVERTISEMENT).into(),
                icmp6(icmpv6::REDIRECT).into(),
            ]
        }
    };
    let mut rules: Vec<Rule> =
        forbidden.into_iter().map(|matches| Rule::new(matches, DEFAULT_VERDICT)).collect();
    if family == Family::Ipv6 {
        rules.extend(behind_authentication());
    }
    Ok(rules)
}

/// The same for what stands behind an authentication header.
///
/// iptables-legacy looks behind it for the protocol, and none of these rules ever matches. nf_tables takes it for the protocol,
/// so that what is behind must be looked for in the packet's bytes: next header at 40, its data after as many words as byte 41
/// says, and two. That is known only of a header right behind the fixed one; every other is dropped.
fn behind_authentication() -> Vec<Rule> {
    let first = "0x3&0xff=0x33";
    let data = "0x28>>0xe&0x3fc@0x30";
    let passes = [
        // Neither ICMPv6 nor UDP, nor one more extension header.
        format!("{first}&&0x28>>0x18=0x1:0x10,0x12:0x2a,0x2d:0x32,0x34:0x39,0x3b,0x3d:0xff"),
        // ICMPv6 but router and neighbour advertisements and redirects.
        format!("{first}&&0x28>>0x18=0x3a&&{data}>>0x18=0x0:0x85,0x87,0x8a:0xff"),
        // UDP but from 547 to 546.
        format!("{first}&&0x28>>0x18=0x11&&{data}=0x0:0x2230221,0x2230223:0xffffffff"),
    ];
    let authenticated = || Match::Protocol(Protocol::AH);
    let mut rules: Vec<Rule> = passes
        .into_iter()
        .map(|test| Rule::new([authenticated(), Match::U32(test)], Target::Return))
        .collect();
    rules.push(Rule::new([authenticated()], DEFAULT_VERDICT));
    rules
}

/// The three chains of one filtered port, named after `name`, and for IPv6 the one that checks what it claims in ND.
pub(super) fn port_chains(
    port: &Port,
    name: &str,
    family: Family,
    names: &Names,
    groups: &BTreeMap<&GroupId, GroupChains>,
    chains: &mut Chains,
) -> Result<(), InvalidId> {
    let sources = port.sources(family);
    let source_chain = ChainName::ours(&format!("s-{name}"))?;
    let rules = match family {
        Family::Ipv4 => sources_v4(port.mac, &sources, names)?,
        Family::Ipv6 => {
            let claims = ChainName::ours(&format!("n-{name}"))?;
            chains.insert(claims.clone(), nd_claims(&sources));
            sources_v6(&sources, &claims, names)
        }
    };
    chains.insert(source_chain, rules);

    for (direction, label) in [(Direction::Egress, "o"), (Direction::Ingress, "i")] {
        let passed = match direction {
            Direction::Egress => names.pass.clone(),
            Direction::Ingress => names.accept.clone(),
        };
        let mut rules = Vec::new();
        if direction == Direction::Ingress {
            rules.extend(local::meant(port, family));
        }
        let essentials = essentials(direction, family)?.into_iter();
        rules.extend(essentials.map(|matches| Rule::new(matches, Target::Goto(passed.clone()))));
        rules.extend(stateless(family, names));
        let provider = match direction {
            Direction::Egress => &names.provider_egress,
            Direction::Ingress => &names.provider_ingress,
        };
        let own: BTreeSet<&GroupId> = port.groups.iter().collect();
        let lists = own.into_iter().filter_map(|group| groups.get(group)).map(|group| group.chain(direction));
        for list in std::iter::once(provider).chain(lists) {
            rules.push(Rule::always(Target::Jump(list.clone())));
            // A receiver's list ends what it lets pass; a sender's comes back.
            if direction == Direction::Egress {
                let passed = Match::PacketMark { negated: true, mark: PacketMark::UNJUDGED };
                rules.push(Rule::new([passed], Target::Return));
            }
        }
        rules.extend(denial(names));
        chains.insert(ChainName::ours(&format!("{label}-{name}"))?, rules);
    }
    Ok(())
}

/// §3 egress 3, ingress 2: what belongs to no connection and can begin none. The plugin's boundary takes what is forged out
/// of connection tracking; but the kernel never tracks neighbour and listener discovery, which is for the rules to judge.
fn stateless(family: Family, names: &Names) -> Vec<Rule> {
    let state = |states| [Match::Conntrack(states, None)];
    match family {
        Family::Ipv4 => vec![Rule::new(state(CtStates::INVALID.and(CtStates::UNTRACKED)), DEFAULT_VERDICT)],
        Family::Ipv6 => vec![
            Rule::new(state(CtStates::INVALID), DEFAULT_VERDICT),
            Rule::new(state(CtStates::UNTRACKED), Target::Jump(names.untracked.clone())),
        ],
    }
}

/// `dwb-untracked`, IPv6 only: what the kernel never tracks comes back (`nf_conntrack_proto_icmpv6.c`).
pub(super) fn untracked() -> Vec<Rule> {
    let never = (icmpv6::MLD_QUERY..icmpv6::REDIRECT).chain([icmpv6::MLDV2_REPORT]);
    let mut rules: Vec<Rule> = never.map(|kind| Rule::new(icmp6(kind), Target::Return)).collect();
    rules.push(Rule::always(DEFAULT_VERDICT));
    rules
}

/// §3 egress 1 for IPv4: the port's own addresses, and a DHCP client that has none yet.
fn sources_v4(mac: Mac, sources: &[(Mac, IpNet)], names: &Names) -> Result<Vec<Rule>, InvalidId> {
    let unspecified = Match::Source(host_net([0, 0, 0, 0].into()));
    let broadcast = Match::Destination(host_net([255; 4].into()));
    let discover = udp(68, 67)?.into_iter().chain([unspecified, broadcast, Match::MacSource(mac)]);
    // What every packet passes stands first.
    let mut rules: Vec<Rule> = own(sources, names).collect();
    rules.push(Rule::new(discover, Target::Return));
    rules.push(Rule::always(DEFAULT_VERDICT));
    Ok(rules)
}

/// §3 egress 1 for IPv6. Advertisements are judged by what they claim; from `::` only what address configuration
/// needs passes (RFC 4862), and a solicitation from there claims its target.
fn sources_v6(sources: &[(Mac, IpNet)], claims: &ChainName, names: &Names) -> Vec<Rule> {
    let mut macs: Vec<Mac> = sources.iter().map(|(mac, _)| *mac).collect();
    macs.dedup();
    let unspecified = Match::Source(host_net(std::net::Ipv6Addr::UNSPECIFIED.into()));
    let mut rules = vec![Rule::new(icmp6(icmpv6::NEIGHBOR_ADVERTISEMENT), Target::Jump(claims.clone()))];
    for mac in macs {
        for kind in [
            icmpv6::NEIGHBOR_SOLICITATION,
            icmpv6::ROUTER_SOLICITATION,
            icmpv6::MLD_REPORT,
            icmpv6::MLDV2_REPORT,
        ] {
            let matches = icmp6(kind).into_iter().chain([unspecified.clone(), Match::MacSource(mac)]);
            let target = if kind == icmpv6::NEIGHBOR_SOLICITATION {
                Target::Goto(claims.clone())
            } else {
                Target::Return
            };
            rules.push(Rule::new(matches, target));
        }
    }
    rules.extend(own(sources, names));
    rules.push(Rule::always(DEFAULT_VERDICT));
    rules
}

fn own<'a>(sources: &'a [(Mac, IpNet)], names: &'a Names) -> impl Iterator<Item = Rule> + 'a {
    sources.iter().map(|(mac, net)| {
        Rule::new([Match::Source(*net), Match::MacSource(*mac)], Target::Goto(names.guard.clone()))
    })
}

fn host_net(address: std::net::IpAddr) -> IpNet {
    IpNet::from(address)
}

/// ND targets the port may claim: RETURN for its own, else dropped.
///
/// The target stands at byte 48 only where ICMPv6 follows the fixed header at once (next header, byte 6, is 58).
/// With an extension header between them the packet matches no line and is dropped.
fn nd_claims(sources: &[(Mac, IpNet)]) -> Vec<Rule> {
    let mut nets: Vec<IpNet> = sources.iter().map(|(_, net)| *net).collect();
    nets.sort_unstable();
    nets.dedup();
    let mut rules: Vec<Rule> = nets
        .iter()
        .filter_map(target_test)
        .map(|test| Rule::new([Match::U32(test)], Target::Return))
        .collect();
    rules.push(Rule::always(DEFAULT_VERDICT));
    rules
}

/// The `u32` expression for "the ND target lies in this prefix", spelt as iptables-save prints it.
fn target_test(net: &IpNet) -> Option<String> {
    let IpNet::V6(net) = net else { return None };
    let (address, mask) = (net.network().to_bits(), net.netmask().to_bits());
    let mut test = "0x3&0xff=0x3a".to_owned();
    for word in 0..4 {
        let shift = 96 - 32 * word;
        let part = |bits: u128| (bits >> shift) & 0xffff_ffff;
        let (offset, value, mask) = (0x30 + 4 * word, part(address), part(mask));
        match mask {
            0 => {}
            0xffff_ffff => test.push_str(&format!("&&{offset:#x}={value:#x}")),
            _ => test.push_str(&format!("&&{offset:#x}&{mask:#x}={value:#x}")),
        }
    }
    Some(test)
}

/// §3 egress 2 and ingress 1: what passes without any group.
pub(super) fn essentials(direction: Direction, family: Family) -> Result<Vec<Vec<Match>>, InvalidId> {
    let mut passes: Vec<Vec<Match>> = Vec::new();
    match (direction, family) {
        (Direction::Egress, Family::Ipv4) => passes.push(udp(68, 67)?.into()),
        (Direction::Ingress, Family::Ipv4) => passes.push(udp(67, 68)?.into()),
        (Direction::Egress, Family::Ipv6) => {
            for kind in [
                icmpv6::ROUTER_SOLICITATION,
                icmpv6::NEIGHBOR_SOLICITATION,
                icmpv6::NEIGHBOR_ADVERTISEMENT,
                icmpv6::MLD_REPORT,
                icmpv6::MLD_DONE,
                icmpv6::MLDV2_REPORT,
            ] {
                passes.push(icmp6(kind).into());
            }
            passes.push(udp(546, 547)?.into());
        }
        (Direction::Ingress, Family::Ipv6) => {
            for kind in [icmpv6::NEIGHBOR_SOLICITATION, icmpv6::NEIGHBOR_ADVERTISEMENT] {
                passes.push(icmp6(kind).into());
            }
            for kind in [icmpv6::ROUTER_ADVERTISEMENT, icmpv6::MLD_QUERY] {
                passes.push(icmp6(kind).into_iter().chain([Match::Source(link_local())]).collect());
            }
            passes.push(udp(547, 546)?.into_iter().chain([Match::Source(link_local())]).collect());
        }
    }
    Ok(passes)
}
