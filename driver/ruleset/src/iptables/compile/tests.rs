use std::fmt::Write as _;

use super::*;
use crate::iptables::fixtures::{self, host};
use crate::model::Policy;

fn text(ruleset: &Ruleset) -> String {
    let mut out = String::new();
    for table in Table::ALL {
        let _ = writeln!(out, "*{}", table.name());
        for (chain, rules) in ruleset.chains(table) {
            let _ = writeln!(out, ":{chain}");
            for rule in rules {
                let _ = writeln!(out, "-A {chain} {rule}");
            }
        }
    }
    out
}

fn compiled(policy: &Policy, guests: u32, family: Family) -> Ruleset {
    compile(&host(policy, guests), family, Epoch::seeded(0)).unwrap()
}

#[test]
fn golden_ipv4() {
    insta::assert_snapshot!(text(&compiled(&fixtures::policy(), 2, Family::Ipv4)));
}

#[test]
fn golden_ipv6() {
    insta::assert_snapshot!(text(&compiled(&fixtures::policy(), 2, Family::Ipv6)));
}

#[test]
fn golden_guarded_with_an_open_port() {
    let mut host = host(&fixtures::policy(), 2);
    host.attachments[1].port.security = PortSecurity::Off;
    host.guarded.insert("xapi1".parse().unwrap());
    insta::assert_snapshot!(text(&compile(&host, Family::Ipv4, Epoch::seeded(0)).unwrap()));
}

#[test]
fn equal_input_gives_equal_bytes_whatever_the_order() {
    let policy = fixtures::policy();
    let mut shuffled = host(&policy, 20);
    shuffled.attachments.reverse();
    for group in shuffled.groups.values_mut() {
        group.rules.reverse();
    }
    for family in Family::ALL {
        let a = compile(&host(&policy, 20), family, Epoch::seeded(0)).unwrap();
        let b = compile(&shuffled, family, Epoch::seeded(0)).unwrap();
        assert_eq!(text(&a), text(&b));
    }
}

#[test]
fn every_chain_of_a_port_ends_in_the_default_verdict() {
    let ruleset = compiled(&fixtures::policy(), 20, Family::Ipv6);
    let of_ports = ruleset
        .filter
        .iter()
        .filter(|(c, _)| ["dwb-o-", "dwb-i-", "dwb-s-", "dwb-n-"].iter().any(|p| c.as_str().starts_with(p)));
    let mut count = 0;
    for (chain, rules) in of_ports {
        assert_eq!(rules.last(), Some(&Rule::always(DEFAULT_VERDICT)), "{chain}");
        count += 1;
    }
    assert_eq!(count, 20 * 4);
}

#[test]
fn every_chain_led_to_exists() {
    for family in Family::ALL {
        let ruleset = compiled(&fixtures::policy(), 40, family);
        for (chain, rules) in &ruleset.filter {
            for target in rules.iter().filter_map(|r| r.target.chain()) {
                assert!(ruleset.filter.contains_key(target), "{chain} leads to {target}");
            }
        }
    }
}
