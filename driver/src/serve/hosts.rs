//! The workers, one a host: given their tasks by each new plan, and asked how they do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use xenapi::{Host, Ref};

use super::bell::Bell;
use super::duty::Duty;
use super::health::Health;
use super::plan::Plan;
use super::turns::Turns;
use super::worker::{Task, Timing, Worker};
use crate::run::Pool;

/// All workers.
#[derive(Debug)]
pub(super) struct Hosts {
    pool: Arc<Pool>,
    duty: watch::Receiver<Duty>,
    turns: Arc<Turns>,
    timing: Timing,
    /// This driver, as it calls itself.
    instance: Arc<str>,
    bell: Bell,
    /// The newest plan that all workers have their share of.
    handed_out: watch::Sender<Option<Arc<Plan>>>,
    workers: Mutex<BTreeMap<Ref<Host>, Handle>>,
}

/// What others hold of a worker.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    tasks: watch::Sender<Task>,
    kicks: watch::Sender<u64>,
    health: watch::Receiver<Health>,
    abort: AbortHandle,
}

impl Handle {
    /// The newest task.
    pub(super) fn task(&self) -> Task {
        self.tasks.borrow().clone()
    }

    /// How the host is.
    pub(super) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// Has the host looked at now; the answer is the kick's number.
    pub(super) fn kick(&self) -> u64 {
        self.kicks.send_modify(|kicks| *kicks += 1);
        *self.kicks.borrow()
    }

    /// Waits until the worker is done with a plan and a kick, well or not. The host may leave the pool meanwhile.
    pub(super) async fn acted_on(&self, plan: u64, kick: u64) -> Health {
        self.until(|health| health.has_acted_on(plan, kick)).await
    }

    /// Waits until a plan stands, unless the host fails: that may last.
    pub(super) async fn stands_or_fails(&self, plan: u64) -> Health {
        self.until(|health| health.stands(plan) || health.failing.is_some()).await
    }

    async fn until(&self, is_so: impl Fn(&Health) -> bool) -> Health {
        let mut health = self.health.clone();
        match health.wait_for(|health| is_so(health)).await {
            Ok(health) => health.clone(),
            Err(_) => self.health(),
        }
    }
}

impl Hosts {
    pub(super) fn new(
        pool: Arc<Pool>,
        duty: watch::Receiver<Duty>,
        at_a_time: u16,
        timing: Timing,
        instance: &str,
    ) -> Self {
        Self {
            pool,
            duty,
            turns: Arc::new(Turns::new(at_a_time)),
            timing,
            instance: instance.into(),
            bell: Bell::default(),
            handed_out: watch::Sender::default(),
            workers: Mutex::default(),
        }
    }

    /// Gives every host its share of each plan, until there are no more.
    pub(super) async fn carry_out(&self, mut plans: watch::Receiver<Option<Arc<Plan>>>) {
        loop {
            let plan = plans.borrow_and_update().clone();
            if let Some(plan) = plan {
                self.hand_out(&plan);
                self.handed_out.send_replace(Some(plan));
            }
            if plans.changed().await.is_err() {
                return;
            }
        }
    }

    fn hand_out(&self, plan: &Plan) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|host, worker| {
            let stays = plan.hosts.contains_key(host);
            if !stays {
                worker.abort.abort();
            }
            stays
        });
        for (reference, wanted) in &plan.hosts {
            let Some(host) = plan.seen.inventory.hosts.get(reference) else { continue };
            let task = Task {
                plan: plan.number,
                generation: plan.generation,
                name: host.name_label.clone(),
                uuid: host.uuid.to_string(),
                incarnation: host.incarnation(),
                hosts: plan.hosts.len(),
                wanted: Arc::clone(wanted),
            };
            match workers.get(reference) {
                Some(worker) => {
                    worker.tasks.send_replace(task);
                }
                None => {
                    workers.insert(reference.clone(), self.start(reference.clone(), task));
                }
            }
        }
    }

    fn start(&self, host: Ref<Host>, task: Task) -> Handle {
        let (tasks, newest) = watch::channel(task);
        let (kicks, kicked) = watch::channel(0);
        let (tell, health) = watch::channel(Health::default());
        let worker = Worker {
            pool: Arc::clone(&self.pool),
            host,
            tasks: newest,
            kicks: kicked,
            duty: self.duty.clone(),
            health: tell,
            bell: self.bell.clone(),
            turns: Arc::clone(&self.turns),
            timing: self.timing,
            instance: Arc::clone(&self.instance),
            dispelled: 0,
        };
        let abort = tokio::spawn(worker.run()).abort_handle();
        Handle { tasks, kicks, health, abort }
    }

    /// Rung with whatever changes in what is known of a host.
    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Plans, as soon as the workers have their shares.
    pub(super) fn plans(&self) -> watch::Receiver<Option<Arc<Plan>>> {
        self.handed_out.subscribe()
    }

    /// Begins nothing more, and waits until what has begun is done.
    pub(super) async fn drain(&self) {
        self.turns.end().await;
    }

    /// The way to them.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The hosts of the newest plan.
    pub(super) fn all(&self) -> BTreeMap<Ref<Host>, Handle> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
