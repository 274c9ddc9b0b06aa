//! VIF locking, by frames a guest forges and what of them arrives outside.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::domains::heard;
use super::frames::{self, BROADCAST, Mac};
use super::packet::PacketSocket;
use super::*;

const OWN: Mac = [0, 0x16, 0x3e, 0, 0, 1];
const OTHER: Mac = [0, 0x16, 0x3e, 0, 0, 0x77];
const OWN_IP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const OTHER_IP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 77);
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 9);
const OWN_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1);
const OTHER_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 77);

/// What the guest sends, each marked by its last bytes.
fn forgeries() -> Vec<(&'static str, Vec<u8>)> {
    let any = Ipv4Addr::UNSPECIFIED;
    let mut frames = vec![
        ("own", frames::udp(BROADCAST, OWN, OWN_IP, TARGET, 9, b"")),
        ("other MAC", frames::udp(BROADCAST, OTHER, OWN_IP, TARGET, 9, b"")),
        ("other IPv4", frames::udp(BROADCAST, OWN, OTHER_IP, TARGET, 9, b"")),
        ("DHCP", frames::udp(BROADCAST, OWN, any, Ipv4Addr::BROADCAST, 67, b"")),
        ("own ARP", frames::arp(OWN, OWN_IP, TARGET)),
        ("other ARP", frames::arp(OWN, OTHER_IP, TARGET)),
        ("own IPv6", frames::ipv6(BROADCAST, OWN, OWN_IPV6, OTHER_IPV6, b"")),
        ("other IPv6", frames::ipv6(BROADCAST, OWN, OTHER_IPV6, OWN_IPV6, b"")),
    ];
    for (name, frame) in &mut frames {
        // Padding behind the packet.
        frame.extend(format!("<{name}>").bytes());
    }
    frames
}

fn all_names() -> Vec<&'static str> {
    forgeries().into_iter().map(|(name, _)| name).collect()
}

/// Of the forgeries of `guest`, those named and no others get to `to`.
#[track_caller]
fn assert_passes(guest: &NsHandle, to: &NsHandle, expected: &[&str], when: &str) {
    let tap = to.run(|| PacketSocket::open("eth0").unwrap());
    let link = guest.run(|| PacketSocket::open("eth0").unwrap());
    let sent = forgeries();
    for (_, frame) in &sent {
        link.send(frame).unwrap();
    }
    let mut seen = Vec::new();
    // A busy switch in user space may be late with what is to come.
    let patience = |seen: usize| Duration::from_millis(if seen < expected.len() { 5_000 } else { 250 });
    while let Some(frame) = tap.receive(patience(seen.len())).unwrap() {
        let name = sent.iter().position(|(name, _)| frame.ends_with(format!("<{name}>").as_bytes()));
        seen.extend(name);
    }
    // It may let one overtake another, too: they are told in the order they were sent in.
    seen.sort_unstable();
    let names: Vec<_> = seen.into_iter().map(|index| sent[index].0).collect();
    assert_eq!(names, expected, "{when}");
}

fn locked(ipv4: &[&str], ipv6: &[&str]) -> Locking {
    let own = |list: &[&str]| list.iter().map(|&it| it.to_owned()).collect();
    Locking::Locked { ipv4: own(ipv4), ipv6: own(ipv6) }
}

#[test]
fn each_mode_passes_what_xenserver_passes() {
    let plane = pool();
    let guest = start(&plane, "one", 1, 1);
    let station = plane.add_station("xenbr0", "outside", &mac(9), &[]).unwrap();
    let all = all_names();
    let modes = [
        (Locking::Unlocked, all.clone()),
        (locked(&["10.9.0.1"], &[]), vec!["own", "DHCP", "own ARP"]),
        (locked(&[], &[]), vec!["DHCP"]),
        (locked(&["10.9.0.77", "10.9.0.1"], &[]), vec!["own", "other IPv4", "DHCP", "own ARP", "other ARP"]),
        (locked(&["10.9.0.1"], &["fd09::1"]), vec!["own", "DHCP", "own ARP", "own IPv6", "other IPv6"]),
        (Locking::Disabled, vec![]),
        (Locking::Unlocked, all),
    ];
    for (locking, expected) in modes {
        let port = VifPort { locking, ..port(1, 1) };
        plane.set_locking("vm1", &port).unwrap();
        assert_passes(&guest, &station, &expected, &format!("{:?}", port.locking));
    }
}

/// There the addresses of IPv6 are told apart, and what is not TCP, UDP or ICMPv6 does not pass.
#[test]
fn each_mode_passes_what_xenserver_passes_on_open_vswitch() {
    let plane = pool_of([NetworkBackend::OpenVSwitch; 2]);
    let (guest, neighbour) = (start(&plane, "one", 1, 1), start(&plane, "one", 2, 2));
    let station = plane.add_station("xenbr0", "outside", &mac(9), &[]).unwrap();
    let all = all_names();
    let modes = [
        (Locking::Unlocked, all.clone()),
        (locked(&["10.9.0.1"], &[]), vec!["own", "DHCP", "own ARP"]),
        (locked(&[], &[]), vec!["DHCP"]),
        (locked(&["10.9.0.77", "10.9.0.1"], &[]), vec!["own", "other IPv4", "DHCP", "own ARP", "other ARP"]),
        (locked(&["10.9.0.1"], &["fd09::1"]), vec!["own", "DHCP", "own ARP"]),
        (Locking::Disabled, vec![]),
        (Locking::Unlocked, all),
    ];
    for (locking, expected) in modes {
        let port = VifPort { locking, ..port(1, 1) };
        plane.set_locking("vm1", &port).unwrap();
        assert_passes(&guest, &station, &expected, &format!("{:?}", port.locking));
        assert_passes(&guest, &neighbour, &expected, &format!("{:?} to a neighbour", port.locking));
    }
}

#[test]
fn a_vif_locked_on_open_vswitch_speaks_from_its_own_addresses_of_either_family() {
    let plane = pool_of([NetworkBackend::OpenVSwitch; 2]);
    let (guest, other) = (start(&plane, "one", 1, 1), start(&plane, "two", 1, 2));
    let lock = |ipv4: &[&str], ipv6: &[&str]| {
        plane.set_locking("vm1", &VifPort { locking: locked(ipv4, ipv6), ..port(1, 1) }).unwrap();
    };
    lock(&["10.9.0.1"], &["fd09::1"]);
    assert!(reaches(&guest, &other, v4(2)) && reaches(&guest, &other, v6(2)), "its own");
    lock(&["10.9.0.77"], &["fd09::77"]);
    assert!(is_cut(&guest, &other, v4(2)) && is_cut(&guest, &other, v6(2)), "somebody else's");
    lock(&["10.9.0.1"], &[]);
    assert!(reaches(&guest, &other, v4(2)) && is_cut(&guest, &other, v6(2)), "one family");
}

#[test]
fn a_guest_goes_on_after_its_lock_was_changed() {
    for backend in BACKENDS {
        let plane = pool_of([backend; 2]);
        let (guest, other) = (start(&plane, "one", 1, 1), start(&plane, "two", 1, 2));
        assert!(reaches(&guest, &other, v4(2)) && reaches(&guest, &other, v6(2)), "{backend:?}");
        for locking in [locked(&["10.9.0.1"], &["fd09::1"]), Locking::Disabled, Locking::Unlocked] {
            let port = VifPort { locking, ..port(1, 1) };
            plane.set_locking("vm1", &port).unwrap();
            for address in [v4(2), v6(2)] {
                let passes = if port.locking == Locking::Disabled {
                    !is_cut(&guest, &other, address)
                } else {
                    reaches(&guest, &other, address)
                };
                assert_eq!(
                    passes,
                    port.locking != Locking::Disabled,
                    "{backend:?} {:?} {address}",
                    port.locking
                );
            }
        }
    }
}

/// The change takes the link down. When it is said to be done, the guest's next frame passes; it was lost where the
/// kernel had not yet seen that the guest's end is up again.
#[test]
fn the_first_frame_after_a_lock_was_changed_passes() {
    for backend in BACKENDS {
        let plane = pool_of([backend; 2]);
        let guest = start(&plane, "one", 1, 1);
        let station = plane.add_station("xenbr0", "outside", &mac(9), &[]).unwrap();
        let tap = station.run(|| PacketSocket::open("eth0").unwrap());
        let link = guest.run(|| PacketSocket::open("eth0").unwrap());
        for round in 0..20 {
            plane.set_locking("vm1", &port(1, 1)).unwrap();
            let mark = format!("<{round}>");
            link.send(&frames::udp(BROADCAST, OWN, OWN_IP, TARGET, 9, mark.as_bytes())).unwrap();
            assert!(heard(&tap, mark.as_bytes()), "{backend:?}: {mark}");
        }
    }
}

#[test]
fn a_domain_is_born_locked() {
    let plane = pool();
    let port = VifPort { locking: locked(&["10.9.0.1"], &[]), ..port(1, 1) };
    let guest = start_with(&plane, "one", &port, 1);
    let station = plane.add_station("xenbr0", "outside", &mac(9), &[]).unwrap();
    assert_passes(&guest, &station, &["own", "DHCP", "own ARP"], "locked");
}

#[test]
fn rules_that_somebody_flushed_are_not_missed_and_come_back() {
    let plane = pool();
    let port = VifPort { locking: locked(&["10.9.0.1"], &[]), ..port(1, 1) };
    let guest = start_with(&plane, "one", &port, 1);
    let station = plane.add_station("xenbr0", "outside", &mac(9), &[]).unwrap();
    for args in [["-F"], ["-X"]] {
        assert!(host(&plane, "one").command("ebtables-nft", &args, b"").unwrap().status.success());
    }
    assert_passes(&guest, &station, &all_names(), "flushed");
    plane.set_locking("vm1", &port).unwrap();
    assert_passes(&guest, &station, &["own", "DHCP", "own ARP"], "locked");
    plane.destroy_domain("vm1").unwrap();
}

#[test]
fn a_disabled_vif_is_off_its_bridge_in_both_directions() {
    let plane = pool();
    let port = VifPort { locking: Locking::Disabled, ..port(1, 1) };
    let guest = start_with(&plane, "one", &port, 1);
    let station = plane.add_station("xenbr0", "outside", &mac(9), &[]).unwrap();
    let vif = host(&plane, "one").links().unwrap().into_iter().find(|link| link.name == "vif1.0").unwrap();
    assert!(vif.is_up() && vif.master.is_none());
    let tap = guest.run(|| PacketSocket::open("eth0").unwrap());
    let link = station.run(|| PacketSocket::open("eth0").unwrap());
    link.send(&frames::udp(BROADCAST, OTHER, TARGET, OWN_IP, 9, b"inwards")).unwrap();
    assert!(!heard(&tap, b"inwards"));
}

/// A weakness of XenServer's own rules, kept: the receiver's chain accepts before the sender's is asked.
#[test]
fn between_two_locked_vifs_of_a_host_the_older_chain_decides() {
    let plane = pool();
    let lock = |number: u8| VifPort {
        locking: locked(&[&v4(number).to_string()], &[]),
        ..port(u32::from(number), number)
    };
    let older = start_with(&plane, "one", &lock(2), 2);
    let sender = start_with(&plane, "one", &lock(1), 1);
    let younger = start_with(&plane, "one", &lock(3), 3);
    assert_passes(&sender, &younger, &["own", "DHCP", "own ARP"], "to the younger");
    assert_passes(&sender, &older, &all_names(), "to the older");
}
