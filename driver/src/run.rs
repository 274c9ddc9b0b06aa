//! A run over a pool: read everything, decide what every host should hold, reconcile the hosts in scope side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drawbridge_wire::Signer;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use xenapi::{CallError, Client, Host, Ref};

use crate::config::{Config, ConfigError};
use crate::desired::{Announced, Binding, Desired, HostDesired, Problem, Subject, expecting};
use crate::dom0::{self, Dom0};
use crate::intake::inventory::Inventory;
use crate::intake::own::{self, CardsError};
use crate::intake::policy_file::{PolicyError, PolicyFile};
use crate::locking::VifLocking;
use crate::reconcile::{Mode, Rounds, reconcile};
use crate::report::{HostReport, Report, chain};

/// So many hosts are worked on at a time.
const HOSTS_AT_A_TIME: usize = 16;

/// The way to a pool.
#[derive(Debug)]
pub struct Pool {
    /// XAPI.
    pub client: Client,
    /// The key that the hosts' dom0 know.
    pub signer: Signer,
}

/// Which hosts a run is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Everything,
    /// The host of a VM, and those whose rules refer to a group it is in; with `leaving`, every host, since the VM's
    /// last one is no longer known.
    Vm {
        /// Name or uuid.
        vm: String,
        /// It is no longer running.
        leaving: bool,
    },
    /// One host.
    Host(String),
    /// The hosts of a VM that migrates: where it is, and where it goes, which is to have its rules before it comes; when it has
    /// gone, every host, since where it was is no longer known.
    Migration {
        /// Name or uuid.
        vm: String,
        /// Name or uuid of the host; none when it has gone, or stays for good.
        to: Option<String>,
    },
}

impl Scope {
    /// The hosts that the run is about, and not only because they have rules about the VM. None for a VM that is leaving, and
    /// none for everything: there is none that counts more than another.
    ///
    /// # Errors
    /// [`RunError`] if the pool does not have the VM or the host, or has several, or the VM does not run.
    pub(crate) fn own_hosts(&self, inventory: &Inventory) -> Result<BTreeSet<Ref<Host>>, RunError> {
        self.is_clear(inventory)?;
        match self {
            Self::Everything | Self::Vm { leaving: true, .. } => Ok(BTreeSet::new()),
            Self::Host(name) => {
                let mut named = inventory
                    .hosts
                    .iter()
                    .filter(|(_, h)| h.uuid.to_string() == *name || h.name_label == *name);
                match (named.next(), named.next()) {
                    (Some((reference, _)), None) => Ok(BTreeSet::from([reference.clone()])),
                    (None, _) => Err(RunError::UnknownHost(name.clone())),
                    (Some(_), Some(_)) => Err(RunError::AmbiguousHost(name.clone())),
                }
            }
            Self::Migration { vm, to } => {
                let mut hosts = Self::Vm { vm: vm.clone(), leaving: false }.own_hosts(inventory)?;
                if let Some(to) = to {
                    hosts.extend(Self::Host(to.clone()).own_hosts(inventory)?);
                }
                Ok(hosts)
            }
            Self::Vm { vm, leaving: false } => {
                if inventory.guests(vm).next().is_none() {
                    return Err(RunError::UnknownVm(vm.clone()));
                }
                let running = inventory.guests(vm).filter(|(_, guest)| guest.domid.is_some());
                let hosts: BTreeSet<_> =
                    running.filter_map(|(_, guest)| guest.resident_on.non_null().cloned()).collect();
                if hosts.is_empty() { Err(RunError::NotRunning(vm.clone())) } else { Ok(hosts) }
            }
        }
    }

    /// That it is about no more than one VM. Which of several was meant is not guessed: the one that was might not be enforced,
    /// and the other one's VIFs would be locked while somebody starts it.
    ///
    /// # Errors
    /// [`RunError::AmbiguousVm`]
    pub(crate) fn is_clear(&self, inventory: &Inventory) -> Result<(), RunError> {
        match self {
            Self::Vm { vm, .. } | Self::Migration { vm, .. } if inventory.guests(vm).nth(1).is_some() => {
                Err(RunError::AmbiguousVm(vm.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Who is about to go where.
    fn announced(&self, inventory: &Inventory) -> Result<Announced, RunError> {
        let Self::Migration { vm, to: Some(to) } = self else { return Ok(Announced::new()) };
        let to = Self::Host(to.clone()).own_hosts(inventory)?;
        let guests =
            inventory.guests(vm).flat_map(|(guest, _)| to.iter().map(|to| (guest.clone(), to.clone())));
        Ok(guests.collect())
    }

    /// Whether a problem is one of this run. A hook answers for its own VM: whoever starts a guest must not be told that
    /// it failed because the policy speaks of another that is gone, nor because of a host that is none of its `own`.
    pub(crate) fn concerns(
        &self,
        problem: &Problem,
        inventory: &Inventory,
        own: &BTreeSet<Ref<Host>>,
    ) -> bool {
        match (self, &problem.vm) {
            (Self::Everything, _) => true,
            // Nor because a network is gone that it has nothing to do with.
            (_, None) => {
                let mut own = own.iter().filter_map(|host| inventory.hosts.get(host));
                matches!(&problem.subject, Subject::Host(name) if own.any(|host| host.name_label == *name))
            }
            // The VM may well be unknown by now, which is what the hook is about.
            (Self::Vm { leaving: true, .. } | Self::Host(_), Some(_)) => false,
            // The hook may call it by its uuid, the policy by its name.
            (Self::Vm { vm, leaving: false } | Self::Migration { vm, .. }, Some(other)) => {
                let named =
                    |name| inventory.guests(name).map(|(reference, _)| reference).collect::<BTreeSet<_>>();
                !named(vm).is_disjoint(&named(other))
            }
        }
    }
}

/// Why a run could not begin. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum RunError {
    #[error("configuration")]
    Config(#[from] ConfigError),
    #[error("policy")]
    Policy(#[from] PolicyError),
    #[error("policy {path}")]
    Resolve { path: PathBuf, source: ruleset::resolve::ResolveError },
    #[error("finding the driver's own VM")]
    Cards(#[from] CardsError),
    #[error("reading the pool's state from XAPI")]
    Xapi(#[from] CallError),
    #[error("the pool has no host of the name or uuid {0:?}")]
    UnknownHost(String),
    #[error("several hosts have the name {0:?}: give the uuid")]
    AmbiguousHost(String),
    #[error("the pool has no VM of the name or uuid {0:?}")]
    UnknownVm(String),
    #[error("several VMs have the name {0:?}: give the uuid")]
    AmbiguousVm(String),
    #[error("VM {0:?} has no running domain: start or resume it paused, call this hook, then unpause it")]
    NotRunning(String),
}

impl Pool {
    /// Reads the configuration; nothing is sent yet.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn open(config: &Path) -> Result<Self, ConfigError> {
        let file = Config::load(config)?;
        Ok(Self { client: file.client(config)?, signer: file.signer()? })
    }

    /// Closes the session. If XAPI cannot be told, it drops it after a day.
    pub async fn close(&self) {
        if let Err(error) = self.client.logout().await {
            tracing::debug!(error = chain(&error), "logging out");
        }
    }

    /// The host of a name or uuid.
    ///
    /// # Errors
    /// [`RunError`] if there is none, or more than one.
    pub async fn host(&self, name: &str) -> Result<(Ref<Host>, Host), RunError> {
        let hosts = self.client.hosts().await?;
        let mut named = hosts.into_iter().filter(|(_, h)| h.uuid.to_string() == name || h.name_label == name);
        match (named.next(), named.next()) {
            (Some(found), None) => Ok(found),
            (None, _) => Err(RunError::UnknownHost(name.to_owned())),
            (Some(_), Some(_)) => Err(RunError::AmbiguousHost(name.to_owned())),
        }
    }
}

/// Runs. `progress` is told how many of how many hosts are done.
///
/// # Errors
/// [`RunError`] if it could not begin; what fails on a host is in the report.
pub async fn run(
    pool: Pool,
    policy: &Path,
    action: &str,
    scope: &Scope,
    write: bool,
    progress: impl Fn(usize, usize),
) -> Result<Report, RunError> {
    let file = PolicyFile::load(policy)?;
    let macs = own::macs()?;
    let pool = Arc::new(pool);
    let mut reports: BTreeMap<Ref<Host>, HostReport> = BTreeMap::new();
    let (mut problems, mut concerned) = (Vec::new(), false);
    let (mut locking, mut unlocked) = (Vec::new(), Vec::new());
    let mut rounds = Rounds::new();
    let mut is_first = true;
    let mut own = BTreeSet::new();
    loop {
        // Taken before the state is read: a writer that read later wins.
        let generation = dom0::generation();
        let inventory = match Inventory::read(&pool.client).await {
            // What was done before is to be reported.
            Err(_) if !is_first => break,
            read => read?,
        };
        let Desired { hosts, idle, bindings, problems: found } =
            expecting(&file, &inventory, &macs, &scope.announced(&inventory)?)
                .map_err(|source| RunError::Resolve { path: policy.to_owned(), source })?;
        if is_first {
            own = scope.own_hosts(&inventory)?;
        }
        concerned = found.iter().any(|problem| scope.concerns(problem, &inventory, &own));
        problems = found;
        if write && is_first {
            (locking, unlocked) = lock_again(&pool.client, scope, &inventory, &idle).await;
        }
        let in_scope = if is_first {
            hosts_in_scope(scope, own.clone(), &bindings, &inventory, &hosts)
        } else {
            reports
                .iter()
                .filter(|(_, report)| report.asks_for_another(&[]))
                .map(|(host, _)| host.clone())
                .collect()
        };
        let mode = if write { Mode::Apply { generation } } else { Mode::Plan };
        let round =
            reconcile_all(&pool, &inventory, hosts, &in_scope, mode, generation / 1_000_000_000, &progress);
        for (host, report) in round.await {
            let report = report.after(reports.remove(&host));
            reports.insert(host, report);
        }
        if !reports.values().any(|report| report.asks_for_another(&[])) || !rounds.again().await {
            break;
        }
        is_first = false;
    }
    let mut hosts: Vec<HostReport> = reports.into_values().collect();
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    pool.close().await;
    let ok = !concerned && unlocked.is_empty() && hosts.iter().all(HostReport::is_ok);
    problems.extend(unlocked);
    Ok(Report { action: action.to_owned(), ok, hosts, locking, problems })
}

/// Locks again what a hook's VM no longer uses, so that its next start finds it closed. Answers what was done, and what could
/// not be.
///
/// Only for that VM: whoever calls the hook knows that nobody starts it at this moment.
async fn lock_again(
    client: &Client,
    scope: &Scope,
    inventory: &Inventory,
    idle: &[VifLocking],
) -> (Vec<String>, Vec<Problem>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let Scope::Vm { vm, .. } = scope else { return (done, failed) };
    let about: BTreeSet<_> = inventory.guests(vm).map(|(reference, _)| reference).collect();
    for vif in idle.iter().filter(|vif| about.contains(&vif.found.vm)) {
        match vif.close_idle(client).await {
            Ok(()) => done.extend(vif.describe()),
            Err(error) => failed.push(Problem::still_open(vif, vm, &chain(&error))),
        }
    }
    (done, failed)
}

/// Reconciles the hosts in scope, side by side.
async fn reconcile_all(
    pool: &Arc<Pool>,
    inventory: &Inventory,
    mut hosts: BTreeMap<Ref<Host>, HostDesired>,
    in_scope: &BTreeSet<Ref<Host>>,
    mode: Mode<'static>,
    seed: u64,
    progress: impl Fn(usize, usize),
) -> Vec<(Ref<Host>, HostReport)> {
    let limit = Arc::new(Semaphore::new(HOSTS_AT_A_TIME));
    let mut tasks = JoinSet::new();
    for (reference, host) in &inventory.hosts {
        let (true, Some(wanted)) = (in_scope.contains(reference), hosts.remove(reference)) else { continue };
        let (pool, limit, reference) = (Arc::clone(pool), Arc::clone(&limit), reference.clone());
        let (name, uuid) = (host.name_label.clone(), host.uuid.to_string());
        tasks.spawn(async move {
            let _turn = limit.acquire().await;
            let dom0 = Dom0 { client: &pool.client, signer: &pool.signer, host: &reference, uuid };
            let report = reconcile(&dom0, &name, &wanted, mode, seed).await;
            (reference, report)
        });
    }
    let total = tasks.len();
    let mut reports = Vec::with_capacity(total);
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(report) => reports.push(report),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        progress(reports.len(), total);
    }
    reports
}

/// The hosts that the run is about: its own, and those that have rules about the VM.
fn hosts_in_scope(
    scope: &Scope,
    own: BTreeSet<Ref<Host>>,
    bindings: &[Binding],
    inventory: &Inventory,
    hosts: &BTreeMap<Ref<Host>, HostDesired>,
) -> BTreeSet<Ref<Host>> {
    let mut all = own;
    match scope {
        Scope::Everything | Scope::Vm { leaving: true, .. } | Scope::Migration { to: None, .. } => {
            all.extend(hosts.keys().cloned())
        }
        Scope::Host(_) | Scope::Migration { to: Some(_), .. } => {}
        Scope::Vm { vm, leaving: false } => {
            let vms: BTreeSet<_> = inventory.guests(vm).map(|(reference, _)| reference).collect();
            let ports = bindings.iter().filter(|binding| vms.contains(&binding.vm));
            let groups = ports.flat_map(|binding| binding.groups.iter().cloned()).collect();
            all.extend(hosts.iter().filter(|(_, h)| h.refers_to(&groups)).map(|(host, _)| host.clone()));
        }
    }
    all
}
