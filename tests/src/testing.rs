//! Two namespaces and a cable, for this crate's own unit tests.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};

use crate::process;
use crate::station::{Namespace, Station};

fn fresh_namespace() -> Namespace {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces need root");
        Namespace::current().expect("/proc")
    })
    .join()
    .expect("network namespaces need root")
}

/// Stations `a` (10.9.0.1, fd09::1) and `b` (10.9.0.2, fd09::2), joined by a veth pair.
pub(crate) fn pair() -> (Station, Station) {
    let station = |name: &str, last: u8| Station {
        name: name.to_owned(),
        namespace: fresh_namespace(),
        interface: "eth0".to_owned(),
        mac: format!("02:00:00:00:00:0{last}").parse().expect("a MAC"),
        ipv4: Some([10, 9, 0, last].into()),
        ipv6: Some(format!("fd09::{last}").parse().expect("an address")),
    };
    let (a, b) = (station("a", 1), station("b", 2));
    let handle = b.namespace.enter(|| File::open("/proc/thread-self/ns/net").expect("/proc"));
    let path = format!("/proc/{}/fd/{}", std::process::id(), handle.as_raw_fd());
    ip(
        &a,
        &format!("link add eth0 address {} type veth peer name eth0 address {} netns {path}", a.mac, b.mac),
    );
    for station in [&a, &b] {
        let lines = format!(
            "link set lo up\nlink set eth0 up\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad",
            station.ipv4.expect("set"),
            station.ipv6.expect("set")
        );
        ip(station, &lines);
    }
    (a, b)
}

/// Runs `ip -batch -` inside.
pub(crate) fn ip(station: &Station, lines: &str) {
    let lines = lines.to_owned();
    let output = station
        .namespace
        .enter(move || process::run(Path::new("/usr/sbin/ip"), &["-batch", "-"], lines.as_bytes()))
        .expect("install iproute2");
    assert!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
}

/// Loads iptables rules inside, both families.
pub(crate) fn filter_input(station: &Station, rules: &str) {
    for program in ["/usr/sbin/iptables-nft-restore", "/usr/sbin/ip6tables-nft-restore"] {
        let text = format!("*filter\n{rules}\nCOMMIT\n");
        let output = station
            .namespace
            .enter(move || process::run(Path::new(program), &["--noflush"], text.as_bytes()))
            .expect("install iptables");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
