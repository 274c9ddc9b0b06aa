use super::*;
use crate::iptables::fixtures::{self, host, rule, tcp};
use crate::iptables::{Epoch, compile, parse_save, plan};
use crate::model::{Action, Direction, Family, Policy, ProviderRule, Remote};

/// What the plugin would answer after `desired` was loaded.
fn dump(desired: &Ruleset) -> String {
    let mut out = "# drawbridge bridge-nf-call=1\n# drawbridge boundary=stands\n".to_owned();
    for table in Table::ALL {
        let _ = writeln!(out, "*{}", table.name());
        for chain in desired.chains(table).keys() {
            let _ = writeln!(out, ":{chain} - [0:0]");
        }
        if let Some(hook) = compile::hook(table).unwrap() {
            let _ = writeln!(out, "-I {} 1 {hook}", table.hook());
        }
        for (chain, rules) in desired.chains(table) {
            for rule in rules {
                let _ = writeln!(out, "-A {chain} {rule}");
            }
        }
        out.push_str("COMMIT\n");
    }
    out
}

fn standing(policy: &Policy, guests: u32) -> Observed {
    let desired = compile(&host(policy, guests), Family::Ipv4, Epoch::seeded(41)).unwrap();
    parse_save(&dump(&desired)).unwrap()
}

fn change(policy: &Policy, guests: u32, observed: &Observed) -> Plan {
    plan(&host(policy, guests), Family::Ipv4, observed, 9).unwrap()
}

#[test]
fn nothing_changed_writes_nothing() {
    let policy = fixtures::policy();
    assert_eq!(change(&policy, 20, &standing(&policy, 20)), Plan::default());
}

#[test]
fn a_host_we_were_never_on_and_have_nothing_for_is_left_alone() {
    let bare = parse_save(
        "# drawbridge bridge-nf-call=0\n# drawbridge boundary=missing\n*raw\nCOMMIT\n*filter\nCOMMIT\n",
    )
    .unwrap();
    assert_eq!(change(&fixtures::policy(), 0, &bare), Plan::default());
    assert!(change(&fixtures::policy(), 1, &bare).input.is_some());
}

#[test]
fn the_frame_stays_when_the_last_port_goes() {
    let policy = fixtures::policy();
    let plan = change(&policy, 0, &standing(&policy, 3));
    let input = plan.input.unwrap();
    assert!(!input.contains("-D FORWARD"), "{input}");
    assert!(!input.contains("-X dwb-forward"));
    assert!(input.contains("-X dwb-o-vif1.0"));
}

#[test]
fn one_rule_more_is_one_line_and_no_new_epoch() {
    let mut policy = fixtures::policy();
    let observed = standing(&policy, 20);
    let more = rule("https", Direction::Ingress, Family::Ipv4, tcp(443), Remote::Any);
    policy.groups.get_mut(&"web".parse().unwrap()).unwrap().rules.push(more);
    let plan = change(&policy, 20, &observed);
    assert_eq!(plan.changes.len(), 1, "{:?}", plan.changes);
    let input = plan.input.unwrap();
    assert!(input.len() < 100, "{input}");
}

#[test]
fn one_rule_less_raises_the_epoch() {
    let mut policy = fixtures::policy();
    let observed = standing(&policy, 20);
    policy.groups.get_mut(&"web".parse().unwrap()).unwrap().rules.retain(|r| r.id.as_str() != "http-ipv4");
    let plan = change(&policy, 20, &observed);
    let input = plan.input.unwrap();
    let next = Epoch::seeded(41).next().mark().to_string();
    assert_eq!(input.matches(&next).count(), 3, "{input}");
    assert_eq!(plan.changes.len(), 1 + 6, "{:?}", plan.changes);
}

#[test]
fn provider_rules_in_another_order_raise_the_epoch() {
    let mut policy = fixtures::policy();
    let allow = rule("smtp", Direction::Egress, Family::Ipv4, tcp(25), Remote::Any);
    policy.provider.insert(0, ProviderRule { action: Action::Allow, rule: allow });
    let observed = standing(&policy, 3);
    policy.provider.reverse();
    let input = change(&policy, 3, &observed).input.unwrap();
    assert!(input.contains(&Epoch::seeded(41).next().mark().to_string()), "{input}");
}

#[test]
fn a_port_that_becomes_ours_raises_the_epoch() {
    let policy = fixtures::policy();
    let input = change(&policy, 4, &standing(&policy, 3)).input.unwrap();
    assert!(input.contains(&Epoch::seeded(41).next().mark().to_string()), "{input}");
}

#[test]
fn drift_is_found_whatever_its_form() {
    let policy = fixtures::policy();
    let good = dump(&compile(&host(&policy, 3), Family::Ipv4, Epoch::seeded(41)).unwrap());
    for (what, bad) in [
        (
            "a foreign rule",
            good.replacen(
                "-A dwb-i-vif1.0 ",
                "-A dwb-i-vif1.0 -m limit --limit 1/sec -j ACCEPT\n-A dwb-i-vif1.0 ",
                1,
            ),
        ),
        ("a rule twice", good.replacen("-A dwb-guard", "-A dwb-guard -j ACCEPT\n-A dwb-guard", 1)),
        ("a chain too many", good.replacen("*filter\n", "*filter\n:dwb-extra - [0:0]\n", 1)),
        ("the jump not first", good.replace("-I FORWARD 1", "-I FORWARD 2")),
        ("the jump gone", good.replace("-I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-forward\n", "")),
        ("the boundary gone", good.replace("boundary=stands", "boundary=missing")),
        ("another rule before the boundary", good.replace("boundary=stands", "boundary=preceded")),
        ("the boundary's rules changed", good.replace("boundary=stands", "boundary=altered")),
        ("bridge-nf off", good.replace("bridge-nf-call=1", "bridge-nf-call=0")),
    ] {
        assert_ne!(good, bad, "{what}");
        let plan = change(&policy, 3, &parse_save(&bad).unwrap());
        assert!(plan.input.is_some() && !plan.changes.is_empty(), "{what}");
    }
    let foreign_jump = good.replacen("-I FORWARD 1", "-I INPUT 3 -j dwb-to\n-I FORWARD 1", 1);
    let plan = change(&policy, 3, &parse_save(&foreign_jump).unwrap());
    assert_eq!((plan.input, plan.complaints.len()), (None, 1));
}

/// Before version 0.2 the driver's own jump led to `dwb-raw`; now the plugin's boundary does.
#[test]
fn the_former_jump_in_raw_goes() {
    let policy = fixtures::policy();
    let good = dump(&compile(&host(&policy, 3), Family::Ipv4, Epoch::seeded(41)).unwrap());
    let former = good.replacen(
        "-A dwb-raw",
        "-I PREROUTING 1 -m addrtype ! --dst-type LOCAL -j dwb-raw\n-A dwb-raw",
        1,
    );
    let plan =
        change(&policy, 3, &parse_save(&former.replace("boundary=stands", "boundary=missing")).unwrap());
    assert_eq!(
        plan.input.as_deref(),
        Some("*raw\n-D PREROUTING -m addrtype ! --dst-type LOCAL -j dwb-raw\nCOMMIT\n")
    );
    assert_eq!((plan.changes.len(), plan.complaints.len()), (2, 0));
}

/// What guests forge is for dom0's own NAT and stateful rules to see only where dom0 does not route.
#[test]
fn a_bridge_from_which_dom0_routes_is_named() {
    let policy = fixtures::policy();
    let good = dump(&compile(&host(&policy, 3), Family::Ipv4, Epoch::seeded(41)).unwrap());
    let plan = change(&policy, 3, &parse_save(&format!("# drawbridge routes=xenbr0\n{good}")).unwrap());
    assert_eq!((plan.input, plan.complaints.len()), (None, 1));
    assert!(plan.complaints[0].starts_with("dom0 routes packets from xenbr0 "), "{:?}", plan.complaints);
}
