//! Who has the pool, as far as one driver knows, and what it has to write about that. Nothing here waits for anything.
//!
//! XAPI lets nobody replace a record at once, or only if it is still the one that was read: a driver's write takes whatever stands there
//! away, and adds its own. So it may come after that of a driver that took the pool over in the meantime, though the record is read just
//! before. Two rules make good for that:
//! who has once seen a later turn has lost the pool, whatever the record says afterwards; and who sees an earlier one over its own writes
//! anew, at once.

use super::super::duty::{Duty, Standby};
use super::record::Claim;

/// Whether a driver that is `own` may write to a pool with this record. `insisted` says that somebody decided that its store counts.
fn duty(found: Option<&Claim>, own: &Claim, is_adopted: bool, insisted: bool, claimed: bool) -> Duty {
    if !is_adopted {
        return Duty::Standby(Standby::NotAdopted);
    }
    let Some(found) = found else { return Duty::Active };
    if found.instance == own.instance {
        return Duty::Active;
    }
    if found.in_order(own).is_gt() {
        return Duty::Standby(Standby::Superseded { by: found.instance.clone() });
    }
    let is_behind = found.store != own.store || found.generation > own.generation;
    if is_behind && !insisted && !claimed {
        return Duty::Standby(Standby::Stale {
            recorded: format!("store {} at generation {}", found.store, found.generation),
            own: format!("store {} at generation {}", own.store, own.generation),
        });
    }
    Duty::Active
}

/// A driver and its claim.
#[derive(Debug)]
pub(super) struct Claimant {
    own: Claim,
    /// What the record says; none while it is being replaced.
    stands: Option<Claim>,
    /// The claim with the highest turn that the record was ever seen to hold.
    highest: Option<Claim>,
    /// Whether the record is known to have held the own one.
    claimed: bool,
    /// Whether a write is under way. Until its end the turn stays what it is.
    writing: bool,
    /// Whether the record is to be brought up to date, whatever it says.
    asked: bool,
    /// Whether something has happened since the last write.
    heard: bool,
}

impl Claimant {
    pub(super) fn new(own: Claim) -> Self {
        Self { own, stands: None, highest: None, claimed: false, writing: false, asked: true, heard: false }
    }

    /// The record was read: this is what it says now.
    pub(super) fn see(&mut self, stands: Option<Claim>, generation: u64) {
        self.own.generation = generation;
        // Of equals the later: the same driver has written since.
        self.highest = self.highest.take().into_iter().chain(stands.clone()).max_by(|a, b| a.in_order(b));
        // XAPI may have done what it was told before its answer is here, or the answer may be lost.
        self.claimed |= stands.as_ref().is_some_and(|stands| stands.in_order(&self.own).is_eq());
        self.stands = stands;
        if let (false, false, Some(highest)) = (self.claimed, self.writing, &self.highest)
            && highest.instance != self.own.instance
        {
            // Whoever comes takes over. Not by the clock: it may have gone back.
            self.own.turn = highest.turn.saturating_add(1);
        }
    }

    /// Something has happened: what is missing, and could not be written, may be tried again.
    pub(super) const fn hear(&mut self) {
        self.heard = true;
    }

    /// The record is to say where the store is by now.
    pub(super) const fn ask(&mut self) {
        self.asked = true;
    }

    /// Whether this driver may write to hosts, but for what it has to tell others before.
    pub(super) fn duty(&self, is_adopted: bool, insisted: bool) -> Duty {
        duty(self.highest.as_ref(), &self.own, is_adopted, insisted, self.claimed)
    }

    /// The turn that others know to be this driver's.
    pub(super) fn turn(&self) -> Option<u64> {
        self.claimed.then_some(self.own.turn)
    }

    /// What is to be written to the record now, by a driver that may. [`wrote`](Self::wrote) is to tell the end of it.
    pub(super) fn next_write(&mut self) -> Option<Claim> {
        let is_overwritten = self.stands.as_ref().is_some_and(|stands| stands.instance != self.own.instance);
        let is_due = self.asked || (self.heard && (!self.claimed || is_overwritten));
        if self.writing || !is_due {
            return None;
        }
        (self.asked, self.heard) = (false, false);
        self.writing = self.stands.as_ref() != Some(&self.own);
        self.writing.then(|| self.own.clone())
    }

    /// A write has ended. One that failed may have been carried out, or half of it.
    pub(super) const fn wrote(&mut self, well: bool) {
        self.writing = false;
        self.claimed |= well;
    }

    /// A write has ended before anything was written: the record names a later driver.
    pub(super) fn gave_way(&mut self, later: Claim) {
        self.wrote(false);
        self.see(Some(later), self.own.generation);
        // Who had not claimed the pool yet comes after that one.
        self.hear();
    }
}

#[cfg(test)]
mod tests;
