//! What the API needs of the running daemon, apart from the store. The daemon implements [`Control`], tests a fake.

use std::time::Duration;

use async_trait::async_trait;
use ruleset::ids::GroupId;
use serde::{Deserialize, Serialize};
use store::PortId;
use tokio::sync::watch;
use utoipa::ToSchema;

/// What the API asks of the daemon.
///
/// Everything but [`Control::hook`] answers at once from memory.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Something happened to a VM or a host: returns when it is enforced, or when the deadline is over. Work goes on after
    /// the deadline.
    async fn hook(&self, hook: Hook, deadline: Duration) -> Result<HookReport, ControlError>;

    /// Every host of the pool, by name.
    async fn hosts(&self) -> Vec<HostState>;

    /// How a port of the store stands. A port that the daemon has not looked at yet is [`PortStatus::Pending`].
    async fn port_state(&self, port: &PortId) -> PortState;

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

    /// A number that rises whenever the answer of [`Control::hosts`] or [`Control::port_state`] changes.
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

/// Why a hook could not begin.
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
    #[error("no plan can be made: {0}")]
    NoPlan(String),
    #[error("the daemon is shutting down")]
    ShuttingDown,
}

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
    /// Ports that were closed because dom0 refuses their rules.
    pub quarantined: Vec<Quarantine>,
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
    /// XAPI says that it is not live.
    Offline,
    /// Set aside after repeated failures; `last_error` says why.
    Quarantined,
    /// Nothing of ours is there and nothing to enforce.
    LeftAlone,
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
    /// Why dom0 refuses its rules; then it is closed.
    pub quarantine: Option<String>,
    /// What failed last on its host, or why it is bound to no VIF.
    pub last_error: Option<String>,
}

/// How a port stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortStatus {
    /// Its rules stand, as of `enforced_generation`.
    Enforced,
    /// Its host is still to be brought there.
    Pending,
    /// Its VM does not run: there is nothing to enforce.
    Idle,
    /// No VIF fits it; `last_error` says what is missing.
    Unbound,
    /// dom0 refuses its rules: it is closed.
    Quarantined,
    /// Its host fails; `last_error` says how.
    Failing,
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
