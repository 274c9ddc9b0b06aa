//! Changes made to what stood when the host was last read: they come to the same as reading first, and where another hand was
//! meanwhile they do nothing that was not meant.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ruleset::iptables::{Epoch, Rule, amend, compile, parse_save};
use ruleset::model::Family;
use ruleset::resolve::HostPolicy;

use crate::agree::carry_out;
use crate::generate::{Random, World};
use crate::tables::Tables;

/// A host before and after some edits, one that is loaded with the first, and its epoch.
fn edited(r: &mut Random, family: Family) -> (HostPolicy, HostPolicy, Tables, Option<Epoch>) {
    let mut world = World::random(r);
    let before = world.host();
    for _ in 0..1 + r.below(3) {
        world.edit(r);
    }
    let mut tables = Tables::new();
    carry_out(&mut tables, &before, family);
    let epoch = parse_save(&tables.save()).unwrap().epoch();
    (before, world.host(), tables, epoch)
}

fn chains(host: &HostPolicy, family: Family, epoch: Epoch) -> BTreeMap<String, Vec<String>> {
    let text = |rules: Vec<Rule>| rules.iter().map(Rule::to_string).collect();
    let filter = compile(host, family, epoch).unwrap().filter;
    filter.into_iter().map(|(chain, rules)| (chain.to_string(), text(rules))).collect()
}

/// A group's rules, a peer set's members.
fn is_unordered(chain: &str) -> bool {
    let label = chain.strip_prefix("dwb-").unwrap_or(chain);
    ["gi-", "go-", "ms-", "md-", "ks-", "kd-"].iter().any(|of| label.starts_with(of))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(feature = "soak") { 4_000 } else { 150 },
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_stood_becomes_what_should_stand(seed: u64) {
        let mut r = Random(seed);
        let family = r.pick(&Family::ALL);
        let (before, after, mut tables, Some(epoch)) = edited(&mut r, family) else { return Ok(()) };
        let mut read = tables.clone();
        carry_out(&mut read, &after, family);
        if let Some(input) = amend(&before, &after, family, epoch).unwrap().input {
            tables.restore(&input).unwrap();
        }
        prop_assert_eq!(tables.save(), read.save(), "seed {:#x}", seed);
    }

    /// Each chain that is named is as it should be, but for permissions that another hand gave or took; those are left alone.
    #[test]
    fn another_hand_does_not_change_what_is_meant(seed: u64) {
        let mut r = Random(seed);
        let family = r.pick(&Family::ALL);
        let (before, after, mut tables, Some(epoch)) = edited(&mut r, family) else { return Ok(()) };
        let Some(input) = amend(&before, &after, family, epoch).unwrap().input else { return Ok(()) };
        for _ in 0..1 + r.below(3) {
            tables.tamper(&mut r, &input);
        }
        let found = tables.clone();
        if tables.restore(&input).is_err() {
            return Ok(());
        }
        let (old, new) = (chains(&before, family, epoch), tables.filter());
        // The epoch that stands now, or the one before.
        let wanted = [epoch, epoch.next()].map(|epoch| chains(&after, family, epoch));
        let none = Vec::new();
        for (chain, rules) in new.iter().filter(|(chain, _)| chain.starts_with("dwb-")) {
            let before = found.filter().get(chain);
            if before == Some(rules) || wanted.iter().any(|wanted| wanted.get(chain) == Some(rules)) {
                continue;
            }
            prop_assert!(is_unordered(chain), "seed {seed:#x}: {chain} is now {rules:?}\n{input}");
            let (old, wanted) = (old.get(chain).unwrap_or(&none), wanted[0].get(chain).unwrap_or(&none));
            let mut expected = before.cloned().unwrap_or_default();
            for gone in old.iter().filter(|rule| !wanted.contains(rule)) {
                let at = expected.iter().position(|rule| rule == gone);
                prop_assert!(at.is_some(), "seed {seed:#x}: {gone} was taken from {chain}, where it was not");
                expected.remove(at.unwrap());
            }
            expected.extend(wanted.iter().filter(|rule| !old.contains(rule)).cloned());
            let mut rules = rules.clone();
            rules.sort();
            expected.sort();
            prop_assert_eq!(rules, expected, "seed {:#x}: {}", seed, chain);
        }
    }
}

/// Some of what is done to tampered hosts is refused as a whole, and some is not.
#[test]
fn hands_are_noticed_and_not_noticed() {
    let (mut refused, mut taken) = (0, 0);
    for seed in 0..400 {
        let mut r = Random(seed);
        let (before, after, mut tables, Some(epoch)) = edited(&mut r, Family::Ipv4) else { continue };
        let Some(input) = amend(&before, &after, Family::Ipv4, epoch).unwrap().input else { continue };
        tables.tamper(&mut r, &input);
        match tables.restore(&input) {
            Ok(()) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0 && taken > 20, "{refused} refused, {taken} taken");
}
