//! A mock that is killed leaves no process, no namespace, no mount and no file behind.
//!
//! Not under the usual harness: this program starts itself again as the one to be killed. Needs root.

#![expect(clippy::print_stdout, reason = "that is how it talks to who started it")]

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use xapi_mock::dataplane::{
    BridgeSpec, Content, DataPlane, HostFile, HostSpec, Iptables, Locking, NetworkBackend, VifPort,
};
use xapi_mock::netns::Netns;

type Outcome = Result<(), Box<dyn Error>>;

/// Tells this program to be the one that gets killed.
const STAND: &str = "--stand-until-killed";

const PATIENCE: Duration = Duration::from_secs(10);

/// Leaves a daemon behind before it hangs itself.
const HANGING_PLUGIN: &str = "#!/bin/sh\nsetsid sleep 600 & touch /run/hangs; exec sleep 600\n";

fn main() -> Outcome {
    if std::env::args().any(|arg| arg == STAND) { stand() } else { kill() }
}

/// Every kind of thing the data plane makes.
fn stand() -> Outcome {
    let plane = Netns::new()?;
    for (name, network_backend) in [("one", NetworkBackend::Bridge), ("two", NetworkBackend::OpenVSwitch)] {
        plane.add_host(&HostSpec {
            uuid: name.into(),
            name: name.into(),
            bridges: vec![BridgeSpec {
                name: "xenbr0".into(),
                network_uuid: "network".into(),
                management_address: None,
                vlan: None,
            }],
            network_backend,
            iptables: Iptables::Legacy,
            files: vec![HostFile {
                path: "/etc/xapi.d/plugins/hang".into(),
                mode: 0o755,
                content: Content::Bytes(HANGING_PLUGIN.into()),
            }],
        })?;
    }
    let port = VifPort {
        domid: 1,
        device: 0,
        uuid: "vif".into(),
        network_uuid: "network".into(),
        bridge: "xenbr0".into(),
        mac: "00:16:3e:00:00:01".into(),
        mtu: 1500,
        locking: Locking::Locked { ipv4: vec!["10.9.0.1".into()], ipv6: Vec::new() },
        addresses: vec!["10.9.0.1/24".into()],
        gateways: Vec::new(),
    };
    for (host, vm) in [("one", "vm"), ("two", "vm2")] {
        plane.create_domain(host, vm, std::slice::from_ref(&port))?;
        plane.run_guest(vm)?;
    }
    plane.host("two").ok_or("no host")?.restart_ovs()?;
    let _program = plane.guest("vm").ok_or("no guest")?.spawn("sleep", &["600"])?;
    thread::scope(|scope| {
        let plugin = scope.spawn(|| plane.run_plugin("one", "hang", "<methodCall/>"));
        let dom0 = plane.host("one").ok_or("no host")?;
        while dom0.read("/run/hangs").is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        println!("ready");
        plugin.join().map_err(|_| "the plugin's thread panicked")??;
        Err("the plugin came back".into())
    })
}

fn kill() -> Outcome {
    let before = surroundings()?;
    let mut mock = start()?;
    let ready = BufReader::new(mock.0.stdout.take().ok_or("no stdout")?).lines().next();
    assert_eq!(ready.transpose()?.as_deref(), Some("ready"), "it did not get as far as to be killed");

    let made = namespaces_of(mock.0.id())?;
    let (processes, networks) = (
        made.iter().filter(|it| it.starts_with("pid:")).count(),
        made.iter().filter(|it| it.starts_with("net:")).count(),
    );
    assert_eq!((processes, networks), (1, 5), "process namespace; switch, hosts and guests: {made:?}");
    let inside = inhabitants(&made)?;
    assert!(
        inside.len() >= 6,
        "first process, guest's program, plugin, its daemon, the switch's two: {inside:?}"
    );
    assert!(executables(&inside).iter().any(|it| it.ends_with("/ovs-vswitchd")), "no switch: {inside:?}");

    drop(mock);
    let deadline = Instant::now() + PATIENCE;
    while !inhabitants(&made)?.is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", inhabitants(&made)?);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(surroundings()?, before, "links, mounts and files");
    println!("a killed mock leaves nothing ... ok");
    Ok(())
}

/// Ends with the test, also with a failed one.
struct Mock(Child);

impl Drop for Mock {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "starts itself")]
fn start() -> std::io::Result<Mock> {
    Command::new(std::env::current_exe()?).arg(STAND).stdout(Stdio::piped()).spawn().map(Mock)
}

/// The namespaces that process has and this one has not, by its descriptors.
fn namespaces_of(pid: u32) -> std::io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        if let Ok(target) = fs::read_link(entry?.path()) {
            let target = target.to_string_lossy().into_owned();
            found.extend(
                ["pid:", "net:", "mnt:"].iter().any(|kind| target.starts_with(kind)).then_some(target),
            );
        }
    }
    Ok(found)
}

/// The processes that live in one of the namespaces, or hold one open.
fn inhabitants(namespaces: &BTreeSet<String>) -> std::io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_err() {
            continue;
        }
        let held = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten().map(|it| it.path());
        let lived_in = ["pid", "net", "mnt"].map(|kind| entry.path().join("ns").join(kind));
        let mut links = held.chain(lived_in).filter_map(|link| fs::read_link(link).ok());
        if links.any(|target| namespaces.contains(&*target.to_string_lossy())) {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// What these processes run.
fn executables(processes: &BTreeSet<String>) -> Vec<String> {
    let links = processes.iter().filter_map(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
    links.map(|path| path.to_string_lossy().into_owned()).collect()
}

/// What a mock might leave on the machine.
fn surroundings() -> std::io::Result<(BTreeSet<String>, String, Vec<bool>)> {
    let links = fs::read_dir("/sys/class/net")?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let paths = [
        "/run/openvswitch",
        "/etc/openvswitch/system-id.conf",
        "/etc/xapi.d",
        "/etc/xensource-inventory",
        "/run/hangs",
        "/run/nonpersistent",
        "/run/layers",
    ];
    Ok((links, mounts, paths.map(|path| Path::new(path).exists()).to_vec()))
}
