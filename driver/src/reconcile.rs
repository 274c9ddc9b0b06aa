//! One host: read, compare, write, read back, verify. Everything that changes a host comes through here.

use ruleset::iptables::{Change, CompileError, Observed, plan};
use ruleset::model::Family;
use ruleset::resolve::HostPolicy;
use xenapi::{CallError, Kind};

use crate::desired::HostDesired;
use crate::dom0::{Dom0, Dom0Error};
use crate::quarantine::{SearchError, refused_ports};
use crate::report::{FamilyChange, HostReport, Quarantined, Status, chain};

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
        quarantined: Vec::new(),
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
    match write(dom0, &desired.policy, seed, family, &input, generation, report).await {
        Err(ReconcileError::Write { source, .. }) if source.is_refusal() => {
            let closed = quarantine(dom0, &desired.policy, seed, family, &observed, source, report).await?;
            match plan(&closed, family, &observed, seed)?.input {
                Some(input) => write(dom0, &closed, seed, family, &input, generation, report).await,
                None => Ok(()),
            }
        }
        done => done,
    }
}

/// Writes, and verifies by what the plugin reads back.
async fn write(
    dom0: &Dom0<'_>,
    policy: &HostPolicy,
    seed: u64,
    family: Family,
    input: &str,
    generation: u64,
    report: &mut HostReport,
) -> Result<(), ReconcileError> {
    let after = dom0
        .restore(family, input, generation)
        .await
        .map_err(|source| ReconcileError::Write { family, source })?;
    report.bytes_written += input.len();
    let rest = plan(policy, family, &after, seed)?;
    if rest.input.is_some() {
        let difference = rest.changes.iter().take(3).map(Change::to_string).collect::<Vec<_>>().join("; ");
        return Err(ReconcileError::Verify { family, difference });
    }
    Ok(())
}

/// The policy with the ports closed whose rules dom0 refuses; each of them is reported. If it is not the ports' rules,
/// the refusal stands.
async fn quarantine(
    dom0: &Dom0<'_>,
    policy: &HostPolicy,
    seed: u64,
    family: Family,
    observed: &Observed,
    refusal: Dom0Error,
    report: &mut HostReport,
) -> Result<HostPolicy, ReconcileError> {
    match refused_ports(dom0, policy, family, observed, seed).await {
        Ok(Some(ports)) => {
            let reason = chain(&refusal);
            for attachment in policy.attachments.iter().filter(|a| ports.contains(&a.port.vif)) {
                let [interface, _] = attachment.interfaces();
                tracing::warn!(host = report.host, interface, reason, "port closed: dom0 refuses its rules");
                let vif = attachment.port.vif.to_string();
                report.quarantined.push(Quarantined { vif, interface, family, reason: reason.clone() });
            }
            Ok(policy.closing(&ports))
        }
        Ok(None) => Err(ReconcileError::Write { family, source: refusal }),
        Err(SearchError::Compile(error)) => Err(error.into()),
        Err(SearchError::Dom0(source)) => Err(ReconcileError::Write { family, source }),
    }
}
