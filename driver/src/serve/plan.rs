//! What all hosts should hold, decided anew whenever the store or the pool has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use store::{Snapshot, Store};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use xenapi::{Host, Ref};

use super::announced::Announced;
use super::moving::Moving;
use super::watcher::Seen;
use crate::desired::{self, Binding, Desired, HostDesired, Problem};
use crate::intake::own::{self, LastGood};
use crate::intake::policy_file::PolicyFile;
use crate::locking::VifLocking;
use crate::report::chain;

/// Edits that come closer together than this become one plan.
const TOGETHER: Duration = Duration::from_millis(50);

/// Where the driver's own cards could never be read, it is tried again after this.
const CARDS: Duration = Duration::from_secs(1);

/// What all hosts should hold.
#[derive(Debug)]
pub(super) struct Plan {
    /// Rises with every plan.
    pub number: u64,
    /// Generation of the store.
    pub generation: u64,
    /// How many announcements it knows of.
    pub announced: u64,
    /// What the pool looked like.
    pub seen: Arc<Seen>,
    /// By host.
    pub hosts: BTreeMap<Ref<Host>, Arc<HostDesired>>,
    /// VIFs without an interface that are to be locked.
    pub idle: Vec<VifLocking>,
    /// Where the ports are.
    pub bindings: Vec<Binding>,
    /// What could not be bound to the pool.
    pub problems: Vec<Problem>,
}

/// Why there is no plan of what the store and the pool hold.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Number of the pool.
    pub seen: u64,
    /// Generation of the store.
    pub generation: u64,
    /// How many announcements were known.
    pub announced: u64,
    /// What to do about it, for people.
    pub reason: String,
}

/// Makes plans as long as there is a pool to make them for.
///
/// A store that contradicts itself leaves the last plan as it is; `trouble` tells.
pub(super) async fn plan(
    store: Store,
    mut pool: watch::Receiver<Arc<Seen>>,
    announced: watch::Sender<Announced>,
    plans: watch::Sender<Option<Arc<Plan>>>,
    trouble: watch::Sender<Option<Trouble>>,
) {
    let mut generations = store.subscribe();
    let mut announcements = announced.subscribe();
    let mut number = 0;
    let mut moving = Moving::default();
    let (mut known, mut cards): (Option<Known>, _) = (None, LastGood::default());
    if pool.wait_for(|seen| seen.number > 0).await.is_err() {
        return;
    }
    loop {
        let started = Instant::now();
        let mut seen = Arc::clone(&pool.borrow_and_update());
        announced.send_if_modified(|announced| {
            moving.look(&seen.inventory, &announced.drain_over(), started);
            if let Some(inventory) = moving.held_back(&seen.inventory) {
                seen = Arc::new(Seen { number: seen.number, inventory, pools: seen.pools.clone() });
            }
            announced.look(&seen.inventory, started);
            // What is left is used right here.
            false
        });
        let announced = announcements.borrow_and_update().clone();
        let newest = *generations.borrow_and_update();
        let awaited = announced.number;
        let current = known.take().filter(|known| known.generation == newest);
        let made = make(store.clone(), current, &mut cards, Arc::clone(&seen), announced.destinations());
        let (policy, made) = made.await;
        let generation = policy.generation;
        known = Some(policy);
        match made {
            Ok(Desired { hosts, idle, bindings, problems }) => {
                number += 1;
                let hosts = hosts.into_iter().map(|(host, wanted)| (host, Arc::new(wanted))).collect();
                trouble.send_if_modified(|trouble| trouble.take().is_some());
                let plan =
                    Plan { number, generation, announced: awaited, seen, hosts, idle, bindings, problems };
                plans.send_replace(Some(Arc::new(plan)));
            }
            Err(reason) => {
                tracing::error!(reason, "no plan can be made; what stands on the hosts stands");
                let seen = seen.number;
                trouble.send_replace(Some(Trouble { seen, generation, announced: awaited, reason }));
            }
        }
        let again = (!cards.are_known()).then(|| Instant::now() + CARDS);
        let end = [announced.end(), moving.end(), again].into_iter().flatten().min();
        tokio::select! {
            changed = generations.changed() => if changed.is_err() { return },
            changed = pool.changed() => if changed.is_err() { return },
            changed = announcements.changed() => if changed.is_err() { return },
            () = sleep_until(end.unwrap_or(started)), if end.is_some() => {}
        }
        sleep_until(started + TOGETHER).await;
    }
}

/// What the store held at a generation.
struct Known {
    generation: u64,
    policy: PolicyFile,
}

impl From<Snapshot> for Known {
    fn from(snapshot: Snapshot) -> Self {
        Self { generation: snapshot.generation, policy: snapshot.into() }
    }
}

/// Away from the threads that serve: a big pool takes a while, and so does a big store.
async fn make(
    store: Store,
    known: Option<Known>,
    cards: &mut LastGood,
    seen: Arc<Seen>,
    announced: desired::Announced,
) -> (Known, Result<Desired, String>) {
    let mut own = std::mem::take(cards);
    let made = tokio::task::spawn_blocking(move || {
        let known = known.unwrap_or_else(|| store.snapshot().into());
        let made = match own.or(own::macs()) {
            Ok(macs) => desired::expecting(&known.policy, &seen.inventory, macs, &announced)
                .map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        (known, own, made)
    });
    let (known, own, made) = made.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    *cards = own;
    (known, made)
}
