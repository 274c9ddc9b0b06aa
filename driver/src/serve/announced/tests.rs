use std::collections::BTreeMap;

use xenapi::Uuid;

use super::*;

fn reference<C>(name: &str) -> Ref<C> {
    Ref::new(format!("OpaqueRef:{name}"))
}

/// A VM on `one`, in the course of going to `scheduled`.
fn pool(scheduled: Option<&str>) -> Inventory {
    let vm = Vm {
        uuid: "00000000-0000-0000-0000-000000000001".parse::<Uuid<Vm>>().unwrap(),
        name_label: "web".to_owned(),
        power_state: PowerState::Running,
        resident_on: reference("one"),
        scheduled_to_be_resident_on: scheduled.map_or_else(Ref::null, reference),
        domid: Some(1),
        is_control_domain: false,
        is_a_template: false,
        is_a_snapshot: false,
        vifs: Vec::new(),
        other_config: BTreeMap::new(),
        xenstore_data: BTreeMap::new(),
    };
    Inventory { vms: [(reference("vm"), vm)].into(), ..Inventory::default() }
}

fn announced() -> Announced {
    let mut announced = Announced::default();
    announced.add(reference("vm"), reference("two"));
    announced
}

fn is_awaited(announced: &Announced) -> bool {
    announced.destinations().get(&reference("vm")) == Some(&reference("two"))
}

#[test]
fn a_guest_is_waited_for_until_it_has_come() {
    let (mut announced, now) = (announced(), Instant::now());
    for scheduled in [None, Some("two"), Some("two")] {
        announced.look(&pool(scheduled), now);
        assert!(is_awaited(&announced), "{scheduled:?}");
    }
    let mut there = pool(Some("two"));
    there.vms.get_mut(&reference("vm")).unwrap().resident_on = reference("two");
    announced.look(&there, now);
    assert!(!is_awaited(&announced));
    // It goes back without a word: nobody waits for it where it was.
    announced.look(&pool(None), now);
    assert!(!is_awaited(&announced) && announced.end().is_none());
}

#[test]
fn a_migration_that_fails_is_over() {
    let (mut announced, now) = (announced(), Instant::now());
    announced.look(&pool(Some("two")), now);
    announced.look(&pool(None), now);
    assert!(!is_awaited(&announced));
}

#[test]
fn nobody_is_waited_for_who_cannot_come_or_was_waited_for_too_long() {
    let now = Instant::now();
    let mut halted = pool(None);
    halted.vms.get_mut(&reference("vm")).unwrap().power_state = PowerState::Halted;
    let cases = [(halted, now), (Inventory::default(), now), (pool(None), now + PATIENCE * 2)];
    for (inventory, now) in cases {
        let mut announced = announced();
        announced.look(&inventory, now);
        assert!(!is_awaited(&announced));
    }
    let mut other = announced();
    other.remove(&reference("vm"));
    assert!(!is_awaited(&other) && other.number == 2);
}
