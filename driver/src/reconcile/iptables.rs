//! A Linux bridge host: the rules of both families.

use ruleset::iptables::{Change, Observed, plan};
use ruleset::model::Family;
use ruleset::resolve::HostPolicy;

use super::{Mode, ReconcileError};
use crate::desired::HostDesired;
use crate::dom0::{Dom0, Dom0Error};
use crate::quarantine::{Trial, refused_ports};
use crate::report::{HostChange, HostReport, chain};

/// Reads, compares, writes and verifies; then locks the VIFs.
pub(super) async fn carry_out(
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
    super::lock(dom0, desired, mode, report).await?;
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
    report.changes.extend(planned.changes.into_iter().map(|change| HostChange::Rules { family, change }));
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
    match refused_ports(policy, &Restore { dom0, seed, family, observed }).await? {
        Some(ports) => {
            report.quarantine(policy, &ports, Some(family), &chain(&refusal));
            Ok(policy.closing(&ports))
        }
        None => Err(ReconcileError::Write { family, source: refusal }),
    }
}

/// `iptables-restore --test`
struct Restore<'a> {
    dom0: &'a Dom0<'a>,
    seed: u64,
    family: Family,
    observed: &'a Observed,
}

impl Trial for Restore<'_> {
    type Error = ReconcileError;

    async fn accepts(&self, policy: HostPolicy) -> Result<bool, ReconcileError> {
        let Self { dom0, seed, family, observed } = self;
        match plan(&policy, *family, observed, *seed)?.input {
            None => Ok(true),
            Some(input) => {
                let answer = dom0.accepts(*family, &input).await;
                answer.map_err(|source| ReconcileError::Write { family: *family, source })
            }
        }
    }
}
