use std::fmt::Write as _;

use super::super::fixtures::{bridge, host, switch};
use super::super::parse_dump_flows;
use super::*;

/// What `dump-flows` says once `plan` was carried out on an empty bridge.
fn standing(plan: &FlowPlan) -> Observed {
    let mut dump = "OFPST_FLOW reply (OF1.4) (xid=0x2):\n".to_owned();
    for line in plan.bundle().lines() {
        let _ = writeln!(dump, " {}", line.strip_prefix("add ").unwrap().replace(",actions=", " actions="));
    }
    parse_dump_flows(&dump).unwrap()
}

fn planned(observed: &Observed, change: impl FnOnce(&mut HostPolicy)) -> FlowPlan {
    let mut host = host();
    change(&mut host);
    plan(&host, &switch(), &bridge(), observed, 7).unwrap()
}

#[test]
fn nothing_changed_nothing_written() {
    let cold = planned(&Observed::default(), |_| {});
    assert!(cold.changes.iter().all(|change| matches!(change, Change::Add(_))));
    let observed = standing(&cold);
    assert!(planned(&observed, |_| {}).is_empty());
    assert_eq!(observed.epoch(), Some(Epoch::seeded(7)));
}

#[test]
fn a_rule_that_goes_raises_the_epoch_and_one_that_comes_does_not() {
    let observed = standing(&planned(&Observed::default(), |_| {}));
    let rules = |host: &mut HostPolicy| host.groups.values_mut().next().map(|g| std::mem::take(&mut g.rules));
    let narrowed = planned(&observed, |host| drop(rules(host)));
    let new_epoch = format!("load:{:#x}->NXM_NX_CT_MARK[8..31]", Epoch::seeded(7).next().mark().value() >> 8);
    assert!(narrowed.bundle().contains(&new_epoch), "{}", narrowed.bundle());

    let without = standing(&planned(&Observed::default(), |host| drop(rules(host))));
    let widened = planned(&without, |_| {});
    assert!(!widened.is_empty() && !widened.bundle().contains("CT_MARK"), "{}", widened.bundle());
}

#[test]
fn a_port_that_becomes_filtered_and_a_denial_that_comes_raise_the_epoch() {
    let raises = |before: fn(&mut HostPolicy)| {
        let observed = standing(&planned(&Observed::default(), before));
        planned(&observed, |_| {}).bundle().contains("CT_MARK")
    };
    assert!(raises(|host| host.attachments[0].port.security = crate::model::PortSecurity::Off));
    assert!(raises(|host| host.provider.clear()));
    assert!(!raises(|_| {}));
}

/// In another layout the same number is another table's: of such flows nothing stays for a moment behind the hooks.
#[test]
fn from_another_layout_all_goes_before_the_hooks_change_and_all_comes_after() {
    let mut observed = standing(&planned(&Observed::default(), |_| {}));
    observed.flows.iter_mut().for_each(|observed| observed.cookie = COOKIE | 1);
    let relaid = planned(&observed, |_| {});
    assert!(relaid.relaid && relaid.bundle().contains(&format!("cookie={FLOW_COOKIE:#x}")));
    let text = relaid.ordered();
    let lines: Vec<&str> = text.lines().collect();
    let hooks = |line: &&str| line.contains(",table=0,");
    let (first, last) = (lines.iter().position(hooks).unwrap(), lines.iter().rposition(hooks).unwrap());
    assert!(lines[..first].iter().all(|line| line.starts_with("delete_strict ")), "{text}");
    assert!(lines[last + 1..].iter().all(|line| line.starts_with("add ")), "{text}");
    let behind = observed.flows.iter().filter(|old| old.flow.key.table != table::HOOK).count();
    assert_eq!((first, lines.len() - last - 1), (behind, behind));
    // Connections are judged anew.
    let next = format!("load:{:#x}->NXM_NX_CT_MARK[8..31]", Epoch::seeded(7).next().mark().value() >> 8);
    assert!(text.contains(&next), "{text}");

    // What dom0 writes at boot is no layout.
    let mut closed = observed.clone();
    closed.flows.retain(|old| old.flow.key.table == table::HOOK);
    assert!(!planned(&closed, |_| {}).relaid);
}

#[test]
fn flows_of_an_older_layout_are_replaced_and_all_goes_when_nothing_is_left_to_do() {
    let mut observed = standing(&planned(&Observed::default(), |_| {}));
    observed.flows[0].cookie = COOKIE | 0xff;
    assert!(matches!(planned(&observed, |_| {}).changes.as_slice(), [Change::Replace { .. }]));
    let count = observed.flows.len();
    let emptied = planned(&observed, |host| *host = HostPolicy::default());
    assert_eq!(emptied.changes.len(), count);
    let text = emptied.ordered();
    // The hooks go when nothing passes by our flows any more.
    let first_hook = text.lines().position(|line| line.contains(",table=0,")).unwrap();
    let last_pass = text.lines().filter(|line| line.contains(",table=60,") && line.contains("reg6")).count();
    let closed_before = text.lines().take(first_hook).filter(|line| line.contains(",table=60,")).count();
    assert!(last_pass > 0 && closed_before >= last_pass, "{text}");
    let comes = |line: &&str| !line.starts_with("delete_strict cookie=0x44574272");
    assert!(text.lines().filter(comes).all(|line| line.ends_with(",actions=drop")), "{text}");
}

#[test]
fn a_trial_reads_all_that_comes_where_no_packet_does() {
    let cold = planned(&Observed::default(), |_| {});
    let text = cold.trial().unwrap();
    let adds: Vec<&str> = text.lines().collect();
    assert_eq!(adds.len(), cold.changes.len());
    assert!(adds.iter().all(|line| line.starts_with("add ") && line.contains(",table=99,")), "{text}");
    assert_eq!(FlowPlan::end_of_trial(), "delete cookie=0x4457427200000000/0xffffffff00000000,table=99\n");
    assert!(!cold.bundle().contains("resubmit(,99)"));
    let places: BTreeSet<&str> = adds.iter().filter_map(|line| line.split(",actions=").next()).collect();
    assert_eq!(places.len(), adds.len(), "none replaces another");
    assert!(text.contains("CT_MARK[8..31]") && text.contains("tp_dst=22"), "{text}");
    let going = planned(&standing(&cold), |host| *host = HostPolicy::default());
    assert_eq!(going.trial(), None);
}

#[test]
fn between_two_lists_of_copies_those_of_both_are_sent() {
    let output = |n| Action::Output(super::super::OfPort::Number(n));
    let old = [output(1), output(2), Action::PushVlan(5), output(9)];
    let grown = [output(1), output(2), output(3), Action::PushVlan(5), output(9), output(10)];
    assert_eq!(common(&old, &grown), old);
    assert_eq!(common(&grown, &old), old);
    // Under another header it is another copy.
    assert_eq!(common(&old, &[output(2), Action::PushVlan(6), output(9)]), [output(2)]);
    assert_eq!(common(&old, &[output(9)]), []);
    let receive = |to| [Action::Load(table::TO, to), Action::Resubmit(table::INGRESS)];
    assert_eq!(common(&[receive(1), receive(2)].concat(), &[receive(2), receive(3)].concat()), receive(2));
}
