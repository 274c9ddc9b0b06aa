//! Guests that somebody has announced to a host: its rules stand there before XAPI says a word.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use xenapi::{Host, PowerState, Ref, Vm};

use crate::desired;
use crate::intake::inventory::Inventory;

/// A guest that has not come by then does not come: whoever announced it has gone without a word.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The guests that are waited for.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced {
    /// Rises with every word from outside.
    pub number: u64,
    guests: BTreeMap<Ref<Vm>, Guest>,
    over: BTreeSet<Ref<Vm>>,
}

#[derive(Clone, Debug)]
struct Guest {
    to: Ref<Host>,
    until: Instant,
    /// XAPI was seen sending it there: when it no longer does, that is over, one way or the other.
    begun: bool,
}

impl Announced {
    /// A guest is about to go to a host. The last word counts.
    pub(super) fn add(&mut self, vm: Ref<Vm>, to: Ref<Host>) {
        self.number += 1;
        self.guests.insert(vm, Guest { to, until: Instant::now() + PATIENCE, begun: false });
    }

    /// It has gone, or stays.
    pub(super) fn remove(&mut self, vm: &Ref<Vm>) {
        self.number += 1;
        self.guests.remove(vm);
        self.over.insert(vm.clone());
    }

    /// Who was [removed](Self::remove) since this was last asked.
    pub(super) fn drain_over(&mut self) -> BTreeSet<Ref<Vm>> {
        std::mem::take(&mut self.over)
    }

    /// Forgets who has come, who no longer comes, and who has been waited for too long.
    pub(super) fn look(&mut self, inventory: &Inventory, now: Instant) {
        self.guests.retain(|vm, guest| {
            let Some(vm) = inventory.vms.get(vm) else { return false };
            let is_up = matches!(vm.power_state, PowerState::Running | PowerState::Paused);
            let is_sent = vm.scheduled_to_be_resident_on == guest.to;
            let is_over = guest.begun && !is_sent;
            guest.begun |= is_sent;
            is_up && vm.resident_on != guest.to && !is_over && now < guest.until
        });
    }

    /// Where each is about to go.
    pub(super) fn destinations(&self) -> desired::Announced {
        self.guests.iter().map(|(vm, guest)| (vm.clone(), guest.to.clone())).collect()
    }

    /// When the first has been waited for too long.
    pub(super) fn end(&self) -> Option<Instant> {
        self.guests.values().map(|guest| guest.until).min()
    }
}

#[cfg(test)]
mod tests;
