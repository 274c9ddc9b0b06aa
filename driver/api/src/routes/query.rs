//! What may stand behind a question mark.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::control::PortStatus;

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Begin behind this id.
    #[param(min_length = 1)]
    pub after: Option<String>,
    /// At most so many, up to 10,000; 1,000 if not given.
    #[param(minimum = 1, maximum = 10_000)]
    pub limit: Option<u32>,
    /// Only what belongs to this project.
    pub project: Option<String>,
}

/// Which ports.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PortsQuery {
    /// Begin behind this id.
    #[param(min_length = 1)]
    pub after: Option<String>,
    /// At most so many, up to 10,000; 1,000 if not given.
    #[param(minimum = 1, maximum = 10_000)]
    pub limit: Option<u32>,
    /// Only what belongs to this project.
    pub project: Option<String>,
    /// Only those in this group.
    pub group: Option<String>,
    /// Only those of this VM, named as the port names it.
    pub vm: Option<String>,
    /// Only those that stand so.
    #[param(inline)]
    pub state: Option<PortStatus>,
}

/// How a document is to be applied.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ApplyQuery {
    /// Remove whatever the document does not name.
    #[serde(default)]
    #[param(required = false)]
    pub prune: bool,
    /// Only say what would be done.
    #[serde(default)]
    #[param(required = false)]
    pub dry_run: bool,
}

/// Which packet.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// The sender: a VM (name or uuid, `#1` for its VIF of device 1), or an address.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// `tcp/22`, `udp/53`, `icmp`, `icmp/3/4`, `gre`, `47`.
    pub packet: String,
    /// Ask the hosts' installed rules, too.
    #[serde(default)]
    #[param(required = false)]
    pub live: bool,
}

/// Where a watch stands.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WatchQuery {
    /// The generation of the last answer; absent: answer at once.
    pub after: Option<u64>,
    /// The engine's number of the last answer; absent: answer at once.
    pub engine: Option<u64>,
    /// Answer after so many seconds even if nothing happened; 25 if not given.
    #[param(minimum = 0, maximum = 60)]
    pub timeout: Option<u16>,
}

/// Which part of the audit.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Begin behind this generation.
    #[serde(default)]
    #[param(required = false)]
    pub after: u64,
    /// At most so many lines, up to 10,000; 1,000 if not given.
    #[param(minimum = 1, maximum = 10_000)]
    pub limit: Option<u32>,
}
