//! Synchronous hooks: the compute driver says that something happened, waits, and gets the truth.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Engine;
use super::duty::{Duty, Standby};
use super::health::Health;
use super::hosts::Handle;
use super::plan::Plan;
use crate::desired::Problem;
use crate::run::{RunError, Scope};

/// What became of a hook.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Generation of the store that was enforced.
    pub generation: u64,
    /// Every host that had something to do with it.
    pub hosts: Vec<HostOutcome>,
    /// What of the store could not be bound to the VM.
    pub problems: Vec<Problem>,
}

/// What became of a hook on one host.
#[derive(Debug)]
pub(super) struct HostOutcome {
    /// Its name.
    pub name: String,
    /// Whether it is the host that the hook is about, and not one that merely has rules about the VM.
    pub own: bool,
    /// The newest plan stands there; or why it does not.
    pub state: Result<(), Why>,
}

/// Why a plan does not stand on a host.
#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
    #[error("{0}")]
    Failed(String),
    #[error("a port is closed: dom0 refuses its rules: {0}")]
    Closed(String),
    #[error("not yet; it goes on without you")]
    Late,
    #[error("it left the pool")]
    Gone,
}

impl Outcome {
    /// Whether the VM, or the host, is enforced. Others that are late, or cannot be reached, get their rules when they can be.
    pub(super) fn is_ok(&self) -> bool {
        self.problems.is_empty() && self.hosts.iter().all(|host| !host.own || host.state.is_ok())
    }

    /// Whether time is all that is missing.
    pub(super) fn is_late(&self) -> bool {
        let mut failed =
            self.hosts.iter().filter(|host| host.own).filter_map(|host| host.state.as_ref().err());
        self.problems.is_empty() && failed.all(|why| matches!(why, Why::Late))
    }
}

/// Why a hook has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("this driver does not write: {0}")]
    Standby(Standby),
    #[error("XAPI did not say what has happened: {0}")]
    Xapi(String),
    #[error("no plan can be made: {0}")]
    Plan(String),
    #[error("nothing was enforced within {} s; it goes on without you", .0.as_secs())]
    Deadline(Duration),
    #[error(transparent)]
    Subject(#[from] RunError),
}

impl Engine {
    /// Waits until what the pool and the store hold now is enforced where the scope says, at most `limit`.
    ///
    /// # Errors
    /// [`HookError`] if it is not known what to enforce; a host on which that fails is part of the outcome.
    pub(super) async fn hook(&self, scope: &Scope, limit: Duration) -> Result<Outcome, HookError> {
        let end = Instant::now() + limit;
        let plan = timeout_at(end, self.plan_of_now()).await.map_err(|_| HookError::Deadline(limit))??;
        if let Duty::Standby(reason) = &*self.duty.borrow() {
            return Err(HookError::Standby(reason.clone()));
        }
        let own = scope.own_hosts(&plan.seen.inventory)?;
        let mut waiting = JoinSet::new();
        for (reference, worker) in self.hosts.all() {
            let own = own.contains(&reference);
            waiting.spawn(one(worker, own, plan.number, end));
        }
        let mut hosts: Vec<HostOutcome> = waiting.join_all().await;
        // Where nothing was to be done there is nothing to tell.
        hosts.retain(|host| host.own || host.state.is_err());
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        let concerned = |problem: &&Problem| scope.concerns(problem, &plan.seen.inventory);
        let problems = plan.problems.iter().filter(concerned).cloned().collect();
        Ok(Outcome { generation: plan.generation, hosts, problems })
    }

    /// A plan made from what the pool and the store hold at this moment, or later.
    async fn plan_of_now(&self) -> Result<Arc<Plan>, HookError> {
        let generation = *self.store.subscribe().borrow();
        let seen = self.watcher.fresh().await.map_err(HookError::Xapi)?;
        let mut plans = self.plans.clone();
        let mut trouble = self.trouble.clone();
        let is_of_now = |plan: &Plan| plan.seen.number >= seen && plan.generation >= generation;
        loop {
            if let Some(plan) = &*plans.borrow_and_update()
                && is_of_now(plan)
            {
                return Ok(Arc::clone(plan));
            }
            if let Some(reason) = &*trouble.borrow_and_update() {
                return Err(HookError::Plan(reason.clone()));
            }
            let ended = tokio::select! {
                changed = plans.changed() => changed.is_err(),
                changed = trouble.changed() => changed.is_err(),
            };
            if ended {
                return Err(HookError::Plan("the driver is stopping".to_owned()));
            }
        }
    }
}

/// Waits for one host. The hook's own is read whatever is thought to stand there; another that fails already is not waited for.
async fn one(worker: Handle, own: bool, plan: u64, end: Instant) -> HostOutcome {
    let waited = async {
        if own { worker.acted_on(plan, worker.kick()).await } else { worker.stands_or_fails(plan).await }
    };
    let health: Option<Health> = timeout_at(end, waited).await.ok();
    let task = worker.task();
    let state = match health {
        Some(Health { failing: Some(failing), .. }) => Err(Why::Failed(failing.reason)),
        Some(health) if own && !health.quarantined.is_empty() => {
            let reasons =
                health.quarantined.iter().map(|port| format!("{}: {}", port.interface, port.reason));
            Err(Why::Closed(reasons.collect::<Vec<_>>().join("; ")))
        }
        Some(health) if health.stands(plan) => Ok(()),
        Some(_) => Err(Why::Gone),
        None => Err(Why::Late),
    };
    HostOutcome { name: task.name, own, state }
}
