//! One bad rule never hurts another tenant: when dom0 refuses a ruleset, the ports whose rules it refuses are found and
//! closed, and the rest is applied.
//!
//! How a refusal is worded differs between versions of iptables and Open vSwitch, and a kernel without some match refuses
//! without a line number, so the ports are found by trying: half of them, then half of that, each time without changing
//! anything.

use std::collections::BTreeSet;

use ruleset::ids::VifUuid;
use ruleset::resolve::HostPolicy;

/// Asks a dom0 about policies.
pub(crate) trait Trial {
    /// Why it could not be asked.
    type Error;

    /// Whether it would take this one. Changes nothing.
    fn accepts(&self, policy: HostPolicy) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// The ports whose groups dom0 refuses; `None` if closing ports does not help, so that it is not theirs.
///
/// # Errors
/// The trial's.
pub(crate) async fn refused_ports<T: Trial>(
    policy: &HostPolicy,
    trial: &T,
) -> Result<Option<BTreeSet<VifUuid>>, T::Error> {
    let with_groups = policy.ports().filter(|port| !port.groups.is_empty());
    let all: Vec<VifUuid> = with_groups.map(|port| port.vif.clone()).collect();
    let everybody: BTreeSet<VifUuid> = all.iter().cloned().collect();
    if !trial.accepts(policy.closing(&everybody)).await? {
        return Ok(None);
    }
    let mut refused = BTreeSet::new();
    let mut suspects = vec![all];
    while let Some(ports) = suspects.pop() {
        let others = everybody.iter().filter(|port| !ports.contains(port)).cloned().collect();
        if ports.is_empty() || trial.accepts(policy.closing(&others)).await? {
            continue;
        }
        if ports.len() == 1 {
            refused.extend(ports);
        } else {
            let (one, other) = ports.split_at(ports.len() / 2);
            suspects.extend([one.to_vec(), other.to_vec()]);
        }
    }
    Ok(trial.accepts(policy.closing(&refused)).await?.then_some(refused))
}

#[cfg(test)]
mod tests;
