//! Flows: what the plugin lets through decides about guests and goes no circles; what the driver reads it has understood.

use std::collections::BTreeSet;

use dom0_plugin::authorise::{Bridge, Input, Role, check_against};
use drawbridge_wire::flow;
use ruleset::ovs::parse_dump_flows;

/// The bridge of these laws: a card, dom0's own on the untagged network and on VLAN 100, two guests.
pub(super) fn bridge() -> Bridge {
    let ports = [
        (1, Role::Wire { trunk: true }),
        (2, Role::Own(Some(0x0200_0000_0002))),
        (3, Role::Guest),
        (4, Role::Guest),
        (0xfffe, Role::Own(Some(0x0200_0000_0001))),
    ];
    Bridge { ports: ports.into(), vlans: [100].into(), access: [(2, 100), (4, 100)].into() }
}

const GUESTS: [&str; 2] = ["in_port=3", "in_port=4"];
const OTHERS: [&str; 3] = ["in_port=1", "in_port=2", "in_port=LOCAL"];
const DOM0S: [&str; 2] = ["dl_dst=02:00:00:00:00:01", "dl_dst=02:00:00:00:00:02"];

/// What stands (a dump), a line `---`, and an input of `add-flows`; in a bundle, if the input starts with a comment.
pub fn flow_guard(data: &[u8]) -> bool {
    let Some(text) = super::text(data) else { return false };
    let (standing, input) = text.split_once("---\n").unwrap_or(("", text));
    let bundle = input.starts_with('#');
    if check_against(&bridge(), standing, Input::added(input.as_bytes(), bundle)).is_err() {
        return false;
    }
    for line in input.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let flow = line.rsplit(' ').next().unwrap_or_default();
        let (key, actions) = flow.split_once(",actions=").unwrap_or((flow, ""));
        let fields: Vec<&str> = key.split(',').collect();
        let value = |name: &str| fields.iter().find_map(|field| field.strip_prefix(name));
        let cookie = value("cookie=0x").and_then(|cookie| cookie.split('/').next()).unwrap_or_default();
        let cookie = u64::from_str_radix(cookie, 16).unwrap_or_default();
        assert_eq!(cookie & flow::COOKIE_MASK, flow::COOKIE, "somebody else's: {line}");
        if line.starts_with("delete") {
            continue;
        }
        let table: u64 = value("table=").and_then(|table| table.parse().ok()).unwrap_or(255);
        let words: Vec<&str> = actions.split([',', '(', ')']).filter(|word| !word.is_empty()).collect();
        headers(line, &fields, &words);
        if table != u64::from(flow::TRIAL) {
            ways(line, table, actions, &words);
            ports(line, table, &fields, actions);
        }
    }
    true
}

/// Headers come off where they are, and go on where they belong.
fn headers(line: &str, fields: &[&str], words: &[&str]) {
    let pops = words.iter().filter(|word| ["pop_vlan", "strip_vlan"].contains(word)).count();
    let tagged = fields.iter().any(|field| field.starts_with("dl_vlan="));
    assert!(pops == 0 || pops == 1 && tagged, "ovs-save could not restore {line}");
    let set = words.iter().filter_map(|word| word.strip_prefix("set_field:"));
    assert!(set.clone().all(|id| id == "4196->vlan_vid"), "another VLAN: {line}");
    assert!(!actions_of(words, "mod_vlan_vid").any(|_| true) && set.count() <= 1, "another VLAN: {line}");
}

fn actions_of<'a>(words: &'a [&'a str], name: &'a str) -> impl Iterator<Item = &'a str> {
    words.iter().copied().filter(move |word| word.starts_with(name))
}

/// Upwards, and never in dom0's zone.
fn ways(line: &str, table: u64, actions: &str, words: &[&str]) {
    let mut next = actions.split("resubmit(,").skip(1).chain(actions.split("table=").skip(1));
    let up = |text: &str| {
        let number = text.split([',', ')']).next().and_then(|number| number.parse::<u64>().ok());
        number.is_some_and(|next| next > table && next < u64::from(flow::GUARDED))
    };
    assert!(next.all(up), "a circle, or a way to nowhere: {line}");
    let tracks = words.iter().filter(|word| **word == "ct").count();
    let zones = words.iter().filter_map(|word| word.strip_prefix("zone=")?.parse::<u16>().ok());
    assert_eq!(zones.filter(|zone| *zone != 0).count(), tracks, "a zone that is dom0's, or may be: {line}");
    assert!(tracks <= 1, "forks: {line}");
    let copies: Vec<&str> = words.iter().copied().filter(|word| is_copy(word)).collect();
    assert_eq!(copies.iter().collect::<BTreeSet<_>>().len(), copies.len(), "twice to one port: {line}");
}

fn is_copy(word: &str) -> bool {
    word == "LOCAL" || word.starts_with("output:")
}

/// Of what is no guest's, nothing is dropped, diverted or overheard.
fn ports(line: &str, table: u64, fields: &[&str], actions: &str) {
    let any = |names: &[&str]| fields.iter().any(|field| names.contains(field));
    let copies: Vec<&str> = actions.split(',').filter(|word| is_copy(word)).collect();
    if table == 0 {
        assert!(copies.is_empty(), "copies before anybody has judged: {line}");
        assert!(!(any(&OTHERS) && actions == "drop"), "cut off: {line}");
        if actions == "drop" && !any(&GUESTS) {
            assert!(
                ["priority=45000", "priority=45050"].iter().any(|it| fields.contains(it)),
                "cut off: {line}"
            );
        }
    }
    if any(&DOM0S) && actions != "drop" {
        let its = |copy: &&str| ["LOCAL", "output:2"].contains(copy);
        assert!(
            ["NORMAL", "normal"].contains(&actions) || !copies.is_empty() && copies.iter().all(its),
            "{line}"
        );
    }
    if table == 81 {
        assert!(copies.iter().all(|copy| ["output:3", "output:4"].contains(copy)), "to no guest: {line}");
    }
}

/// What `dump-flows` printed, as the driver reads it.
pub fn flow_parser(data: &[u8]) -> bool {
    let Some(text) = super::text(data) else { return false };
    let Ok(read) = parse_dump_flows(text) else { return false };
    let mut again = "OFPST_FLOW reply (OF1.4) (xid=0x2):\n".to_owned();
    for observed in &read.flows {
        let cookie = observed.cookie;
        again += &format!(
            " cookie={cookie:#x}, {}\n",
            observed.flow.to_string().replace(",actions=", " actions=")
        );
    }
    assert_eq!(parse_dump_flows(&again).as_ref(), Ok(&read), "read otherwise when written again:\n{again}");
    true
}
