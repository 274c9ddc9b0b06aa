//! One host: read, compare, write, read back, verify. Everything that changes a host comes through here.

mod iptables;
mod ovs;
mod rounds;
mod standing;

use ruleset::ids::Interface;
use ruleset::iptables::CompileError;
use ruleset::model::Family;
use ruleset::ovs as flows;
use xenapi::{Backend, CallError, Kind};

use crate::desired::HostDesired;
use crate::dom0::{Dom0, Dom0Error};
use crate::report::{HostReport, Status, chain};

pub(crate) use rounds::Rounds;
pub use standing::Standing;

/// Whether to change anything, and what that begins with.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Read, and only say what would be changed.
    Plan,
    /// Read, and make it so. The number is the write's generation.
    Apply {
        /// See [`crate::dom0::generation`].
        generation: u64,
    },
    /// Make it so where this stands. If it does not, the report's `overtaken` says so. (Switches are read all the same.)
    Amend {
        /// What was enforced when the host was last read.
        before: &'a HostDesired,
        /// How that stood.
        standing: Standing,
    },
}

impl Mode<'_> {
    /// As whom to write, if at all.
    fn generation(self) -> Option<u64> {
        match self {
            Self::Plan => None,
            Self::Apply { generation } => Some(generation),
            Self::Amend { standing, .. } => Some(standing.generation),
        }
    }
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
    #[error("reading the switch's bridges and ports")]
    ReadSwitch(#[source] Dom0Error),
    #[error("reading the flows of bridge {bridge}")]
    ReadFlows { bridge: Interface, source: Box<Dom0Error> },
    #[error("the policy cannot be compiled to flows of bridge {bridge}")]
    CompileFlows { bridge: Interface, source: flows::CompileError },
    #[error("writing the flows of bridge {bridge}")]
    WriteFlows { bridge: Interface, source: Box<Dom0Error> },
    #[error("the flows of bridge {bridge} were written, but read back they differ: {difference}")]
    VerifyFlows { bridge: Interface, difference: String },
    #[error("the flows were written, but meanwhile the switch's ports changed")]
    PortsChanged,
    #[error("the rules stand, but {vif} could not be locked")]
    Locking { vif: String, source: CallError },
}

impl ReconcileError {
    /// Whether another writer came in between.
    fn is_overtaken(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } | Self::ReadSwitch(source) => {
                source.is_overtaken()
            }
            Self::ReadFlows { source, .. } | Self::WriteFlows { source, .. } => source.is_overtaken(),
            Self::Verify { .. } | Self::VerifyFlows { .. } | Self::PortsChanged => true,
            Self::Compile(_) | Self::CompileFlows { .. } | Self::Locking { .. } => false,
        }
    }

    /// Whether what was to be written does not fit what stands there, or dom0 takes offence at it in itself.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.is_refusal())
    }

    /// What XAPI answered instead of having the host read.
    fn unread(&self) -> Option<Kind<'_>> {
        let (Self::Read { source, .. } | Self::ReadSwitch(source)) = self else { return None };
        let Dom0Error::Call(CallError::Api(error)) = source else { return None };
        Some(error.kind())
    }
}

/// Brings one host to its desired state, or says what that would take.
pub async fn reconcile(
    dom0: &Dom0<'_>,
    name: &str,
    desired: &HostDesired,
    mode: Mode<'_>,
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
        conntrack: None,
        bytes_written: 0,
        overtaken: false,
        offline: false,
        standing: None,
        error: None,
    };
    let outcome = match desired.backend {
        Backend::Bridge => iptables::carry_out(dom0, desired, mode, seed, &mut report).await,
        Backend::OpenVSwitch => ovs::carry_out(dom0, desired, mode, seed, &mut report).await,
    };
    match outcome {
        Ok(()) => {
            let changed = !report.changes.is_empty() || !report.locking.is_empty();
            report.status = match mode {
                Mode::Plan if changed => Status::Planned,
                Mode::Apply { .. } | Mode::Amend { .. } if changed => Status::Changed,
                _ => Status::Unchanged,
            };
        }
        // A host without the plugin that has nothing to enforce is none of ours.
        Err(error) if desired.is_empty() && matches!(error.unread(), Some(Kind::MissingPlugin { .. })) => {
            report.status = Status::LeftAlone;
        }
        Err(error) => {
            tracing::warn!(host = name, error = chain(&error), "host not reconciled");
            report.status = Status::Failed;
            report.overtaken =
                error.is_overtaken() || matches!(mode, Mode::Amend { .. }) && error.is_refusal();
            report.offline = matches!(error.unread(), Some(Kind::HostOffline));
            report.error = Some(chain(&error));
        }
    }
    report
}

/// Brings XAPI's own VIF locking to what it should be; true if something was set. After the rules: where a VIF is off the
/// bridge by default, this is what lets its packets come.
async fn lock(
    dom0: &Dom0<'_>,
    desired: &HostDesired,
    mode: Mode<'_>,
    report: &mut HostReport,
) -> Result<bool, ReconcileError> {
    let mut set = false;
    for vif in &desired.locking {
        report.locking.extend(vif.describe());
        if !matches!(mode, Mode::Plan) {
            set |= !vif.steps().is_empty();
            vif.carry_out(dom0.client)
                .await
                .map_err(|source| ReconcileError::Locking { vif: vif.name.clone(), source })?;
        }
    }
    Ok(set)
}
