//! What the local API asks of the engine.

use std::time::{Duration, SystemTime};

use api::control::{
    ControlError, Explanation, Hook, HookHost, HookReport, HostState, HostStatus, Misfit, MisfitKind,
    Outcome, PortState, Quarantine, Question, VmEvent,
};
use async_trait::async_trait;
use ruleset::ids::GroupId;
use store::PortId;
use tokio::sync::watch;
use xenapi::Backend;

use super::Engine;
use super::duty::Duty;
use super::health::Health;
use super::hook::{self, HookError, Migration};
use super::hosts::Handle;
use super::plan::Plan;
use super::ports::Standing;
use super::worker::Task;
use crate::desired::{HostDesired, Problem, Subject};
use crate::intake::policy_file::Origin;
use crate::run::{RunError, Scope};

/// A host that has failed so often in a row is set aside: the pause between two attempts is then the longest.
const AGAIN_AND_AGAIN: u32 = 8;

#[async_trait]
impl api::Control for Engine {
    async fn hook(&self, hook: Hook, deadline: Duration) -> Result<HookReport, ControlError> {
        let migration = migration(&hook);
        match self.hook(&scope(hook), migration.as_ref(), deadline).await {
            Ok(outcome) => Ok(outcome.into()),
            Err(HookError::Deadline(_)) => Ok(HookReport {
                outcome: Outcome::Deadline,
                generation: *self.store.subscribe().borrow(),
                hosts: Vec::new(),
                problems: vec!["XAPI has not said in time what has happened".to_owned()],
            }),
            Err(error) => Err(error.into()),
        }
    }

    async fn explain(&self, question: Question) -> Result<Explanation, ControlError> {
        self.explain(question).await
    }

    async fn hosts(&self) -> Vec<HostState> {
        let wanted = *self.store.subscribe().borrow();
        let standby = self.standby();
        let workers = self.hosts.all();
        let mut hosts: Vec<_> = workers
            .values()
            .map(|worker| host(&worker.task(), worker.health(), wanted, standby.as_deref()))
            .collect();
        if let Some(plan) = &*self.plans.borrow() {
            hosts.extend(unsupported(plan, wanted));
        }
        hosts.sort_by(|a, b| (&a.name, &a.uuid).cmp(&(&b.name, &b.uuid)));
        hosts
    }

    async fn misfits(&self) -> Vec<Misfit> {
        self.plans.borrow().as_ref().map_or_else(Vec::new, |plan| plan.problems.iter().map(misfit).collect())
    }

    async fn port_states(&self, ports: &[PortId]) -> Vec<PortState> {
        match Standing::of(self) {
            Some(standing) => ports.iter().map(|port| standing.port(port)).collect(),
            None => vec![PortState { last_error: self.obstacle(), ..PortState::pending() }; ports.len()],
        }
    }

    async fn refresh_rules(&self, group: &GroupId) -> Vec<String> {
        self.kick(|wanted| wanted.policy.groups.contains_key(group))
    }

    async fn refresh_members(&self, group: &GroupId) -> Vec<String> {
        let group = [group.clone()].into();
        self.kick(|wanted| wanted.refers_to(&group))
    }

    async fn insist(&self) {
        self.insisted.send_replace(true);
    }

    async fn metrics(&self) -> String {
        super::metrics::text(self)
    }

    async fn ready(&self) -> Result<(), Vec<String>> {
        let trouble = [
            self.xapi.borrow().as_ref().map(|reason| format!("XAPI cannot be asked: {reason}")),
            self.trouble.borrow().as_ref().map(|it| format!("no plan can be made: {}", it.reason)),
            self.standby().map(|reason| format!("this driver does not write: {reason}")),
        ];
        let trouble: Vec<String> = trouble.into_iter().flatten().collect();
        if trouble.is_empty() { Ok(()) } else { Err(trouble) }
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.hosts.bell().subscribe()
    }
}

impl Engine {
    /// Why this driver does not write, if it does not.
    pub(super) fn standby(&self) -> Option<String> {
        match &*self.duty.borrow() {
            Duty::Active => None,
            Duty::Standby(reason) => Some(reason.to_string()),
        }
    }

    /// Why nothing new is enforced anywhere, if it is not.
    pub(super) fn obstacle(&self) -> Option<String> {
        let no_plan =
            || self.trouble.borrow().as_ref().map(|it| format!("no plan can be made: {}", it.reason));
        let no_xapi = || self.xapi.borrow().as_ref().map(|reason| format!("XAPI cannot be asked: {reason}"));
        self.standby().or_else(no_plan).or_else(no_xapi)
    }

    /// Has the hosts looked at now whose share is such; their names.
    fn kick(&self, concerned: impl Fn(&HostDesired) -> bool) -> Vec<String> {
        let kick = |worker: &Handle| {
            let task = worker.task();
            concerned(&task.wanted).then(|| {
                worker.kick();
                task.name
            })
        };
        let mut names: Vec<String> = self.hosts.all().values().filter_map(kick).collect();
        names.sort_unstable();
        names
    }
}

/// What the hook says of a migration.
fn migration(hook: &Hook) -> Option<Migration> {
    match hook {
        Hook::Vm { event: VmEvent::PreMigrate, host: Some(host), .. } => {
            Some(Migration::To(Scope::Host(host.clone())))
        }
        Hook::Vm { event: VmEvent::PostMigrate, .. } => Some(Migration::Over),
        _ => None,
    }
}

fn scope(hook: Hook) -> Scope {
    match hook {
        Hook::Vm { event: VmEvent::Suspend | VmEvent::Terminate, vm, .. } => Scope::Vm { vm, leaving: true },
        Hook::Vm { vm, .. } => Scope::Vm { vm, leaving: false },
        Hook::Host { host, .. } => Scope::Host(host),
    }
}

impl From<hook::Outcome> for HookReport {
    fn from(outcome: hook::Outcome) -> Self {
        let ended = if outcome.is_ok() {
            Outcome::Enforced
        } else if outcome.is_late() {
            Outcome::Deadline
        } else {
            Outcome::Failed
        };
        let hook::Outcome { generation, hosts, problems } = outcome;
        let hosts = hosts.into_iter().map(|hook::HostOutcome { name, own: _, state }| HookHost {
            host: name,
            enforced: state.is_ok(),
            error: state.err().map(|why| why.to_string()),
        });
        let problems =
            problems.into_iter().map(|problem| format!("{}: {}", problem.subject, problem.message));
        Self { outcome: ended, generation, hosts: hosts.collect(), problems: problems.collect() }
    }
}

impl From<HookError> for ControlError {
    fn from(error: HookError) -> Self {
        match error {
            HookError::Standby(reason) => Self::Standby(reason.to_string()),
            HookError::Xapi(reason) => Self::XapiUnavailable(reason),
            HookError::Plan(reason) => Self::NoPlan(reason),
            HookError::Stopping => Self::ShuttingDown,
            HookError::Subject(RunError::UnknownVm(vm)) => Self::UnknownVm(vm),
            HookError::Subject(RunError::AmbiguousVm(vm)) => Self::AmbiguousVm(vm),
            HookError::Subject(RunError::NotRunning(vm)) => Self::NotRunning(vm),
            HookError::Subject(RunError::UnknownHost(host)) => Self::UnknownHost(host),
            HookError::Subject(RunError::AmbiguousHost(host)) => Self::AmbiguousHost(host),
            HookError::Deadline(_) | HookError::Subject(_) => Self::NoPlan(error.to_string()),
        }
    }
}

/// Hosts that no worker can do anything about.
fn unsupported(plan: &Plan, wanted: u64) -> impl Iterator<Item = HostState> {
    let hosts = plan.seen.inventory.hosts.iter().filter(|(reference, _)| !plan.hosts.contains_key(reference));
    hosts.map(move |(_, host)| HostState {
        uuid: host.uuid.to_string(),
        name: host.name_label.clone(),
        status: HostStatus::Unsupported,
        backend: None,
        enforced_generation: None,
        wanted_generation: wanted,
        ports: 0,
        quarantined: Vec::new(),
        complaints: Vec::new(),
        last_drift: None,
        last_success: None,
        last_error: host.backend().err().map(|error| error.to_string()),
        next_attempt: None,
    })
}

fn misfit(problem: &Problem) -> Misfit {
    let Problem { subject, vm: _, message } = problem;
    let misfit = |kind, id: &str| Misfit { kind, id: id.to_owned(), message: message.clone() };
    match subject {
        Subject::Port(target, Origin::Stored(id)) => {
            Misfit { message: format!("{target}: {message}"), ..misfit(MisfitKind::Port, id) }
        }
        Subject::Port(target, Origin::Line(_)) => misfit(MisfitKind::Port, &target.to_string()),
        Subject::Vif(name) => misfit(MisfitKind::Port, name),
        Subject::GuardedNetwork(name) => misfit(MisfitKind::GuardedNetwork, name),
        Subject::Host(name) => misfit(MisfitKind::Host, name),
    }
}

fn host(task: &Task, health: Health, wanted: u64, standby: Option<&str>) -> HostState {
    let status = match (&health.failing, health.enforced) {
        _ if standby.is_some() => HostStatus::Standby,
        (Some(failing), _) if failing.times >= AGAIN_AND_AGAIN => HostStatus::Quarantined,
        (Some(_), _) => HostStatus::Failing,
        (None, Some(enforced)) if enforced.plan >= task.plan => HostStatus::InSync,
        (None, _) => HostStatus::Pending,
    };
    let backend = match task.wanted.backend {
        Backend::Bridge => "iptables",
        Backend::OpenVSwitch => "openvswitch",
    };
    let complaints = health.complaints();
    let quarantined = health.quarantined.into_iter().map(|closed| Quarantine {
        vif: closed.vif,
        interface: closed.interface,
        reason: closed.reason,
    });
    HostState {
        uuid: task.uuid.clone(),
        name: task.name.clone(),
        status,
        backend: Some(backend.to_owned()),
        enforced_generation: health.enforced.map(|enforced| enforced.generation),
        wanted_generation: wanted,
        ports: u64::try_from(task.wanted.policy.attachments.len()).unwrap_or(u64::MAX),
        quarantined: quarantined.collect(),
        complaints,
        last_drift: health.drift.map(rfc3339),
        last_success: health.enforced.map(|enforced| rfc3339(enforced.at)),
        last_error: health
            .failing
            .as_ref()
            .map(|failing| failing.reason.clone())
            .or_else(|| standby.map(str::to_owned)),
        next_attempt: health.failing.map(|failing| rfc3339(failing.next)),
    }
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::new(), |time| time.to_string())
}
