//! One line of `dump-flows`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ObservedFlow;
use crate::ids::Mac;
use crate::iptables::MARK_MASK;
use crate::ovs::flow::{
    Action, CtMatch, CtState, Destination, Ether, Flow, Key, Masked, Match, OfPort, Register, Vlan, Zone,
};

type Problem = String;

/// What a switch says of a flow besides the flow; all end in a comma.
const STATISTICS: [&str; 5] = ["duration", "n_packets", "n_bytes", "idle_age", "hard_age"];

/// How a flow is counted and reported (`ovs-ofctl(8)`, "Flow Syntax"); `reset_counts` comes by itself with OpenFlow 1.0.
const FLAGS: [&str; 5] =
    ["send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts"];

/// ` cookie=0x…, duration=1s, table=0, n_packets=0, n_bytes=0, priority=5,ip actions=drop`
pub(super) fn parse(line: &str) -> Result<ObservedFlow, Problem> {
    let (head, actions) = line.split_once("actions=").ok_or("no actions")?;
    let mut matches = Match::default();
    let (mut cookie, mut number, mut priority) = (None, 0, 32_768);
    let mut seen: Vec<&str> = Vec::new();
    for field in head.split([',', ' ']).filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').map_or((field, None), |(n, v)| (n, Some(v)));
        if seen.contains(&name) {
            return Err(format!("{name} stands twice"));
        }
        seen.push(name);
        match (name, value) {
            ("cookie", Some(v)) => cookie = Some(long(v)?),
            ("table", Some(v)) => number = decimal(v)?,
            ("priority", Some(v)) => priority = decimal(v)?,
            (statistic, Some(_)) if STATISTICS.contains(&statistic) => {}
            (flag, None) if FLAGS.contains(&flag) => {}
            (word, None) => protocol(word, &mut matches)?,
            (name, Some(value)) => field_of(name, value, &mut matches)?,
        }
    }
    matches.registers.sort_unstable();
    belong_together(&matches)?;
    let cookie = cookie.ok_or("no cookie")?;
    let key = Key { table: number, priority, matches };
    Ok(ObservedFlow { flow: Flow { key, actions: parse_actions(actions)? }, cookie })
}

fn decimal<T: FromStr>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| format!("{text:.40?} is not a number in its range"))
}

/// Decimal, or hexadecimal after `0x`.
fn long(text: &str) -> Result<u64, Problem> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:.40?} is not a number"))
}

fn number<T: TryFrom<u64>>(text: &str) -> Result<T, Problem> {
    T::try_from(long(text)?).map_err(|_| format!("{text:.40?} is too large"))
}

fn protocol(word: &str, matches: &mut Match) -> Result<(), Problem> {
    let (ether, protocol) = match word {
        "arp" => (Ether::Arp, None),
        "ip" => (Ether::Ipv4, None),
        "ipv6" => (Ether::Ipv6, None),
        "icmp" => (Ether::Ipv4, Some(1)),
        "igmp" => (Ether::Ipv4, Some(2)),
        "tcp" => (Ether::Ipv4, Some(6)),
        "udp" => (Ether::Ipv4, Some(17)),
        "sctp" => (Ether::Ipv4, Some(132)),
        "icmp6" => (Ether::Ipv6, Some(58)),
        "tcp6" => (Ether::Ipv6, Some(6)),
        "udp6" => (Ether::Ipv6, Some(17)),
        "sctp6" => (Ether::Ipv6, Some(132)),
        _ => return Err(format!("the match {word:.40?} is not known")),
    };
    if matches.ether.replace(ether).is_some() || protocol.is_some() && matches.nw_proto.is_some() {
        return Err("two protocols".to_owned());
    }
    matches.nw_proto = matches.nw_proto.or(protocol);
    Ok(())
}

/// A switch shows fields of a protocol with the protocol, and each register once.
fn belong_together(matches: &Match) -> Result<(), Problem> {
    let Match { ether, nw_proto, source, destination, registers, .. } = matches;
    let is_of = |net: &Option<IpNet>, arp| match net {
        None => true,
        Some(IpNet::V4(_)) => *ether == Some(Ether::Ipv4) || arp && *ether == Some(Ether::Arp),
        Some(IpNet::V6(_)) => *ether == Some(Ether::Ipv6),
    };
    let proto = nw_proto.is_none() || matches!(ether, Some(Ether::Ipv4 | Ether::Ipv6));
    let once = registers.windows(2).all(|pair| pair[0].0 != pair[1].0);
    match proto && once && is_of(source, true) && is_of(destination, false) {
        true => Ok(()),
        false => Err("fields that do not belong together".to_owned()),
    }
}

fn field_of(name: &str, value: &str, matches: &mut Match) -> Result<(), Problem> {
    match name {
        "in_port" => matches.in_port = Some(port(value)?),
        "vlan_tci" if matches!(value, "0x0000/0x1fff" | "0x0000") => matches.vlan = Some(Vlan::None),
        "dl_vlan" => matches.vlan = Some(Vlan::Id(number(value)?)),
        "conj_id" => matches.conj_id = Some(number(value)?),
        "ct_state" => matches.ct_state = ct_state(value)?,
        "ct_mark" => {
            let (value, mask) = value.split_once('/').unwrap_or((value, "0xffffffff"));
            matches.ct_mark = Some((number(value)?, number(mask)?));
        }
        "dl_src" => matches.dl_src = Some(mac(value)?),
        "dl_dst" => {
            matches.dl_dst = Some(match value {
                "01:00:00:00:00:00/01:00:00:00:00:00" => Destination::Many,
                _ => Destination::Exactly(mac(value)?),
            });
        }
        "nw_proto" if matches.nw_proto.is_none() => matches.nw_proto = Some(decimal(value)?),
        "nw_src" | "arp_spa" => matches.source = Some(IpNet::V4(v4(value)?)),
        "nw_dst" => matches.destination = Some(IpNet::V4(v4(value)?)),
        "ipv6_src" => matches.source = Some(IpNet::V6(v6(value)?)),
        "ipv6_dst" => matches.destination = Some(IpNet::V6(v6(value)?)),
        "nw_frag" if value == "later" => matches.later_fragment = true,
        "tp_src" => matches.tp_src = Some(masked(value)?),
        "tp_dst" => matches.tp_dst = Some(masked(value)?),
        "tcp_flags" if value == "+ack" => matches.tcp_ack = true,
        "icmp_type" => matches.icmp_type = Some(decimal(value)?),
        "icmp_code" => matches.icmp_code = Some(decimal(value)?),
        "arp_sha" => matches.arp_sha = Some(mac(value)?),
        "nd_target" => matches.nd_target = Some(v6(value)?),
        "nd_sll" => matches.nd_sll = Some(mac(value)?),
        "nd_tll" => matches.nd_tll = Some(mac(value)?),
        _ => {
            let register = name.strip_prefix("reg").and_then(|n| n.parse::<Register>().ok());
            let Some(register) = register.filter(|r| *r <= 15) else {
                return Err(format!("the match {name:.40}={value:.60} is not known"));
            };
            matches.registers.push((register, number(value)?));
        }
    }
    Ok(())
}

fn port(text: &str) -> Result<OfPort, Problem> {
    if text == "LOCAL" {
        return Ok(OfPort::Local);
    }
    let number: u16 = decimal(text)?;
    OfPort::from_database(number.into()).ok_or_else(|| format!("port {text} is reserved"))
}

fn mac(text: &str) -> Result<Mac, Problem> {
    text.parse().map_err(|e: crate::ids::InvalidId| e.to_string())
}

/// An address, `address/length`, or (older switches, odd lengths aside) `address/mask`.
fn v4(text: &str) -> Result<Ipv4Net, Problem> {
    let bad = || format!("{text:.40?} is not an IPv4 prefix");
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
    match length.parse::<Ipv4Addr>() {
        Ok(mask) => Ipv4Net::with_netmask(address, mask).map_err(|_| bad()),
        Err(_) => Ipv4Net::new(address, decimal(length)?).map_err(|_| bad()),
    }
}

fn v6(text: &str) -> Result<Ipv6Net, Problem> {
    let bad = || format!("{text:.60?} is not an IPv6 prefix");
    let (address, length) = text.split_once('/').unwrap_or((text, "128"));
    let address: Ipv6Addr = address.parse().map_err(|_| bad())?;
    match length.parse::<Ipv6Addr>() {
        Ok(mask) => Ipv6Net::with_netmask(address, mask).map_err(|_| bad()),
        Err(_) => Ipv6Net::new(address, decimal(length)?).map_err(|_| bad()),
    }
}

fn masked(text: &str) -> Result<Masked, Problem> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffff"));
    Ok(Masked { value: number(value)?, mask: number(mask)? })
}

/// `+est-rel+trk`, or `est|trk` when all flags are asked for.
fn ct_state(text: &str) -> Result<CtMatch, Problem> {
    let mut state = CtMatch::default();
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let flag = rest.get(1..4).and_then(|name| CtState::NAMES.iter().find(|(n, _)| *n == name));
        match (sign, flag) {
            ('+', Some((_, flag))) => state.set = state.set.and(*flag),
            ('-', Some((_, flag))) => state.clear = state.clear.and(*flag),
            _ => return Err(format!("ct_state={text:.40} is not known")),
        }
        rest = &rest[4..];
    }
    Ok(state)
}

/// Splits at the commas outside parentheses.
fn split(text: &str) -> Result<Vec<&str>, Problem> {
    let (mut items, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1).ok_or("parentheses do not match")?,
            b',' if depth == 0 => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err("parentheses do not match".to_owned());
    }
    items.push(&text[start..]);
    Ok(items)
}

fn parse_actions(text: &str) -> Result<Vec<Action>, Problem> {
    let text = text.trim();
    if text == "drop" {
        return Ok(Vec::new());
    }
    let mut actions = Vec::new();
    let mut items = split(text)?.into_iter();
    while let Some(item) = items.next() {
        actions.push(match item.strip_prefix("mod_vlan_vid:") {
            // OpenFlow 1.0's spelling of the two actions below.
            Some(id) => Action::PushVlan(decimal(id)?),
            None if item == "push_vlan:0x8100" => push_vlan(items.next())?,
            None => action(item)?,
        });
    }
    Ok(actions)
}

/// A VLAN header comes in two actions: an empty one, then its id.
fn push_vlan(next: Option<&str>) -> Result<Action, Problem> {
    let id = next.and_then(|next| next.strip_prefix("set_field:")?.strip_suffix("->vlan_vid"));
    let id: u16 = number(id.ok_or("push_vlan without an id")?)?;
    Ok(Action::PushVlan(id & 0x0fff))
}

fn action(text: &str) -> Result<Action, Problem> {
    let unknown = || format!("the action {text:.80?} is not known");
    match text {
        "NORMAL" | "normal" => return Ok(Action::Normal),
        "LOCAL" => return Ok(Action::Output(OfPort::Local)),
        "pop_vlan" | "strip_vlan" => return Ok(Action::PopVlan),
        _ => {}
    }
    if let Some(number) = text.strip_prefix("output:") {
        return Ok(Action::Output(port(number)?));
    }
    if let Some(rest) = text.strip_prefix("load:").or_else(|| text.strip_prefix("set_field:")) {
        let (value, field) = rest.split_once("->").ok_or_else(unknown)?;
        let register = match field.strip_prefix("NXM_NX_REG") {
            Some(register) => register.strip_suffix("[]"),
            None => field.strip_prefix("reg"),
        };
        let register = register.and_then(|r| r.parse().ok()).filter(|r| *r <= 15).ok_or_else(unknown)?;
        return Ok(Action::Load(register, number(value)?));
    }
    let (name, inner) = text.strip_suffix(')').and_then(|t| t.split_once('(')).ok_or_else(unknown)?;
    match name {
        "resubmit" => {
            let table = inner.strip_prefix(',').ok_or_else(unknown)?;
            Ok(Action::Resubmit(decimal(table)?))
        }
        "conjunction" => {
            let (id, dimension) = inner.split_once(',').ok_or_else(unknown)?;
            let dimension = match dimension {
                "1/2" => 1,
                "2/2" => 2,
                _ => return Err(unknown()),
            };
            Ok(Action::Conjunction { id: number(id)?, dimension })
        }
        "ct" => track(inner).ok_or_else(unknown),
        _ => Err(unknown()),
    }
}

fn track(inner: &str) -> Option<Action> {
    let (mut commit, mut next, mut zone, mut mark) = (false, None, None, None);
    for item in split(inner).ok()? {
        match item.split_once('=') {
            None if item == "commit" => commit = true,
            Some(("table", table)) => next = Some(table.parse().ok()?),
            Some(("zone", text)) => zone = Some(parse_zone(text)?),
            _ => mark = Some(exec_mark(item.strip_prefix("exec(")?.strip_suffix(')')?)?),
        }
    }
    match (commit, next, mark) {
        (false, Some(next), None) => Some(Action::Track { zone: zone?, next }),
        (true, None, Some(mark)) => Some(Action::Commit { zone: zone?, mark }),
        _ => None,
    }
}

fn parse_zone(text: &str) -> Option<Zone> {
    match text.parse() {
        Ok(number) => Some(Zone::Is(number)),
        Err(_) => (text == Zone::InRegister.to_string()).then_some(Zone::InRegister),
    }
}

/// The mark, as `load` or as `set_field` prints it.
fn exec_mark(text: &str) -> Option<u32> {
    if let Some(value) = text.strip_prefix("load:").and_then(|t| t.strip_suffix("->NXM_NX_CT_MARK[8..31]")) {
        let value: u32 = number(value).ok()?;
        return (value <= MARK_MASK >> 8).then_some(value << 8);
    }
    let (value, mask) = text.strip_prefix("set_field:")?.strip_suffix("->ct_mark")?.split_once('/')?;
    let (value, mask): (u32, u32) = (number(value).ok()?, number(mask).ok()?);
    (mask == MARK_MASK && value & !MARK_MASK == 0).then_some(value)
}
