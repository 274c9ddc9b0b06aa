//! How ports stand.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a port stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortState {
    /// In a word.
    pub status: PortStatus,
    /// Name of the host where it is, if its VM runs.
    pub host: Option<String>,
    /// The VIF's uuid, if it was found.
    pub vif: Option<String>,
    /// Its interface in dom0, if it has one.
    pub interface: Option<String>,
    /// The generation that is enforced for it, if any is.
    pub enforced_generation: Option<u64>,
    /// When somebody else was last found to have changed its host's rules, RFC 3339.
    pub last_drift: Option<String>,
    /// Why it is closed, if it is.
    pub quarantine: Option<String>,
    /// What failed last on its host, why it is bound to no VIF, or why nothing is written.
    pub last_error: Option<String>,
}

/// How a port stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortStatus {
    /// Its rules stand as the store's newest generation says, and were read back.
    Enforced,
    /// What the newest generation says of it is not yet known to stand; `enforced_generation` does.
    Pending,
    /// Its VM does not run: there is nothing to enforce.
    Idle,
    /// No VIF fits it; `last_error` says what is missing.
    Unbound,
    /// It is closed: dom0 refuses its rules, or the switch does not have it.
    Quarantined,
    /// Its host fails; `last_error` says how. What stood there stands.
    Failing,
    /// This driver does not write; `last_error` says why.
    Standby,
}

impl PortState {
    /// A port that was not looked at yet.
    #[must_use]
    pub fn pending() -> Self {
        Self {
            status: PortStatus::Pending,
            host: None,
            vif: None,
            interface: None,
            enforced_generation: None,
            last_drift: None,
            quarantine: None,
            last_error: None,
        }
    }
}
