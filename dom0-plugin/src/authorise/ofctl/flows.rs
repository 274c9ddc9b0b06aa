//! The flows on `ovs-ofctl`'s standard input, one a line: our cookie, our tables, known matches, known actions.

use drawbridge_wire::flow;

use super::super::grammar::{hex, is_number, number};
use super::super::{lines, refuse_line};
use super::{NAME, is_ours};
use crate::authorise::refuse_argument;
use crate::{Code, Refusal, Result};

/// `ovs-ofctl` reads lines of any length; ours are short, but for a broadcast's many receivers.
const LINE_BYTES: usize = 8192;

/// Matches without a value.
const PROTOCOLS: [&str; 11] =
    ["ip", "ipv6", "arp", "icmp", "icmp6", "tcp", "tcp6", "udp", "udp6", "sctp", "sctp6"];

/// Matches with a value.
const FIELDS: [&str; 54] = [
    "dl_src",
    "dl_dst",
    "dl_type",
    "dl_vlan",
    "dl_vlan_pcp",
    "vlan_tci",
    "eth_src",
    "eth_dst",
    "eth_type",
    "nw_src",
    "nw_dst",
    "nw_proto",
    "nw_ttl",
    "nw_frag",
    "ip_src",
    "ip_dst",
    "ip_proto",
    "ip_frag",
    "tp_src",
    "tp_dst",
    "tcp_src",
    "tcp_dst",
    "tcp_flags",
    "udp_src",
    "udp_dst",
    "sctp_src",
    "sctp_dst",
    "icmp_type",
    "icmp_code",
    "icmpv6_type",
    "icmpv6_code",
    "ipv6_src",
    "ipv6_dst",
    "nd_target",
    "nd_sll",
    "nd_tll",
    "arp_op",
    "arp_spa",
    "arp_tpa",
    "arp_sha",
    "arp_tha",
    "ct_state",
    "ct_zone",
    "ct_mark",
    "ct_label",
    "ct_nw_src",
    "ct_nw_dst",
    "ct_nw_proto",
    "ct_tp_src",
    "ct_tp_dst",
    "metadata",
    "conj_id",
    "vlan_vid",
    "ipv6_label",
];

/// Ports with a meaning of their own (`OFPP_LOCAL` and the like) start here, in OpenFlow 1.0's numbers.
const RESERVED_PORTS: u64 = 0xff00;

/// The match for `dump-flows`: the caller's, and our cookie in any case.
pub(super) fn dump_filter(filter: &str) -> Result<String> {
    let refuse = |problem: &str| refuse_argument(NAME, 2, problem);
    let mut table = None;
    let mut cookie = None;
    for field in filter.split(',').filter(|_| !filter.is_empty()) {
        match field.split_once('=') {
            Some(("table", value)) if table.is_none() && is_number(value, 254) => table = Some(value),
            Some(("cookie", value)) if cookie.is_none() => {
                if !masked_cookie(value).is_some_and(|(cookie, mask)| is_ours(cookie, mask)) {
                    return Err(Refusal::new(Code::ForeignCookie)
                        .detail(1)
                        .detail("the filter reaches other cookies"));
                }
                cookie = Some(value);
            }
            _ => return Err(refuse("expected a filter of cookie= and table= only")),
        }
    }
    let ours = format!("{:#x}/{:#x}", flow::COOKIE, flow::COOKIE_MASK);
    let cookie = cookie.unwrap_or(&ours);
    Ok(table.map_or_else(|| format!("cookie={cookie}"), |table| format!("cookie={cookie},table={table}")))
}

/// Checks the input of `add-flows` (or of `del-flows`, if `deletes`).
///
/// # Errors
/// The first line that is not allowed.
pub(super) fn check(input: &[u8], deletes: bool) -> Result<()> {
    for (at, line) in lines(input, LINE_BYTES)?.enumerate() {
        let line = line?;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (deletes, rest) = change(line, deletes);
        let flow = Flow::parse(rest).map_err(|problem| refuse_line(at, problem))?;
        flow.check_cookie(deletes)
            .map_err(|problem| Refusal::new(Code::ForeignCookie).detail(at + 1).detail(problem))?;
        flow.check_place(deletes).map_err(|problem| refuse_line(at, problem))?;
        match (flow.actions, deletes) {
            (None, false) => return Err(refuse_line(at, "a flow without actions")),
            (Some(_), true) => return Err(refuse_line(at, "a deletion with actions")),
            (Some(actions), false) => {
                check_actions(actions, 0).map_err(|problem| refuse_line(at, problem))?
            }
            (None, true) => {}
        }
    }
    Ok(())
}

/// Whether a line deletes, and the flow it speaks of.
fn change(line: &str, deletes: bool) -> (bool, &str) {
    match line.split_once(' ') {
        _ if deletes => (true, line),
        Some(("add", rest)) => (false, rest),
        Some(("delete" | "delete_strict", rest)) => (true, rest),
        _ => (false, line),
    }
}

/// Whether input that was found allowed deletes something of this table.
pub(super) fn reaches(input: &[u8], deletes: bool, table: u64) -> bool {
    let lines = input.split(|&b| b == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).any(|line| {
        let (deletes, flow) = change(line, deletes);
        let named = flow.split(',').find_map(|field| field.strip_prefix("table="));
        deletes && named.is_none_or(|named| number(named) == Some(table))
    })
}

type Problem = String;

#[derive(Default)]
struct Flow<'a> {
    cookie: Option<&'a str>,
    table: Option<&'a str>,
    priority: Option<&'a str>,
    actions: Option<&'a str>,
}

impl<'a> Flow<'a> {
    /// `field,field,…,actions=…`, no white space.
    fn parse(text: &'a str) -> Result<Self, Problem> {
        if text.contains(' ') {
            return Err("a space inside a flow".to_owned());
        }
        let mut flow = Self::default();
        let (fields, actions) = match text.split_once("actions=") {
            Some((fields, actions)) => {
                let fields = fields.strip_suffix(',').ok_or("expected a comma before actions=")?;
                (fields, Some(actions))
            }
            None => (text, None),
        };
        flow.actions = actions;
        let mut seen: Vec<&str> = Vec::new();
        for field in fields.split(',') {
            let (key, value) = field.split_once('=').map_or((field, None), |(k, v)| (k, Some(v)));
            if seen.contains(&key) {
                return Err(format!("{key} stands twice"));
            }
            seen.push(key);
            match (key, value) {
                ("cookie", Some(value)) => flow.cookie = Some(value),
                ("table", Some(value)) => flow.table = Some(value),
                ("priority", Some(value)) => flow.priority = Some(value),
                ("in_port", Some("LOCAL")) => {}
                ("in_port", Some(value)) if number(value).is_some_and(|n| n < RESERVED_PORTS) => {}
                ("in_port", _) => return Err("in_port: expected a port's number, or LOCAL".to_owned()),
                (protocol, None) if PROTOCOLS.contains(&protocol) => {}
                (field, Some(value)) if FIELDS.contains(&field) || is_register(field) => {
                    if !is_match_value(value) {
                        return Err(format!("{field}: not a value"));
                    }
                }
                _ => return Err(format!("{key} is not a known match")),
            }
        }
        Ok(flow)
    }

    fn check_cookie(&self, deletes: bool) -> Result<(), Problem> {
        let Some(text) = self.cookie else { return Err("no cookie".to_owned()) };
        let ours = if deletes {
            masked_cookie(text).is_some_and(|(cookie, mask)| is_ours(cookie, mask))
        } else {
            hex(text).is_some_and(|cookie| is_ours(cookie, u64::MAX))
        };
        if ours {
            Ok(())
        } else {
            Err(format!("the cookie is not within {:#x}/{:#x}", flow::COOKIE, flow::COOKIE_MASK))
        }
    }

    /// Where an added flow may stand. A deletion reaches only our cookies, so it may name any table or none.
    fn check_place(&self, deletes: bool) -> Result<(), Problem> {
        let parse = |key, text: Option<&str>, max| match text {
            None => Ok(None),
            Some(text) => match number(text).filter(|n| *n <= max) {
                Some(number) => Ok(Some(number)),
                None => Err(format!("{key}: expected a number up to {max}")),
            },
        };
        let table = parse("table", self.table, 254)?;
        let priority = parse("priority", self.priority, 65_535)?;
        match (table, priority) {
            _ if deletes => Ok(()),
            (Some(0), Some(priority)) if flow::HOOK_PRIORITIES.contains(&priority) => Ok(()),
            (Some(0), _) => {
                Err(format!("in table 0 only the priorities {:?} are ours", flow::HOOK_PRIORITIES))
            }
            (Some(table), _) if flow::TABLES.contains(&table) => Ok(()),
            (Some(_), _) => Err(format!("only table 0 and the tables {:?} are ours", flow::TABLES)),
            (None, _) => Err("a flow must name its table".to_owned()),
        }
    }
}

/// `0x…` (every bit counts), `0x…/0x…`, or `0x…/-1`.
fn masked_cookie(text: &str) -> Option<(u64, u64)> {
    match text.split_once('/') {
        None => Some((hex(text)?, u64::MAX)),
        Some((cookie, "-1")) => Some((hex(cookie)?, u64::MAX)),
        Some((cookie, mask)) => Some((hex(cookie)?, hex(mask)?)),
    }
}

/// `reg0` to `reg15`, `xreg0` to `xreg7`.
fn is_register(name: &str) -> bool {
    name.strip_prefix("reg").is_some_and(|n| is_number(n, 15))
        || name.strip_prefix("xreg").is_some_and(|n| is_number(n, 7))
}

fn is_match_value(value: &str) -> bool {
    !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'/' | b'+' | b'-' | b'_'))
}

/// A list of actions, from a closed list. `depth`: inside how many `ct(exec(…))`.
fn check_actions(text: &str, depth: usize) -> Result<(), Problem> {
    let actions = split(text)?;
    let alone = actions.len() == 1;
    for action in actions {
        let refused = || Err(format!("{action:.60} is not an allowed action"));
        let (name, value) = match action.find([':', '(']) {
            Some(at) => (&action[..at], &action[at..]),
            None => (action, ""),
        };
        let colon = value.strip_prefix(':');
        let parentheses = value.strip_prefix('(').and_then(|v| v.strip_suffix(')'));
        let allowed = match (name, colon, parentheses) {
            ("drop", None, None) => alone && depth == 0 && value.is_empty(),
            ("set_field", Some(value), None) => is_assignment(value, depth > 0),
            ("load", Some(value), None) => is_load(value, depth > 0),
            ("move", Some(value), None) => is_move(value, depth > 0),
            _ if depth > 0 => return refused(),
            // The bridge's own interface in dom0 hears broadcasts, and what is sent to its address, as it would without us.
            ("normal" | "NORMAL" | "LOCAL" | "ct_clear" | "strip_vlan" | "pop_vlan", None, None) => {
                value.is_empty()
            }
            ("output", Some(port), None) => number(port).is_some_and(|n| n < RESERVED_PORTS),
            ("push_vlan", Some(kind), None) => matches!(kind, "0x8100" | "0x88a8"),
            ("mod_vlan_vid", Some(vid), None) => is_number(vid, 4095),
            ("goto_table", Some(table), None) => is_our_table(table),
            ("resubmit", None, Some(target)) => target.strip_prefix(',').is_some_and(is_our_table),
            ("conjunction", None, Some(inner)) => is_conjunction(inner),
            ("ct", None, Some(inner)) => {
                check_ct(inner)?;
                true
            }
            _ => false,
        };
        if !allowed {
            return refused();
        }
    }
    Ok(())
}

/// Splits at the commas outside parentheses.
fn split(text: &str) -> Result<Vec<&str>, Problem> {
    let mut items = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, b) in text.bytes().enumerate() {
        match b {
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

/// `commit`, `table=`, `zone=`, `exec(…)`: no NAT, no helpers, no force.
fn check_ct(inner: &str) -> Result<(), Problem> {
    for item in split(inner)?.into_iter().filter(|_| !inner.is_empty()) {
        let allowed = match item.split_once('=') {
            Some(("table", table)) => is_our_table(table),
            Some(("zone", zone)) => is_number(zone, 65_535) || is_subfield(zone, is_nxm_register),
            _ => match item.strip_prefix("exec(").and_then(|i| i.strip_suffix(')')) {
                Some(inner) => {
                    check_actions(inner, 1)?;
                    true
                }
                None => item == "commit",
            },
        };
        if !allowed {
            return Err(format!("ct: {item:.60} is not allowed"));
        }
    }
    Ok(())
}

fn is_our_table(text: &str) -> bool {
    number(text).is_some_and(|table| flow::TABLES.contains(&table))
}

fn is_conjunction(inner: &str) -> bool {
    let Some((id, dimension)) = inner.split_once(',') else { return false };
    let Some((k, n)) = dimension.split_once('/') else { return false };
    (is_number(id, u64::from(u32::MAX)) || hex(id).is_some_and(|id| id <= u64::from(u32::MAX)))
        && is_number(k, 64)
        && is_number(n, 64)
}

/// Fields that may be written: inside `ct(exec())` the connection's, outside our scratch space and the VLAN.
fn is_writable(field: &str, in_ct: bool) -> bool {
    match in_ct {
        true => matches!(field, "ct_mark" | "ct_label"),
        false => is_register(field) || matches!(field, "metadata" | "vlan_vid"),
    }
}

/// `value[/mask]->field`
fn is_assignment(text: &str, in_ct: bool) -> bool {
    text.split_once("->").is_some_and(|(value, field)| is_match_value(value) && is_writable(field, in_ct))
}

/// `value->NXM_NX_REG0[0..15]`
fn is_load(text: &str, in_ct: bool) -> bool {
    let Some((value, field)) = text.split_once("->") else { return false };
    (hex(value).is_some() || number(value).is_some()) && is_subfield(field, |f| is_nxm_writable(f, in_ct))
}

/// `field[]->field[]`
fn is_move(text: &str, in_ct: bool) -> bool {
    let Some((from, to)) = text.split_once("->") else { return false };
    let readable = |f: &str| {
        !f.is_empty() && f.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    is_subfield(from, readable) && is_subfield(to, |f| is_nxm_writable(f, in_ct))
}

fn is_nxm_register(name: &str) -> bool {
    name.strip_prefix("NXM_NX_REG").is_some_and(|n| is_number(n, 15))
}

fn is_nxm_writable(name: &str, in_ct: bool) -> bool {
    if in_ct { matches!(name, "NXM_NX_CT_MARK" | "NXM_NX_CT_LABEL") } else { is_nxm_register(name) }
}

/// `NAME[]`, `NAME[bit]`, `NAME[from..to]`
fn is_subfield(text: &str, name: impl Fn(&str) -> bool) -> bool {
    let Some((field, bits)) = text.strip_suffix(']').and_then(|t| t.split_once('[')) else { return false };
    let bits = match bits.split_once("..") {
        None => bits.is_empty() || is_number(bits, 127),
        Some((from, to)) => is_number(from, 127) && is_number(to, 127),
    };
    bits && name(field)
}
