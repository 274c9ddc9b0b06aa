//! What happens to a pool without anybody calling XAPI: guests that reboot, toolstacks that restart, hosts that fail.

use std::sync::Arc;

use super::{Mock, VmError, blocking};
use crate::domain;
use crate::error::ApiError;
use crate::faults::{Fault, HostState};
use crate::pool::Pool;
use crate::schema::Class;

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

/// Guests.
impl Mock {
    /// The guest reboots itself: no client asked, the domain is a new one.
    ///
    /// # Errors
    /// There is no such VM, or it does not run.
    pub async fn guest_reboots(&self, vm: &str) -> Result<(), VmError> {
        self.act_on_running(vm, domain::reboot).await
    }

    /// The guest shuts itself down: no client asked.
    ///
    /// # Errors
    /// There is no such VM, or it does not run.
    pub async fn guest_shuts_down(&self, vm: &str) -> Result<(), VmError> {
        self.act_on_running(vm, domain::halt).await
    }

    /// The guest crashes. By `VM.actions_after_crash` it reboots (`restart`), or is gone (`destroy`).
    ///
    /// # Errors
    /// There is no such VM, or it does not run.
    pub async fn guest_crashes(&self, vm: &str) -> Result<(), VmError> {
        self.act_on_running(vm, |pool, vm| {
            let action = pool.db().get(Class::Vm, vm)?.text("actions_after_crash").to_owned();
            if action == "destroy" { domain::halt(pool, vm) } else { domain::reboot(pool, vm) }
        })
        .await
    }

    async fn act_on_running(
        &self,
        vm: &str,
        act: fn(&Pool, &str) -> Result<(), ApiError>,
    ) -> Result<(), VmError> {
        let (pool, name) = (Arc::clone(&self.pool), vm.to_owned());
        blocking(move || {
            let reference = pool.find_vm(&name).ok_or_else(|| ApiError::handle_invalid(Class::Vm, &name))?;
            let _claim = pool.claim(&reference);
            let state = pool.db().get(Class::Vm, &reference)?.text("power_state").to_lowercase();
            if state != "running" {
                return Err(ApiError::new("VM_BAD_POWER_STATE", [reference, "running".to_owned(), state]));
            }
            act(&pool, &reference)
        })
        .await
        .map_err(|error| VmError::new(vm, error))
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
        let reference = self.reference(host)?;
        if reference == self.pool.master() {
            self.pool.forget();
        }
        domain::note_start(&mut self.pool.db(), &reference, false);
        self.pool.cut_connections(&reference);
        Ok(())
    }

    /// Another host becomes master, as by `pool.designate_new_master`: `pool.master` names it, all sessions are gone,
    /// connections to both are cut. The old one, if it answers at all, says `HOST_IS_SLAVE`.
    ///
    /// # Errors
    /// There is no such host.
    pub fn change_master(&self, host: &str) -> Result<(), NoHost> {
        let reference = self.reference(host)?;
        let old = self.pool.set_master(&reference);
        // Both restart their xapi to change what they are.
        for host in [old, reference] {
            domain::note_start(&mut self.pool.db(), &host, false);
            self.pool.cut_connections(&host);
        }
        Ok(())
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
        self.reference(host)?;
        self.faults().inject(Fault::Host { host: host.to_owned(), state: HostState::Offline });
        self.cut_all_connections(host)?;
        let (pool, name) = (Arc::clone(&self.pool), host.to_owned());
        let reset = blocking(move || pool.data_plane.reset_host(&name)).await;
        reset.map_err(|source| HostError::DataPlane { host: host.to_owned(), source })
    }

    /// A host that was stopped is back: XAPI notes that its VMs are halted. On the master, all sessions are gone.
    ///
    /// # Errors
    /// There is no such host, or its namespaces cannot be changed.
    pub async fn start_host(&self, host: &str) -> Result<(), HostError> {
        let reference = self.reference(host)?;
        let pool = Arc::clone(&self.pool);
        blocking(move || {
            domain::reset_residents(&pool, &reference);
            domain::note_start(&mut pool.db(), &reference, true);
            if reference == pool.master() {
                pool.forget();
            }
        })
        .await;
        self.faults().inject(Fault::Host { host: host.to_owned(), state: HostState::Online });
        self.pool.note_liveness();
        Ok(())
    }

    /// [`stop_host`](Self::stop_host) and [`start_host`](Self::start_host), with nothing in between.
    ///
    /// # Errors
    /// As theirs.
    pub async fn reboot_host(&self, host: &str) -> Result<(), HostError> {
        self.stop_host(host).await?;
        self.start_host(host).await
    }

    fn cut_all_connections(&self, host: &str) -> Result<(), NoHost> {
        self.pool.note_liveness();
        self.pool.cut_connections(&self.reference(host)?);
        Ok(())
    }

    fn reference(&self, host: &str) -> Result<String, NoHost> {
        let db = self.pool.db();
        let found = db.find(Class::Host, "name_label", host).next().map(str::to_owned);
        found.ok_or_else(|| NoHost { host: host.to_owned() })
    }
}
