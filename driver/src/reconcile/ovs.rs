//! An Open vSwitch host: the flows of each real bridge.

use std::collections::BTreeSet;

use ruleset::ids::{Interface, VifUuid};
use ruleset::ovs::{Change, CompileError, Dialect, FlowPlan, Observed, Switch, Version, plan};
use ruleset::resolve::{Attachment, HostPolicy};

use super::{Mode, ReconcileError};
use crate::desired::HostDesired;
use crate::dom0::{Dom0, Dom0Error};
use crate::report::{HostChange, HostReport};

/// Reads, compares, writes and verifies, bridge by bridge; then locks the VIFs. Locking gives a port another number, so
/// where something was set all is looked at once more.
pub(super) async fn carry_out(
    dom0: &Dom0<'_>,
    desired: &HostDesired,
    mode: Mode,
    seed: u64,
    report: &mut HostReport,
) -> Result<(), ReconcileError> {
    let mut portless = all_bridges(dom0, desired, mode, seed, report).await?;
    if super::lock(dom0, desired, mode, report).await? {
        portless = all_bridges(dom0, desired, mode, seed, report).await?;
    }
    if portless.is_empty() {
        return Ok(());
    }
    let names = desired.policy.attachments.iter().filter(|a| portless.contains(&a.port.vif));
    let names = names.map(|a| format!("{} on {}", a.interfaces()[0], a.bridge)).collect();
    match mode {
        Mode::Apply { .. } => Err(ReconcileError::NoPort(names)),
        Mode::Plan => {
            let off_the_bridge = "no port on the switch yet; it is set when the VIF is put on its bridge";
            report
                .complaints
                .extend(names.into_iter().map(|name: String| format!("{name}: {off_the_bridge}")));
            Ok(())
        }
    }
}

/// Every bridge is attempted whatever becomes of the others; the first failure is told. Answers the ports that the switch
/// does not have.
async fn all_bridges(
    dom0: &Dom0<'_>,
    desired: &HostDesired,
    mode: Mode,
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
    mode: Mode,
    seed: u64,
}

struct Done {
    written: bool,
    missing: Vec<VifUuid>,
}

impl Work<'_> {
    async fn carry_out(&self, report: &mut HostReport) -> Result<Done, ReconcileError> {
        let Self { dom0, switch, bridge, mode, .. } = self;
        let read = |source| ReconcileError::ReadFlows { bridge: (*bridge).clone(), source };
        let dialect = match switch.dialect(bridge, self.version) {
            Ok(dialect) => dialect,
            // Nobody's business what other bridges speak.
            Err(_) if !self.has_something_to_enforce() => {
                return Ok(Done { written: false, missing: Vec::new() });
            }
            Err(lacks) => return Err(read(Dom0Error::Lacks(lacks))),
        };
        let generation = match mode {
            Mode::Plan => None,
            Mode::Apply { generation } => Some(*generation),
        };
        let observed = dom0.flows(bridge, dialect, generation).await.map_err(read)?;
        let planned = self.plan(&observed).map_err(|error| self.cannot_compile(error))?;
        let input = planned.input(dialect);
        let FlowPlan { changes, complaints, missing } = planned;
        let written = match generation {
            Some(generation) if !changes.is_empty() => {
                self.write(dialect, &input, generation, report).await?;
                true
            }
            _ => false,
        };
        let change = |change| HostChange::Flows { bridge: (*bridge).clone(), change: Box::new(change) };
        report.changes.extend(changes.into_iter().map(change));
        report.complaints.extend(complaints);
        Ok(Done { written, missing })
    }

    /// Writes, and verifies by what the plugin reads back.
    async fn write(
        &self,
        dialect: Dialect,
        input: &str,
        generation: u64,
        report: &mut HostReport,
    ) -> Result<(), ReconcileError> {
        let bridge = || self.bridge.clone();
        let after = self
            .dom0
            .write_flows(self.bridge, dialect, input, generation)
            .await
            .map_err(|source| ReconcileError::WriteFlows { bridge: bridge(), source })?;
        report.bytes_written += input.len();
        let rest = self.plan(&after).map_err(|error| self.cannot_compile(error))?;
        if !rest.is_empty() {
            let difference =
                rest.changes.iter().take(3).map(Change::to_string).collect::<Vec<_>>().join("; ");
            return Err(ReconcileError::VerifyFlows { bridge: bridge(), difference });
        }
        Ok(())
    }

    fn plan(&self, observed: &Observed) -> Result<FlowPlan, CompileError> {
        plan(self.policy, &self.switch.host, self.bridge, observed, self.seed)
    }

    fn cannot_compile(&self, source: CompileError) -> ReconcileError {
        ReconcileError::CompileFlows { bridge: self.bridge.clone(), source }
    }

    fn has_something_to_enforce(&self) -> bool {
        let is_here = |network: &Interface| {
            self.switch.host.networks.get(network).is_some_and(|network| network.parent == *self.bridge)
        };
        self.policy.attachments.iter().any(|a| is_here(&a.bridge)) || self.policy.guarded.iter().any(is_here)
    }
}
