//! The laws of the cache, without a pool.

use proptest::prelude::*;

use super::*;
use crate::Uuid;

/// A pool object, of few, in one of few states.
fn update() -> impl Strategy<Value = Event> {
    (0..6_u8, prop::option::weighted(0.7, 0..3_u8)).prop_map(|(object, state)| event(object, state))
}

fn event(object: u8, state: Option<u8>) -> Event {
    let record = state.map(|state| Pool {
        uuid: Uuid::new(uuid::Uuid::from_u128(object.into())),
        master: Ref::new(format!("OpaqueRef:{state}")),
        other_config: BTreeMap::new(),
    });
    Event::Pool(Update { object: Ref::new(format!("OpaqueRef:{object}")), record })
}

/// As XAPI answers: each object with one state, but for repetitions.
fn answer() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::btree_map(0..6_u8, prop::option::weighted(0.7, 0..3_u8), 0..6)
        .prop_map(|states| states.into_iter().map(|(object, state)| event(object, state)).collect())
}

fn cache() -> impl Strategy<Value = Cache> {
    prop::collection::vec(update(), 0..12).prop_map(Cache::of)
}

#[test]
fn who_is_gone_is_gone_whatever_stands_behind() {
    for events in [[event(1, None), event(1, Some(1))], [event(1, Some(1)), event(1, None)]] {
        assert_eq!(Cache::of(events.into()), Cache::default());
    }
}

#[test]
fn a_change_that_is_taken_back_before_it_is_told_is_none() {
    let mut cache = Cache::of(vec![event(1, Some(1))]);
    let mut changed = Changed::default();
    cache.update(vec![event(1, Some(2)), event(2, Some(0))], &mut changed);
    assert_eq!(changed.pools.len(), 2);
    cache.update(vec![event(1, Some(1)), event(2, None)], &mut changed);
    assert!(changed.is_empty());
}

#[test]
fn counts_that_differ_are_seen() {
    let cache = Cache::of(vec![event(1, Some(1)), event(2, Some(1))]);
    assert_eq!(cache.differs_from(&[(EventClass::Pool, 2)].into()), None);
    assert_eq!(cache.differs_from(&[(EventClass::Pool, 3)].into()), Some(EventClass::Pool));
    assert_eq!(cache.differs_from(&BTreeMap::new()), Some(EventClass::Pool));
    assert_eq!(
        cache.differs_from(&[(EventClass::Pool, 2), (EventClass::Vif, 1)].into()),
        Some(EventClass::Vif)
    );
}

proptest! {
    #[test]
    fn the_order_within_an_answer_means_nothing(
        cache in cache(),
        (events, shuffled) in answer().prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
        again in 0..6_usize,
    ) {
        let (mut one, mut other) = (cache.clone(), cache);
        let (mut said, mut also) = (Changed::default(), Changed::default());
        one.update(events, &mut said);
        let repeated = shuffled.get(again).cloned();
        other.update(shuffled.into_iter().chain(repeated).collect(), &mut also);
        prop_assert_eq!((one, said), (other, also));
    }

    #[test]
    fn what_is_told_leads_back_to_what_was(
        cache in cache(),
        answers in prop::collection::vec(answer(), 0..4),
        all in prop::option::of(cache()),
    ) {
        let (mut now, mut changed) = (cache.clone(), Changed::default());
        for answer in answers {
            now.update(answer, &mut changed);
        }
        if let Some(all) = all {
            now.replace(all.clone(), &mut changed);
            prop_assert_eq!(&now, &all);
        }
        for (object, before) in changed.pools {
            prop_assert_ne!(now.pools.get(&object), before.as_ref());
            match before {
                Some(record) => now.pools.insert(object, record),
                None => now.pools.remove(&object),
            };
        }
        prop_assert_eq!(now, cache);
    }
}
