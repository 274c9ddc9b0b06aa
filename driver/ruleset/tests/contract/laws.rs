//! Laws of compile, render, parse and diff.

use proptest::prelude::*;
use ruleset::iptables::{Epoch, ObservedRule, Table, compile, parse_save, plan};
use ruleset::model::Family;
use ruleset::resolve::HostPolicy;

use crate::agree::carry_out;
use crate::generate::{Random, World};
use crate::tables::Tables;

/// Whether the chains that stand are those compiled, in the epoch that stands.
fn stands(tables: &Tables, host: &HostPolicy, family: Family) {
    let observed = parse_save(&tables.save()).unwrap();
    let compiled = compile(host, family, observed.epoch().unwrap()).unwrap();
    for table in Table::ALL {
        let wanted: Vec<_> = compiled
            .chains(table)
            .iter()
            .map(|(chain, rules)| (chain, rules.iter().cloned().map(ObservedRule::Known).collect::<Vec<_>>()))
            .collect();
        let found: Vec<_> =
            observed.table(table).chains.iter().map(|(chain, rules)| (chain, rules.clone())).collect();
        assert_eq!(found, wanted);
        // In raw the plugin's boundary leads to ours.
        let positions: Vec<u32> = observed.table(table).hooks.iter().map(|hook| hook.position).collect();
        assert_eq!(positions, if table == Table::Filter { vec![1] } else { vec![] });
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(feature = "soak") { 4_000 } else { 150 },
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn applying_the_difference_gives_the_other(seed: u64) {
        let mut r = Random(seed);
        let (a, b) = (World::random(&mut r).host(), World::random(&mut r).host());
        for family in Family::ALL {
            let mut tables = Tables::new();
            let foreign = tables.clone();
            for host in [&a, &b, &a] {
                carry_out(&mut tables, host, family);
                if plan(host, family, &parse_save(&foreign.save()).unwrap(), 1).unwrap().input.is_some() {
                    stands(&tables, host, family);
                }
                // A second time there is nothing to do.
                let again = plan(host, family, &parse_save(&tables.save()).unwrap(), 78).unwrap();
                prop_assert_eq!(again.input, None, "seed {:#x}", seed);
                prop_assert_eq!(tables.foreign(), foreign.foreign(), "seed {:#x}", seed);
            }
        }
    }

    #[test]
    fn what_is_rendered_reads_back(seed: u64) {
        let host = World::random(&mut Random(seed)).host();
        for family in Family::ALL {
            let ruleset = compile(&host, family, Epoch::seeded(seed)).unwrap();
            for rule in Table::ALL.iter().flat_map(|t| ruleset.chains(*t).values()).flatten() {
                let dump = format!(
                    "# drawbridge bridge-nf-call=1\n# drawbridge boundary=stands\n*raw\nCOMMIT\n*filter\n:dwb-x - [0:0]\n-A dwb-x {rule}\nCOMMIT\n"
                );
                let read = parse_save(&dump).unwrap().filter.chains.into_values().next().unwrap();
                prop_assert_eq!(read, vec![ObservedRule::Known(rule.clone())]);
            }
        }
    }

    #[test]
    fn the_order_in_which_things_are_told_does_not_matter(seed: u64) {
        let mut r = Random(seed);
        let world = World::random(&mut r);
        let mut shuffled = world.clone();
        for group in shuffled.policy.groups.values_mut() {
            r.shuffle(&mut group.rules);
        }
        for set in shuffled.policy.sets.values_mut() {
            r.shuffle(set);
        }
        r.shuffle(&mut shuffled.attachments);
        r.shuffle(&mut shuffled.elsewhere);
        for attachment in &mut shuffled.attachments {
            r.shuffle(&mut attachment.port.groups);
            r.shuffle(&mut attachment.port.pairs);
            r.shuffle(&mut attachment.port.addresses);
        }
        for family in Family::ALL {
            let compiled = |w: &World| compile(&w.host(), family, Epoch::seeded(1)).unwrap();
            prop_assert_eq!(compiled(&world), compiled(&shuffled), "seed {:#x}", seed);
        }
    }

    #[test]
    fn a_rule_more_never_raises_the_epoch(seed: u64) {
        let mut r = Random(seed);
        let mut world = World::random(&mut r);
        let Some(family) = (!world.attachments.is_empty()).then(|| r.pick(&Family::ALL)) else { return Ok(()) };
        let mut tables = Tables::new();
        carry_out(&mut tables, &world.host(), family);
        let before = parse_save(&tables.save()).unwrap().epoch();
        for _ in 0..3 {
            world.add_rule(&mut r);
            carry_out(&mut tables, &world.host(), family);
        }
        prop_assert_eq!(parse_save(&tables.save()).unwrap().epoch(), before, "seed {:#x}", seed);
    }
}
