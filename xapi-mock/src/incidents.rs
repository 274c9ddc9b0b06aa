//! What happens to a pool without anybody calling XAPI: guests that reboot, toolstacks that restart, hosts that fail.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain;
use crate::error::ApiError;
use crate::faults::{Fault, HostState};
use crate::mock::{Mock, VmError, blocking};
use crate::pool::Pool;
use crate::schema::Class;

/// Something that happens. As JSON: `{"incident": "guest_reboots", "vm": "web1"}`.
///
/// A VM goes by its name or uuid, a host by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "incident", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Incident {
    /// [`Mock::guest_reboots`]
    GuestReboots {
        /// Whose guest.
        vm: String,
    },
    /// [`Mock::guest_shuts_down`]
    GuestShutsDown {
        /// Whose guest.
        vm: String,
    },
    /// [`Mock::guest_crashes`]
    GuestCrashes {
        /// Whose guest.
        vm: String,
    },
    /// [`Mock::restart_toolstack`]
    RestartToolstack {
        /// Where.
        host: String,
    },
    /// [`Mock::change_master`]
    ChangeMaster {
        /// The new one.
        host: String,
    },
    /// [`Mock::set_back_events`]
    SetBackEvents {
        /// By how many changes.
        by: u64,
    },
    /// [`Mock::stop_host`]
    StopHost {
        /// Which.
        host: String,
    },
    /// [`Mock::start_host`]
    StartHost {
        /// Which.
        host: String,
    },
    /// [`Mock::reboot_host`]
    RebootHost {
        /// Which.
        host: String,
    },
}

/// There is no host of this name.
#[derive(Debug, thiserror::Error)]
#[error("host {host:?}: no such host")]
pub struct NoHost {
    /// What was asked for.
    pub host: String,
}

/// Why a host could not be stopped or started.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no such host.
    #[error(transparent)]
    NoHost(#[from] NoHost),
    /// Its namespaces cannot be changed.
    #[error("host {host:?}")]
    DataPlane {
        /// The host's name.
        host: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Why something did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncidentError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// Lets it happen; blocks until it has.
pub(crate) fn happen(pool: &Pool, incident: &Incident) -> Result<(), IncidentError> {
    match incident {
        Incident::GuestReboots { vm } => on_running(pool, vm, domain::reboot)?,
        Incident::GuestShutsDown { vm } => on_running(pool, vm, domain::halt)?,
        Incident::GuestCrashes { vm } => on_running(pool, vm, crash)?,
        Incident::RestartToolstack { host } => restart_toolstack(pool, host).map_err(HostError::from)?,
        Incident::ChangeMaster { host } => change_master(pool, host).map_err(HostError::from)?,
        Incident::SetBackEvents { by } => pool.db().set_back(*by),
        Incident::StopHost { host } => stop_host(pool, host)?,
        Incident::StartHost { host } => start_host(pool, host).map_err(HostError::from)?,
        Incident::RebootHost { host } => {
            stop_host(pool, host)?;
            start_host(pool, host).map_err(HostError::from)?;
        }
    }
    Ok(())
}

fn on_running(
    pool: &Pool,
    vm: &str,
    act: impl FnOnce(&Pool, &str) -> Result<(), ApiError>,
) -> Result<(), VmError> {
    let acted = || {
        let reference = pool.find_vm(vm).ok_or_else(|| ApiError::handle_invalid(Class::Vm, vm))?;
        let _claim = pool.claim(&reference);
        let state = pool.db().get(Class::Vm, &reference)?.text("power_state").to_lowercase();
        if state != "running" {
            return Err(ApiError::new("VM_BAD_POWER_STATE", [reference, "running".to_owned(), state]));
        }
        act(pool, &reference)
    };
    acted().map_err(|error| VmError::new(vm, error))
}

fn crash(pool: &Pool, vm: &str) -> Result<(), ApiError> {
    let action = pool.db().get(Class::Vm, vm)?.text("actions_after_crash").to_owned();
    if action == "destroy" { domain::halt(pool, vm) } else { domain::reboot(pool, vm) }
}

fn restart_toolstack(pool: &Pool, host: &str) -> Result<(), NoHost> {
    let host = reference(pool, host)?;
    if host == pool.master() {
        pool.forget();
    }
    domain::note_start(&mut pool.db(), &host, false);
    pool.cut_connections(&host);
    Ok(())
}

fn change_master(pool: &Pool, host: &str) -> Result<(), NoHost> {
    let new = reference(pool, host)?;
    let old = pool.set_master(&new);
    // Both restart their xapi to change what they are.
    for host in [old, new] {
        domain::note_start(&mut pool.db(), &host, false);
        pool.cut_connections(&host);
    }
    Ok(())
}

fn stop_host(pool: &Pool, host: &str) -> Result<(), HostError> {
    let reference = reference(pool, host)?;
    pool.faults.inject(Fault::Host { host: host.to_owned(), state: HostState::Offline });
    pool.note_liveness();
    pool.cut_connections(&reference);
    let reset = pool.data_plane.reset_host(host);
    reset.map_err(|source| HostError::DataPlane { host: host.to_owned(), source })
}

fn start_host(pool: &Pool, host: &str) -> Result<(), NoHost> {
    let reference = reference(pool, host)?;
    domain::reset_residents(pool, &reference);
    domain::note_start(&mut pool.db(), &reference, true);
    if reference == pool.master() {
        pool.forget();
    }
    pool.faults.inject(Fault::Host { host: host.to_owned(), state: HostState::Online });
    pool.note_liveness();
    Ok(())
}

fn reference(pool: &Pool, host: &str) -> Result<String, NoHost> {
    let db = pool.db();
    let found = db.find(Class::Host, "name_label", host).next().map(str::to_owned);
    found.ok_or_else(|| NoHost { host: host.to_owned() })
}

/// Guests.
impl Mock {
    /// The guest reboots itself: no client asked, the domain is a new one.
    ///
    /// # Errors
    /// There is no such VM, or it does not run.
    pub async fn guest_reboots(&self, vm: &str) -> Result<(), VmError> {
        self.aside(vm, |pool, vm| on_running(pool, vm, domain::reboot)).await
    }

    /// The guest shuts itself down: no client asked.
    ///
    /// # Errors
    /// There is no such VM, or it does not run.
    pub async fn guest_shuts_down(&self, vm: &str) -> Result<(), VmError> {
        self.aside(vm, |pool, vm| on_running(pool, vm, domain::halt)).await
    }

    /// The guest crashes. By `VM.actions_after_crash` it reboots (`restart`), or is gone (`destroy`).
    ///
    /// # Errors
    /// There is no such VM, or it does not run.
    pub async fn guest_crashes(&self, vm: &str) -> Result<(), VmError> {
        self.aside(vm, |pool, vm| on_running(pool, vm, crash)).await
    }

    async fn aside<T: Send + 'static>(
        &self,
        name: &str,
        act: impl FnOnce(&Pool, &str) -> T + Send + 'static,
    ) -> T {
        let (pool, name) = (Arc::clone(&self.pool), name.to_owned());
        blocking(move || act(&pool, &name)).await
    }
}

/// XAPI itself.
impl Mock {
    /// The toolstack of a host restarts: its connections are cut. On the master all sessions are gone, and so is what
    /// it remembered of deletions. Guests and what dom0's kernel holds do not notice.
    ///
    /// # Errors
    /// There is no such host.
    pub fn restart_toolstack(&self, host: &str) -> Result<(), NoHost> {
        restart_toolstack(&self.pool, host)
    }

    /// Another host becomes master, as by `pool.designate_new_master`: `pool.master` names it, all sessions are gone,
    /// connections to both are cut. The old one, if it answers at all, says `HOST_IS_SLAVE`.
    ///
    /// # Errors
    /// There is no such host.
    pub fn change_master(&self, host: &str) -> Result<(), NoHost> {
        change_master(&self.pool, host)
    }

    /// The count of the database's changes goes back by this much, as after a restore from an older copy: tokens of
    /// `event.from` that are known by now are from the future. Sessions stay, unlike after a real restore.
    pub fn set_back_events(&self, by: u64) {
        self.pool.db().set_back(by);
    }
}

/// Hosts.
impl Mock {
    /// The host loses power, or its dom0 is rebooting: its guests are gone, so are rules, flows, connections and all
    /// else its kernel and `/run` held; its address does not answer. XAPI knows that it is offline and nothing more:
    /// its VMs stay `Running` in the records.
    ///
    /// Its file system can be reached all the while: what is to run before XAPI does is run now, by
    /// [`host`](Self::host)'s handle.
    ///
    /// # Errors
    /// There is no such host, or its namespaces cannot be changed.
    pub async fn stop_host(&self, host: &str) -> Result<(), HostError> {
        self.aside(host, stop_host).await
    }

    /// A host that was stopped is back: XAPI notes that its VMs are halted. On the master, all sessions are gone.
    ///
    /// # Errors
    /// There is no such host.
    pub async fn start_host(&self, host: &str) -> Result<(), HostError> {
        Ok(self.aside(host, start_host).await?)
    }

    /// [`stop_host`](Self::stop_host) and [`start_host`](Self::start_host), with nothing in between.
    ///
    /// # Errors
    /// As theirs.
    pub async fn reboot_host(&self, host: &str) -> Result<(), HostError> {
        self.stop_host(host).await?;
        self.start_host(host).await
    }
}
