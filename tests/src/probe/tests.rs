use std::time::{Duration, Instant};

use super::{Seen, run};
use crate::frame::ip::{Path, UDP};
use crate::frame::{arp_request, nd};
use crate::probe;
use crate::station::Family;
use crate::tap::Tap;
use crate::testing::{filter_input, pair};

#[test]
fn an_open_network_answers_every_probe() {
    let (a, b) = pair();
    probe::check(Family::BOTH.into_iter().flat_map(|family| {
        [a.tcp(&b, 80, family), a.udp(&b, 53, family), a.echo(&b, family)].map(super::Probe::passes)
    }));
}

/// What drops, refuses, or loses only the answer is told apart.
#[test]
fn what_was_seen_is_told_apart() {
    let (a, b) = pair();
    filter_input(
        &a,
        "-A INPUT -p tcp --sport 81 -j DROP\n-A INPUT -p udp --sport 81 -j DROP\n\
         -A OUTPUT -p tcp --dport 82 -j DROP\n-A OUTPUT -p udp --dport 82 -j DROP",
    );
    filter_input(&b, "-A INPUT -p tcp --dport 83 -j REJECT\n-A INPUT -p udp --dport 83 -j REJECT");
    let started = Instant::now();
    let outcomes = run(Family::BOTH
        .into_iter()
        .flat_map(|family| [81, 82, 83].map(|port| [a.tcp(&b, port, family), a.udp(&b, port, family)]))
        .flatten()
        .map(super::Probe::blocked)
        .collect());
    assert!(started.elapsed() < Duration::from_secs(2), "silent probes run at the same time");
    for outcome in outcomes {
        let port = match outcome.probe.what {
            super::What::Tcp(port) | super::What::Udp(port) => port,
            _ => 0,
        };
        match (port, &outcome.seen) {
            (81, Seen::Arrived) | (83, Seen::Refused(_)) => assert!(!outcome.ok()),
            // A refusal that comes back before connect() waits is lost on the kernel; that it arrived is not.
            (83, Seen::Arrived) if matches!(outcome.probe.what, super::What::Tcp(_)) => {}
            // The kernel tells the sender of a datagram it drops itself; a TCP connection waits.
            (82, Seen::Silent) => assert!(outcome.ok()),
            (82, Seen::Failed(_)) if matches!(outcome.probe.what, super::What::Udp(_)) => {}
            _ => panic!("{outcome}"),
        }
    }
}

#[test]
fn frames_are_seen_where_they_arrive() {
    let (a, b) = pair();
    let path = Path::V4(a.ipv4.unwrap(), b.ipv4.unwrap());
    assert_passes!(
        a.frame(&b, "arp", arp_request((a.mac, a.ipv4.unwrap()), b.ipv4.unwrap())),
        a.frame(&b, "ra", nd::router_advertisement((a.mac, a.mac.link_local()), "fd77::".parse().unwrap())),
        a.frame(&b, "udp", path.frame(b.mac, a.mac, UDP, &path.udp(9, 9, b"frame"))),
    );
}

/// The kernel answers what we build: the checksums are right where it matters.
#[test]
fn the_kernel_understands_our_frames() {
    let (a, b) = pair();
    let (a6, b6) = (a.ipv6.unwrap(), b.ipv6.unwrap());
    let tap = a.namespace.enter(|| Tap::open("eth0")).unwrap();
    tap.send(&nd::solicitation((a.mac, a6), b6)).unwrap();
    let answer = tap.find(super::PATIENCE, |frame| frame.get(54) == Some(&136)).unwrap();
    assert!(answer.is_some(), "no neighbour advertisement");
    let path = Path::V6(a6, b6);
    tap.send(&path.frame(b.mac, a.mac, path.icmp_protocol(), &path.echo_request(99, 1))).unwrap();
    let answer = tap.find(super::PATIENCE, |frame| frame.get(54) == Some(&129)).unwrap();
    assert!(answer.is_some(), "no echo reply");
}

#[test]
#[should_panic(expected = "a → b tcp 80 IPv4: expected blocked, seen passes")]
fn a_leak_is_reported_by_name() {
    let (a, b) = pair();
    assert_blocked!(a.tcp(&b, 80, Family::V4));
}

#[test]
#[should_panic(expected = "probe failed")]
fn a_probe_that_cannot_be_made_is_not_silence() {
    let (mut a, b) = pair();
    a.ipv4 = Some([10, 9, 0, 77].into());
    assert_blocked!(a.udp(&b, 53, Family::V4));
}
