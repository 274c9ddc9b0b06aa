//! What the API needs of the running daemon, apart from the store. The daemon implements [`Control`], tests a fake.

use std::time::Duration;

use async_trait::async_trait;
use ruleset::ids::GroupId;
use serde::{Deserialize, Serialize};
use store::PortId;
use tokio::sync::watch;
use utoipa::ToSchema;

mod explain;
mod host;
mod port;

pub use explain::{Explanation, FamilyAnswer, LiveAnswer, Question, Side};
pub use host::{HostState, HostStatus, Misfit, MisfitKind, Quarantine};
pub use port::{PortState, PortStatus};

/// What the API asks of the daemon.
///
/// Everything but [`Control::hook`] and [`Control::explain`] answers at once from memory.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Something happened to a VM or a host: returns when it is enforced, or when the deadline is over. Work goes on after
    /// the deadline.
    async fn hook(&self, hook: Hook, deadline: Duration) -> Result<HookReport, ControlError>;

    /// What becomes of a packet, by what the store and the pool hold now.
    async fn explain(&self, question: Question) -> Result<Explanation, ControlError>;

    /// Every host of the pool, by name.
    async fn hosts(&self) -> Vec<HostState>;

    /// What of the store fits nothing in the pool, and what of the pool cannot be enforced.
    async fn misfits(&self) -> Vec<Misfit>;

    /// How ports of the store stand, in the order asked. A port that the daemon has not looked at yet is
    /// [`PortStatus::Pending`].
    async fn port_states(&self, ports: &[PortId]) -> Vec<PortState>;

    /// Marks every host with ports of the group to be looked at, and only those; their names.
    async fn refresh_rules(&self, group: &GroupId) -> Vec<String>;

    /// Marks every host whose rules refer to the group's members, and only those; their names.
    async fn refresh_members(&self, group: &GroupId) -> Vec<String>;

    /// Somebody says that the store is what should be, whatever the pool was last written from. The store says that of
    /// itself as well (`Store::adopt`).
    async fn insist(&self);

    /// Prometheus' text format.
    async fn metrics(&self) -> String;

    /// Whether the daemon can do its work (XAPI was read, the store can be written); otherwise why not, one reason each.
    async fn ready(&self) -> Result<(), Vec<String>>;

    /// A number that rises whenever the answer of [`Control::hosts`], [`Control::misfits`] or [`Control::port_states`] changes by
    /// anything but the store's generation, and may rise without that.
    fn subscribe(&self) -> watch::Receiver<u64>;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// To a VM.
    Vm {
        /// What.
        event: VmEvent,
        /// Name or uuid of the VM.
        vm: String,
        /// Name or uuid of the host it is about, where the caller knows: for [`VmEvent::PreMigrate`] the destination.
        host: Option<String>,
    },
    /// To a host.
    Host {
        /// What.
        event: HostEvent,
        /// Name or uuid of the host.
        host: String,
    },
}

/// What may happen to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VmEvent {
    /// It was started paused; it is unpaused when the hook returns.
    Create,
    /// It was rebooted: it has a new domain.
    Reboot,
    /// It was suspended.
    Suspend,
    /// It was resumed paused; it is unpaused when the hook returns.
    Resume,
    /// It was shut down or destroyed.
    Terminate,
    /// A VIF was plugged into it.
    Plug,
    /// A VIF was unplugged from it.
    Unplug,
    /// It is about to migrate to a host, which shall have its rules before it runs there.
    PreMigrate,
    /// It has migrated.
    PostMigrate,
}

/// What may happen to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostEvent {
    /// It came up, or its toolstack was restarted.
    HostInit,
}

/// What became of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HookReport {
    /// Whether everything the hook is about is enforced.
    pub outcome: Outcome,
    /// The store's generation that was to be enforced.
    pub generation: u64,
    /// The hosts it was about.
    pub hosts: Vec<HookHost>,
    /// What could not be done and is no host's fault, such as a port of the VM without a VIF.
    pub problems: Vec<String>,
}

/// How a hook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is enforced, and was read back.
    Enforced,
    /// It is not; the report says what failed. What stood there stands.
    Failed,
    /// The deadline came first. The work goes on; nothing is promised.
    Deadline,
}

/// One host of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HookHost {
    /// Its name.
    pub host: String,
    /// Whether the hook's generation is enforced there.
    pub enforced: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    pub error: Option<String>,
}

/// Why a hook could not begin, or a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ControlError {
    #[error("the pool has no VM of the name or uuid {0:?}")]
    UnknownVm(String),
    #[error("several VMs have the name {0:?}: give the uuid")]
    AmbiguousVm(String),
    #[error("VM {0:?} has no running domain: start or resume it paused, call this hook, then unpause it")]
    NotRunning(String),
    #[error("the pool has no host of the name or uuid {0:?}")]
    UnknownHost(String),
    #[error("several hosts have the name {0:?}: give the uuid")]
    AmbiguousHost(String),
    #[error("XAPI is out of reach: {0}")]
    XapiUnavailable(String),
    #[error("this driver does not write: {0}")]
    Standby(String),
    #[error("{0}")]
    NoPacket(String),
    #[error("{0}")]
    NoAnswer(String),
    #[error("{0}")]
    HostUnreadable(String),
    #[error("no plan can be made: {0}")]
    NoPlan(String),
    #[error("the daemon is shutting down")]
    ShuttingDown,
}
