//! The pool as a program holds it: started, asked, disturbed, stopped.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use crate::config::{ConfigError, DataPlaneKind, PoolConfig, VmConfig};
use crate::dataplane::{DataPlane, HostSpec};
use crate::domain;
use crate::error::ApiError;
use crate::faults::{Fault, Faults};
use crate::http::{self, Host};
use crate::inventory;
use crate::netns::{GuestHandle, HostHandle, Netns};
use crate::plain::Plain;
use crate::pool::Pool;
use crate::schema::Class;
use crate::tls::{TlsError, host_tls};

/// How often another free port is tried when the one found on the first address is taken on a further one.
const PORT_ATTEMPTS: u32 = 16;

/// A pool at work. Dropping it ends it.
pub struct Mock {
    config: Mutex<PoolConfig>,
    pub(crate) pool: Arc<Pool>,
    hosts: Vec<HostInfo>,
    netns: Option<Arc<Netns>>,
    /// Of its own, so that the pool answers while its user blocks. `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Mock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mock").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// Where a host is reached.
#[derive(Clone, Debug, Serialize)]
pub struct HostInfo {
    /// `host.name_label`
    pub name: String,
    /// `host.uuid`
    pub uuid: String,
    /// Whether it was master when the pool started: the first host is.
    pub master: bool,
    /// `https://…`, the certificate self-signed.
    pub url: String,
    /// The same port without TLS.
    pub http_url: String,
    /// SHA-256 of the certificate, lower-case hexadecimal digits.
    pub fingerprint: String,
}

/// Why a pool did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address is not free, or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system gives no threads.
    #[error("cannot start the server's threads")]
    Runtime(#[source] io::Error),
    /// No certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Hosts or networks cannot be made.
    #[error("data plane")]
    DataPlane(#[source] io::Error),
    /// A VM that was to run does not.
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// What XAPI says about a VM that cannot do what it should.
#[derive(Debug, thiserror::Error)]
#[error("VM {vm:?}: {code} {params:?}")]
pub struct VmError {
    /// The VM's name.
    pub vm: String,
    /// XAPI's error code.
    pub code: String,
    /// Its parameters.
    pub params: Vec<String>,
}

impl VmError {
    pub(crate) fn new(vm: &str, error: ApiError) -> Self {
        Self { vm: vm.to_owned(), code: error.code, params: error.params }
    }
}

impl Mock {
    /// Starts a pool: hosts, networks, listeners, and the VMs that are to run.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub async fn start(config: PoolConfig) -> Result<Self, StartError> {
        config.check()?;
        let listeners = listen(&config)?;
        let addresses: Vec<_> = listeners.iter().map(|(address, _)| address.ip().to_string()).collect();
        let specs = inventory::host_specs(&config).map_err(StartError::DataPlane)?;
        let (data_plane, netns) = blocking({
            let (kind, plugins) = (config.data_plane, config.plugins.clone());
            move || build(kind, plugins.as_deref(), &specs)
        })
        .await
        .map_err(StartError::DataPlane)?;

        let db = inventory::populate(&config, &addresses);
        let delay = Duration::from_millis(config.wrong_password_delay_ms);
        let pool = Arc::new(Pool::new(db, data_plane, config.users.clone(), delay));
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("xapi-mock").enable_all().build();
        let runtime = runtime.map_err(StartError::Runtime)?;
        let server = runtime.handle().clone();
        let mut mock = Self {
            pool,
            hosts: Vec::new(),
            netns,
            runtime: Some(runtime),
            config: Mutex::new(config.clone()),
        };
        for (host, (address, listener)) in config.hosts.iter().zip(listeners) {
            let tls = host_tls(&host.name)?;
            let uuid = inventory::host_uuid(host);
            mock.hosts.push(HostInfo {
                name: host.name.clone(),
                master: mock.hosts.is_empty(),
                url: format!("https://{address}"),
                http_url: format!("http://{address}"),
                fingerprint: tls.fingerprint,
                uuid: uuid.clone(),
            });
            let served = Arc::new(Host {
                pool: Arc::clone(&mock.pool),
                name: host.name.clone(),
                reference: inventory::ref_of(&uuid),
                tls: tls.acceptor,
            });
            server.spawn(http::serve(listener, served));
        }
        for vm in &config.vms {
            mock.pool.add_vm(vm);
        }
        for vm in config.vms.into_iter().filter(|vm| vm.running) {
            let pool = Arc::clone(&mock.pool);
            blocking(move || run(&pool, &vm).map_err(|error| VmError::new(&vm.name, error))).await?;
        }
        Ok(mock)
    }

    /// `https://` and the master's address.
    #[must_use]
    pub fn master_url(&self) -> String {
        self.master().map(|host| host.url.clone()).unwrap_or_default()
    }

    /// SHA-256 of the master's certificate, lower-case hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.master().map(|host| host.fingerprint.clone()).unwrap_or_default()
    }

    fn master(&self) -> Option<&HostInfo> {
        let master = self.pool.master();
        self.hosts.iter().find(|host| inventory::ref_of(&host.uuid) == master)
    }

    /// All hosts, the one that was master first in front.
    #[must_use]
    pub fn hosts(&self) -> &[HostInfo] {
        &self.hosts
    }

    /// `https://` and the address of the host of this name.
    #[must_use]
    pub fn host_url(&self, host: &str) -> Option<String> {
        self.hosts.iter().find(|info| info.name == host).map(|info| info.url.clone())
    }

    /// What can be made to go wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.pool.faults
    }

    /// The namespaces, if the pool has them.
    #[must_use]
    pub fn data_plane(&self) -> Option<Arc<Netns>> {
        self.netns.clone()
    }

    /// The dom0 of the host of this name, if there is a data plane.
    #[must_use]
    pub fn host(&self, host: &str) -> Option<HostHandle> {
        self.netns.as_ref()?.host(host)
    }

    /// The guest of a VM (name or uuid) that has a domain, if there is a data plane.
    #[must_use]
    pub fn guest(&self, vm: &str) -> Option<GuestHandle> {
        self.netns.as_ref()?.guest(&self.vm_uuid(vm)?)
    }

    /// The uuid of a VM, by its name.
    #[must_use]
    pub fn vm_uuid(&self, vm: &str) -> Option<String> {
        let reference = self.pool.find_vm(vm)?;
        self.pool.db().get(Class::Vm, &reference).ok().map(|record| record.text("uuid").to_owned())
    }

    /// Adds a VM, as if created by another client; starts it if it is to run. The answer is its uuid.
    ///
    /// # Errors
    /// The configuration does not fit the pool's, or the VM does not start.
    pub async fn add_vm(&self, vm: VmConfig) -> Result<String, StartError> {
        {
            let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
            let mut extended = config.clone();
            extended.vms.push(vm.clone());
            extended.check()?;
            *config = extended;
        }
        self.pool.add_vm(&vm);
        let uuid = inventory::vm_uuid(&vm);
        if vm.running {
            let pool = Arc::clone(&self.pool);
            blocking(move || run(&pool, &vm).map_err(|error| VmError::new(&vm.name, error))).await?;
        }
        Ok(uuid)
    }

    /// Ends the pool: connections, running plugins, guests, hosts.
    pub async fn stop(self) {
        blocking(move || drop(self)).await;
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.pool.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // Who waits for a hanging plugin must not keep the pool.
        self.pool.faults.inject(Fault::Clear);
        self.pool.data_plane.shut_down();
    }
}

/// Starts a VM that is to run, where XAPI would.
fn run(pool: &Pool, vm: &VmConfig) -> Result<(), ApiError> {
    let reference = inventory::ref_of(&inventory::vm_uuid(vm));
    let _claim = pool.claim(&reference);
    let host = domain::choose_host(pool, &pool.db(), &reference)?;
    domain::start(pool, &reference, &host, false, false)
}

type Built = (Arc<dyn DataPlane>, Option<Arc<Netns>>);

fn build(kind: DataPlaneKind, plugins: Option<&Path>, specs: &[HostSpec]) -> io::Result<Built> {
    let (data_plane, netns): Built = match kind {
        DataPlaneKind::None => (Arc::new(Plain::new(plugins)), None),
        DataPlaneKind::Netns => {
            let netns = Arc::new(Netns::new()?);
            (Arc::clone(&netns) as Arc<dyn DataPlane>, Some(netns))
        }
    };
    for spec in specs {
        data_plane.add_host(spec).inspect_err(|_| data_plane.shut_down())?;
    }
    Ok((data_plane, netns))
}

/// Runs what blocks off the runtime's own threads; a panic in it goes on here.
#[expect(clippy::panic, reason = "what panicked there panics here")]
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("the runtime is shut down: {error}"),
        },
    }
}

/// A listener for every host, all on one port.
fn listen(config: &PoolConfig) -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    let mut attempt = 1;
    loop {
        match listen_once(config) {
            Err(StartError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse
                    && config.listen.port() == 0
                    && attempt < PORT_ATTEMPTS =>
            {
                attempt += 1;
            }
            other => return other,
        }
    }
}

fn listen_once(config: &PoolConfig) -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    let mut listeners = Vec::new();
    let mut port = config.listen.port();
    let mut next = config.listen.ip();
    for host in &config.hosts {
        let ip = host.address.unwrap_or(next);
        next = following(ip);
        let wanted = SocketAddr::new(ip, port);
        let bind = || {
            let listener = TcpListener::bind(wanted)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = bind().map_err(|source| StartError::Listen { address: wanted, source })?;
        port = address.port();
        listeners.push((address, listener));
    }
    Ok(listeners)
}

fn following(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::from(u32::from(ip).wrapping_add(1).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from(u128::from(ip).wrapping_add(1).to_be_bytes()),
    }
}
