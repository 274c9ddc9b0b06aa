//! How a host is doing, as its worker sees it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ruleset::iptables::ConntrackFill;

use crate::desired::HostDesired;
use crate::report::{HostReport, Quarantined, Status};

use super::worker::Task;

/// What is known of a host.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// The newest plan that is known to stand there, and when that was last seen to be so.
    pub enforced: Option<Enforced>,
    /// What that is.
    pub standing: Option<Arc<HostDesired>>,
    /// The newest plan the worker has acted on, whatever came of it.
    pub attempted: u64,
    /// The newest kick the worker has acted on.
    pub answered: u64,
    /// What went wrong, since the last time all was well.
    pub failing: Option<Failing>,
    /// When something in our chains or flows was last found changed by another hand. It has been put right.
    pub drift: Option<SystemTime>,
    /// Ports that are closed: dom0 refuses their rules, or the switch does not have them.
    pub quarantined: Vec<Quarantined>,
    /// What is wrong there and not ours to change.
    pub complaints: Vec<String>,
    /// How full dom0's connection tracking was when it was last read.
    pub conntrack: Option<ConntrackFill>,
    /// Changes written since the worker began.
    pub writes: u64,
    /// Reconciles since the worker began.
    pub attempts: u64,
    /// Times another hand's changes were repaired.
    pub drifts: u64,
}

/// What stands on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Enforced {
    /// Number of the plan.
    pub plan: u64,
    /// Generation of the store that the plan was made from.
    pub generation: u64,
    /// When it was read back.
    pub at: SystemTime,
}

/// A host that is not as the plan wants it.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    /// What to do about it, for the person who must act.
    pub reason: String,
    /// XAPI holds the host for offline.
    pub offline: bool,
    /// How often in a row.
    pub times: u32,
    /// Since when.
    pub since: SystemTime,
    /// When it is tried again.
    pub next: SystemTime,
}

impl Health {
    /// Whether the worker is done with a plan and a kick, well or not.
    #[must_use]
    pub(super) fn has_acted_on(&self, plan: u64, kick: u64) -> bool {
        self.answered >= kick && (self.attempted >= plan || self.stands(plan))
    }

    /// Whether this plan, or a newer one, stands.
    #[must_use]
    pub(super) fn stands(&self, plan: u64) -> bool {
        self.enforced.is_some_and(|enforced| enforced.plan >= plan)
    }

    /// A plan that asks for nothing new stands already.
    pub(super) fn stands_as_well(&mut self, task: &Task) {
        if let Some(enforced) = &mut self.enforced {
            (enforced.plan, enforced.generation) = (task.plan, task.generation);
            self.standing = Some(Arc::clone(&task.wanted));
        }
    }

    /// Takes note of a reconcile. `settled` says that this very state stood there before: what had to be changed then was
    /// changed by another hand.
    pub(super) fn note(&mut self, report: HostReport, task: &Task, settled: bool) {
        let now = SystemTime::now();
        self.attempts += 1;
        self.attempted = self.attempted.max(task.plan);
        let has_written = report.bytes_written > 0;
        self.writes += u64::from(has_written);
        self.complaints = report.complaints;
        self.conntrack = report.conntrack.or(self.conntrack);
        if report.status == Status::Failed {
            self.fail(report.error.unwrap_or_default(), report.offline, now);
            return;
        }
        self.failing = None;
        let same_ports = HostReport::missing(&self.quarantined) == HostReport::missing(&report.quarantined);
        self.quarantined = report.quarantined;
        // What a closed port lacks differs at every look, and is not written. A port that comes or goes is nobody's interference.
        if settled && same_ports && has_written {
            for change in &report.changes {
                tracing::warn!(host = report.host, %change, "changed back: another hand was at our rules");
            }
            self.drift = Some(now);
            self.drifts += 1;
        }
        self.enforced = Some(Enforced { plan: task.plan, generation: task.generation, at: now });
        self.standing = Some(Arc::clone(&task.wanted));
    }

    /// What is wrong on the host and not ours to change, for the person who must act.
    #[must_use]
    pub(super) fn complaints(&self) -> Vec<String> {
        let full = self.conntrack.filter(|fill| fill.is_high()).map(|ConntrackFill { tracked, most }| {
            format!(
                "dom0 tracks {tracked} connections of at most {most}: when it can track no more, neither guests nor dom0 \
                 itself can begin one; raise net.netfilter.nf_conntrack_max in dom0, or find the guest that opens so many"
            )
        });
        self.complaints.iter().cloned().chain(full).collect()
    }

    /// Takes note of a reconcile that came to no end.
    pub(super) fn note_silence(&mut self, reason: String, plan: u64) {
        self.attempts += 1;
        self.attempted = self.attempted.max(plan);
        self.fail(reason, false, SystemTime::now());
    }

    fn fail(&mut self, reason: String, offline: bool, now: SystemTime) {
        let (times, since) = self.failing.as_ref().map_or((0, now), |failing| (failing.times, failing.since));
        self.failing = Some(Failing { reason, offline, times: times + 1, since, next: now });
    }

    /// When it is tried again, if it fails.
    pub(super) fn try_again(&mut self, pause: Duration) {
        if let Some(failing) = &mut self.failing {
            failing.next = SystemTime::now() + pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use ruleset::resolve::HostPolicy;
    use xenapi::Backend;

    use super::*;

    fn report(missing: &[&str], bytes_written: usize) -> HostReport {
        let closed = |interface: &&str| Quarantined {
            vif: format!("of-{interface}"),
            interface: (*interface).to_owned(),
            family: None,
            reason: "no port".to_owned(),
            portless: true,
        };
        HostReport {
            host: "host1".to_owned(),
            uuid: String::new(),
            status: if bytes_written > 0 { Status::Changed } else { Status::Unchanged },
            ports: 1,
            changes: Vec::new(),
            locking: Vec::new(),
            complaints: Vec::new(),
            quarantined: missing.iter().map(closed).collect(),
            bytes_written,
            overtaken: false,
            offline: false,
            conntrack: None,
            standing: None,
            error: None,
        }
    }

    /// A VIF without a port on the switch failed its host for everybody.
    #[test]
    fn a_port_that_the_switch_lacks_fails_nobody_else_and_is_nobodys_interference() {
        let policy = HostPolicy::default();
        let wanted =
            HostDesired { backend: Backend::OpenVSwitch, policy, locking: Vec::new(), locked: [].into() };
        let task = Task {
            plan: 1,
            generation: 1,
            name: "host1".to_owned(),
            uuid: String::new(),
            incarnation: String::new(),
            hosts: 1,
            wanted: Arc::new(wanted),
        };
        let mut health = Health::default();
        for (missing, bytes_written, again, drifts) in [
            (&[][..], 9, false, 0),
            // It goes, stays away, another hand is at our flows meanwhile, it comes back.
            (&["vif1.0"], 9, true, 0),
            (&["vif1.0"], 0, false, 0),
            (&["vif1.0"], 9, false, 1),
            (&[], 9, false, 1),
            (&[], 9, false, 2),
        ] {
            let report = report(missing, bytes_written);
            assert_eq!(report.asks_for_another(&health.quarantined), again, "it is waited for once");
            health.note(report, &task, health.enforced.is_some());
            assert!(health.stands(1) && health.failing.is_none());
            assert_eq!((health.quarantined.len(), health.drifts), (missing.len(), drifts), "{missing:?}");
        }
    }
}
