//! A Linux bridge host: the rules of both families.

use ruleset::iptables::{Change, CompileError, Epoch, Observed, Plan, amend, plan};
use ruleset::model::Family;
use ruleset::resolve::HostPolicy;

use super::{Mode, ReconcileError, Standing};
use crate::desired::HostDesired;
use crate::dom0::{Dom0, Dom0Error};
use crate::quarantine::{Trial, refused_ports};
use crate::report::{HostChange, HostReport, chain};

/// Reads, unless it is known what stands; compares, writes and verifies; then locks the VIFs.
pub(super) async fn carry_out(
    dom0: &Dom0<'_>,
    desired: &HostDesired,
    mode: Mode<'_>,
    seed: u64,
    report: &mut HostReport,
) -> Result<(), ReconcileError> {
    let of = |family| Work { dom0, policy: &desired.policy, family, generation: mode.generation(), seed };
    let (ipv4, ipv6) = (of(Family::Ipv4), of(Family::Ipv6));
    // Both families are attempted whatever becomes of the other; the first failure is told.
    let epochs = if let Mode::Amend { before, standing: Standing { epochs: [v4, v6], .. } } = mode {
        let ipv4 = ipv4.amend(&before.policy, v4, report).await;
        (ipv4, ipv6.amend(&before.policy, v6, report).await)
    } else {
        let observed = tokio::try_join!(ipv4.read(), ipv6.read())?;
        let ipv4 = ipv4.compare(observed.0, report).await;
        (ipv4, ipv6.compare(observed.1, report).await)
    };
    let epochs = (epochs.0?, epochs.1?);
    super::lock(dom0, desired, mode, report).await?;
    // What differs from what was compiled, or has to be said, has to be looked at again.
    let as_compiled = report.complaints.is_empty() && report.quarantined.is_empty();
    if let (true, Some(generation), (Some(v4), Some(v6))) = (as_compiled, mode.generation(), epochs) {
        report.standing = Some(Standing { epochs: [v4, v6], generation });
    }
    Ok(())
}

/// One family.
struct Work<'a> {
    dom0: &'a Dom0<'a>,
    policy: &'a HostPolicy,
    family: Family,
    /// Of who writes; none if nothing is to be written.
    generation: Option<u64>,
    seed: u64,
}

impl Work<'_> {
    async fn read(&self) -> Result<Observed, ReconcileError> {
        let Self { dom0, family, generation, .. } = *self;
        let observed = match generation {
            None => dom0.observe(family).await,
            Some(generation) => dom0.observe_to_write(family, generation).await,
        };
        observed.map_err(|source| ReconcileError::Read { family, source })
    }

    /// Makes what was read what it should be. Answers the epoch that stands then, if we are on the host.
    async fn compare(
        &self,
        observed: Observed,
        report: &mut HostReport,
    ) -> Result<Option<Epoch>, ReconcileError> {
        report.conntrack = observed.conntrack;
        let planned = self.plan(self.policy, &observed)?;
        let Some((input, generation)) = self.tell(planned, report) else { return Ok(observed.epoch()) };
        match self.write(self.policy, &input, generation, report).await {
            Err(ReconcileError::Write { source, .. }) if source.is_refusal() => {
                let closed = self.quarantine(&observed, source, report).await?;
                match self.plan(&closed, &observed)?.input {
                    Some(input) => self.write(&closed, &input, generation, report).await,
                    None => Ok(observed.epoch()),
                }
            }
            done => done,
        }
    }

    /// The same for what stood when the host was last read.
    async fn amend(
        &self,
        before: &HostPolicy,
        epoch: Epoch,
        report: &mut HostReport,
    ) -> Result<Option<Epoch>, ReconcileError> {
        let planned = amend(before, self.policy, self.family, epoch)?;
        match self.tell(planned, report) {
            Some((input, generation)) => self.write(self.policy, &input, generation, report).await,
            None => Ok(Some(epoch)),
        }
    }

    fn plan(&self, policy: &HostPolicy, observed: &Observed) -> Result<Plan, CompileError> {
        plan(policy, self.family, observed, self.seed)
    }

    /// Tells of a plan. Answers what is to be written, and as whom.
    fn tell(&self, planned: Plan, report: &mut HostReport) -> Option<(String, u64)> {
        let family = self.family;
        report.complaints.extend(planned.complaints);
        report.changes.extend(planned.changes.into_iter().map(|change| HostChange::Rules { family, change }));
        planned.input.zip(self.generation)
    }

    /// Writes, and verifies by what the plugin reads back.
    async fn write(
        &self,
        policy: &HostPolicy,
        input: &str,
        generation: u64,
        report: &mut HostReport,
    ) -> Result<Option<Epoch>, ReconcileError> {
        let family = self.family;
        let after = self
            .dom0
            .restore(family, input, generation)
            .await
            .map_err(|source| ReconcileError::Write { family, source })?;
        report.bytes_written += input.len();
        report.conntrack = after.conntrack;
        let rest = self.plan(policy, &after)?;
        if rest.input.is_some() {
            let difference =
                rest.changes.iter().take(3).map(Change::to_string).collect::<Vec<_>>().join("; ");
            return Err(ReconcileError::Verify { family, difference });
        }
        Ok(after.epoch())
    }

    /// The policy with the ports closed whose rules dom0 refuses; each of them is reported. If it is not the ports' rules,
    /// the refusal stands.
    async fn quarantine(
        &self,
        observed: &Observed,
        refusal: Dom0Error,
        report: &mut HostReport,
    ) -> Result<HostPolicy, ReconcileError> {
        let Self { policy, family, .. } = *self;
        match refused_ports(policy, &Restore { work: self, observed }).await? {
            Some(ports) => {
                report.quarantine(policy, &ports, Some(family), &chain(&refusal));
                Ok(policy.closing(&ports))
            }
            None => Err(ReconcileError::Write { family, source: refusal }),
        }
    }
}

/// `iptables-restore --test`
struct Restore<'a> {
    work: &'a Work<'a>,
    observed: &'a Observed,
}

impl Trial for Restore<'_> {
    type Error = ReconcileError;

    async fn accepts(&self, policy: HostPolicy) -> Result<bool, ReconcileError> {
        let Self { work, observed } = self;
        match work.plan(&policy, observed)?.input {
            None => Ok(true),
            Some(input) => {
                let answer = work.dom0.accepts(work.family, &input).await;
                answer.map_err(|source| ReconcileError::Write { family: work.family, source })
            }
        }
    }
}
