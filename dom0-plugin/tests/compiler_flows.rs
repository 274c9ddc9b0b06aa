//! Everything the flow compiler says, the guard accepts: for random policies and edits of them, with the switch that the flows
//! were compiled for, whatever stands there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../driver/ruleset/tests/contract/generate/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the compilers' own tests, which use all of it")]
mod generate;
#[path = "../../driver/ruleset/tests/flows/switch.rs"]
mod switch;

use dom0_plugin::authorise::{Bridge, Input, Role, check_against};
use generate::{Random, World};
use proptest::prelude::*;
use ruleset::ids::Mac;
use ruleset::ovs::{
    FLOW_COOKIE, FlowPlan, HOOK_PRIORITIES, OfPort, OvsHost, PortKind, SwitchPort, plan, table,
};
use switch::{Model, parent};

/// The switch as the plugin sees it.
fn bridge(switch: &OvsHost) -> Bridge {
    let ports = switch.ports[&parent()].iter().map(|port| {
        let number = match port.ofport {
            OfPort::Number(number) => number,
            OfPort::Local => 0xfffe,
        };
        let role = match &port.kind {
            PortKind::Guest { .. } => Role::Guest,
            PortKind::Internal { mac } => Role::Own(mac.map(number_of)),
            PortKind::Wire { .. } => Role::Wire { trunk: port.tag.is_none() },
        };
        (number, role)
    });
    let vlans = switch.networks_of(&parent()).filter_map(|(_, tag)| tag).collect();
    let access = switch.ports[&parent()].iter().filter_map(|port| {
        let number = match port.ofport {
            OfPort::Number(number) => number,
            OfPort::Local => 0xfffe,
        };
        Some((number, port.tag?))
    });
    Bridge { ports: ports.collect(), vlans, access: access.collect() }
}

fn number_of(mac: Mac) -> u64 {
    mac.0.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A plan, in all the ways in which it is written.
fn accepted(bridge: &Bridge, standing: &Model, plan: &FlowPlan) -> Result<(), String> {
    let trial = plan.trial().unwrap_or_else(|| "\n".to_owned());
    let ways =
        [(plan.bundle(), true), (plan.ordered(), false), (trial, false), (FlowPlan::end_of_trial(), false)];
    for (mut text, bundle) in ways {
        if text.is_empty() {
            text.push('\n');
        }
        check_against(bridge, &standing.dump(), Input::added(text.as_bytes(), bundle))
            .map_err(|refusal| format!("{refusal:?}, bundle: {bundle}\n{text}"))?;
    }
    Ok(())
}

fn one(seed: u64) -> Result<(), String> {
    let mut r = Random(seed);
    let mut world = World::random(&mut r);
    let mut ports = switch::switch(&mut r, &world.host());
    if r.percent(20) {
        let wires = ports.ports.values_mut().flatten();
        wires.filter(|port| port.name == "eth0").for_each(|port| port.kind = PortKind::Wire { bonded: true });
    }
    if r.percent(20) {
        // On a VLAN that is no network of XAPI's.
        let (name, kind) = ("vlan7".to_owned(), PortKind::Internal { mac: None });
        let port = SwitchPort { name, ofport: OfPort::Number(900), tag: Some(7), kind };
        ports.ports.values_mut().for_each(|ports| ports.push(port.clone()));
    }
    let bridge = bridge(&ports);
    let mut standing = Model::default();
    for _ in 0..4 {
        // A port whose network is gone has no flows, and the driver leaves it out.
        let Ok(change) = plan(&world.host(), &ports, &parent(), &standing.observed(), 77) else { break };
        accepted(&bridge, &standing, &change)?;
        standing.apply(&change.bundle());
        world.edit(&mut r);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_the_flow_compiler_says_is_accepted(seed: u64) {
        let result = one(seed);
        prop_assert!(result.is_ok(), "seed {seed:#x}\n{}", result.unwrap_err());
    }
}

/// The upgrade from the first layout, whose flows are of a form that is no longer accepted.
#[test]
fn what_stands_of_the_first_layout_may_go() {
    let text = include_str!("../../driver/ruleset/tests/flows/layout-1/10.flows");
    let mut r = Random(10);
    let world = World::random(&mut r);
    let ports = switch::switch(&mut r, &world.host());
    let mut standing = Model::default();
    standing.apply(text);
    let change = plan(&world.host(), &ports, &parent(), &standing.observed(), 77).unwrap();
    assert!(change.relaid);
    accepted(&bridge(&ports), &standing, &change).unwrap();
    let old = check_against(&bridge(&ports), "", Input::added(text.as_bytes(), true));
    assert_eq!(old.unwrap_err().code.as_str(), "DRAWBRIDGE_INPUT_REFUSED");
}

/// Both ends have these numbers of their own.
#[test]
fn what_both_ends_must_agree_on() {
    use drawbridge_wire::flow;
    assert_eq!(
        (table::GUARDED, table::LIFELINES, table::TRIAL),
        (flow::GUARDED, flow::LIFELINES, flow::TRIAL)
    );
    assert_eq!(u64::from(*HOOK_PRIORITIES.start()), *flow::HOOK_PRIORITIES.start());
    assert_eq!(u64::from(*HOOK_PRIORITIES.end()), *flow::HOOK_PRIORITIES.end());
    assert_eq!(FLOW_COOKIE & flow::COOKIE_MASK, flow::COOKIE);
}
