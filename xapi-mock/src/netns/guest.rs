//! A domain: its VIFs in dom0, and the guest behind them in a network namespace of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::bridge::no_dad;
use super::host::Host;
use super::port::{DOM0_MAC, Id, Lock, Port};
use super::process::ProcessSpace;
use super::space::{Space, next_index};
use super::switch::tune_station;

/// What a guest does as soon as its links carry frames; runs on a thread of its own in the guest's network namespace.
///
/// Nothing can stop it from outside: after the domain is gone its sockets answer with errors, and it should return.
pub type BootProgram = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Made, and not let run yet.
    Created,
    Running,
    Paused,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    ports: BTreeMap<u32, Port>,
}

/// One domain.
pub(super) struct Guest {
    pub(super) uuid: Id,
    pub(super) host: Arc<Host>,
    pub(super) space: Arc<Space>,
    state: Mutex<State>,
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("uuid", &self.uuid).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Guest {
    pub(super) fn build(
        uuid: &str,
        host: &Arc<Host>,
        ports: Vec<Port>,
        processes: &Arc<ProcessSpace>,
    ) -> io::Result<Self> {
        let space = Space::network(processes, tune_station)?;
        space.ip(&["link set dev lo up".to_owned()])?;
        let state = State { phase: Phase::Created, ports: BTreeMap::new() };
        let guest = Self {
            uuid: uuid.parse()?,
            host: Arc::clone(host),
            space: Arc::new(space),
            state: Mutex::new(state),
        };
        for port in ports {
            if let Err(error) = guest.plug(port) {
                // The first failure is the one to tell.
                let _also = guest.destroy();
                return Err(error);
            }
        }
        Ok(guest)
    }

    /// A second domain for the guest of `leaving`, which goes on there: its new VIFs stand, their other ends wait in
    /// the guest under names of their own.
    pub(super) fn receive(leaving: &Self, host: &Arc<Host>, ports: Vec<Port>) -> io::Result<Self> {
        let state = State { phase: Phase::Created, ports: BTreeMap::new() };
        let guest = Self {
            uuid: leaving.uuid.clone(),
            host: Arc::clone(host),
            space: Arc::clone(&leaving.space),
            state: Mutex::new(state),
        };
        for port in ports {
            let attached = guest.attach(&port, &arriving(&port));
            guest.state().ports.insert(port.device, port);
            if let Err(error) = attached {
                // The first failure is the one to tell.
                let _also = guest.destroy();
                return Err(error);
            }
        }
        Ok(guest)
    }

    /// Lets the guest of `leaving` go on here. Its links are new ones of the old names, with the addresses it had at
    /// first: what it was connected to stays so, sockets bound to a link itself do not.
    pub(super) fn take_over(&self, leaving: &Self) -> io::Result<()> {
        let mut state = self.state();
        leaving.pause()?;
        let mut lines = Vec::new();
        for port in leaving.state().ports.values() {
            let (eth, left) = (port.eth(), format!("left{}", port.device));
            lines.extend([format!("address flush dev {eth}"), format!("link set dev {eth} name {left}")]);
        }
        for port in state.ports.values() {
            let eth = port.eth();
            lines.push(format!("link set dev {} name {eth}", arriving(port)));
            lines.extend(addresses(port, &eth));
        }
        self.space.ip(&lines)?;
        self.raise(state.ports.values())?;
        state.phase = Phase::Running;
        self.space.ip(&state.ports.values().flat_map(routes).collect::<Vec<_>>())
    }

    /// Adds a VIF.
    pub(super) fn plug(&self, port: Port) -> io::Result<()> {
        let mut state = self.state();
        // Not by `state` alone: what another domain has must not be removed by the clean-up below.
        if state.ports.contains_key(&port.device) || self.host.has_link(&port.vif())? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", port.vif())));
        }
        let eth = port.eth();
        let attached = self.attach(&port, &eth).and_then(|()| self.space.ip(&addresses(&port, &eth)));
        attached.inspect_err(|_| {
            // The first failure is the one to tell.
            let _also = self.detach(&port);
        })?;
        if state.phase == Phase::Running {
            self.raise(iter::once(&port))?;
            self.space.ip(&routes(&port))?;
        }
        state.ports.insert(port.device, port);
        Ok(())
    }

    /// The dom0 end on its bridge, the guest's end, named `eth`, down.
    fn attach(&self, port: &Port, eth: &str) -> io::Result<()> {
        let (vif, Port { mac, mtu, .. }) = (port.vif(), port);
        let mut lines = vec![format!(
            "link add name {vif} index {} address {DOM0_MAC} mtu {mtu} type veth \
             peer name {eth} address {mac} mtu {mtu} netns {}",
            next_index(),
            self.space.address()
        )];
        let joining = self.host.joining(port);
        let joined = joining.is_some();
        lines.extend(joining);
        self.host.space.ip(&lines)?;
        if self.host.switches_in_user_space() {
            self.space.send_whole(eth)?;
        }
        if joined { Ok(()) } else { self.host.lock(&self.uuid, port) }
    }

    fn detach(&self, port: &Port) -> io::Result<()> {
        let vif = port.vif();
        let cleared = self.host.clear(port);
        if self.host.has_link(&vif)? {
            self.host.space.ip(&[format!("link delete dev {vif}")])?;
        }
        cleared
    }

    /// Removes a VIF.
    pub(super) fn unplug(&self, device: u32) -> io::Result<()> {
        let mut state = self.state();
        let port = state.ports.get(&device).ok_or_else(|| self.no_vif(device))?;
        self.detach(port)?;
        state.ports.remove(&device);
        Ok(())
    }

    /// Changes the locking of a VIF.
    pub(super) fn lock(&self, device: u32, lock: Lock) -> io::Result<()> {
        let mut state = self.state();
        let runs = state.phase == Phase::Running;
        let port = state.ports.get_mut(&device).ok_or_else(|| self.no_vif(device))?;
        port.lock = lock;
        self.host.lock(&self.uuid, port)?;
        if runs { self.raise(iter::once(&*port)) } else { Ok(()) }
    }

    /// Sets the guest's ends of VIFs up, and waits until packets pass both ways; not through its bridge if a VIF's
    /// locking keeps it off that.
    fn raise<'a>(&self, mut ports: impl Iterator<Item = &'a Port> + Clone) -> io::Result<()> {
        self.space.raise(&ports.clone().map(Port::eth).collect::<Vec<_>>())?;
        ports.try_for_each(|port| self.host.await_forwarding(port))
    }

    /// Boots it, or lets it go on.
    pub(super) fn run(&self, boot: Option<BootProgram>) -> io::Result<()> {
        let mut state = self.state();
        if state.phase == Phase::Running {
            return Ok(());
        }
        self.raise(state.ports.values())?;
        if let (Phase::Created, Some(boot)) = (state.phase, boot) {
            self.space.in_network(|| {
                thread::Builder::new().name("boot".into()).spawn(move || boot())?;
                Ok(())
            })?;
        }
        state.phase = Phase::Running;
        self.space.ip(&state.ports.values().flat_map(routes).collect::<Vec<_>>())
    }

    /// Keeps it from sending and answering.
    pub(super) fn pause(&self) -> io::Result<()> {
        let mut state = self.state();
        let down = |port: &Port| format!("link set dev {} down", port.eth());
        self.space.ip(&state.ports.values().map(down).collect::<Vec<_>>())?;
        if state.phase == Phase::Running {
            state.phase = Phase::Paused;
        }
        Ok(())
    }

    /// Removes every VIF, as far as that can be done, and says what could not.
    pub(super) fn destroy(&self) -> io::Result<()> {
        let ports = std::mem::take(&mut self.state().ports);
        let failures: Vec<String> = ports
            .values()
            .filter_map(|port| self.detach(port).err())
            .map(|error| error.to_string())
            .collect();
        if failures.is_empty() { Ok(()) } else { Err(io::Error::other(failures.join("; "))) }
    }

    /// The names of its VIFs in dom0, by device.
    pub(super) fn vifs(&self) -> Vec<String> {
        self.state().ports.values().map(Port::vif).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_vif(&self, device: u32) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, format!("VM {}: no VIF {device}", self.uuid))
    }
}

/// What the guest's end is named until the guest goes on in its new domain.
fn arriving(port: &Port) -> String {
    format!("new{}", port.device)
}

fn addresses(port: &Port, eth: &str) -> Vec<String> {
    port.addresses.iter().map(|&it| format!("address add {it} dev {eth}{}", no_dad(it))).collect()
}

/// A route lasts only while the link is up.
fn routes(port: &Port) -> Vec<String> {
    let eth = port.eth();
    port.gateways.iter().map(|gateway| format!("route replace default via {gateway} dev {eth}")).collect()
}
