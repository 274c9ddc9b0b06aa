use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn claim(turn: u64, instance: &str, store: &str, generation: u64) -> Claim {
    Claim { turn, instance: instance.to_owned(), store: store.to_owned(), generation }
}

fn is_active(found: Option<&Claim>, insisted: bool, claimed: bool) -> bool {
    duty(found, &claim(100, "me", "s", 7), true, insisted, claimed).is_active()
}

#[test]
fn a_pool_that_nobody_claimed_is_taken() {
    assert!(is_active(None, false, false));
    let not_adopted = duty(None, &claim(100, "me", "s", 7), false, true, false);
    assert_eq!(not_adopted, Duty::Standby(Standby::NotAdopted));
}

#[test]
fn the_driver_that_came_later_has_the_pool() {
    assert!(is_active(Some(&claim(99, "other", "s", 7)), false, false));
    assert!(is_active(Some(&claim(99, "other", "s", 7)), false, true), "it wrote once more");
    for insisted in [false, true] {
        assert!(!is_active(Some(&claim(101, "other", "s", 7)), insisted, true));
    }
    let at_once = is_active(Some(&claim(100, "other", "s", 7)), false, true);
    let the_other = duty(Some(&claim(100, "me", "s", 7)), &claim(100, "other", "s", 7), true, false, true);
    assert_ne!(at_once, the_other.is_active(), "one of the two");
}

#[test]
fn a_store_that_is_behind_waits_for_a_word() {
    for found in [claim(99, "other", "s", 8), claim(99, "other", "another", 1)] {
        assert!(!is_active(Some(&found), false, false));
        assert!(is_active(Some(&found), true, false));
    }
}

/// One that has the pool, in turn 2.
fn in_turn_2() -> Claimant {
    let mut claimant = Claimant::new(claim(1, "me", "s", 0));
    claimant.see(Some(claim(1, "other", "s", 7)), 7);
    assert_eq!(claimant.next_write(), Some(claim(2, "me", "s", 7)));
    claimant.wrote(true);
    assert_eq!(claimant.turn(), Some(2));
    claimant
}

fn may_write(claimant: &Claimant) -> bool {
    claimant.duty(true, false).is_active()
}

/// The driver before was about to renew its claim: for ten seconds the pool's record said that the pool was still its own.
#[test]
fn a_claim_that_is_overwritten_is_written_anew_at_once() {
    let mut claimant = in_turn_2();
    claimant.hear();
    claimant.see(None, 7);
    assert_eq!(claimant.next_write(), None, "it is being replaced");
    claimant.hear();
    claimant.see(Some(claim(1, "other", "s", 8)), 7);
    assert!(may_write(&claimant));
    assert_eq!(claimant.next_write(), Some(claim(2, "me", "s", 7)));
    // Not again before something is heard.
    claimant.wrote(false);
    assert_eq!(claimant.next_write(), None);
    claimant.hear();
    assert_eq!(claimant.next_write(), Some(claim(2, "me", "s", 7)));
}

#[test]
fn who_has_seen_a_later_turn_has_lost_the_pool_though_its_own_write_comes_after() {
    let mut claimant = in_turn_2();
    claimant.ask();
    assert!(claimant.next_write().is_some());
    for stands in [Some(claim(3, "other", "s", 7)), None, Some(claim(2, "me", "s", 7)), None] {
        claimant.hear();
        claimant.see(stands, 7);
        assert!(!may_write(&claimant));
    }
    claimant.wrote(true);
    assert!(!may_write(&claimant));
}

#[test]
fn a_claim_whose_answer_is_lost_is_known_from_the_record() {
    let mut claimant = Claimant::new(claim(1, "me", "s", 7));
    claimant.see(None, 7);
    let written = claimant.next_write();
    claimant.see(written, 8);
    assert_eq!(claimant.turn(), Some(1));
}

/// XAPI, and drivers that all want the pool.
struct World {
    record: Option<Claim>,
    drivers: Vec<Driver>,
    /// Calls nobody waits for any more; XAPI may carry them out all the same.
    lost: Vec<Call>,
}

struct Driver {
    claimant: Claimant,
    /// What the record has said since the driver last looked.
    news: VecDeque<Option<Claim>>,
    view: Option<Claim>,
    writing: Option<Call>,
}

/// A write is two calls, after a look.
#[derive(Clone)]
enum Call {
    Read(Claim),
    Remove(Claim),
    Add(Claim),
    Answer,
}

#[derive(Clone, Debug)]
enum Event {
    /// One piece of news, or only the last.
    Hear(bool),
    /// A write goes on.
    Go,
    /// It fails, and is carried out or not.
    Lose,
    /// What was lost comes after all.
    Come,
    /// It is time to renew.
    Renew,
}

impl World {
    fn new(drivers: u8) -> Self {
        let driver = |n| Driver {
            claimant: Claimant::new(claim(1, &format!("driver{n}"), "s", 7)),
            news: VecDeque::new(),
            view: None,
            writing: None,
        };
        Self { record: None, drivers: (0..drivers).map(driver).collect(), lost: Vec::new() }
    }

    fn set(&mut self, record: Option<Claim>) {
        self.drivers.iter_mut().for_each(|driver| driver.news.push_back(record.clone()));
        self.record = record;
    }

    /// XAPI carries a call out; what comes next, or nothing if it refuses.
    fn carry_out(&mut self, call: Call) -> Option<Call> {
        match call {
            Call::Read(claim) => Some(Call::Remove(claim)),
            Call::Remove(claim) => {
                self.set(None);
                Some(Call::Add(claim))
            }
            Call::Add(_) if self.record.is_some() => None,
            Call::Add(claim) => {
                self.set(Some(claim));
                Some(Call::Answer)
            }
            Call::Answer => None,
        }
    }

    fn happen(&mut self, n: usize, event: &Event) {
        let driver = &mut self.drivers[n];
        match event {
            Event::Hear(last) => {
                let news = if *last { driver.news.drain(..).next_back() } else { driver.news.pop_front() };
                let Some(view) = news else { return };
                driver.view = view;
                driver.claimant.hear();
            }
            Event::Renew => driver.claimant.ask(),
            Event::Go => match driver.writing.take() {
                None => return,
                Some(Call::Answer) => driver.claimant.wrote(true),
                Some(Call::Read(claim)) => match self.record.clone() {
                    Some(later) if later.in_order(&claim).is_gt() => driver.claimant.gave_way(later),
                    _ => driver.writing = Some(Call::Remove(claim)),
                },
                Some(call) => {
                    let next = self.carry_out(call);
                    let driver = &mut self.drivers[n];
                    if next.is_none() {
                        driver.claimant.wrote(false);
                    }
                    driver.writing = next;
                }
            },
            Event::Lose => {
                let Some(call) = driver.writing.take() else { return };
                driver.claimant.wrote(false);
                self.lost.push(call);
            }
            Event::Come => {
                if let Some(call) = self.lost.pop() {
                    self.carry_out(call);
                }
            }
        }
        // As the loop does.
        let driver = &mut self.drivers[n];
        driver.claimant.see(driver.view.clone(), 7);
        if may_write(&driver.claimant)
            && let Some(claim) = driver.claimant.next_write()
        {
            assert!(driver.writing.is_none(), "two writes at once");
            driver.writing = Some(Call::Read(claim));
        }
    }

    /// Until nothing is left to happen by itself.
    fn settle(&mut self) {
        for _ in 0..1000 {
            if self.drivers.iter().all(|driver| driver.news.is_empty() && driver.writing.is_none()) {
                return;
            }
            for n in 0..self.drivers.len() {
                self.happen(n, &Event::Hear(false));
                self.happen(n, &Event::Go);
            }
        }
        panic!("they never come to an end");
    }
}

proptest! {
    /// However the writes of drivers that all want the pool come in between each other: in the end one has it, and the record
    /// names that one; without waiting for the next renewal, unless a call was lost.
    #[test]
    fn in_the_end_one_has_the_pool(
        drivers in 2..4_u8,
        reliable in any::<bool>(),
        events in vec(
            (0..3_usize, prop_oneof![
                4 => any::<bool>().prop_map(Event::Hear),
                4 => Just(Event::Go),
                1 => Just(Event::Renew),
                1 => Just(Event::Lose),
                1 => Just(Event::Come),
            ]),
            0..60,
        ),
    ) {
        let mut world = World::new(drivers);
        (0..usize::from(drivers)).for_each(|n| world.happen(n, &Event::Renew));
        for (n, event) in events {
            if !(reliable && matches!(event, Event::Lose)) {
                world.happen(n % usize::from(drivers), &event);
            }
        }
        world.settle();
        if !reliable {
            for n in 0..usize::from(drivers) {
                world.happen(n, &Event::Renew);
                world.settle();
            }
        }
        let claimants = world.drivers.iter().map(|driver| &driver.claimant);
        let having: Vec<_> = claimants.filter(|it| may_write(it) && it.turn().is_some()).collect();
        prop_assert_eq!(having.len(), 1);
        prop_assert_eq!(world.record.as_ref(), Some(&having[0].own));
    }
}
