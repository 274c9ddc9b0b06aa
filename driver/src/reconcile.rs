//! One host: read, compare, write, read back, verify. Everything that changes a host comes through here.

use ruleset::iptables::{Change, CompileError, Observed, plan};
use ruleset::model::Family;
use xenapi::{CallError, Kind};

use crate::desired::HostDesired;
use crate::dom0::{Dom0, Dom0Error};
use crate::report::{FamilyChange, HostReport, Status, chain};

/// Whether to change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only say what would be changed.
    Plan,
    /// Make it so. The number is the write's generation.
    Apply {
        /// See [`crate::dom0::generation`].
        generation: u64,
    },
}

/// How bringing a host to its desired state fails.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ReconcileError {
    #[error("reading the {family} rules")]
    Read { family: Family, source: Dom0Error },
    #[error("the policy cannot be compiled")]
    Compile(#[from] CompileError),
    #[error("writing the {family} rules; what stood there stands")]
    Write { family: Family, source: Dom0Error },
    #[error("the {family} rules were written, but read back they differ: {difference}")]
    Verify { family: Family, difference: String },
    #[error("the rules stand, but {vif} could not be locked")]
    Locking { vif: String, source: CallError },
}

impl ReconcileError {
    /// Whether another writer came in between.
    fn is_overtaken(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => source.is_overtaken(),
            Self::Verify { .. } => true,
            Self::Compile(_) | Self::Locking { .. } => false,
        }
    }
}

/// Brings one host to its desired state, or says what that would take.
pub async fn reconcile(
    dom0: &Dom0<'_>,
    name: &str,
    desired: &HostDesired,
    mode: Mode,
    seed: u64,
) -> HostReport {
    let mut report = HostReport {
        host: name.to_owned(),
        uuid: dom0.uuid.clone(),
        status: Status::Unchanged,
        ports: desired.policy.attachments.len(),
        changes: Vec::new(),
        locking: Vec::new(),
        complaints: Vec::new(),
        bytes_written: 0,
        overtaken: false,
        error: None,
    };
    match carry_out(dom0, desired, mode, seed, &mut report).await {
        Ok(()) => {
            let changed = !report.changes.is_empty() || !report.locking.is_empty();
            report.status = match mode {
                Mode::Plan if changed => Status::Planned,
                Mode::Apply { .. } if changed => Status::Changed,
                _ => Status::Unchanged,
            };
        }
        // A host without the plugin that has nothing to enforce is none of ours.
        Err(ReconcileError::Read { source: Dom0Error::Call(CallError::Api(error)), .. })
            if desired.is_empty() && matches!(error.kind(), Kind::MissingPlugin { .. }) =>
        {
            report.status = Status::LeftAlone;
        }
        Err(error) => {
            tracing::warn!(host = name, error = chain(&error), "host not reconciled");
            report.status = Status::Failed;
            report.overtaken = error.is_overtaken();
            report.error = Some(chain(&error));
        }
    }
    report
}

async fn carry_out(
    dom0: &Dom0<'_>,
    desired: &HostDesired,
    mode: Mode,
    seed: u64,
    report: &mut HostReport,
) -> Result<(), ReconcileError> {
    let read = async |family| {
        let observed = match mode {
            Mode::Plan => dom0.observe(family).await,
            Mode::Apply { generation } => dom0.observe_to_write(family, generation).await,
        };
        observed.map_err(|source| ReconcileError::Read { family, source })
    };
    let observed = tokio::try_join!(read(Family::Ipv4), read(Family::Ipv6))?;
    // Both families are attempted whatever becomes of the other; the first failure is told.
    let ipv4 = one_family(dom0, desired, mode, seed, Family::Ipv4, observed.0, report).await;
    let ipv6 = one_family(dom0, desired, mode, seed, Family::Ipv6, observed.1, report).await;
    ipv4.and(ipv6)?;
    // After the rules: where a VIF is off the bridge by default, this is what lets its packets come.
    for vif in &desired.locking {
        report.locking.extend(vif.describe());
        if mode != Mode::Plan {
            vif.carry_out(dom0.client)
                .await
                .map_err(|source| ReconcileError::Locking { vif: vif.name.clone(), source })?;
        }
    }
    Ok(())
}

async fn one_family(
    dom0: &Dom0<'_>,
    desired: &HostDesired,
    mode: Mode,
    seed: u64,
    family: Family,
    observed: Observed,
    report: &mut HostReport,
) -> Result<(), ReconcileError> {
    let planned = plan(&desired.policy, family, &observed, seed)?;
    report.complaints.extend(planned.complaints);
    report.changes.extend(planned.changes.into_iter().map(|change| FamilyChange { family, change }));
    let (Some(input), Mode::Apply { generation }) = (planned.input, mode) else { return Ok(()) };
    let after = dom0
        .restore(family, &input, generation)
        .await
        .map_err(|source| ReconcileError::Write { family, source })?;
    report.bytes_written += input.len();
    let rest = plan(&desired.policy, family, &after, seed)?;
    if rest.input.is_some() {
        let difference = rest.changes.iter().take(3).map(Change::to_string).collect::<Vec<_>>().join("; ");
        return Err(ReconcileError::Verify { family, difference });
    }
    Ok(())
}
