use super::super::fixture::{self, reference};
use super::*;

/// A VM on `one`, in the course of going to `scheduled`.
fn pool(scheduled: Option<&str>) -> Inventory {
    fixture::pool("one", scheduled, 1)
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
