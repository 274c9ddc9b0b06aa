//! How the store's ports stand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::control::{PortState, PortStatus};
use ruleset::resolve::Attachment;
use store::PortId;
use xenapi::{Host, Ref};

use super::Engine;
use super::control::rfc3339;
use super::health::Health;
use super::plan::Plan;
use super::worker::Task;
use crate::desired::{Binding, Subject};
use crate::intake::policy_file::Origin;

/// What is known of all ports at one moment.
pub(super) struct Standing {
    plan: Arc<Plan>,
    /// Whether the plan is the newest generation's.
    is_newest: bool,
    /// Why this driver does not write.
    standby: Option<String>,
    /// Why nothing new is enforced.
    obstacle: Option<String>,
    /// By port, its place among the plan's bindings, or among its problems.
    bindings: HashMap<String, usize>,
    problems: HashMap<String, usize>,
    hosts: BTreeMap<Ref<Host>, (Task, Health)>,
    /// By VIF, its interface in dom0.
    interfaces: HashMap<String, String>,
}

impl Standing {
    /// As things are now; none before there is a plan.
    pub(super) fn of(engine: &Engine) -> Option<Self> {
        let newest = *engine.store.subscribe().borrow();
        let plan = engine.plans.borrow().clone()?;
        let workers = engine.hosts.all();
        let hosts: BTreeMap<_, _> =
            workers.into_iter().map(|(host, worker)| (host, (worker.task(), worker.health()))).collect();
        let stored = |origin: &Origin| match origin {
            Origin::Stored(id) => Some(id.clone()),
            Origin::Line(_) => None,
        };
        let bindings = plan.bindings.iter().enumerate();
        let bindings = bindings.filter_map(|(at, it)| Some((stored(&it.origin)?, at))).collect();
        let problems = plan.problems.iter().enumerate().filter_map(|(at, it)| match &it.subject {
            Subject::Port(_, origin) => Some((stored(origin)?, at)),
            Subject::GuardedNetwork(_) | Subject::Host(_) | Subject::Vif(_) => None,
        });
        let problems = problems.collect();
        let attached = hosts.values().flat_map(|(task, _)| &task.wanted.policy.attachments);
        let interfaces = attached.map(|attached: &Attachment| {
            let [interface, _] = attached.interfaces();
            (attached.port.vif.to_string(), interface)
        });
        let interfaces = interfaces.collect();
        Some(Self {
            is_newest: plan.generation >= newest,
            standby: engine.standby(),
            obstacle: engine.obstacle(),
            plan,
            bindings,
            problems,
            hosts,
            interfaces,
        })
    }

    /// How a port stands.
    pub(super) fn port(&self, port: &PortId) -> PortState {
        let pending = PortState { last_error: self.obstacle.clone(), ..PortState::pending() };
        if let Some(at) = self.bindings.get(port.as_str()) {
            return self.bound(&self.plan.bindings[*at], pending);
        }
        match self.problems.get(port.as_str()) {
            Some(at) => PortState {
                status: PortStatus::Unbound,
                last_error: Some(self.plan.problems[*at].message.clone()),
                ..pending
            },
            None => pending,
        }
    }

    fn bound(&self, binding: &Binding, pending: PortState) -> PortState {
        let mut state = PortState { vif: Some(binding.vif.to_string()), ..pending };
        let Some(host) = &binding.host else {
            state.status = PortStatus::Idle;
            return state;
        };
        let record = self.plan.seen.inventory.hosts.get(host);
        state.host = record.map(|host| host.name_label.clone());
        let Some((_, health)) = self.hosts.get(host) else {
            state.status = PortStatus::Failing;
            state.last_error = record.and_then(|host| host.backend().err()).map(|error| error.to_string());
            return state;
        };
        state.interface = self.interfaces.get(binding.vif.as_str()).cloned();
        state.enforced_generation = health.enforced.map(|enforced| enforced.generation);
        state.last_drift = health.drift.map(rfc3339);
        let closed = health.quarantined.iter().find(|closed| *closed.vif == *binding.vif.as_str());
        state.quarantine = closed.map(|closed| closed.reason.clone());
        state.status = match (&self.standby, closed, &health.failing) {
            (Some(_), ..) => PortStatus::Standby,
            (None, Some(_), _) => PortStatus::Quarantined,
            (None, None, Some(_)) => PortStatus::Failing,
            (None, None, None) if self.is_newest && health.stands(self.plan.number) => PortStatus::Enforced,
            (None, None, None) => PortStatus::Pending,
        };
        if let (None, Some(failing)) = (&self.standby, &health.failing) {
            state.last_error = Some(failing.reason.clone());
        }
        state
    }
}
