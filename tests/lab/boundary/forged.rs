//! Both directions of a connection, forged by one sender, then a packet to dom0.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use e2e::frame::Mac;
use e2e::frame::ip::{Path, TCP, UDP, flag};
use e2e::lab::{Lab, ipv4, ipv6};
use e2e::scenario::dom0_boots;
use e2e::station::{Family, Station};
use e2e::tap::Tap;

use super::pool;
use crate::on_both;

/// dom0 listens at none of these.
const PORTS: &str = "40000:60000";

/// What dom0's INPUT is asked to count, and what it let in by accident.
const COUNTERS: [(&str, &[&str]); 2] =
    [("arrived", &[]), ("as-dom0s-own", &["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED"])];

/// Gives dom0 addresses on both networks and of both families, which a boot of the Lab's leaves.
fn settle(lab: &Lab) -> Result<()> {
    let dom0 = |program: &str, args: &[&str], input: &[u8]| lab.dom0_program("host1", program, args, input);
    for (network, bridge) in [(0, "xenbr0"), (1, "xenbr1")] {
        dom0("tee", &[&format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6")], b"0")?;
        dom0("ip", &["address", "add", &format!("{}/64", ipv6(network, 1)), "dev", bridge, "nodad"], b"")?;
    }
    dom0("ip", &["address", "add", &format!("{}/24", ipv4(1, 1)), "dev", "xenbr1"], b"")?;
    dom0("tee", &["/proc/sys/net/ipv6/conf/all/forwarding"], b"1")?;
    listen(lab)
}

/// Has dom0's INPUT count what comes.
fn listen(lab: &Lab) -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        for protocol in ["udp", "tcp"] {
            for (name, matches) in COUNTERS {
                let head = ["-I", "INPUT", "1", "-p", protocol, "-m", protocol, "--dport", PORTS];
                let comment = ["-m", "comment", "--comment", name];
                lab.dom0_program("host1", program, &[&head, matches, &comment].concat(), b"")?;
            }
        }
    }
    Ok(())
}

/// How many packets were counted under a name, of a family.
fn counted(lab: &Lab, family: Family, name: &str) -> Result<u64> {
    let dump = lab.iptables_save_counters("host1", family)?;
    let rules = dump.lines().filter(|line| line.contains(&format!("--comment {name}")));
    let counts = rules.map(|line| line.strip_prefix('[')?.split_once(':')?.0.parse::<u64>().ok());
    counts.sum::<Option<u64>>().context("a counter cannot be read")
}

/// Whose addresses a forged connection has.
fn addresses(family: Family, dom0: Mac) -> Vec<IpAddr> {
    match family {
        Family::V4 => vec![
            ipv4(0, 1).into(),
            ipv4(1, 1).into(),
            ipv4(0, 12).into(),
            ipv4(0, 77).into(),
            ipv4(0, 255).into(),
            Ipv4Addr::BROADCAST.into(),
            Ipv4Addr::new(224, 0, 0, 1).into(),
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::LOCALHOST.into(),
        ],
        Family::V6 => vec![
            ipv6(0, 1).into(),
            ipv6(1, 1).into(),
            ipv6(0, 12).into(),
            ipv6(0, 77).into(),
            dom0.link_local().into(),
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
            Ipv6Addr::LOCALHOST.into(),
            // The anycast address of routers there, which dom0 has once it forwards anywhere.
            Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 0).into(),
            Ipv6Addr::new(0xfd20, 1, 0, 0, 0, 0, 0, 0).into(),
        ],
    }
}

/// A datagram or a segment, in a frame from a sender to somebody on its bridge.
fn frame(from: Mac, to: Mac, path: Path, protocol: u8, ports: (u16, u16), flags: u8) -> Vec<u8> {
    let payload = match protocol {
        UDP => path.udp(ports.0, ports.1, b"forged"),
        _ => path.tcp(ports, flags, (1, u32::from(flags & flag::ACK != 0) * 2), b""),
    };
    path.frame(to, from, protocol, &payload)
}

/// Every pair of addresses with the same ports in every attack, so that one attacker's half meets another's; by every way of sending to somebody else than dom0, then to dom0: by `opener` the connection, by
/// `closer` the last packet.
fn attack(opener: &Station, closer: &Station, dom0: Mac, closers_dom0: Mac) -> Result<()> {
    let open = |station: &Station| -> Result<Tap> {
        let interface = station.interface.clone();
        Ok(station.namespace.enter(move || Tap::open(&interface))?)
    };
    let (one, other) = (open(opener)?, open(closer)?);
    let somebody = e2e::lab::mac(0, 11);
    let unknown = Mac([0x00, 0x16, 0x3e, 0x99, 0x99, 0x99]);
    let mut port = 40_000;
    for family in Family::BOTH {
        let all = addresses(family, dom0);
        for (source, destination) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
            for (there, back) in
                [(somebody, somebody), (unknown, unknown), (Mac::BROADCAST, Mac::BROADCAST), (somebody, dom0)]
            {
                for protocol in [UDP, TCP] {
                    port = if port >= 59_000 { 40_000 } else { port + 2 };
                    let forth = Path::between(source, destination).context("one family")?;
                    let return_path = Path::between(destination, source).context("one family")?;
                    let say = |path, ports, to, flags| frame(opener.mac, to, path, protocol, ports, flags);
                    let (ask, answer) = ((port, port + 1), (port + 1, port));
                    for bytes in [
                        say(forth, ask, there, flag::SYN),
                        say(return_path, answer, back, flag::SYN | flag::ACK),
                        say(forth, ask, there, flag::ACK),
                        say(return_path, answer, back, flag::ACK),
                    ] {
                        one.send(&bytes)?;
                    }
                    for (path, ports) in [(forth, ask), (return_path, answer)] {
                        other.send(&frame(closer.mac, closers_dom0, path, protocol, ports, flag::ACK))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Everybody who could try, alone and across the bridges.
fn everybody_attacks(lab: &Lab) -> Result<()> {
    let (lan, other) = (lab.bridge_mac("host1", "xenbr0")?, lab.bridge_mac("host1", "xenbr1")?);
    let [vm, stranger, far] = ["vm", "stranger", "far"].map(|name| lab.guest(name));
    let (vm, stranger, far) = (vm?, stranger?, far?);
    attack(&vm, &vm, lan, lan)?;
    attack(&stranger, &stranger, lan, lan)?;
    attack(lab.outside(), lab.outside(), lan, lan)?;
    attack(&far, &far, other, other)?;
    attack(&far, &stranger, other, lan)?;
    attack(&stranger, &far, lan, other)?;
    attack(lab.outside(), &far, lan, other)
}

/// Nothing that arrived was taken for a connection of dom0's.
fn assert_closed(lab: &Lab, when: &str) -> Result<()> {
    let before = Family::BOTH.map(|family| counted(lab, family, "arrived"));
    everybody_attacks(lab)?;
    for (family, before) in Family::BOTH.into_iter().zip(before) {
        let (arrived, open) =
            (counted(lab, family, "arrived")? - before?, counted(lab, family, "as-dom0s-own")?);
        ensure!(arrived > 100, "{when}, {family}: only {arrived} packets came to dom0's INPUT");
        ensure!(open == 0, "{when}, {family}: {open} of {arrived} packets passed for a connection of dom0's");
    }
    Ok(())
}

on_both! {
    /// Before the first write, with rules, with a policy that is gone, and after a boot that only closed what was guarded.
    fn no_forged_connection_reaches_dom0(iptables) {
        let lab = pool(iptables).guarded("other").start()?;
        settle(&lab)?;
        assert_closed(&lab, "bridge netfilter off")?;
        lab.apply()?.success()?;
        assert_closed(&lab, "with rules")?;
        dom0_boots(&lab, "host1")?;
        listen(&lab)?;
        assert_closed(&lab, "after dom0's boot")?;
    }

    /// The attack works where the boundary does not stand.
    fn without_the_boundary_it_would(iptables) {
        let lab = pool(iptables).start()?;
        settle(&lab)?;
        lab.apply()?.success()?;
        for program in ["iptables", "ip6tables"] {
            lab.dom0_program("host1", program, &["-t", "raw", "-D", "PREROUTING", "1"], b"")?;
        }
        everybody_attacks(&lab)?;
        for family in Family::BOTH {
            ensure!(counted(&lab, family, "as-dom0s-own")? > 0, "{family}: the attack is none");
        }
    }
}
