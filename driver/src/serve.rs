//! The daemon: what the store holds is what stands on every host, whatever happens in between.
//!
//! ```text
//! API ──edit──► store ──generation──┐
//!                                   ├─► plan ──task──► worker, one a host ──► reconcile
//! XAPI ──events──► watcher ─────────┘                    ▲ kicks (hooks, refresh), time
//! ```
//!
//! Everything is level-triggered: a plan says what should be, not what happened, and only the newest counts. So edits coalesce, a
//! hook and the events of the same thing meet, and whatever was missed is in the next plan or the next look at the host.

mod announced;
mod audit;
mod bell;
mod claim;
mod control;
mod duty;
mod explain;
#[cfg(test)]
mod fixture;
mod health;
mod hook;
mod hosts;
mod idle;
mod looks;
mod metrics;
mod moving;
mod notify;
mod pauses;
mod plan;
mod ports;
mod turns;
mod watcher;
mod worker;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiState, Limits, ListenError, Server};
use secrecy::ExposeSecret as _;
use store::{DatabaseError, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use xenapi::Client;

use self::announced::Announced;
use self::bell::Told;
use self::claim::{Claim, Claiming};
use self::duty::{Duty, Standby};
use self::hosts::Hosts;
use self::plan::{Plan, Trouble};
use self::watcher::Watcher;
use self::worker::Timing;
use crate::config::{Config, ConfigError, Reconcile, Tcp};
use crate::dom0::take_turn;
use crate::run::Pool;

/// What is running on hosts may take so long to end when the daemon is told to stop.
const DRAIN: Duration = Duration::from_secs(70);
/// Then callers have this long to take their answers; who watches has none coming.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// The store this long to save what waits; what it has not saved was not answered.
const SAVE: Duration = Duration::from_secs(10);
/// And XAPI this long to take our leave.
const LEAVE: Duration = Duration::from_secs(3);

/// Why the daemon could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ServeError {
    #[error("configuration")]
    Config(#[from] ConfigError),
    #[error("the store")]
    Store(#[from] DatabaseError),
    #[error("the local API")]
    Api(#[from] ListenError),
    #[error("signals cannot be received")]
    Signal(#[from] std::io::Error),
    #[error("{0} has ended, which it never should; starting anew is what helps")]
    Ended(&'static str),
}

/// The parts that answer questions.
#[derive(Debug)]
struct Engine {
    client: Client,
    store: Store,
    watcher: Watcher,
    plans: watch::Receiver<Option<Arc<Plan>>>,
    /// Why no plan can be made.
    trouble: watch::Receiver<Option<Trouble>>,
    /// Why XAPI cannot be asked.
    xapi: watch::Receiver<Option<String>>,
    duty: watch::Receiver<Duty>,
    /// Set when somebody says that this store counts, whatever the pool was written from.
    insisted: watch::Sender<bool>,
    /// Guests that are waited for on a host.
    announced: watch::Sender<Announced>,
    hosts: Arc<Hosts>,
    /// Set when the daemon is told to stop.
    stopping: watch::Receiver<bool>,
}

/// Serves until the process is told to stop.
///
/// # Errors
/// [`ServeError`]
pub async fn serve(path: &Path) -> Result<(), ServeError> {
    let config = Config::load(path)?;
    let url = config.store_url(path)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let store = Store::open(url.expose_secret()).await?;
    let pool = Arc::new(Pool { client: config.client(path)?, signer: config.signer()? });
    let (stop, stopping) = watch::channel(false);
    let (end, drained) = watch::channel(false);
    let (engine, work) = assemble(&store, &pool, config.reconcile, &stopping, drained);
    let state = ApiState { store: store.clone(), control: engine.clone() };
    let tcp = config.api.tcp.as_ref().map(Tcp::listen).transpose()?;
    // Before anything is begun: where another daemon listens, this one has no business.
    let server =
        Server::bind(api::router(state), Limits::default(), Some(config.api.unix(path)?), tcp).await?;

    let mut parts = JoinSet::new();
    for (name, work) in work {
        part(&mut parts, name, work);
    }
    part(&mut parts, "the watchdog", notify::watchdog());
    if let Some(settings) = &config.store {
        part(&mut parts, "forgetting old edits", audit::forget(store.clone(), settings.audit_days));
    }
    part(&mut parts, API, async move {
        let mut stopping = stopping;
        // An error means that the daemon is gone.
        server.serve(async move { stopping.wait_for(|stop| *stop).await.map_or((), |_| ()) }).await;
    });
    notify::ready();
    tracing::info!(generation = *store.subscribe().borrow(), "serving");

    let ended = tokio::select! {
        ended = parts.join_next() => Some(ended),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    notify::stopping();
    tracing::info!("stopping");
    drain(engine.hosts.drain(), &stop, &end).await;
    let _ = tokio::time::timeout(LAST_WORDS, last_words(&mut parts)).await;
    if tokio::time::timeout(SAVE, store.close()).await.is_err() {
        tracing::warn!("the store's database does not answer; what was not saved was not answered either");
    }
    if tokio::time::timeout(LEAVE, pool.close()).await.is_err() {
        tracing::debug!("XAPI does not answer; it ends the session by itself");
    }
    match ended {
        None => Ok(()),
        Some(Some(Ok(part))) => Err(ServeError::Ended(part)),
        Some(Some(Err(error))) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Some(_) => Err(ServeError::Ended("a part of the daemon")),
    }
}

/// Tells that new calls are refused, those that run answered, and no host begun any more; waits for the rounds under way; and only then
/// tells that it is over: as long as hosts are written it has to be heard who has the pool.
async fn drain(rounds: impl Future<Output = ()>, stop: &watch::Sender<bool>, end: &watch::Sender<bool>) {
    stop.send_replace(true);
    if tokio::time::timeout(DRAIN, rounds).await.is_err() {
        tracing::warn!("a host is still being written; it keeps what its last complete write left");
    }
    end.send_replace(true);
}

/// Waits for the parts that end when they are told to.
async fn last_words(parts: &mut JoinSet<&'static str>) {
    let mut still = vec![API, CLAIM];
    while !still.is_empty() {
        match parts.join_next().await {
            Some(Ok(ended)) => still.retain(|name| *name != ended),
            Some(Err(_)) => {}
            None => return,
        }
    }
}

const API: &str = "the local API";
const CLAIM: &str = "claiming the pool";

/// Work that never ends by itself, and what it is called.
type Part = (&'static str, Pin<Box<dyn Future<Output = ()> + Send>>);

/// Puts the parts together. Nothing is begun.
fn assemble(
    store: &Store,
    pool: &Arc<Pool>,
    settings: Reconcile,
    stopping: &watch::Receiver<bool>,
    drained: watch::Receiver<bool>,
) -> (Arc<Engine>, Vec<Part>) {
    let (tell_xapi, xapi) = watch::channel(None);
    let (tell_trouble, trouble) = watch::channel(None);
    let (tell_plan, plans) = watch::channel(None);
    let (tell_duty, duty) = watch::channel(Duty::Standby(Standby::Starting));
    let (insisted, insists) = watch::channel(false);
    let announced = watch::Sender::default();
    let (watcher, seen, watching) = watcher::watch(pool.client.clone(), tell_xapi);
    let timing = Timing::from(settings);
    let own = Claim {
        turn: 1,
        instance: uuid::Uuid::new_v4().to_string(),
        store: store.identity().to_owned(),
        generation: 0,
    };
    let at_a_time = settings.hosts_at_a_time;
    let hosts = Arc::new(Hosts::new(Arc::clone(pool), duty.clone(), at_a_time, timing, &own.instance));
    let (client, workers, given) = (pool.client.clone(), Arc::clone(&hosts), plans.clone());
    let claiming = Claiming {
        client: client.clone(),
        store: store.clone(),
        pool: seen.clone(),
        plans: hosts.plans(),
        insisted: insists,
        duties: tell_duty,
        take_turn,
        drained,
    };
    let told =
        Told { duty: duty.clone(), xapi: xapi.clone(), trouble: trouble.clone(), plans: hosts.plans() };
    let parts: Vec<Part> = vec![
        ("watching the pool", Box::pin(watching)),
        ("planning", Box::pin(plan::plan(store.clone(), seen, announced.clone(), tell_plan, tell_trouble))),
        (CLAIM, Box::pin(claim::claim(claiming, own))),
        ("locking idle VIFs", Box::pin(idle::lock(client, plans.clone(), duty.clone()))),
        ("telling who watches", Box::pin(hosts.bell().ring_for(told))),
        ("giving hosts their tasks", Box::pin(async move { workers.carry_out(given).await })),
    ];
    let (store, stopping) = (store.clone(), stopping.clone());
    let engine = Engine {
        client: pool.client.clone(),
        store,
        watcher,
        plans,
        trouble,
        xapi,
        duty,
        insisted,
        announced,
        hosts,
        stopping,
    };
    (Arc::new(engine), parts)
}

fn part(
    parts: &mut JoinSet<&'static str>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    parts.spawn(async move {
        work.await;
        name
    });
}
