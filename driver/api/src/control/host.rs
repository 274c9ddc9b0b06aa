//! How hosts stand.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A host, as the daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostState {
    /// XAPI's uuid.
    pub uuid: String,
    /// Name.
    pub name: String,
    /// How it stands.
    pub status: HostStatus,
    /// `iptables` or `openvswitch`, if known.
    pub backend: Option<String>,
    /// The generation that is enforced there, if any is.
    pub enforced_generation: Option<u64>,
    /// The generation that should be.
    pub wanted_generation: u64,
    /// Guests' ports that are enforced there.
    pub ports: u64,
    /// Ports that are closed: dom0 refuses their rules, or the switch does not have them.
    pub quarantined: Vec<Quarantine>,
    /// What is wrong there and not the driver's to change.
    pub complaints: Vec<String>,
    /// When somebody else was last found to have changed our rules there, RFC 3339.
    pub last_drift: Option<String>,
    /// When it last was as it should be, RFC 3339.
    pub last_success: Option<String>,
    /// What failed last; absent when the last attempt succeeded.
    pub last_error: Option<String>,
    /// When it is tried again, RFC 3339, if it failed.
    pub next_attempt: Option<String>,
}

/// How a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostStatus {
    /// As it should be.
    InSync,
    /// Marked to be looked at, or being worked on.
    Pending,
    /// The last attempt failed; it is tried again. What stood there stands.
    Failing,
    /// Set aside after it has failed again and again; `last_error` says why. It is tried now and then, at once by a hook.
    Quarantined,
    /// It does not say how it switches packets, so nothing can be enforced on it; `last_error` says more.
    Unsupported,
    /// This driver does not write, to no host; `last_error` says why.
    Standby,
}

/// A port that was closed: nothing but what every guest needs passes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// The VIF's uuid.
    pub vif: String,
    /// Its interface in dom0.
    pub interface: String,
    /// What dom0 says to its rules.
    pub reason: String,
}

/// What of the store fits nothing in the pool, or what of the pool cannot be enforced. Somebody has to see to it; the rest is
/// enforced all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Misfit {
    /// What it is.
    pub kind: MisfitKind,
    /// The port's or the guarded network's id in the store, or the host's name.
    pub id: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What fits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MisfitKind {
    /// A port of the store.
    Port,
    /// A guarded network.
    GuardedNetwork,
    /// A host of the pool.
    Host,
}
