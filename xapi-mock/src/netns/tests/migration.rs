//! Migration: two domains for a moment, one guest.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::*;

/// Every pair of back ends, from and to.
fn pairs() -> impl Iterator<Item = [NetworkBackend; 2]> {
    BACKENDS.into_iter().flat_map(|from| BACKENDS.map(|to| [from, to]))
}

#[test]
fn both_vifs_stand_until_the_guest_has_moved() {
    for backends in pairs() {
        let plane = pool_of(backends);
        let (guest, other) = (start(&plane, "one", 4, 1), start(&plane, "one", 5, 2));
        plane.receive_domain("two", "vm1", &[port(9, 1)]).unwrap();
        let (one, two) = (host(&plane, "one"), host(&plane, "two"));
        assert!(names(&one).contains(&"vif4.0".to_owned()), "{backends:?}");
        assert!(names(&two).contains(&"vif9.0".to_owned()), "{backends:?}");
        assert!(reaches(&other, &guest, v4(1)), "{backends:?}: it runs where it was");

        plane.hand_over("vm1").unwrap();
        assert!(!names(&one).contains(&"vif4.0".to_owned()), "{backends:?}");
        let moved = plane.guest("vm1").unwrap();
        assert_eq!((moved.host().name(), moved.vifs()), ("two", vec!["vif9.0".to_owned()]));
        assert_eq!(names(&moved), ["lo", "eth0"], "{backends:?}");
        assert_eq!(moved.links().unwrap()[1].mac, mac(1));
        assert!(reaches(&other, &moved, v4(1)) && reaches(&moved, &other, v6(2)), "{backends:?}");
        plane.destroy_domain("vm1").unwrap();
        assert!(!names(&two).contains(&"vif9.0".to_owned()), "{backends:?}");
    }
}

#[test]
fn what_the_guest_is_connected_to_stays_so() {
    for backends in pairs() {
        let plane = pool_of(backends);
        let (guest, other) = (start(&plane, "one", 1, 1), start(&plane, "two", 1, 2));
        let listener = other.run(|| TcpListener::bind((v4(2), 0)).unwrap());
        let address = listener.local_addr().unwrap();
        let mut inside = guest.run(|| TcpStream::connect(address).unwrap());
        let (mut outside, _) = listener.accept().unwrap();
        for stream in [&inside, &outside] {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        plane.receive_domain("two", "vm1", &[port(2, 1)]).unwrap();
        inside.write_all(b"before").unwrap();
        plane.hand_over("vm1").unwrap();
        inside.write_all(b" after").unwrap();
        let mut heard = [0; 12];
        outside.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"before after", "{backends:?}");
        outside.write_all(b"back").unwrap();
        inside.read_exact(&mut heard[..4]).unwrap();
    }
}

#[test]
fn a_migration_that_is_refused_leaves_the_guest_where_it_is() {
    for backend in BACKENDS {
        let plane = pool_of([backend, backend]);
        let (guest, other) = (start(&plane, "one", 1, 1), start(&plane, "two", 1, 2));
        plane.receive_domain("two", "vm1", &[port(2, 1)]).unwrap();
        plane.refuse_domain("vm1").unwrap();
        assert!(!names(&host(&plane, "two")).contains(&"vif2.0".to_owned()), "{backend:?}");
        assert_eq!(names(&guest), ["lo", "eth0"]);
        assert!(reaches(&other, &guest, v4(1)) && reaches(&guest, &other, v6(2)), "{backend:?}");
        let none = plane.hand_over("vm1").unwrap_err();
        assert_eq!(none.to_string(), "VM vm1: no receiving domain");
        plane.refuse_domain("vm1").expect("nothing to do");
        let none = plane.receive_domain("two", "vm7", &[port(3, 7)]).unwrap_err();
        assert_eq!(none.to_string(), "VM vm7: no domain");
    }
}

#[test]
fn a_migration_within_a_host_is_a_new_domain() {
    for backend in BACKENDS {
        let plane = pool_of([backend, backend]);
        let (guest, other) = (start(&plane, "one", 1, 1), start(&plane, "two", 1, 2));
        plane.receive_domain("one", "vm1", &[port(2, 1)]).unwrap();
        plane.hand_over("vm1").unwrap();
        let links = names(&host(&plane, "one"));
        assert!(links.contains(&"vif2.0".to_owned()) && !links.contains(&"vif1.0".to_owned()), "{backend:?}");
        assert!(reaches(&other, &guest, v4(1)) && reaches(&guest, &other, v6(2)), "{backend:?}");
    }
}

#[test]
fn a_reboot_of_dom0_leaves_its_files_and_nothing_else() {
    for backend in BACKENDS {
        let plane = pool_of([backend, backend]);
        let (_guest, other) = (start(&plane, "one", 1, 1), start(&plane, "two", 1, 2));
        plane.receive_domain("one", "vm2", &[port(3, 2)]).unwrap();
        let one = host(&plane, "one");
        one.write("/etc/drawbridge/kept", 0o644, b"x").unwrap();
        one.write("/run/drawbridge/gone", 0o644, b"x").unwrap();
        let before = one.command("iptables-save", &["-t", "filter"], b"").unwrap();
        one.command("iptables", &["-N", "dwb-x"], b"").unwrap();
        one.command("iptables", &["-t", "raw", "-N", "dwb-x"], b"").unwrap();
        one.command("ip6tables", &["-I", "FORWARD", "-j", "DROP"], b"").unwrap();
        one.command("ebtables-nft", &["-A", "FORWARD", "-p", "ARP", "-j", "DROP"], b"").unwrap();
        one.command("sysctl", &["-w", "net.bridge.bridge-nf-call-iptables=1"], b"").unwrap();
        if backend == NetworkBackend::OpenVSwitch {
            one.command("ovs-ofctl", &["add-flow", "xenbr0", "priority=9,actions=drop"], b"").unwrap();
        }
        let mut program = one.spawn("sleep", &["1000"]).unwrap();

        plane.reset_host("one").unwrap();
        assert!(!program.is_running().unwrap(), "{backend:?}");
        assert!(plane.guest("vm1").is_none() && plane.guest("vm2").is_some(), "{backend:?}");
        let links = names(&one);
        assert!(!links.iter().any(|link| link.starts_with("vif")), "{backend:?}: {links:?}");
        assert_eq!(one.read("/etc/drawbridge/kept").unwrap(), b"x");
        assert!(one.read("/run/drawbridge/gone").is_err(), "{backend:?}");
        let said = |program: &str, args: &[&str]| {
            String::from_utf8(one.command(program, args, b"").unwrap().stdout).unwrap()
        };
        let rules =
            |text: &str| text.lines().filter(|line| line.starts_with('-')).map(str::to_owned).collect();
        let (shipped, now): (Vec<_>, Vec<_>) = (
            rules(&String::from_utf8_lossy(&before.stdout)),
            rules(&said("iptables-save", &["-t", "filter"])),
        );
        assert_eq!(now, shipped, "{backend:?}");
        assert!(!said("iptables-save", &[]).contains("dwb-"), "{backend:?}");
        assert!(!said("ip6tables-save", &[]).contains("-A FORWARD -j DROP"), "{backend:?}");
        assert!(!said("ebtables-nft-save", &[]).contains("ARP"), "{backend:?}");
        assert_eq!(one.read("/proc/sys/net/bridge/bridge-nf-call-iptables").unwrap(), b"0\n");
        if backend == NetworkBackend::OpenVSwitch {
            assert!(!said("ovs-ofctl", &["dump-flows", "xenbr0"]).contains("drop"), "{backend:?}");
        }
        let again = start(&plane, "one", 4, 1);
        assert!(reaches(&again, &other, v4(2)), "{backend:?}");
    }
}
