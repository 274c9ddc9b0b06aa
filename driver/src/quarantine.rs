//! One bad rule never hurts another tenant: when dom0 refuses a ruleset, the ports whose rules it refuses are found and
//! closed, and the rest is applied.
//!
//! How a refusal is worded differs between versions of iptables, and a kernel without some match refuses without a
//! line number, so the ports are found by trying: half of them, then half of that, each time with
//! `iptables-restore --test`, which changes nothing.

use std::collections::BTreeSet;

use ruleset::ids::VifUuid;
use ruleset::iptables::{CompileError, Observed, plan};
use ruleset::model::Family;
use ruleset::resolve::HostPolicy;

use crate::dom0::{Dom0, Dom0Error};

/// How the search fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Dom0(#[from] Dom0Error),
}

/// The ports whose groups dom0 refuses; `None` if closing ports does not help, so that it is not theirs.
///
/// # Errors
/// [`SearchError`]: the host could not be asked.
pub(crate) async fn refused_ports(
    dom0: &Dom0<'_>,
    policy: &HostPolicy,
    family: Family,
    observed: &Observed,
    seed: u64,
) -> Result<Option<BTreeSet<VifUuid>>, SearchError> {
    let with_groups = policy.attachments.iter().filter(|a| !a.port.groups.is_empty());
    let all: Vec<VifUuid> = with_groups.map(|a| a.port.vif.clone()).collect();
    let everybody: BTreeSet<VifUuid> = all.iter().cloned().collect();
    let accepts = async |closed: &BTreeSet<VifUuid>| -> Result<bool, SearchError> {
        match plan(&policy.closing(closed), family, observed, seed)?.input {
            None => Ok(true),
            Some(input) => Ok(dom0.accepts(family, &input).await?),
        }
    };
    if !accepts(&everybody).await? {
        return Ok(None);
    }
    let mut refused = BTreeSet::new();
    let mut suspects = vec![all];
    while let Some(ports) = suspects.pop() {
        let others = everybody.iter().filter(|port| !ports.contains(port)).cloned().collect();
        if ports.is_empty() || accepts(&others).await? {
            continue;
        }
        if ports.len() == 1 {
            refused.extend(ports);
        } else {
            let (one, other) = ports.split_at(ports.len() / 2);
            suspects.extend([one.to_vec(), other.to_vec()]);
        }
    }
    Ok(accepts(&refused).await?.then_some(refused))
}
