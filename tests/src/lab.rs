//! A pool to try things on: mock hosts with real bridges and the real plugin, guests, and the `drawbridge` program run
//! as its user runs it.
//!
//! One network, `lan`, unless more are asked for. Everyone on the k-th network has an address of each family by
//! number: `10.20.<k>.<number>` and `fd20:<k>::<number>`. Hosts count from 1, guests are numbered by the test, and
//! `outside`, a machine that is no guest of the pool, is 200. All of it ends with the [`Lab`].

mod builder;
pub mod clock;
mod daemon;
mod driver;
mod lifecycle;
mod rules;
mod scratch;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use xapi_mock::Mock;
use xapi_mock::netns::{GuestHandle, HostHandle, Netns, NsHandle, StationHandle};
use xenapi::Client;

pub use builder::{Backend, Builder, Guest};
pub use daemon::{Daemon, DaemonBuilder};
pub use driver::{Run, program};
pub use rules::mentions;
pub use xapi_mock::dataplane::{Iptables, NetworkBackend};

use crate::frame::Mac;
use crate::station::{Namespace, Station};
use scratch::Scratch;

/// The number of the machine outside the pool.
pub const OUTSIDE: u8 = 200;

/// A running pool with what is needed to use it.
pub struct Lab {
    // Declared in the order they must end: the client's and the mock's tasks run on the runtime.
    client: Client,
    mock: Option<Mock>,
    plane: Arc<Netns>,
    stations: Mutex<Vec<StationHandle>>,
    outside: Station,
    guests: Vec<Guest>,
    networks: Vec<String>,
    scratch: Scratch,
    runtime: Runtime,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("guests", &self.guests).finish_non_exhaustive()
    }
}

/// The bridge of the `network`-th network.
pub(crate) fn bridge(network: u8) -> String {
    format!("xenbr{network}")
}

/// Everyone's address on the `network`-th network.
#[must_use]
pub const fn ipv4(network: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 20, network, number)
}

/// Everyone's address on the `network`-th network.
#[must_use]
pub fn ipv6(network: u8, number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd20, network.into(), 0, 0, 0, 0, 0, number.into())
}

/// Everyone's hardware address on the `network`-th network.
#[must_use]
pub const fn mac(network: u8, number: u8) -> Mac {
    Mac([0x00, 0x16, 0x3e, 0x20, network, number])
}

/// Both addresses in CIDR form.
pub(crate) fn addresses(network: u8, number: u8) -> Vec<String> {
    vec![format!("{}/24", ipv4(network, number)), format!("{}/64", ipv6(network, number))]
}

fn station(name: &str, interface: &str, namespace: Namespace, network: u8, number: u8) -> Station {
    Station {
        name: name.to_owned(),
        namespace,
        interface: interface.to_owned(),
        mac: mac(network, number),
        ipv4: Some(ipv4(network, number)),
        ipv6: Some(ipv6(network, number)),
    }
}

fn namespace(handle: &NsHandle) -> Result<Namespace> {
    Ok(handle.run(Namespace::current)?)
}

impl Lab {
    /// A guest's first interface. Asked for anew after each boot: a boot makes a new namespace.
    ///
    /// # Errors
    /// No such guest, or it has no domain.
    pub fn guest(&self, name: &str) -> Result<Station> {
        self.guest_nic(name, 0)
    }

    /// A guest's interface `eth<device>`.
    ///
    /// # Errors
    /// No such guest or interface, or the guest has no domain.
    pub fn guest_nic(&self, name: &str, device: u8) -> Result<Station> {
        let guest = self.spec(name)?;
        let network =
            *guest.networks.get(usize::from(device)).with_context(|| format!("{name} has no eth{device}"))?;
        let namespace = namespace(&*self.domain(name)?)?;
        let addresses_of = guest.addresses_of.unwrap_or(network);
        let station = station(name, &format!("eth{device}"), namespace, addresses_of, guest.number);
        Ok(Station { mac: guest.mac(network), ..station })
    }

    /// The guest's domain.
    ///
    /// # Errors
    /// No such guest, or it has no domain.
    pub fn domain(&self, name: &str) -> Result<GuestHandle> {
        let (_, vm) = self.vm(name)?;
        self.plane.guest(&vm.uuid.to_string()).with_context(|| format!("guest {name} has no domain"))
    }

    /// The machine outside the pool on `lan`.
    #[must_use]
    pub const fn outside(&self) -> &Station {
        &self.outside
    }

    /// Adds a machine outside the pool, with the addresses of this number on `lan`.
    ///
    /// # Errors
    /// The system refused.
    pub fn add_station(&self, name: &str, number: u8) -> Result<Station> {
        self.add_station_on(0, name, number)
    }

    /// Adds a machine outside the pool to the `network`-th network, with the addresses of this number on `lan`.
    ///
    /// # Errors
    /// The system refused.
    pub fn add_station_on(&self, network: u8, name: &str, number: u8) -> Result<Station> {
        let mac = mac(network, number);
        let handle =
            self.plane.add_station(&bridge(network), name, &mac.to_string(), &addresses(0, number))?;
        let station = Station { mac, ..station(name, "eth0", namespace(&handle)?, 0, number) };
        self.stations.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        Ok(station)
    }

    /// Lets a guest and the machines outside the pool forget whom they asked for an address in vain.
    ///
    /// # Errors
    /// No such guest, or the system refused.
    pub fn forget_neighbours(&self, guest: &str) -> Result<()> {
        let forget = |ns: &NsHandle| -> Result<()> {
            let output = ns.command("ip", &["neighbour", "flush", "all"], b"")?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        };
        forget(&*self.domain(guest)?)?;
        let stations = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        stations.iter().try_for_each(|station| forget(station))
    }

    /// A host's dom0.
    ///
    /// # Errors
    /// No such host.
    pub fn host(&self, name: &str) -> Result<HostHandle> {
        self.plane.host(name).with_context(|| format!("no host {name}"))
    }

    /// A host's dom0 as one who talks on `lan`, by its management address (IPv4 only, as dom0 has it).
    ///
    /// # Errors
    /// No such host.
    pub fn dom0(&self, name: &str) -> Result<Station> {
        let handle = self.host(name)?;
        let links = handle.links()?;
        let link = links.iter().find(|link| link.name == bridge(0)).context("dom0 has no bridge")?;
        let number = self.host_number(name)?;
        let mut station = station(name, &link.name, namespace(&handle)?, 0, number);
        (station.mac, station.ipv6) = (link.mac.parse()?, None);
        Ok(station)
    }

    /// The hardware address of a bridge itself: frames for dom0 on that network go there.
    ///
    /// # Errors
    /// No such host or bridge.
    pub fn bridge_mac(&self, host: &str, bridge: &str) -> Result<Mac> {
        let links = self.host(host)?.links()?;
        let link = links.iter().find(|link| link.name == bridge);
        Ok(link.with_context(|| format!("{host} has no {bridge}"))?.mac.parse()?)
    }

    /// The switch all hosts are connected to; frames between them, and to what is outside, can be seen there.
    #[must_use]
    pub fn switch(&self) -> NsHandle {
        self.plane.switch()
    }

    /// The mock itself, for its faults.
    ///
    /// # Errors
    /// Never while the Lab stands.
    pub fn mock(&self) -> Result<&Mock> {
        self.mock.as_ref().context("the mock has ended")
    }

    /// The data plane itself, for boot programs.
    #[must_use]
    pub fn plane(&self) -> &Netns {
        &self.plane
    }

    /// Runs a program in a host's dom0 and answers its output.
    ///
    /// # Errors
    /// No such host or program, or it failed; with its error output.
    pub fn dom0_program(&self, host: &str, program: &str, args: &[&str], stdin: &[u8]) -> Result<String> {
        let output = self.host(host)?.command(program, args, stdin).with_context(|| program.to_owned())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {args:?} on {host}: {}: {stderr}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The plugin's audit lines on this host, oldest first.
    ///
    /// # Errors
    /// No such host.
    pub fn audit(&self, host: &str) -> Result<Vec<String>> {
        Ok(self.host(host)?.syslog().into_iter().filter(|line| line.contains("drawbridge")).collect())
    }

    /// Kills the plugins that run in this host's dom0 at this moment, and none of their children; how many.
    ///
    /// # Errors
    /// No such host.
    pub fn kill_plugins(&self, host: &str) -> Result<usize> {
        let own = self.dom0_program(host, "readlink", &["/proc/self/ns/mnt"], b"")?;
        let mut killed = 0;
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok()) else {
                continue;
            };
            // It may have ended by now.
            let is_there =
                std::fs::read_link(path.join("ns/mnt")).is_ok_and(|it| it.to_str() == Some(own.trim()));
            let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
            if is_there && command.starts_with(b"/etc/xapi.d/plugins/drawbridge\0") {
                let sent = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
                killed += usize::from(sent.is_ok());
            }
        }
        Ok(killed)
    }

    fn spec(&self, name: &str) -> Result<&Guest> {
        self.guests.iter().find(|guest| guest.name == name).with_context(|| format!("no guest {name}"))
    }

    fn host_number(&self, name: &str) -> Result<u8> {
        name.strip_prefix("host")
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("no host {name}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mock) = self.mock.take() {
            self.runtime.block_on(mock.stop());
        }
    }
}
