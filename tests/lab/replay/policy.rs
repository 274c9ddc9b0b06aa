//! Random policies for the Lab's guests, as the policy file has them. What the ports are stays; who is in which group,
//! what groups and the operator say, changes.

use std::fmt::Write as _;

use ruleset::model::Family;

use super::random::Random;
use super::traffic::{ICMP, PORTS, address};

/// Groups that have ports, and one that has none.
const GROUPS: [&str; 5] = ["a", "b", "c", "d", "nobody"];

/// The ports' fixed part. `a` is locked; `b` has a prefix and a MAC of its own, which XAPI's locking cannot express; `c` has
/// single addresses, which it can; `open` is not filtered; `g` and `h` are on the guarded network.
const PORTS_OF_THE_LAB: [(&str, &str); 6] = [
    ("a", r#"addresses = ["10.20.0.11", "fd20::b"]"#),
    (
        "b",
        r#"addresses = ["10.20.0.12", "fd20::c"]
address_pairs = [
  { address = "10.20.0.96/28" }, { address = "fd20::60/124" },
  { mac = "00:16:3e:99:00:01", address = "10.20.0.77" }, { mac = "00:16:3e:99:00:01", address = "fd20::4d" },
]"#,
    ),
    (
        "c",
        r#"addresses = ["10.20.0.13", "fd20::d"]
address_pairs = [{ address = "10.20.0.78" }, { address = "fd20::4e" }]"#,
    ),
    ("open", "port_security = false"),
    ("g", r#"addresses = ["10.20.1.31", "fd20:1::1f"]"#),
    ("h", r#"addresses = ["10.20.1.32", "fd20:1::20"]"#),
];

/// The policy file's text.
pub(super) fn text(r: &mut Random) -> String {
    let mut text = "guarded_networks = [\"fenced\"]\n".to_owned();
    for set in ["s", "t"] {
        let members: Vec<_> = (0..r.below(6)).map(|_| prefix(r, None)).collect();
        let _ = writeln!(text, "\n[[set]]\nid = {set:?}\naddresses = {members:?}");
    }
    for _ in 0..r.below(4) {
        let action = r.pick(&["allow", "deny"]);
        let _ = writeln!(text, "\n[[provider_rule]]\naction = {action:?}\n{}", rule(r));
    }
    for group in GROUPS {
        let implicit = r.pick(&["none", "none", "egress", "default-group"]);
        let _ = writeln!(text, "\n[[group]]\nid = {group:?}\nimplicit_rules = {implicit:?}");
        for _ in 0..3 + r.below(6) {
            let _ = writeln!(text, "\n[[group.rule]]\n{}", rule(r));
        }
    }
    for (vm, fixed) in PORTS_OF_THE_LAB {
        let mut groups: Vec<_> = (0..r.below(4)).map(|_| r.pick(&GROUPS[..4])).collect();
        groups.sort_unstable();
        groups.dedup();
        let _ = writeln!(text, "\n[[port]]\nvm = {vm:?}\ndevice = 0\ngroups = {groups:?}\n{fixed}");
    }
    text
}

fn rule(r: &mut Random) -> String {
    let family = r.pick(&Family::ALL);
    let direction = r.pick(&["egress", "ingress"]);
    let mut text = format!("direction = {direction:?}\nethertype = \"{family}\"");
    match r.below(8) {
        0 => {}
        1 => {
            let numbers: &[u8] = match family {
                Family::Ipv4 => &[1, 2, 6, 17, 47, 50, 51, 112, 132, 136, 253],
                Family::Ipv6 => &[6, 17, 47, 50, 58, 59, 112, 132, 136, 253],
            };
            let _ = write!(text, "\nprotocol = {}", r.pick(numbers));
        }
        2 | 3 => {
            let _ = write!(text, "\nprotocol = \"icmp\"\nicmp_type = {}", r.pick(&ICMP));
            if r.percent(40) {
                let _ = write!(text, "\nicmp_code = {}", r.below(3));
            }
        }
        _ => {
            let (one, other) = (r.pick(&PORTS), r.pick(&PORTS));
            let other = if r.percent(60) { one } else { other };
            let protocol = r.pick(&["tcp", "tcp", "udp", "udp", "dccp", "sctp", "udplite"]);
            let range = (one.min(other), one.max(other));
            let _ = write!(text, "\nprotocol = {protocol:?}\nports = \"{}-{}\"", range.0, range.1);
        }
    }
    match r.below(6) {
        0 | 1 => {}
        2 => {
            let _ = write!(text, "\nremote_cidr = {:?}", prefix(r, Some(family)));
        }
        3 | 4 => {
            let _ = write!(text, "\nremote_group = {:?}", r.pick(&GROUPS));
        }
        _ => {
            let _ = write!(text, "\nremote_set = {:?}", r.pick(&["s", "t"]));
        }
    }
    text
}

/// One that packets of the Lab may fall into.
fn prefix(r: &mut Random, family: Option<Family>) -> String {
    let family = family.unwrap_or_else(|| r.pick(&Family::ALL));
    let length = match family {
        Family::Ipv4 => r.pick(&[0, 16, 24, 25, 28, 30, 31, 32, 32, 32]),
        Family::Ipv6 => r.pick(&[0, 10, 16, 64, 121, 124, 127, 128, 128, 128]),
    };
    format!("{}/{length}", address(r, family))
}
