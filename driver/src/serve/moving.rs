//! The last moment of a migration: XAPI already names the new host, and still the old host's domid.
//!
//! Under that number the new host may have another guest. So the guest stays where it was, on its way to the new host, until the
//! number has changed, too: there its rules wait for it by its MAC, and nowhere is an interface taken for another's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use xenapi::{Host, Ref, Vm};

use crate::intake::inventory::Inventory;

/// By chance the two hosts may have given the same number. Then it does not change, and counts after so long.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the guests run, as far as that is certain.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// The host and the domid.
    places: BTreeMap<Ref<Vm>, (Ref<Host>, u32)>,
    /// Since when only half of a place is known.
    since: BTreeMap<Ref<Vm>, Instant>,
}

impl Moving {
    /// Who has a new host and no new domid, and had it for less than a while; but for those of whom somebody has said that they
    /// have `arrived`.
    pub(super) fn look(&mut self, pool: &Inventory, arrived: &BTreeSet<Ref<Vm>>, now: Instant) {
        let mut before = std::mem::take(&mut self.since);
        for (reference, vm) in &pool.vms {
            let (Some(host), Some(domid)) = (vm.resident_on.non_null(), vm.domid) else { continue };
            let is_half = self.places.get(reference).is_some_and(|was| was.0 != *host && was.1 == domid);
            let since = before.remove(reference).unwrap_or(now);
            if is_half && now < since + PATIENCE && !arrived.contains(reference) {
                self.since.insert(reference.clone(), since);
            } else {
                self.places.insert(reference.clone(), (host.clone(), domid));
            }
        }
        self.places.retain(|vm, _| pool.vms.get(vm).is_some_and(|vm| vm.domid.is_some()));
    }

    /// The pool with those where they were, on their way; nothing if there are none.
    pub(super) fn held_back(&self, pool: &Inventory) -> Option<Inventory> {
        let held: Vec<_> = self.since.keys().filter_map(|vm| self.places.get_key_value(vm)).collect();
        let mut pool = (!held.is_empty()).then(|| pool.clone())?;
        for (vm, (host, _)) in held {
            if let Some(vm) = pool.vms.get_mut(vm) {
                vm.scheduled_to_be_resident_on = std::mem::replace(&mut vm.resident_on, host.clone());
            }
        }
        Some(pool)
    }

    /// When the first has been held back for long enough.
    pub(super) fn end(&self) -> Option<Instant> {
        self.since.values().map(|since| *since + PATIENCE).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{pool, reference};
    use super::*;

    /// What is made of these, one after the other, at these moments.
    fn seen(pools: &[(Inventory, Instant)], arrived: &BTreeSet<Ref<Vm>>) -> (Moving, BTreeMap<Ref<Vm>, Vm>) {
        let mut moving = Moving::default();
        let mut last = BTreeMap::new();
        for (pool, at) in pools {
            moving.look(pool, arrived, *at);
            last = moving.held_back(pool).unwrap_or_else(|| pool.clone()).vms;
        }
        (moving, last)
    }

    #[test]
    fn an_old_domid_is_not_looked_for_on_a_new_host() {
        let (at, nobody) = (Instant::now(), BTreeSet::new());
        for scheduled in [None, Some("two")] {
            let half = [(pool("one", scheduled, 7), at), (pool("two", None, 7), at)];
            let (moving, vms) = seen(&half, &nobody);
            assert_eq!((vms, moving.end()), (pool("one", Some("two"), 7).vms, Some(at + PATIENCE)));
            let whole = [half.as_slice(), &[(pool("two", None, 8), at)]].concat();
            let (moving, vms) = seen(&whole, &nobody);
            assert_eq!((vms, moving.end()), (pool("two", None, 8).vms, None));
        }
    }

    #[test]
    fn two_hosts_may_give_the_same_domid() {
        let (at, nobody) = (Instant::now(), BTreeSet::new());
        let half = [(pool("one", None, 7), at), (pool("two", None, 7), at)];
        let later = [half.as_slice(), &[(pool("two", None, 7), at + PATIENCE)]].concat();
        let back = [later.as_slice(), &[(pool("one", None, 7), at + PATIENCE)]].concat();
        assert_eq!(seen(&later, &nobody).1, pool("two", None, 7).vms);
        assert_eq!(seen(&back, &nobody).1, pool("two", Some("one"), 7).vms);
        assert_eq!(seen(&half, &[reference("vm")].into()).1, pool("two", None, 7).vms);
    }

    #[test]
    fn who_stays_is_not_held_back() {
        let (at, nobody) = (Instant::now(), BTreeSet::new());
        for (before, after) in [
            (pool("one", None, 7), pool("one", Some("two"), 7)),
            (pool("one", Some("two"), 7), pool("one", None, 7)),
            (pool("one", None, 7), pool("one", None, 8)),
            (Inventory::default(), pool("one", None, 7)),
        ] {
            assert_eq!(seen(&[(before, at), (after.clone(), at)], &nobody).1, after.vms);
        }
    }
}
