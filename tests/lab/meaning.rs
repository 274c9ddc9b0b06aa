//! What rules mean (docs/security.md), rule by rule, with packets.

use std::net::IpAddr;

use anyhow::{Context, Result};
use e2e::frame::ip::{Path, UDP};
use e2e::lab::{Backend, Guest, Lab, ipv4, ipv6};
use e2e::probe::{Expectation, check};
use e2e::scenario::{self, spoofing};
use e2e::station::{Family, Station};

use crate::on_each;

fn start(backend: Backend) -> Result<Lab> {
    let guests = [
        ("ports", "host1", 11),
        ("remotes", "host1", 12),
        ("plain", "host2", 14),
        ("one", "host1", 21),
        ("two", "host2", 22),
        ("alone", "host1", 23),
        ("router", "host1", 24),
        ("cluster", "host1", 25),
    ];
    let lab = guests
        .into_iter()
        .fold(Lab::builder(backend), |lab, (name, host, number)| lab.guest(Guest::new(name, host, number)))
        .policy(include_str!("policy/meaning.toml"))
        .start()?;
    lab.apply()?.success()?;
    Ok(lab)
}

/// TCP to these ports passes, to those it does not.
fn tcp<const P: usize, const B: usize>(
    (from, to): (&Station, &Station),
    passes: [u16; P],
    blocked: [u16; B],
) -> Vec<Expectation> {
    let mut all = Vec::new();
    for family in Family::BOTH {
        all.extend(passes.map(|port| from.tcp(to, port, family).passes()));
        all.extend(blocked.map(|port| from.tcp(to, port, family).blocked()));
    }
    all
}

on_each! {
    /// A range has its ends and nothing beyond; a protocol is that protocol; a type is that type.
    fn ports_and_protocols(backend) {
        let lab = start(backend)?;
        let (ports, outside) = (lab.guest("ports")?, lab.outside());
        check(tcp((outside, &ports), [8000, 8050, 8100], [7999, 8101, 514, 80]));
        check(Family::BOTH.map(|family| outside.udp(&ports, 514, family).passes()));
        check(Family::BOTH.map(|family| outside.udp(&ports, 8000, family).blocked()));
        check([outside.echo(&ports, Family::V4).passes(), outside.echo(&ports, Family::V6).blocked()]);
        let path = Path::V4(ipv4(0, e2e::lab::OUTSIDE), ipv4(0, 11));
        let timestamp = path.frame(ports.mac, outside.mac, 1, &path.icmp(13, 0, &[0; 16]));
        let gre = path.frame(ports.mac, outside.mac, 47, &[0; 8]);
        check([
            outside.frame(&ports, "ICMP timestamp request", timestamp).blocked(),
            outside.frame(&ports, "GRE", gre).blocked(),
        ]);
    }

    /// Sets, prefixes with their edges, single addresses; the same towards others.
    fn remotes(backend) {
        let lab = start(backend)?;
        let (remotes, outside, plain) = (lab.guest("remotes")?, lab.outside(), lab.guest("plain")?);
        let (below, first) = (lab.add_station("below", 127)?, lab.add_station("first", 128)?);
        check(tcp((outside, &remotes), [1001, 1002], [1003]));
        check(tcp((&plain, &remotes), [1003], [1001, 1002]));
        check(tcp((&first, &remotes), [1002], [1001]));
        check(tcp((&below, &remotes), [], [1002]));
        check(tcp((&remotes, outside), [443], [80]));
        check(tcp((&remotes, &plain), [], [443]));
    }

    /// Members of a project's default group reach each other, wherever they run; nobody else reaches them.
    fn default_group(backend) {
        let lab = start(backend)?;
        let (one, two, outside) = (lab.guest("one")?, lab.guest("two")?, lab.outside());
        check(tcp((&one, &two), [22, 8000], [23]));
        check(tcp((&two, &one), [22, 80], []));
        check(tcp((&one, outside), [80], []));
        check(tcp((outside, &one), [], [22, 8000]));
        // In a second group as well: either admits.
        check(tcp((outside, &two), [8000], [22]));
        check(Family::BOTH.map(|family| one.echo(&two, family).passes()));
        check(Family::BOTH.map(|family| outside.echo(&one, family).blocked()));
    }

    /// The operator's rules come first: a denial beats any group, and so does a permission.
    fn provider_rules(backend) {
        let lab = start(backend)?;
        let outside = lab.outside();
        for guest in ["ports", "cluster"] {
            check(tcp((outside, &lab.guest(guest)?), [9100], [23]));
        }
        check(tcp((outside, &lab.guest("alone")?), [9100], [23, 22]));
        check(tcp((&lab.guest("one")?, outside), [26], [25]));
    }

    /// A port without groups gets replies to nothing it could have asked; one without port security is left alone.
    fn no_group_and_no_security(backend) {
        let lab = start(backend)?;
        let (alone, router, outside) = (lab.guest("alone")?, lab.guest("router")?, lab.outside());
        check(tcp((&alone, outside), [], [80]));
        check(tcp((outside, &alone), [], [80]));
        check(tcp((&router, outside), [80, 25], []));
        check(tcp((outside, &router), [80, 23], []));
        let lies = spoofing(&router, outside).into_iter().map(|one| one.probe.passes());
        check(lies);
    }

    /// What is too long for one packet is judged as what it is, and arrives whole.
    fn fragments(backend) {
        let lab = start(backend)?;
        // Behind the connection tracking of a switch in user space, as the Lab's are, later fragments are fragments still,
        // without ports. The kernel's, which dom0 has, puts them together.
        let whole = |passes: Expectation| match backend {
            Backend::Nft | Backend::Legacy => vec![passes],
            Backend::OpenVSwitch => Vec::new(),
        };
        let (ports, cluster, outside) = (lab.guest("ports")?, lab.guest("cluster")?, lab.outside());
        for family in Family::BOTH {
            check([outside.long_udp(&ports, 515, family).blocked()]);
            check(whole(outside.long_udp(&ports, 514, family).passes()));
            check(whole(cluster.long_udp(&ports, 514, family).passes()));
            check(whole(cluster.long_udp(outside, 53, family).passes()));
        }
    }

    /// Equal addresses on two networks are two machines: a reply on one is no reply on the other.
    fn networks_do_not_mix(backend) {
        let lab = scenario::pool(backend)
            .network("other")
            .guest(Guest::new("twin", "host1", 11).on(&[1]).with_addresses_of(0))
            .policy(&format!("{}{}", scenario::POLICY, include_str!("policy/twin.toml")))
            .start()?;
        lab.apply()?.success()?;
        let (web, outside) = (lab.guest("web1")?, lab.outside());
        let (twin, stranger) = (lab.guest("twin")?, lab.add_station_on(1, "stranger", e2e::lab::OUTSIDE)?);
        for (here, there) in [
            (IpAddr::V4(ipv4(0, 11)), IpAddr::V4(ipv4(0, e2e::lab::OUTSIDE))),
            (ipv6(0, 11).into(), ipv6(0, e2e::lab::OUTSIDE).into()),
        ] {
            let datagram = |from: &Station, to: &Station, ends: (IpAddr, IpAddr), ports: (u16, u16)| {
                let path = Path::between(ends.0, ends.1).context("one family")?;
                anyhow::Ok(path.frame(to.mac, from.mac, UDP, &path.udp(ports.0, ports.1, b"zone")))
            };
            let question = datagram(&web, outside, (here, there), (5000, 53))?;
            let answer = datagram(outside, &web, (there, here), (53, 5000))?;
            let false_answer = datagram(&stranger, &twin, (there, here), (53, 5000))?;
            check([outside.frame(&web, "answer before the question", answer.clone()).blocked()]);
            check([web.frame(outside, "question", question).passes()]);
            check([
                outside.frame(&web, "answer", answer).passes(),
                stranger.frame(&twin, "answer on the other network", false_answer).blocked(),
            ]);
        }
    }
}
