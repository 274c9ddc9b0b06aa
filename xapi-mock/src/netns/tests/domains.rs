//! Guests: their links, their packets, their life.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::packet::PacketSocket;
use super::*;

#[test]
fn guests_meet_within_a_host_across_hosts_and_outside() {
    let plane = pool();
    let (a, b, c) = (start(&plane, "one", 1, 1), start(&plane, "one", 2, 2), start(&plane, "two", 1, 3));
    let outside = [format!("{}/24", v4(9)), format!("{}/64", v6(9))];
    let station = plane.add_station("xenbr0", "outside", &mac(9), &outside).unwrap();
    assert!(reaches(&a, &b, v4(2)) && reaches(&a, &b, v6(2)), "within a host");
    assert!(reaches(&a, &c, v4(3)) && reaches(&a, &c, v6(3)), "across hosts");
    assert!(reaches(&a, &station, v4(9)) && reaches(&station, &c, v6(3)), "outside");
    assert!(reaches(&host(&plane, "one"), &c, v4(3)), "dom0 has its address on the bridge");
}

#[test]
fn links_are_named_and_addressed_as_in_dom0() {
    let plane = pool();
    let guest = start(&plane, "one", 7, 1);
    let mut second = port(7, 2);
    second.device = 1;
    second.mtu = 1400;
    plane.plug("vm1", &second).unwrap();
    let links = host(&plane, "one").links().unwrap();
    for (name, mtu) in [("vif7.0", 1500), ("vif7.1", 1400)] {
        let vif = links.iter().find(|link| link.name == name).unwrap();
        assert_eq!((vif.mac.as_str(), vif.mtu), ("fe:ff:ff:ff:ff:ff", mtu), "{name}");
        assert_eq!(vif.master.as_deref(), Some("xenbr0"), "{name}");
        assert!(vif.is_up(), "{name}");
    }
    let links = guest.links().unwrap();
    let mac_of = |name: &str| links.iter().find(|link| link.name == name).unwrap().mac.clone();
    assert_eq!((mac_of("eth0"), mac_of("eth1")), (mac(1), mac(2)));
    assert_eq!(guest.vifs(), ["vif7.0", "vif7.1"]);

    plane.unplug("vm1", 1).unwrap();
    assert_eq!(names(&guest), ["lo", "eth0"]);
    assert!(!names(&host(&plane, "one")).contains(&"vif7.1".to_owned()));
    let again = plane.unplug("vm1", 1).unwrap_err();
    assert_eq!(again.to_string(), "VM vm1: no VIF 1");
}

#[test]
fn a_domain_leaves_nothing_and_comes_back_under_another_id() {
    let plane = pool();
    let mut locked = port(4, 1);
    locked.locking = Locking::Locked { ipv4: vec![v4(1).to_string()], ipv6: vec![v6(1).to_string()] };
    let guest = start_with(&plane, "one", &locked, 1);
    let other = start(&plane, "two", 1, 2);
    assert!(reaches(&guest, &other, v4(2)));

    plane.destroy_domain("vm1").unwrap();
    let dom0 = host(&plane, "one");
    assert!(plane.guest("vm1").is_none());
    assert_eq!(names(&guest), ["lo"], "what is held of the old guest has no network");
    assert_eq!(names(&dom0), ["lo", "eth0", "xenbr0"]);
    let rules = dom0.command("ebtables-nft-save", &[], b"").unwrap();
    assert!(!String::from_utf8_lossy(&rules.stdout).contains("vif4.0"));
    plane.destroy_domain("vm1").expect("nothing to do");

    let guest = start(&plane, "two", 5, 1);
    assert!(names(&host(&plane, "two")).contains(&"vif5.0".to_owned()));
    assert_eq!(guest.links().unwrap()[1].mac, mac(1));
    assert!(reaches(&guest, &other, v6(2)) && reaches(&other, &guest, v4(1)));
}

#[test]
fn a_guest_is_silent_until_it_runs_and_while_it_is_paused() {
    let plane = pool();
    let other = start(&plane, "two", 1, 2);
    plane.create_domain("one", "vm1", &[port(1, 1)]).unwrap();
    let guest = plane.guest("vm1").unwrap();
    assert!(host(&plane, "one").links().unwrap().iter().any(|link| link.name == "vif1.0" && link.is_up()));
    assert!(is_cut(&other, &guest, v4(1)), "created");
    plane.run_guest("vm1").unwrap();
    assert!(reaches(&other, &guest, v4(1)) && reaches(&other, &guest, v6(1)), "running");
    plane.pause_guest("vm1").unwrap();
    assert!(is_cut(&other, &guest, v4(1)), "paused");
    assert!(names(&host(&plane, "one")).contains(&"vif1.0".to_owned()));
    plane.run_guest("vm1").unwrap();
    assert!(reaches(&other, &guest, v4(1)) && reaches(&guest, &other, v6(2)), "running again");
}

#[test]
fn routes_lead_to_the_gateways_and_return_after_a_pause() {
    let plane = pool();
    let guest = start(&plane, "one", 1, 1);
    let defaults = || {
        ["-4", "-6"].map(|family| {
            let output = guest.command("ip", &[family, "route", "show", "default"], b"").unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
    };
    let [ipv4, ipv6] = defaults();
    assert!(ipv4.starts_with("default via 10.9.0.254 dev eth0"), "{ipv4}");
    assert!(ipv6.starts_with("default via fd09::254 dev eth0"), "{ipv6}");
    plane.pause_guest("vm1").unwrap();
    plane.run_guest("vm1").unwrap();
    assert_eq!(defaults().map(|it| it.lines().count()), [1, 1]);
}

#[test]
fn the_boot_program_runs_once_a_boot_and_can_send_at_once() {
    let plane = pool();
    let station = plane.add_station("xenbr0", "outside", &mac(9), &[]).unwrap();
    let tap = station.run(|| PacketSocket::open("eth0").unwrap());
    let boots = Arc::new(AtomicU32::new(0));
    let (done, finished) = mpsc::channel();
    let counter = Arc::clone(&boots);
    plane.set_boot("vm1", move || {
        counter.fetch_add(1, Ordering::SeqCst);
        let link = PacketSocket::open("eth0").unwrap();
        let from = link.mac();
        for _ in 0..50 {
            let frame = frames::udp(
                frames::BROADCAST,
                from,
                [10, 9, 0, 1].into(),
                [10, 9, 0, 255].into(),
                9,
                b"first",
            );
            link.send(&frame).unwrap();
        }
        done.send(()).unwrap();
    });
    plane.create_domain("one", "vm1", &[port(1, 1)]).unwrap();
    assert_eq!(boots.load(Ordering::SeqCst), 0, "not before it runs");
    plane.run_guest("vm1").unwrap();
    finished.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(heard(&tap, b"first"));
    plane.pause_guest("vm1").unwrap();
    plane.run_guest("vm1").unwrap();
    assert_eq!(boots.load(Ordering::SeqCst), 1, "a pause is no boot");
    plane.destroy_domain("vm1").unwrap();
    start(&plane, "one", 2, 1);
    finished.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(boots.load(Ordering::SeqCst), 2);
}

/// Whether a frame that ends in `text` comes.
pub(super) fn heard(tap: &PacketSocket, text: &[u8]) -> bool {
    let deadline = std::time::Instant::now() + Duration::from_secs(2);
    while std::time::Instant::now() < deadline {
        if tap.receive(Duration::from_millis(100)).unwrap().is_some_and(|frame| frame.ends_with(text)) {
            return true;
        }
    }
    false
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let plane = pool();
    let mut bad = port(1, 2);
    (bad.device, bad.bridge) = (1, "nowhere".into());
    let error = plane.create_domain("one", "vm1", &[port(1, 1), bad.clone()]).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert!(plane.guest("vm1").is_none());
    assert_eq!(names(&host(&plane, "one")), ["lo", "eth0", "xenbr0"]);

    let guest = start(&plane, "one", 1, 1);
    plane.plug("vm1", &bad).unwrap_err();
    assert_eq!(names(&guest), ["lo", "eth0"]);
    let taken = plane.create_domain("one", "vm3", &[port(1, 3)]).unwrap_err();
    assert_eq!(taken.to_string(), "vif1.0 exists");
    assert!(names(&host(&plane, "one")).contains(&"vif1.0".to_owned()), "vm1's own");
    let twice = plane.create_domain("one", "vm1", &[]).unwrap_err();
    assert_eq!(twice.to_string(), "VM vm1 has a domain");
    assert_eq!(plane.create_domain("three", "vm2", &[]).unwrap_err().to_string(), "host three: none such");
    assert_eq!(plane.run_guest("vm2").unwrap_err().to_string(), "VM vm2: no domain");

    plane.shut_down();
    assert_eq!(plane.plugins("one").unwrap_err().to_string(), "host one: none such");
}

#[test]
fn many_domains_come_and_go_at_the_same_time() {
    let plane = pool();
    let lock = |number: u8| VifPort {
        locking: Locking::Locked { ipv4: vec![v4(number).to_string()], ipv6: vec![v6(number).to_string()] },
        ..port(u32::from(number), number)
    };
    thread::scope(|scope| {
        for number in 1..=8 {
            let (plane, port) = (&plane, lock(number));
            scope.spawn(move || {
                let host = if number % 2 == 0 { "one" } else { "two" };
                start_with(plane, host, &port, number);
                plane.destroy_domain(&format!("vm{number}")).unwrap();
                start_with(plane, host, &port, number);
            });
        }
    });
    let guest = |number: u8| plane.guest(&format!("vm{number}")).unwrap();
    for number in 2..=8 {
        assert!(reaches(&guest(1), &guest(number), v4(number)), "guest {number}");
    }
    let rules = host(&plane, "one").command("ebtables-nft-save", &[], b"").unwrap();
    let rules = String::from_utf8(rules.stdout).unwrap();
    assert_eq!(rules.matches("-A FORWARD -i ").count(), 4, "{rules}");
}
