//! The data plane in Linux namespaces: each host a network and mount namespace with real bridges, each running VM a
//! network namespace behind a real `vif<domid>.<n>`, and a switch that connects the hosts.
//!
//! Needs root, `ip`, `iptables` and `ebtables-nft`; a host with Open vSwitch also `ovsdb-server`, `ovs-vswitchd`, their
//! tools and `ethtool`. Everything is held by descriptors and processes of this process
//! alone and goes with it, also when it is killed.

mod bridge;
mod files;
mod guest;
mod handle;
mod host;
mod locking;
mod ovs;
mod port;
mod process;
mod reboot;
mod space;
mod switch;
mod syslog;
#[cfg(test)]
mod tests;
mod wait;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use guest::BootProgram;
pub use handle::{GuestHandle, HostHandle, Link, NsHandle, StationHandle};
pub use process::Running;

use crate::dataplane::{DataPlane, HostSpec, PluginRun, VifPort};
use guest::Guest;
use host::Host;
use port::{Port, parse_all};
use process::ProcessSpace;
use switch::Switch;

/// The hosts, their guests and what connects them.
pub struct Netns {
    processes: Arc<ProcessSpace>,
    switch: Switch,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    guests: Mutex<HashMap<String, Arc<Guest>>>,
    /// The receiving domains of migrations, by VM.
    arrivals: Mutex<HashMap<String, Arc<Guest>>>,
    boots: Mutex<HashMap<String, BootProgram>>,
}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netns")
            .field("hosts", &self.hosts)
            .field("guests", &self.guests)
            .finish_non_exhaustive()
    }
}

impl Netns {
    /// The switch, and no hosts yet.
    ///
    /// # Errors
    /// Not root, or the kernel lacks namespaces.
    pub fn new() -> io::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            let message = "the netns data plane makes namespaces, mounts and bridges: run it as root";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let processes = Arc::new(ProcessSpace::new()?);
        let switch = Switch::new(&processes)?;
        Ok(Self {
            processes,
            switch,
            hosts: Mutex::default(),
            guests: Mutex::default(),
            arrivals: Mutex::default(),
            boots: Mutex::default(),
        })
    }

    /// The host of this name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<HostHandle> {
        lock(&self.hosts).get(name).map(HostHandle::of)
    }

    /// The guest of a VM that has a domain.
    #[must_use]
    pub fn guest(&self, vm_uuid: &str) -> Option<GuestHandle> {
        lock(&self.guests).get(vm_uuid).map(GuestHandle::of)
    }

    /// The namespace in which every network of the pool is a bridge.
    #[must_use]
    pub fn switch(&self) -> NsHandle {
        NsHandle { space: Arc::clone(&self.switch.space) }
    }

    /// A machine outside the pool, its `eth0` on the network which the hosts' bridge `bridge` is on. `addresses` are
    /// in CIDR form. It is gone when its handles are.
    ///
    /// # Errors
    /// No such bridge, MAC or address.
    pub fn add_station(
        &self,
        bridge: &str,
        name: &str,
        mac: &str,
        addresses: &[String],
    ) -> io::Result<StationHandle> {
        let addresses = parse_all("not an address in CIDR form", addresses)?;
        let space = self.switch.station(&self.processes, bridge, mac.parse()?, &addresses)?;
        Ok(StationHandle { ns: NsHandle { space: Arc::new(space) }, name: name.to_owned() })
    }

    /// Sets what the VM's guest does at every boot from now on, as soon as its links are up.
    pub fn set_boot(&self, vm_uuid: &str, boot: impl Fn() + Send + Sync + 'static) {
        lock(&self.boots).insert(vm_uuid.to_owned(), Arc::new(boot));
    }

    /// Lets the VM's guest do nothing of its own at boot.
    pub fn clear_boot(&self, vm_uuid: &str) {
        lock(&self.boots).remove(vm_uuid);
    }

    fn the_host(&self, name: &str) -> io::Result<Arc<Host>> {
        let host = lock(&self.hosts).get(name).cloned();
        host.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("host {name}: none such")))
    }

    fn the_guest(&self, vm_uuid: &str) -> io::Result<Arc<Guest>> {
        let guest = lock(&self.guests).get(vm_uuid).cloned();
        guest.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("VM {vm_uuid}: no domain")))
    }
}

impl DataPlane for Netns {
    fn add_host(&self, spec: &HostSpec) -> io::Result<()> {
        if lock(&self.hosts).contains_key(&spec.name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("host {} exists", spec.name)));
        }
        let host = Host::build(spec, &self.switch, &self.processes)?;
        lock(&self.hosts).insert(spec.name.clone(), Arc::new(host));
        Ok(())
    }

    fn create_domain(&self, host: &str, vm_uuid: &str, ports: &[VifPort]) -> io::Result<()> {
        let host = self.the_host(host)?;
        if lock(&self.guests).contains_key(vm_uuid) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("VM {vm_uuid} has a domain")));
        }
        let ports = ports.iter().map(Port::try_from).collect::<io::Result<_>>()?;
        let guest = Guest::build(vm_uuid, &host, ports, &self.processes)?;
        lock(&self.guests).insert(vm_uuid.to_owned(), Arc::new(guest));
        Ok(())
    }

    fn run_guest(&self, vm_uuid: &str) -> io::Result<()> {
        let boot = lock(&self.boots).get(vm_uuid).cloned();
        self.the_guest(vm_uuid)?.run(boot)
    }

    fn pause_guest(&self, vm_uuid: &str) -> io::Result<()> {
        self.the_guest(vm_uuid)?.pause()
    }

    fn destroy_domain(&self, vm_uuid: &str) -> io::Result<()> {
        let guest = lock(&self.guests).remove(vm_uuid);
        guest.map_or(Ok(()), |guest| guest.destroy())
    }

    fn plug(&self, vm_uuid: &str, port: &VifPort) -> io::Result<()> {
        self.the_guest(vm_uuid)?.plug(port.try_into()?)
    }

    fn unplug(&self, vm_uuid: &str, device: u32) -> io::Result<()> {
        self.the_guest(vm_uuid)?.unplug(device)
    }

    fn set_locking(&self, vm_uuid: &str, port: &VifPort) -> io::Result<()> {
        self.the_guest(vm_uuid)?.lock(port.device, (&port.locking).try_into()?)
    }

    fn receive_domain(&self, host: &str, vm_uuid: &str, ports: &[VifPort]) -> io::Result<()> {
        let (host, leaving) = (self.the_host(host)?, self.the_guest(vm_uuid)?);
        let ports = ports.iter().map(Port::try_from).collect::<io::Result<_>>()?;
        let guest = Guest::receive(&leaving, &host, ports)?;
        lock(&self.arrivals).insert(vm_uuid.to_owned(), Arc::new(guest));
        Ok(())
    }

    fn hand_over(&self, vm_uuid: &str) -> io::Result<()> {
        let leaving = self.the_guest(vm_uuid)?;
        let arriving = lock(&self.arrivals).get(vm_uuid).cloned();
        let arriving = arriving.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("VM {vm_uuid}: no receiving domain"))
        })?;
        arriving.take_over(&leaving)?;
        lock(&self.arrivals).remove(vm_uuid);
        lock(&self.guests).insert(vm_uuid.to_owned(), arriving);
        leaving.destroy()
    }

    fn refuse_domain(&self, vm_uuid: &str) -> io::Result<()> {
        let guest = lock(&self.arrivals).remove(vm_uuid);
        guest.map_or(Ok(()), |guest| guest.destroy())
    }

    fn reset_host(&self, host: &str) -> io::Result<()> {
        let host = self.the_host(host)?;
        for guests in [&self.guests, &self.arrivals] {
            let gone: Vec<_> = {
                let mut guests = lock(guests);
                let on_host = |guest: &Guest| Arc::ptr_eq(&guest.host, &host);
                guests.extract_if(|_, guest| on_host(guest)).map(|(_, guest)| guest).collect()
            };
            gone.iter().try_for_each(|guest| guest.destroy())?;
        }
        host.reset()
    }

    fn plugins(&self, host: &str) -> io::Result<Vec<String>> {
        self.the_host(host)?.plugins()
    }

    fn run_plugin(&self, host: &str, plugin: &str, method_call: &str) -> io::Result<PluginRun> {
        process::run_plugin(&self.the_host(host)?.space, plugin, method_call)
    }

    fn shut_down(&self) {
        lock(&self.arrivals).clear();
        lock(&self.guests).clear();
        lock(&self.hosts).clear();
        self.processes.end();
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
