//! The running pool: records, sessions, faults and the data plane, and the order in which they are locked.
//!
//! The database lock is never held while the data plane works. What must not interleave on one VM (two lifecycle
//! calls, a lifecycle call and a VIF call) is kept apart by [`Pool::claim`] instead, as xapi's per-VM queue does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Role, UserConfig, VmConfig};
use crate::dataplane::DataPlane;
use crate::db::Db;
use crate::error::ApiError;
use crate::faults::{Faults, HostState};
use crate::inventory::{self, Addressing};
use crate::schema::{Class, NULL_REF};
use crate::session::Sessions;

/// Shared by every listener and every call.
pub(crate) struct Pool {
    pub(crate) data_plane: Arc<dyn DataPlane>,
    pub(crate) faults: Faults,
    pub(crate) users: Vec<UserConfig>,
    pub(crate) wrong_password_delay: Duration,
    master: Mutex<String>,
    /// By host: a change of it cuts the host's connections.
    cuts: Mutex<BTreeMap<String, watch::Sender<()>>>,
    db: Mutex<Db>,
    db_changed: Condvar,
    closed: AtomicBool,
    sessions: Mutex<Sessions>,
    claimed: Mutex<BTreeSet<String>>,
    released: Condvar,
    domids: Mutex<BTreeMap<String, u32>>,
    addressing: Mutex<BTreeMap<String, Addressing>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(crate) fn new(
        db: Db,
        data_plane: Arc<dyn DataPlane>,
        users: Vec<UserConfig>,
        wrong_password_delay: Duration,
    ) -> Self {
        let master =
            db.all(Class::Pool).next().map(|(_, pool)| pool.text("master").to_owned()).unwrap_or_default();
        Self {
            data_plane,
            faults: Faults::default(),
            users,
            wrong_password_delay,
            master: Mutex::new(master),
            cuts: Mutex::default(),
            db: Mutex::new(db),
            db_changed: Condvar::new(),
            closed: AtomicBool::new(false),
            sessions: Mutex::default(),
            claimed: Mutex::default(),
            released: Condvar::new(),
            domids: Mutex::default(),
            addressing: Mutex::default(),
        }
    }

    pub(crate) fn db(&self) -> DbGuard<'_> {
        let db = lock(&self.db);
        DbGuard { generation: db.generation(), db, changed: &self.db_changed }
    }

    /// Waits until the database is no longer at `generation`, but for `patience` at most; whether it is.
    pub(crate) fn await_change(&self, generation: u64, patience: Duration) -> bool {
        let unchanged = |db: &mut Db| db.generation() == generation;
        let waited = self.db_changed.wait_timeout_while(lock(&self.db), patience, unchanged);
        let (_db, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// The host that is master.
    pub(crate) fn master(&self) -> String {
        lock(&self.master).clone()
    }

    /// Makes another host master, with what that takes away; the answer is who was it before.
    pub(crate) fn set_master(&self, host: &str) -> String {
        let old = std::mem::replace(&mut *lock(&self.master), host.to_owned());
        let mut db = self.db();
        let pools: Vec<_> = db.all(Class::Pool).map(|(pool, _)| pool.clone()).collect();
        for pool in pools {
            db.update(Class::Pool, &pool, |pool| pool.set("master", host));
        }
        drop(db);
        self.forget();
        old
    }

    /// What goes with the master's xapi process: sessions, and the memory of deletions.
    pub(crate) fn forget(&self) {
        self.sessions().clear();
        self.db().forget_deletions();
    }

    /// Changes when the host's connections are to be cut.
    pub(crate) fn cut_of(&self, host: &str) -> watch::Receiver<()> {
        let mut cuts = lock(&self.cuts);
        cuts.entry(host.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    pub(crate) fn cut_connections(&self, host: &str) {
        if let Some(cut) = lock(&self.cuts).get(host) {
            cut.send_replace(());
        }
    }

    /// Nobody waits for anything any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        let mut sessions = lock(&self.sessions);
        if self.faults.take_drop_sessions() {
            sessions.clear();
        }
        sessions
    }

    /// What the guest configures on this VIF.
    pub(crate) fn addressing(&self, vif: &str) -> Addressing {
        lock(&self.addressing).get(vif).cloned().unwrap_or_default()
    }

    /// Adds a halted VM.
    pub(crate) fn add_vm(&self, vm: &VmConfig) {
        inventory::add_vm(&mut self.db(), vm, &mut lock(&self.addressing));
    }

    /// The next domid of a host. None is given twice while the mock runs.
    pub(crate) fn next_domid(&self, host: &str) -> u32 {
        let mut domids = lock(&self.domids);
        let domid = domids.entry(host.to_owned()).or_insert(0);
        *domid += 1;
        *domid
    }

    /// Waits until nobody else works on this VM, and keeps others waiting until the claim is dropped.
    pub(crate) fn claim(&self, vm: &str) -> Claim<'_> {
        let claimed = lock(&self.claimed);
        let waited = self.released.wait_while(claimed, |claimed| claimed.contains(vm));
        waited.unwrap_or_else(PoisonError::into_inner).insert(vm.to_owned());
        Claim { pool: self, vm: vm.to_owned() }
    }

    /// What `message_forwarding.ml` finds out before a call goes to a host: its name, or why it does not go.
    ///
    /// A reference nobody knows counts as a host that is down, as in xapi.
    pub(crate) fn reach(&self, host: &str) -> Result<String, ApiError> {
        let name = self.db().get(Class::Host, host).map(|record| record.text("name_label").to_owned());
        let Ok(name) = name else { return Err(ApiError::host_offline(host)) };
        // The master does not ask itself.
        if host == self.master() {
            return Ok(name);
        }
        let cut = self.faults.await_network(&name);
        match self.faults.host(&name) {
            HostState::Online if !cut => Ok(name),
            HostState::Offline => Err(ApiError::host_offline(host)),
            HostState::Online | HostState::Unreachable | HostState::Silent => {
                Err(ApiError::new("CANNOT_CONTACT_HOST", [host]))
            }
        }
    }

    /// Writes what the faults say about hosts into the records.
    pub(crate) fn note_liveness(&self) {
        let mut db = self.db();
        let hosts: Vec<_> = db
            .all(Class::Host)
            .map(|(_, host)| (host.text("name_label").to_owned(), host.text("metrics").to_owned()))
            .collect();
        for (name, metrics) in hosts {
            let live = self.faults.host(&name) != HostState::Offline;
            db.update(Class::HostMetrics, &metrics, |metrics| metrics.set("live", live));
        }
    }

    /// The session a plugin is handed: on the master the caller's own, elsewhere one made for this call.
    pub(crate) fn plugin_session(&self, host: &str, caller: &str) -> PluginSession<'_> {
        if host == self.master() {
            return PluginSession { pool: self, reference: caller.to_owned(), temporary: false };
        }
        let reference = self.sessions().open(Role::PoolAdmin, true, "pool");
        PluginSession { pool: self, reference, temporary: true }
    }

    /// The VM with this uuid or, failing that, the plain VM of this name.
    pub(crate) fn find_vm(&self, name_or_uuid: &str) -> Option<String> {
        let db = self.db();
        let by_uuid = db.find(Class::Vm, "uuid", name_or_uuid).next().map(str::to_owned);
        by_uuid.or_else(|| {
            db.find(Class::Vm, "name_label", name_or_uuid)
                .find(|vm| db.get(Class::Vm, vm).is_ok_and(|vm| vm.text("snapshot_of") == NULL_REF))
                .map(str::to_owned)
        })
    }
}

/// The locked database. Who waits for a change is woken when one was made.
pub(crate) struct DbGuard<'a> {
    db: MutexGuard<'a, Db>,
    generation: u64,
    changed: &'a Condvar,
}

impl Deref for DbGuard<'_> {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

impl DerefMut for DbGuard<'_> {
    fn deref_mut(&mut self) -> &mut Db {
        &mut self.db
    }
}

impl Drop for DbGuard<'_> {
    fn drop(&mut self) {
        if self.db.generation() != self.generation {
            self.changed.notify_all();
        }
    }
}

/// See [`Pool::claim`].
pub(crate) struct Claim<'a> {
    pool: &'a Pool,
    vm: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.pool.claimed).remove(&self.vm);
        self.pool.released.notify_all();
    }
}

/// See [`Pool::plugin_session`].
pub(crate) struct PluginSession<'a> {
    pool: &'a Pool,
    pub(crate) reference: String,
    temporary: bool,
}

impl Drop for PluginSession<'_> {
    fn drop(&mut self) {
        if self.temporary {
            self.pool.sessions().close(&self.reference);
        }
    }
}
