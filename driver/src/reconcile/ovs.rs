//! An Open vSwitch host: the flows of each real bridge.

use std::collections::BTreeSet;

use ruleset::ids::{Interface, VifUuid};
use ruleset::ovs::{Change, CompileError, Dialect, FlowPlan, Observed, Switch, Version, plan};
use ruleset::resolve::{Attachment, HostPolicy};

use super::{Mode, ReconcileError};
use crate::desired::HostDesired;
use crate::dom0::{Dom0, Dom0Error};
use crate::quarantine::{Trial, refused_ports};
use crate::report::{HostChange, HostReport, chain};

/// Reads, compares, writes and verifies, bridge by bridge; then locks the VIFs. Locking gives a port another number, so
/// where something was set all is looked at once more.
pub(super) async fn carry_out(
    dom0: &Dom0<'_>,
    desired: &HostDesired,
    mode: Mode<'_>,
    seed: u64,
    report: &mut HostReport,
) -> Result<(), ReconcileError> {
    let mut portless = all_bridges(dom0, desired, mode, seed, report).await?;
    if super::lock(dom0, desired, mode, report).await? {
        // Said anew, if it still holds.
        report.complaints.clear();
        report.quarantined.clear();
        portless = all_bridges(dom0, desired, mode, seed, report).await?;
    }
    if portless.is_empty() {
        return Ok(());
    }
    match mode {
        Mode::Apply { .. } | Mode::Amend { .. } => report.portless(&desired.policy, &portless),
        Mode::Plan => {
            let off_the_bridge = "no port on the switch yet; it is set when the VIF is put on its bridge";
            let portless = desired.policy.attachments.iter().filter(|a| portless.contains(&a.port.vif));
            let complaints =
                portless.map(|a| format!("{} on {}: {off_the_bridge}", a.interfaces()[0], a.bridge));
            report.complaints.extend(complaints);
        }
    }
    Ok(())
}

/// Every bridge is attempted whatever becomes of the others; the first failure is told. Answers the ports that the switch
/// does not have.
async fn all_bridges(
    dom0: &Dom0<'_>,
    desired: &HostDesired,
    mode: Mode<'_>,
    seed: u64,
    report: &mut HostReport,
) -> Result<BTreeSet<VifUuid>, ReconcileError> {
    let (switch, version) = read_switch(dom0, desired).await?;
    let (policy, mut portless) = present(&desired.policy, &switch);
    let (mut written, mut outcome) = (false, Ok(()));
    for bridge in switch.bridges() {
        let work = Work { dom0, policy: &policy, switch: &switch, version, bridge, mode, seed };
        match work.carry_out(report).await {
            Ok(done) => {
                written |= done.written;
                portless.extend(done.missing);
            }
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    outcome?;
    // Ports come, go and change their numbers without a word.
    if written && read_switch(dom0, desired).await?.0 != switch {
        return Err(ReconcileError::PortsChanged);
    }
    Ok(portless)
}

async fn read_switch(dom0: &Dom0<'_>, desired: &HostDesired) -> Result<(Switch, Version), ReconcileError> {
    let (mut switch, version) = dom0.switch().await.map_err(ReconcileError::ReadSwitch)?;
    switch.note_locked(&desired.locked);
    Ok((switch, version))
}

/// The policy without the ports whose network the switch does not have, and those.
fn present(policy: &HostPolicy, switch: &Switch) -> (HostPolicy, BTreeSet<VifUuid>) {
    let mut policy = policy.clone();
    let is_there = |a: &Attachment| switch.host.networks.contains_key(&a.bridge);
    let gone = policy.attachments.iter().filter(|a| !is_there(a)).map(|a| a.port.vif.clone()).collect();
    policy.attachments.retain(is_there);
    (policy, gone)
}

/// One bridge.
struct Work<'a> {
    dom0: &'a Dom0<'a>,
    policy: &'a HostPolicy,
    switch: &'a Switch,
    version: Version,
    bridge: &'a Interface,
    mode: Mode<'a>,
    seed: u64,
}

#[derive(Default)]
struct Done {
    written: bool,
    missing: Vec<VifUuid>,
}

impl Work<'_> {
    async fn carry_out(&self, report: &mut HostReport) -> Result<Done, ReconcileError> {
        let dialect = match self.switch.dialect(self.bridge, self.version) {
            Ok(dialect) => dialect,
            // Nobody's business what other bridges speak.
            Err(_) if !self.has_something_to_enforce() => return Ok(Done::default()),
            Err(lacks) => return Err(self.unread(lacks.into())),
        };
        let generation = self.mode.generation();
        let observed = self.observe(dialect, generation).await?;
        let (policy, planned) = self.fitting(&observed, report).map_err(|error| self.uncompiled(error))?;
        let mut done = Done { written: false, missing: planned.missing.clone() };
        report.complaints.extend(planned.complaints.iter().cloned());
        let Some(generation) = generation.filter(|_| !planned.is_empty()) else {
            self.tell(planned, report);
            return Ok(done);
        };
        done.written = true;
        match self.write(&policy, planned, dialect, generation, report).await {
            Err(ReconcileError::WriteFlows { source, .. }) if source.is_refusal() => {
                let closed = self.quarantine(&policy, dialect, generation, *source, report).await?;
                let planned = self.plan(&closed, &observed).map_err(|error| self.uncompiled(error))?;
                if !planned.is_empty() {
                    self.write(&closed, planned, dialect, generation, report).await?;
                }
            }
            outcome => outcome?,
        }
        Ok(done)
    }

    /// Writes, and verifies by what the plugin reads back.
    async fn write(
        &self,
        policy: &HostPolicy,
        planned: FlowPlan,
        dialect: Dialect,
        generation: u64,
        report: &mut HostReport,
    ) -> Result<(), ReconcileError> {
        if !dialect.bundle {
            // A refusal halfway would leave half of it.
            let answer = self.try_out(&planned, dialect, generation).await;
            self.end_trial(dialect, generation).await?;
            answer.map_err(|error| self.unwritten(error))?;
        }
        let input = planned.input(dialect);
        let after = self
            .dom0
            .write_flows(self.bridge, dialect, &input, generation)
            .await
            .map_err(|error| self.unwritten(error))?;
        report.bytes_written += input.len();
        self.tell(planned, report);
        let rest = self.plan(policy, &after).map_err(|error| self.uncompiled(error))?;
        if rest.is_empty() {
            return Ok(());
        }
        let difference = rest.changes.iter().take(3).map(Change::to_string).collect::<Vec<_>>().join("; ");
        Err(ReconcileError::VerifyFlows { bridge: self.bridge.clone(), difference })
    }

    /// The plan, and the policy it carries out: without the ports that the switch cannot have as they are (too many groups,
    /// say), each of which is closed and reported.
    fn fitting(
        &self,
        observed: &Observed,
        report: &mut HostReport,
    ) -> Result<(HostPolicy, FlowPlan), CompileError> {
        let mut policy = self.policy.clone();
        let mut closed = BTreeSet::new();
        loop {
            let error = match self.plan(&policy, observed) {
                Ok(planned) => return Ok((policy, planned)),
                Err(error) => error,
            };
            let culprits = match &error {
                CompileError::Long { culprits, .. } if !culprits.is_subset(&closed) => culprits,
                _ => return Err(error),
            };
            report.quarantine(&policy, culprits, None, &chain(&error));
            policy = policy.closing(culprits);
            closed.extend(culprits.iter().cloned());
        }
    }

    /// The policy with the ports closed whose flows the switch refuses; each of them is reported. If it is not the ports'
    /// flows, the refusal stands.
    async fn quarantine(
        &self,
        policy: &HostPolicy,
        dialect: Dialect,
        generation: u64,
        refusal: Dom0Error,
        report: &mut HostReport,
    ) -> Result<HostPolicy, ReconcileError> {
        let refused = refused_ports(policy, &Reading { work: self, dialect, generation }).await;
        self.end_trial(dialect, generation).await?;
        match refused? {
            Some(ports) => {
                report.quarantine(policy, &ports, None, &chain(&refusal));
                Ok(policy.closing(&ports))
            }
            None => Err(self.unwritten(refusal)),
        }
    }

    /// Has the switch read the flows of a plan.
    async fn try_out(&self, planned: &FlowPlan, dialect: Dialect, generation: u64) -> Result<(), Dom0Error> {
        match planned.trial() {
            Some(input) => self.dom0.write_flows(self.bridge, dialect, &input, generation).await.map(drop),
            None => Ok(()),
        }
    }

    async fn end_trial(&self, dialect: Dialect, generation: u64) -> Result<(), ReconcileError> {
        let answer = self.dom0.write_flows(self.bridge, dialect, &FlowPlan::end_of_trial(), generation).await;
        answer.map(drop).map_err(|error| self.unwritten(error))
    }

    async fn observe(&self, dialect: Dialect, generation: Option<u64>) -> Result<Observed, ReconcileError> {
        self.dom0.flows(self.bridge, dialect, generation).await.map_err(|error| self.unread(error))
    }

    fn plan(&self, policy: &HostPolicy, observed: &Observed) -> Result<FlowPlan, CompileError> {
        plan(policy, &self.switch.host, self.bridge, observed, self.seed)
    }

    fn tell(&self, planned: FlowPlan, report: &mut HostReport) {
        let bridge = self.bridge;
        let change = |change| HostChange::Flows { bridge: bridge.clone(), change: Box::new(change) };
        report.changes.extend(planned.changes.into_iter().map(change));
    }

    fn unread(&self, source: Dom0Error) -> ReconcileError {
        ReconcileError::ReadFlows { bridge: self.bridge.clone(), source: Box::new(source) }
    }

    fn unwritten(&self, source: Dom0Error) -> ReconcileError {
        ReconcileError::WriteFlows { bridge: self.bridge.clone(), source: Box::new(source) }
    }

    fn uncompiled(&self, source: CompileError) -> ReconcileError {
        ReconcileError::CompileFlows { bridge: self.bridge.clone(), source }
    }

    fn has_something_to_enforce(&self) -> bool {
        let is_here = |network: &Interface| {
            self.switch.host.networks.get(network).is_some_and(|network| network.parent == *self.bridge)
        };
        let HostPolicy { attachments, expected, guarded, .. } = self.policy;
        let ports = attachments.iter().map(|a| &a.bridge).chain(expected.iter().map(|e| &e.bridge));
        ports.chain(guarded).any(is_here)
    }
}

/// Has the switch read flows without keeping them.
struct Reading<'a> {
    work: &'a Work<'a>,
    dialect: Dialect,
    generation: u64,
}

impl Trial for Reading<'_> {
    type Error = ReconcileError;

    async fn accepts(&self, policy: HostPolicy) -> Result<bool, ReconcileError> {
        let Self { work, dialect, generation } = self;
        let planned = work.plan(&policy, &Observed::default()).map_err(|error| work.uncompiled(error))?;
        match work.try_out(&planned, *dialect, *generation).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_refusal() => Ok(false),
            Err(error) => Err(work.unwritten(error)),
        }
    }
}
