//! Synchronous hooks: the compute driver says that something happened, waits, and gets the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ruleset::ids::VifUuid;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use xenapi::{Host, Ref};

use super::Engine;
use super::duty::{Duty, Standby};
use super::health::Health;
use super::hosts::Handle;
use super::idle;
use super::plan::{Plan, Trouble};
use crate::desired::{HostDesired, Problem};
use crate::run::{RunError, Scope};

/// Hosts that merely have rules about the VM are waited for so long, if the hook's own are done by then: one that is dead
/// without XAPI knowing it says nothing for a minute.
const OTHERS: Duration = Duration::from_secs(5);

/// What a hook says of a migration.
#[derive(Debug)]
pub(super) enum Migration {
    /// The guest is about to go there: the rules have to stand there first.
    To(Scope),
    /// It has gone, or stays for good: nothing may be left where it is not.
    Over,
}

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
    #[error("a port is closed: {0}")]
    Closed(String),
    #[error("not yet; it goes on without you")]
    Late,
    #[error("it left the pool, or the pool does not say how it switches packets")]
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
    #[error("the driver is stopping")]
    Stopping,
    #[error(transparent)]
    Subject(#[from] RunError),
}

impl Engine {
    /// Waits until what the pool and the store hold now is enforced where the scope says, and where the guest of a migration
    /// goes to or was, at most `limit`.
    ///
    /// # Errors
    /// [`HookError`] if it is not known what to enforce; a host on which that fails is part of the outcome.
    pub(super) async fn hook(
        &self,
        scope: &Scope,
        migration: Option<&Migration>,
        limit: Duration,
    ) -> Result<Outcome, HookError> {
        let started = Instant::now();
        let end = started + limit;
        let plan_of_now =
            async || timeout_at(end, self.plan_of_now()).await.map_err(|_| HookError::Deadline(limit))?;
        let mut plan = plan_of_now().await?;
        if *self.duty.borrow() == Duty::Standby(Standby::Starting) {
            // In a moment it writes, or says why not. If it does neither, that is the answer.
            let mut duty = self.duty.clone();
            let is_known = duty.wait_for(|it| *it != Duty::Standby(Standby::Starting));
            if timeout_at(end, is_known).await.is_ok() {
                plan = plan_of_now().await?;
            }
        }
        if let Duty::Standby(reason) = &*self.duty.borrow() {
            return Err(HookError::Standby(reason.clone()));
        }
        if let Some(migration) = migration {
            self.announce(scope, migration, &plan)?;
            plan = plan_of_now().await?;
        }
        let inventory = &plan.seen.inventory;
        let mut own = scope.own_hosts(inventory)?;
        if let Some(Migration::To(destination)) = migration {
            own.extend(destination.own_hosts(inventory)?);
        }
        let mut workers = self.hosts.all();
        let about = ports_about(scope, &plan);
        // Of a VM that is gone nothing may be known any more.
        let leaves = match (scope, migration) {
            (Scope::Vm { leaving: true, .. }, _) => Some(None),
            (_, Some(Migration::Over)) => Some(about.as_ref()),
            _ => None,
        };
        let left = leaves.map_or_else(BTreeSet::new, |about| may_hold(&workers, &plan, about, &own));
        let mut waiting = JoinSet::new();
        let mut hosts = Vec::new();
        if leaves.is_some() {
            // What stands where the pool does not say how packets are switched, nobody knows either.
            let unknown =
                inventory.hosts.iter().filter(|(it, _)| !workers.contains_key(*it) && !own.contains(*it));
            let names = unknown.map(|(_, host)| host.name_label.clone());
            hosts.extend(names.map(|name| HostOutcome { name, own: false, state: Err(Why::Gone) }));
        }
        for reference in own.iter().chain(&left) {
            match workers.remove(reference) {
                Some(worker) => {
                    let is_left = left.contains(reference);
                    waiting.spawn(own_host(worker, plan.number, about.clone(), is_left, end));
                }
                None => {
                    let name =
                        inventory.hosts.get(reference).map_or_else(String::new, |it| it.name_label.clone());
                    hosts.push(HostOutcome { name, own: true, state: Err(Why::Gone) });
                }
            }
        }
        let (done, open) = tokio::join!(waiting.join_all(), self.lock_idle(scope, &plan, end));
        hosts.extend(done);
        let others = end.min((started + OTHERS).max(Instant::now()));
        let mut waiting = JoinSet::new();
        for worker in workers.into_values() {
            waiting.spawn(other_host(worker, plan.number, others));
        }
        let others = waiting.join_all().await;
        if *self.stopping.borrow() && others.iter().chain(&hosts).any(|host| host.state.is_err()) {
            return Err(HookError::Stopping);
        }
        // Where nothing was to be done there is nothing to tell.
        hosts.extend(others.into_iter().filter(|host| host.state.is_err()));
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        let concerned = |problem: &&Problem| scope.concerns(problem, inventory, &own);
        let mut problems: Vec<Problem> = plan.problems.iter().filter(concerned).cloned().collect();
        problems.extend(open);
        Ok(Outcome { generation: plan.generation, hosts, problems })
    }

    /// Locks what a hook's VM no longer uses, so that its next start finds it closed. Answers what is still open.
    async fn lock_idle(&self, scope: &Scope, plan: &Plan, end: Instant) -> Vec<Problem> {
        let Scope::Vm { vm, .. } = scope else { return Vec::new() };
        let guests: BTreeSet<_> = plan.seen.inventory.guests(vm).map(|(guest, _)| guest).collect();
        let mut problems = Vec::new();
        for vif in plan.idle.iter().filter(|vif| guests.contains(&vif.found.vm)) {
            let closed = timeout_at(end, idle::close(&self.client, vif, &self.duty)).await;
            if let Err(why) = closed.unwrap_or_else(|_| Err("XAPI has not answered in time".to_owned())) {
                problems.push(Problem::still_open(vif, vm, &why));
            }
        }
        problems
    }

    /// Has a guest waited for where it goes, or no longer.
    fn announce(&self, scope: &Scope, migration: &Migration, plan: &Plan) -> Result<(), HookError> {
        let Scope::Vm { vm, .. } = scope else { return Ok(()) };
        let inventory = &plan.seen.inventory;
        scope.is_clear(inventory)?;
        let to = match migration {
            Migration::To(destination) => {
                // Who does not run does not migrate.
                scope.own_hosts(inventory)?;
                destination.own_hosts(inventory)?.into_iter().next()
            }
            Migration::Over => None,
        };
        self.announced.send_modify(|announced| {
            for (guest, _) in inventory.guests(vm) {
                match &to {
                    Some(to) => announced.add(guest.clone(), to.clone()),
                    None => announced.remove(guest),
                }
            }
        });
        Ok(())
    }

    /// A plan made from what the pool and the store hold at this moment, or later, and given to the hosts' workers.
    pub(super) async fn plan_of_now(&self) -> Result<Arc<Plan>, HookError> {
        let generation = *self.store.subscribe().borrow();
        let announced = self.announced.borrow().number;
        let seen = self.watcher.fresh().await.map_err(HookError::Xapi)?;
        let is_of_now =
            |made_of: (u64, u64, u64)| made_of.0 >= seen && made_of.1 >= generation && made_of.2 >= announced;
        let mut plans = self.hosts.plans();
        let mut trouble = self.trouble.clone();
        loop {
            if let Some(plan) = &*plans.borrow_and_update()
                && is_of_now((plan.seen.number, plan.generation, plan.announced))
            {
                return Ok(Arc::clone(plan));
            }
            if let Some(Trouble { seen, generation, announced, reason }) = &*trouble.borrow_and_update()
                && is_of_now((*seen, *generation, *announced))
            {
                return Err(HookError::Plan(reason.clone()));
            }
            let ended = tokio::select! {
                changed = plans.changed() => changed.is_err(),
                changed = trouble.changed() => changed.is_err(),
            };
            if ended {
                return Err(HookError::Stopping);
            }
        }
    }
}

/// The VIFs a hook is about; none: all of its hosts'.
fn ports_about(scope: &Scope, plan: &Plan) -> Option<BTreeSet<VifUuid>> {
    let Scope::Vm { vm, .. } = scope else { return None };
    let vms: BTreeSet<_> = plan.seen.inventory.guests(vm).map(|(reference, _)| reference).collect();
    let bindings = plan.bindings.iter().filter(|binding| vms.contains(&binding.vm));
    Some(bindings.map(|binding| binding.vif.clone()).collect())
}

/// The hosts, beside the hook's own, where something may stand that should no longer, of these VIFs or of any.
fn may_hold(
    workers: &BTreeMap<Ref<Host>, Handle>,
    plan: &Plan,
    about: Option<&BTreeSet<VifUuid>>,
    own: &BTreeSet<Ref<Host>>,
) -> BTreeSet<Ref<Host>> {
    let others = workers.iter().filter(|(host, _)| !own.contains(*host));
    let holding = others.filter(|(host, worker)| {
        may_be_left(worker.health().standing.as_deref(), plan.hosts.get(*host).map(Arc::as_ref), about)
    });
    holding.map(|(host, _)| host.clone()).collect()
}

/// Whether something may stand on a host that it should hold no longer, of these VIFs or of any.
fn may_be_left(
    standing: Option<&HostDesired>,
    wanted: Option<&HostDesired>,
    about: Option<&BTreeSet<VifUuid>>,
) -> bool {
    // What stands where nothing was enforced yet since the daemon began, nobody knows.
    let Some(standing) = standing else { return true };
    let vifs = |host: &HostDesired| -> BTreeSet<VifUuid> {
        let vifs = host.policy.ports().map(|port| port.vif.clone());
        vifs.filter(|vif| about.is_none_or(|about| about.contains(vif))).collect()
    };
    !vifs(standing).is_subset(&wanted.map(vifs).unwrap_or_default())
}

/// Waits for a host the hook is about. It is read, whatever is thought to stand there. One that the VM has left does not count
/// while XAPI holds it for offline: nobody runs there, and what is left goes when it is back, which may take days.
async fn own_host(
    worker: Handle,
    plan: u64,
    about: Option<BTreeSet<VifUuid>>,
    is_left: bool,
    end: Instant,
) -> HostOutcome {
    let health: Option<Health> = timeout_at(end, worker.acted_on(plan, worker.kick())).await.ok();
    let is_offline =
        health.iter().filter_map(|health| health.failing.as_ref()).any(|failing| failing.offline);
    let state = state_of(health, plan);
    let closed = || {
        let health = worker.health();
        let is_about =
            |vif: &str| about.as_ref().is_none_or(|about| about.iter().any(|it| it.as_str() == vif));
        let closed = health.quarantined.into_iter().filter(|port| is_about(&port.vif));
        closed.map(|port| format!("{}: {}", port.interface, port.reason)).collect::<Vec<_>>().join("; ")
    };
    let state = state.and_then(|()| match closed() {
        reasons if reasons.is_empty() => Ok(()),
        reasons => Err(Why::Closed(reasons)),
    });
    HostOutcome { name: worker.task().name, own: !(is_left && is_offline), state }
}

/// Waits for another; not if it fails already.
async fn other_host(worker: Handle, plan: u64, end: Instant) -> HostOutcome {
    let health = timeout_at(end, worker.stands_or_fails(plan)).await.ok();
    HostOutcome { name: worker.task().name, own: false, state: state_of(health, plan) }
}

fn state_of(health: Option<Health>, plan: u64) -> Result<(), Why> {
    match health {
        Some(Health { failing: Some(failing), .. }) => Err(Why::Failed(failing.reason)),
        Some(health) if health.stands(plan) => Ok(()),
        Some(_) => Err(Why::Gone),
        None => Err(Why::Late),
    }
}

#[cfg(test)]
mod tests {
    use ruleset::model::{Port, PortSecurity};
    use ruleset::resolve::{Attachment, HostPolicy};
    use xenapi::Backend;

    use super::*;

    fn vif(n: u8) -> VifUuid {
        format!("00000000-0000-0000-0000-00000000000{n}").parse().unwrap()
    }

    fn host(vifs: &[u8]) -> HostDesired {
        let attachments = vifs.iter().map(|n| Attachment {
            port: Port {
                vif: vif(*n),
                mac: "00:16:3e:00:00:01".parse().unwrap(),
                addresses: Vec::new(),
                pairs: Vec::new(),
                groups: Vec::new(),
                security: PortSecurity::Off,
            },
            domid: 1,
            device: 0,
            bridge: "xenbr0".parse().unwrap(),
        });
        HostDesired {
            backend: Backend::Bridge,
            policy: HostPolicy { attachments: attachments.collect(), ..HostPolicy::default() },
            locking: Vec::new(),
            locked: BTreeMap::new(),
        }
    }

    /// A hook said that nothing was left of a VM, while a daemon that had just begun had not read the VM's host yet.
    #[test]
    fn of_a_host_that_was_not_read_yet_something_may_be_left() {
        let (both, one, about) = (host(&[1, 2]), host(&[1]), BTreeSet::from([vif(1)]));
        assert!(may_be_left(None, Some(&one), None));
        assert!(may_be_left(None, Some(&one), Some(&about)));
        assert!(may_be_left(Some(&both), Some(&one), None));
        assert!(may_be_left(Some(&both), None, Some(&about)));
        assert!(!may_be_left(Some(&both), Some(&one), Some(&about)));
        assert!(!may_be_left(Some(&one), Some(&both), None));
    }
}
