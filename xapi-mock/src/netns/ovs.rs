//! A host's Open vSwitch: `ovsdb-server` and `ovs-vswitchd` at their production paths in the host's own file system,
//! packets switched in user space. Other programs reach both as they do in dom0.

mod flows;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bridge::{Bridge, Wire};
use super::files;
use super::port::{Id, Lock, Name, Port};
use super::process::{self, Program};
use super::space::Space;
use super::wait;

const DATABASE: &str = "/etc/openvswitch/conf.db";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const RUN_DIR: &str = "/run/openvswitch";
const LOG_DIR: &str = "/var/log/openvswitch";

/// What the machine's own Open vSwitch may have left where the host's will be.
const FOREIGN: [&str; 3] = [DATABASE, "/etc/openvswitch/.conf.db.~lock~", "/etc/openvswitch/system-id.conf"];

/// How long a daemon may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program of Open vSwitch that runs on by itself.
#[derive(Clone, Copy, Debug)]
struct Daemon {
    name: &'static str,
    args: [&'static str; 2],
}

const OVSDB: Daemon =
    Daemon { name: "ovsdb-server", args: [DATABASE, "--remote=punix:/run/openvswitch/db.sock"] };
const VSWITCHD: Daemon =
    Daemon { name: "ovs-vswitchd", args: ["unix:/run/openvswitch/db.sock", "--no-chdir"] };

/// The switch of one host.
#[derive(Debug)]
pub(super) struct Vswitch {
    space: Arc<Space>,
    bridges: Vec<Bridge>,
    /// Held while daemons start or end.
    changing: Mutex<()>,
}

impl Vswitch {
    /// Starts an Open vSwitch with these bridges; their uplinks are there.
    pub(super) fn new(space: &Arc<Space>, bridges: Vec<Bridge>) -> io::Result<Self> {
        space.inside(|| {
            [RUN_DIR, LOG_DIR, "/etc/openvswitch"].into_iter().try_for_each(fs::create_dir_all)?;
            FOREIGN.into_iter().try_for_each(|path| files::remove(Path::new(path)))
        })?;
        let vswitch = Self { space: Arc::clone(space), bridges, changing: Mutex::default() };
        vswitch
            .run("ovsdb-tool", &["create", DATABASE, SCHEMA], "")
            .map_err(|error| io::Error::new(error.kind(), format!("{error} (is Open vSwitch installed?)")))?;
        vswitch.launch(OVSDB)?;
        let args = vswitch.bridges.iter().flat_map(add_bridge).collect::<Vec<_>>();
        // Without a switch there is none to wait for; it finds everything when it starts.
        vswitch.vsctl(&args)?;
        vswitch.start()?;
        Ok(vswitch)
    }

    /// Starts it in a host that has just booted: no program runs and `/run` is empty.
    pub(super) fn boot(&self) -> io::Result<()> {
        self.space.inside(|| fs::create_dir_all(RUN_DIR))?;
        self.start()
    }

    /// Starts what does not run and waits until packets are forwarded.
    pub(super) fn start(&self) -> io::Result<()> {
        let _changing = self.changing();
        for daemon in [OVSDB, VSWITCHD] {
            if self.pid(daemon)?.is_none() {
                self.launch(daemon)?;
            }
        }
        // Links of a switch in user space went with it, and the addresses on them. dom0's would have stayed.
        self.bridges.iter().try_for_each(|bridge| bridge.tune(&self.space))?;
        self.space.ip(&self.bridges.iter().flat_map(Bridge::up).collect::<Vec<_>>())
    }

    /// Ends both daemons as the service's script does.
    pub(super) fn stop(&self) -> io::Result<()> {
        let _changing = self.changing();
        for daemon in [VSWITCHD, OVSDB] {
            if let Some(pid) = self.pid(daemon)? {
                self.run("ovs-appctl", &["-t", daemon.name, "exit"], "")?;
                self.await_end(daemon, &pid)?;
            }
        }
        Ok(())
    }

    /// Kills the switch; the database goes on.
    pub(super) fn kill(&self) -> io::Result<()> {
        let _changing = self.changing();
        let Some(pid) = self.pid(VSWITCHD)? else { return Ok(()) };
        self.run("kill", &["-KILL", &pid], "")?;
        self.await_end(VSWITCHD, &pid)
    }

    /// `setup-vif-rules … filter`: off the bridge, on again with a new `ofport`, rules, link up.
    pub(super) fn lock(&self, vm: &Id, port: &Port) -> io::Result<()> {
        let vif = port.vif();
        self.space.ip(&[format!("link set dev {vif} down")])?;
        self.clear(port)?;
        if port.lock != Lock::Disabled {
            self.add(vm, port)?;
        }
        if let Lock::Locked { ipv4, ipv6 } = &port.lock {
            let ofport =
                self.ofport(&vif)?.ok_or_else(|| io::Error::other(format!("{vif} has no ofport")))?;
            let rules = flows::locking(ofport, port.mac, ipv4, ipv6);
            self.run("ovs-ofctl", &["add-flows", &self.switch_of(&port.bridge), "-"], &rules)?;
        }
        self.space.ip(&[format!("link set dev {vif} up")])
    }

    /// `setup-vif-rules … clear`, as for a VIF that goes away.
    pub(super) fn clear(&self, port: &Port) -> io::Result<()> {
        let vif = port.vif();
        if let Some(ofport) = self.ofport(&vif)? {
            let rules = format!("in_port={ofport},cookie=1/-1");
            // The script does not mind, and where this fails there is no switch to have rules.
            let _cleared = self.run("ovs-ofctl", &["del-flows", &self.switch_of(&port.bridge), &rules], "");
        }
        self.vsctl(&["--if-exists", "del-port", &vif].map(str::to_owned)).map(drop)
    }

    /// Puts a link on a bridge.
    pub(super) fn add_access(&self, bridge: &Name, link: &Name) -> io::Result<()> {
        self.vsctl(&["add-port", bridge.as_str(), link.as_str()].map(str::to_owned)).map(drop)
    }

    fn add(&self, vm: &Id, port: &Port) -> io::Result<()> {
        let vif = port.vif();
        let ids = [
            ("xs-vm-uuid", vm.to_string()),
            ("xs-vif-uuid", port.uuid.to_string()),
            ("xs-network-uuid", port.network.to_string()),
            ("attached-mac", port.mac.to_string()),
        ];
        let mut args = vec!["add-port".to_owned(), port.bridge.to_string(), vif.clone()];
        for (key, value) in ids {
            args.extend(["--", "set", "interface", &vif].map(str::to_owned));
            args.push(format!("external-ids:\"{key}\"=\"{value}\""));
        }
        self.vsctl(&args).map(drop)
    }

    /// The OpenFlow port of a VIF; `None` if it is on no bridge, or the switch has not taken it.
    fn ofport(&self, vif: &str) -> io::Result<Option<u16>> {
        let said = self.vsctl(&["--if-exists", "get", "interface", vif, "ofport"].map(str::to_owned))?;
        Ok(said.trim().parse().ok())
    }

    /// The bridge that has the flows of this one: a VLAN's is its parent.
    fn switch_of(&self, bridge: &Name) -> String {
        let known = self.bridges.iter().find(|it| it.name == *bridge).map(|it| &it.wire);
        if let Some(Wire::Vlan { parent, .. }) = known { parent.to_string() } else { bridge.to_string() }
    }

    /// Runs `ovs-vsctl`, which waits for the switch, if one runs, to do what it says.
    fn vsctl(&self, args: &[String]) -> io::Result<String> {
        let patience = if self.pid(VSWITCHD)?.is_some() { "--timeout=30" } else { "--no-wait" };
        let mut all = vec![patience, "--"];
        all.extend(args.iter().map(String::as_str));
        self.run("ovs-vsctl", &all, "")
    }

    fn run(&self, program: &str, args: &[&str], stdin: &str) -> io::Result<String> {
        let output = self.space.program(&Program::new(program, args).stdin(stdin.as_bytes()))?;
        process::success(program, &output).map(|said| String::from_utf8_lossy(said).into_owned())
    }

    /// Starts a daemon; it serves when this returns.
    fn launch(&self, daemon: Daemon) -> io::Result<()> {
        let [first, second] = daemon.args;
        // The log is in its file; what a host logs to syslog is there for plugins.
        let args = [first, second, "-vconsole:off", "-vsyslog:off", "--log-file", "--pidfile", "--detach"];
        self.run(daemon.name, &args, "").map(drop)
    }

    /// The process of a daemon that runs, as the host sees it.
    fn pid(&self, daemon: Daemon) -> io::Result<Option<String>> {
        self.space.inside(|| {
            let pid = match fs::read_to_string(format!("{RUN_DIR}/{}.pid", daemon.name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                text => text?.trim().to_owned(),
            };
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Ok((name.trim() == daemon.name).then_some(pid))
        })
    }

    fn await_end(&self, daemon: Daemon, pid: &str) -> io::Result<()> {
        let process = format!("/proc/{pid}");
        wait::until(PATIENCE, format!("{} does not end", daemon.name), || {
            self.space.inside(|| Ok(!Path::new(&process).exists()))
        })
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `ovs-vsctl` is told to make a bridge, after networkd's `create_bridge`: a VLAN is a fake bridge on its parent.
fn add_bridge(bridge: &Bridge) -> Vec<String> {
    let Bridge { name, network, wire, .. } = bridge;
    let text = match wire {
        Wire::Uplink(uplink) => format!(
            "-- add-br {name} -- set bridge {name} datapath_type=netdev fail_mode=standalone \
             -- br-set-external-id {name} xs-network-uuids {network} -- add-port {name} {uplink}"
        ),
        Wire::Vlan { parent, tag } => format!(
            "-- add-br {name} {parent} {tag} -- br-set-external-id {parent} xs-network-uuids {network}"
        ),
    };
    text.split_whitespace().map(str::to_owned).collect()
}
