//! Which driver writes to a pool: it says so in the pool's own record, where every other one sees it.
//!
//! `pool.other_config` holds, under [`KEY`], who writes and from which state of which store. A driver that starts takes the pool
//! over; the one before sees that by XAPI's events and stops writing. A store that is behind what the pool was last written
//! from was brought back from somewhere: it does not count until somebody says so.

mod claimant;
mod record;

use std::sync::Arc;
use std::time::Duration;

use store::Store;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval_at};
use xenapi::{CallError, Client, Pool, Ref};

use self::claimant::Claimant;
pub(super) use self::record::Claim;
use super::duty::{Duty, Standby};
use super::plan::Plan;
use super::watcher::Seen;
use crate::report::chain;

/// The key in `pool.other_config`.
pub(super) const KEY: &str = "drawbridge:writer";

/// So often the claim is brought up to date.
const RENEW: Duration = Duration::from_secs(10);

/// The driver that a pool's record names; none while the record is being replaced.
pub(super) fn writer(pool: &Pool) -> Option<String> {
    read(pool).map(|found| found.instance)
}

/// What the claim is decided from, and who is told.
pub(super) struct Claiming {
    pub client: Client,
    pub store: Store,
    pub pool: watch::Receiver<Arc<Seen>>,
    /// Those that the hosts' workers have their shares of.
    pub plans: watch::Receiver<Option<Arc<Plan>>>,
    pub insisted: watch::Receiver<bool>,
    pub duties: watch::Sender<Duty>,
    /// Told of the turn before anything is written in it.
    pub take_turn: fn(u64),
    /// Set when no host is written any more.
    pub drained: watch::Receiver<bool>,
}

/// Decides what this driver's duty is, and keeps the pool's record true, until the driver has stopped.
///
/// XAPI may take minutes to write: meanwhile it is listened to. A write that is dropped half way leaves no record at all: that happens only
/// at the end of the daemon, which waits a few seconds for the last word and then ends its session.
pub(super) async fn claim(given: Claiming, own: Claim) {
    let Claiming { client, store, mut pool, mut plans, mut insisted, duties, take_turn, mut drained } = given;
    tokio::select! {
        seen = pool.wait_for(|seen| seen.number > 0) => if seen.is_err() { return },
        // An error means that the daemon is gone.
        _ = drained.wait_for(|it| *it) => return,
    }
    let mut generations = store.subscribe();
    let mut renew = interval_at(Instant::now() + RENEW, RENEW);
    let mut claimant = Claimant::new(own);
    // At most one.
    let mut writes = JoinSet::new();
    // The store's generation when it was first known to count.
    let mut counts = None;
    let mut is_over = false;
    loop {
        let generation = *generations.borrow_and_update();
        let seen = Arc::clone(&pool.borrow_and_update());
        let Some((reference, record)) = seen.pools.iter().next() else { return };
        claimant.see(read(record), generation);
        if !is_over && *drained.borrow() {
            is_over = true;
            // The last word: whoever comes next with an older store is to know.
            claimant.ask();
        }
        let state = store.state();
        let mut new = claimant.duty(state.adopted(), *insisted.borrow_and_update());
        if new.is_active() {
            counts.get_or_insert_with(|| state.generation());
            if let Some(claim) = claimant.next_write() {
                let (client, reference) = (client.clone(), reference.clone());
                writes.spawn(async move { write(&client, &reference, &claim).await });
            }
        }
        let turn = claimant.turn();
        if let Some(turn) = turn {
            take_turn(turn);
        }
        let planned = plans.borrow_and_update().as_ref().map(|plan| plan.generation);
        if new.is_active() && (turn.is_none() || planned < counts) {
            // Before it is known to the others nothing is written; nor is the last plan of a store that did not count, which may
            // be an empty one's.
            new = Duty::Standby(Standby::Starting);
        }
        let is_active = new.is_active();
        tell(&duties, new);
        if is_over && writes.is_empty() {
            return;
        }
        let changed = tokio::select! {
            Some(written) = writes.join_next() => {
                match succeeded(written) {
                    Some(Written::Whole) => claimant.wrote(true),
                    Some(Written::Nothing { later }) => claimant.gave_way(later),
                    None => claimant.wrote(false),
                }
                continue;
            }
            _ = renew.tick() => {
                claimant.ask();
                continue;
            }
            _ = drained.wait_for(|it| *it), if !is_over => continue,
            changed = pool.changed() => changed,
            changed = plans.changed(), if !is_active => changed,
            changed = insisted.changed() => changed,
            changed = generations.changed(), if turn.is_none() => changed,
        };
        if changed.is_err() {
            return;
        }
        claimant.hear();
    }
}

/// What became of a write.
enum Written {
    /// The record is the claim.
    Whole,
    /// The record names a driver that came later.
    Nothing { later: Claim },
}

/// Writes a claim. This driver may have slept, and its events may not have come yet, or not tell what the record said in between: so
/// XAPI is asked first whether a later driver is there.
async fn write(client: &Client, pool: &Ref<Pool>, claim: &Claim) -> Result<Written, CallError> {
    let found = client.pools().await?.get(pool).and_then(read);
    if let Some(later) = found.filter(|found| found.in_order(claim).is_gt()) {
        return Ok(Written::Nothing { later });
    }
    client.set_pool_other_config(pool, KEY, &claim.to_string()).await?;
    Ok(Written::Whole)
}

fn succeeded(written: Result<Result<Written, CallError>, JoinError>) -> Option<Written> {
    match written {
        Ok(Ok(written)) => Some(written),
        Ok(Err(error)) => {
            let error = chain(&error);
            tracing::warn!(error, "the pool's record does not say yet that this driver writes");
            None
        }
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn read(pool: &Pool) -> Option<Claim> {
    match pool.other_config.get(KEY)?.parse() {
        Ok(claim) => Some(claim),
        Err(error) => {
            let error = chain(&error);
            tracing::error!(error, key = KEY, "the pool's record was changed by hand; taking it over");
            None
        }
    }
}

fn tell(duties: &watch::Sender<Duty>, new: Duty) {
    duties.send_if_modified(|duty| {
        let changed = *duty != new;
        if changed {
            match &new {
                Duty::Active => tracing::info!("this driver writes to the pool"),
                Duty::Standby(why) => tracing::warn!(%why, "this driver does not write"),
            }
            *duty = new;
        }
        changed
    });
}

#[cfg(test)]
mod tests;
