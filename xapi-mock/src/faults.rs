//! What can be made to go wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// A fault to inject. As JSON: `{"fault": "refuse", "method": "VM.start", "code": "NO_HOSTS_AVAILABLE", "times": 2}`.
///
/// A `method` is XAPI's name of the call; without one, every call is meant. `times` counts the calls it happens to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// Every call waits this long before it is looked at. 0 ends it.
    Latency {
        /// Milliseconds.
        ms: u64,
    },
    /// All sessions are gone, as after a restart of the toolstack.
    DropSessions,
    /// What a host answers.
    Host {
        /// Its name.
        host: String,
        /// From now on.
        state: HostState,
    },
    /// The call is carried out, then the connection is cut before a byte of the reply.
    Cut {
        /// Which call.
        #[serde(default)]
        method: Option<String>,
        /// How often.
        #[serde(default = "once")]
        times: u32,
    },
    /// The call is refused with this error and not carried out.
    Refuse {
        /// Which call.
        #[serde(default)]
        method: Option<String>,
        /// XAPI's error code.
        code: String,
        /// Its parameters.
        #[serde(default)]
        params: Vec<String>,
        /// How often.
        #[serde(default = "once")]
        times: u32,
    },
    /// A plugin's process misbehaves instead of doing its work.
    Plugin {
        /// On which host; without one, on any.
        #[serde(default)]
        host: Option<String>,
        /// How it misbehaves.
        action: PluginFault,
        /// How often.
        #[serde(default = "once")]
        times: u32,
    },
    /// A migration does not go as it should.
    Migration {
        /// What happens.
        action: MigrationFault,
        /// How often.
        #[serde(default = "once")]
        times: u32,
    },
    /// An answer to `event.from` says less, or more, than happened. XAPI's do, by themselves.
    Events {
        /// What is wrong with it.
        trap: EventTrap,
        /// How often.
        #[serde(default = "once")]
        times: u32,
    },
    /// Everything works again; plugins that hang end as if killed.
    Clear,
}

const fn once() -> u32 {
    1
}

/// What the rest of the pool and the clients see of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It works.
    Online,
    /// Its address does not answer, and the master knows: `HOST_OFFLINE`.
    Offline,
    /// Its address does not answer, and the master does not know yet: `CANNOT_CONTACT_HOST`.
    Unreachable,
    /// The network to it is cut: connections to its address stay open and say nothing, calls that are to go there from
    /// the master hang. When this is over, all of these break.
    Silent,
}

/// How a plugin misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginFault {
    /// It never ends. XAPI has no time limit either.
    Hang,
    /// It is killed (SIGKILL) before it has written anything.
    Die,
}

/// How a migration goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationFault {
    /// It goes no further until [`Fault::Clear`], then it does. Both domains exist meanwhile; the guest still runs in the first.
    Hold,
    /// The receiving domain is removed; the guest goes on where it was.
    Fail,
    /// The guest is gone with both domains: the VM is halted.
    Lose,
    /// All goes well, but until [`Fault::Clear`] the record has the new host with the old domid, as it always has for a moment.
    LateDomid,
}

/// What an answer to `event.from` may be like. It happens to the next answer that has something to be spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventTrap {
    /// Deletions are not told: a table remembers some hundred only.
    DropDeletions,
    /// Every event stands twice.
    Duplicate,
    /// Deletions first, and all the rest the other way round.
    Reverse,
    /// The token is before the one asked with, as after a restore of the database.
    TokenBack,
}

/// The faults in force. Cloned, it is still the same.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    latency: Duration,
    drop_sessions: bool,
    hosts: BTreeMap<String, HostState>,
    pending: Vec<Fault>,
    hanging_epoch: u64,
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a fault in force.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.state();
        match fault {
            Fault::Latency { ms } => state.latency = Duration::from_millis(ms),
            Fault::DropSessions => state.drop_sessions = true,
            Fault::Host { host, state: now } => {
                state.hosts.insert(host, now);
                self.0.changed.notify_all();
            }
            Fault::Clear => {
                let hanging_epoch = state.hanging_epoch + 1;
                *state = State { hanging_epoch, ..State::default() };
                self.0.changed.notify_all();
            }
            Fault::Cut { .. }
            | Fault::Refuse { .. }
            | Fault::Plugin { .. }
            | Fault::Migration { .. }
            | Fault::Events { .. } => state.pending.push(fault),
        }
    }

    pub(crate) fn latency(&self) -> Duration {
        self.state().latency
    }

    /// True once after each [`Fault::DropSessions`].
    pub(crate) fn take_drop_sessions(&self) -> bool {
        std::mem::take(&mut self.state().drop_sessions)
    }

    /// Waits while the network to a host is cut; whether it was.
    pub(crate) fn await_network(&self, name: &str) -> bool {
        let silent = |state: &mut State| state.hosts.get(name) == Some(&HostState::Silent);
        let mut state = self.state();
        let was = silent(&mut state);
        drop(self.0.changed.wait_while(state, silent).unwrap_or_else(PoisonError::into_inner));
        was
    }

    pub(crate) fn host(&self, name: &str) -> HostState {
        self.state().hosts.get(name).copied().unwrap_or(HostState::Online)
    }

    pub(crate) fn take_cut(&self, called: &str) -> bool {
        self.take(|fault| match fault {
            Fault::Cut { method, times } if applies(method.as_deref(), called) => Some((times, ())),
            _ => None,
        })
        .is_some()
    }

    pub(crate) fn take_refusal(&self, called: &str) -> Option<ApiError> {
        self.take(|fault| match fault {
            Fault::Refuse { method, code, params, times } if applies(method.as_deref(), called) => {
                let error = ApiError { code: code.clone(), params: params.clone() };
                Some((times, error))
            }
            _ => None,
        })
    }

    /// The fault of a plugin about to run on this host.
    pub(crate) fn take_plugin(&self, on: &str) -> Option<PluginFault> {
        self.take(|fault| match fault {
            Fault::Plugin { host, action, times } if applies(host.as_deref(), on) => Some((times, *action)),
            _ => None,
        })
    }

    pub(crate) fn take_migration(&self) -> Option<MigrationFault> {
        self.take(|fault| match fault {
            Fault::Migration { action, times } => Some((times, *action)),
            _ => None,
        })
    }

    /// A trap for an answer that has events, deletions among them or not.
    pub(crate) fn take_event_trap(&self, deletions: bool) -> Option<EventTrap> {
        self.take(|fault| match fault {
            Fault::Events { trap, times } if deletions || *trap != EventTrap::DropDeletions => {
                Some((times, *trap))
            }
            _ => None,
        })
    }

    /// The first pending fault that `pick` knows: one of its times is used up.
    fn take<T>(&self, mut pick: impl FnMut(&mut Fault) -> Option<(&mut u32, T)>) -> Option<T> {
        let mut state = self.state();
        state.pending.retain(|fault| !fault.used_up());
        let taken = state.pending.iter_mut().find_map(&mut pick)?;
        *taken.0 -= 1;
        Some(taken.1)
    }

    /// Rises with each [`Fault::Clear`].
    pub(crate) fn epoch(&self) -> u64 {
        self.state().hanging_epoch
    }

    /// Waits until [`Fault::Clear`]: what a hanging plugin does to its caller.
    pub(crate) fn hang(&self) {
        self.hang_since(self.epoch());
    }

    /// Waits until the first [`Fault::Clear`] after this epoch; it may have come already.
    pub(crate) fn hang_since(&self, epoch: u64) {
        let state = self.state();
        let waited = self.0.changed.wait_while(state, |state| state.hanging_epoch == epoch);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Fault {
    const fn used_up(&self) -> bool {
        matches!(
            self,
            Self::Cut { times: 0, .. }
                | Self::Refuse { times: 0, .. }
                | Self::Plugin { times: 0, .. }
                | Self::Migration { times: 0, .. }
                | Self::Events { times: 0, .. }
        )
    }
}

fn applies(wanted: Option<&str>, actual: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == actual)
}
