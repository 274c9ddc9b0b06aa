//! A: what a policy admits.

use anyhow::{Context, Result, ensure};
use e2e::flow::Flow;
use e2e::lab::{Guest, Lab, ipv4, ipv6};
use e2e::probe::{Expectation, check};
use e2e::station::{Family, Station};
use ruleset::model::Protocol;
use ruleset::packet::Transport;

use super::{addresses, applied, egress, group, ingress, one, port, sends, tcp, tracks_everything};
use crate::on_each;

on_each! {
    /// Nobody in, and nobody out but what the operator lets all guests do; replies to that come back.
    fn a01_without_a_group_only_replies_come_in(backend) {
        let operator = "\n[[provider_rule]]\naction = 'allow'\ndirection = 'egress'\nprotocol = 'tcp'\nports = 443\n";
        let lab = applied(
            Lab::builder(backend)
                .host_count(1)
                .guest(Guest::new("vm", "host1", 11))
                .policy(&format!("{operator}{}", port("vm", 11, &[]))),
        )?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        for family in Family::BOTH {
            let address = outside.address(family).context("no address")?;
            check([
                vm.tcp(outside, 443, family).passes(),
                vm.tcp(outside, 80, family).blocked(),
                vm.echo(outside, family).blocked(),
                outside.tcp(&vm, 443, family).blocked(),
                outside.udp(&vm, 53, family).blocked(),
                outside.echo(&vm, family).blocked(),
                // It comes from the right port, but nobody asked.
                sends(outside, &vm, address, Transport::tcp(443, 50_000))?.blocked(),
            ]);
        }
    }

    /// From the prefix, to the two ports.
    fn a02_two_ports_from_a_prefix(backend) {
        let lab = one(backend, &[
            ingress("protocol = 'tcp', ports = '80-81', remote_cidr = '10.20.0.128/25'"),
            ingress("protocol = 'tcp', ports = '80-81', remote_cidr = 'fd20::80/121'"),
        ])?;
        let (vm, outside, other) = (lab.guest("vm")?, lab.outside(), lab.add_station("other", 127)?);
        for family in Family::BOTH {
            check([
                outside.tcp(&vm, 80, family).passes(),
                outside.tcp(&vm, 81, family).passes(),
                outside.tcp(&vm, 79, family).blocked(),
                outside.tcp(&vm, 82, family).blocked(),
                other.tcp(&vm, 80, family).blocked(),
                other.tcp(&vm, 81, family).blocked(),
            ]);
        }
    }

    /// ICMP whole, one type of it, one code of that.
    fn a03_icmp_type_and_code(backend) {
        let lab = one(backend, &[
            ingress("protocol = 'icmp', remote_cidr = '10.20.0.101'"),
            ingress("protocol = 'icmp', icmp_type = 8, remote_cidr = '10.20.0.102'"),
            ingress("protocol = 'icmp', icmp_type = 8, icmp_code = 0, remote_cidr = '10.20.0.103'"),
        ])?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        let icmp = |from, kind, code| sends(outside, &vm, ipv4(0, from), Transport::icmp(kind, code));
        check([
            icmp(101, 8, 0)?.passes(),
            icmp(101, 13, 0)?.passes(),
            icmp(102, 8, 0)?.passes(),
            icmp(102, 13, 0)?.blocked(),
            icmp(103, 8, 0)?.passes(),
            icmp(103, 8, 1)?.blocked(),
            icmp(103, 13, 0)?.blocked(),
            icmp(104, 8, 0)?.blocked(),
        ]);
        if tracks_everything(backend) {
            check([icmp(101, 8, 1)?.passes(), icmp(102, 8, 1)?.passes()]);
        }
    }

    /// A rule with a group and no protocol admits its members with whatever they bring, and nobody else.
    fn a04_a_group_without_a_protocol_admits_everything_of_its_members(backend) {
        let lab = applied(
            Lab::builder(backend)
                .guest(Guest::new("vm", "host1", 11))
                .guest(Guest::new("near", "host1", 12))
                .guest(Guest::new("far", "host2", 13))
                .policy(&[
                    group("members", &[egress("")]),
                    group("only", &[ingress("remote_group = 'members'")]),
                    port("vm", 11, &["only"]),
                    port("near", 12, &["members"]),
                    port("far", 13, &["members"]),
                ].concat()),
        )?;
        let vm = lab.guest("vm")?;
        let everything = |from: &Station| -> Result<Vec<_>> {
            let mut all = Vec::new();
            for family in Family::BOTH {
                let address = from.address(family).context("no address")?;
                all.extend([from.tcp(&vm, 1, family), from.tcp(&vm, 65_535, family)]);
                all.extend([from.udp(&vm, 53, family), from.echo(&vm, family)]);
                all.push(sends(from, &vm, address, Transport::Other(Protocol(47)))?);
            }
            Ok(all)
        };
        check(everything(&lab.guest("near")?)?.into_iter().map(|one| one.passes()));
        check(everything(&lab.guest("far")?)?.into_iter().map(|one| one.passes()));
        check(everything(lab.outside())?.into_iter().map(|one| one.blocked()));
    }

    /// A port of one protocol is not that port of another.
    fn a05_tcp_is_not_udp(backend) {
        let lab = one(backend, &[
            ingress("protocol = 'tcp', ports = 22"),
            ingress("protocol = 'udp', ports = 53"),
            egress("protocol = 'tcp', ports = 80"),
            egress("protocol = 'udp', ports = 123"),
        ])?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        for family in Family::BOTH {
            check([
                outside.tcp(&vm, 22, family).passes(),
                outside.udp(&vm, 22, family).blocked(),
                outside.udp(&vm, 53, family).passes(),
                outside.tcp(&vm, 53, family).blocked(),
                vm.tcp(outside, 80, family).passes(),
                vm.udp(outside, 80, family).blocked(),
                vm.udp(outside, 123, family).passes(),
                vm.tcp(outside, 123, family).blocked(),
            ]);
        }
    }

    /// Every range has its ends, and what is next to them is out; inside, the port where its two ends' highest bits part is
    /// no hole (neutron bugs 1611991, and `TestPortRuleMasking`).
    fn a06_ranges_end_where_they_end(backend) {
        let ranges: [(u16, u16); 8] =
            [(5, 12), (20, 130), (4501, 33_057), (22, 22), (5001, 5001), (1, 7), (8, 15), (1, 127)];
        let mut rules = Vec::new();
        for ((first, last), number) in ranges.into_iter().zip(101..) {
            for protocol in ["tcp", "udp"] {
                for remote in addresses(number) {
                    rules.push(ingress(&format!(
                        "protocol = '{protocol}', ports = '{first}-{last}', remote_cidr = '{remote}'"
                    )));
                }
            }
        }
        let lab = one(backend, &rules)?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        for ((first, last), number) in ranges.into_iter().zip(101..) {
            let mut all: Vec<Expectation> = Vec::new();
            for port in edges(first, last) {
                for transport in [Transport::tcp(50_000, port), Transport::udp(50_000, port)] {
                    for source in addresses(number) {
                        let probe = sends(outside, &vm, source, transport.clone())?;
                        all.push(if (first..=last).contains(&port) { probe.passes() } else { probe.blocked() });
                    }
                }
            }
            check(all);
        }
    }

    /// Rules know no source ports, as neutron's do not: asked for, they are refused and nothing is changed; the port a
    /// packet comes from neither helps nor harms it.
    fn a07_source_ports_are_refused(backend) {
        let lab = one(backend, &[ingress("protocol = 'udp', ports = 53")])?;
        let before = lab.writes("host1")?;
        let rules = [ingress("protocol = 'udp', ports = 53"), ingress("protocol = 'udp', source_ports = 53")];
        lab.set_policy(&format!("{}{}", group("only", &rules), port("vm", 11, &["only"])))?;
        let run = lab.apply()?.failure()?;
        ensure!(run.status.code() == Some(2), "{run:?}");
        ensure!(run.stderr.contains("source_ports") || run.stdout.contains("source_ports"), "{run:?}");
        ensure!(lab.writes("host1")? == before, "a refused policy was applied");
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        for source in addresses(200) {
            check([
                sends(outside, &vm, source, Transport::udp(1, 53))?.passes(),
                sends(outside, &vm, source, Transport::udp(65_535, 53))?.passes(),
                sends(outside, &vm, source, Transport::udp(53, 999))?.blocked(),
            ]);
        }
    }

    /// SCTP and DCCP have ports; any protocol has a number. (What UDP-Lite's rule admits depends on the back end:
    /// docs/security.md.)
    fn a08_other_protocols(backend) {
        let lab = one(backend, &[
            ingress("protocol = 'sctp', ports = '9000-9010'"),
            ingress("protocol = 'dccp', ports = 5001"),
            ingress("protocol = 'udplite', ports = 7000"),
            ingress("protocol = 'gre'"),
            ingress("protocol = 99"),
        ])?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        let ports = |protocol, destination| Transport::Ports { protocol, source: 50_000, destination };
        for source in addresses(200) {
            check([
                sends(outside, &vm, source, ports(Protocol::SCTP, 9000))?.passes(),
                sends(outside, &vm, source, ports(Protocol::SCTP, 9010))?.passes(),
                sends(outside, &vm, source, ports(Protocol::SCTP, 8999))?.blocked(),
                sends(outside, &vm, source, ports(Protocol::SCTP, 9011))?.blocked(),
                sends(outside, &vm, source, ports(Protocol::DCCP, 5002))?.blocked(),
                sends(outside, &vm, source, ports(Protocol::UDPLITE, 7001))?.blocked(),
                sends(outside, &vm, source, Transport::Other(Protocol(47)))?.passes(),
                sends(outside, &vm, source, Transport::Other(Protocol(99)))?.passes(),
                sends(outside, &vm, source, Transport::Other(Protocol(100)))?.blocked(),
                sends(outside, &vm, source, Transport::tcp(50_000, 9000))?.blocked(),
                sends(outside, &vm, source, Transport::udp(50_000, 5001))?.blocked(),
            ]);
            if tracks_everything(backend) {
                check([sends(outside, &vm, source, ports(Protocol::DCCP, 5001))?.passes()]);
            }
        }
    }

    /// Two groups of one port: what either admits passes. One is taken away: what the other admits stays, connections
    /// included (CVE-2019-10876: overlapping ranges, with remote groups, stopped the whole host's updates).
    fn a09_overlapping_rules_of_two_groups(backend) {
        let builder = Lab::builder(backend)
            .guest(Guest::new("vm", "host1", 11))
            .guest(Guest::new("member", "host2", 12))
            .guest(Guest::new("stranger", "host2", 13));
        let policy = |groups: &[&str]| [
            group("members", &[egress("")]),
            group("a", &[
                ingress("protocol = 'tcp', ports = '8000-8050'"),
                ingress("protocol = 'tcp', ports = 80"),
                ingress("protocol = 'tcp', ports = '100-200', remote_group = 'members'"),
            ]),
            group("b", &[
                ingress("protocol = 'tcp', ports = '8040-8100'"),
                ingress("protocol = 'tcp', ports = 80"),
                ingress("protocol = 'tcp', ports = 80"),
                ingress("protocol = 'tcp', ports = '150-250', remote_group = 'members'"),
            ]),
            port("vm", 11, groups),
            port("member", 12, &["members"]),
        ].concat();
        let lab = applied(builder.policy(&policy(&["a", "b"])))?;
        let [vm, member, stranger] = [lab.guest("vm")?, lab.guest("member")?, lab.guest("stranger")?];
        check(tcp(&stranger, &vm, &[80, 8000, 8045, 8100], &[7999, 8101, 100, 175, 250]));
        check(tcp(&member, &vm, &[100, 175, 250], &[99, 251]));
        let [shared, overlap, only_b] = [
            Flow::start(&stranger.tcp(&vm, 80, Family::V4))?,
            Flow::start(&member.tcp(&vm, 150, Family::V6))?,
            Flow::start(&stranger.tcp(&vm, 8099, Family::V4))?,
        ];
        lab.set_policy(&policy(&["a"]))?;
        lab.apply()?.success()?;
        ensure!(only_b.is_cut(), "the connection that only b admits lives on");
        only_b.stop()?;
        for flow in [shared, overlap] {
            ensure!(flow.lives(), "a connection that a admits, too, was cut");
            let report = flow.stop()?;
            ensure!(report.broken.is_none() && !report.stalled(), "it noticed: {report:?}");
        }
        check(tcp(&stranger, &vm, &[80, 8000, 8050], &[8051, 8100, 100, 200]));
        check(tcp(&member, &vm, &[100, 200], &[99, 201, 250]));
    }

    /// IPv6 is no afterthought: its own addresses, its own ICMP with types and codes (nova took no notice of those), and
    /// nothing of it by IPv4's rules.
    fn a10_ipv6(backend) {
        let lab = one(backend, &[
            ingress("ethertype = 'ipv6', protocol = 'tcp', ports = 80"),
            ingress("protocol = 'tcp', ports = 81, remote_cidr = 'fd20::c8'"),
            ingress("ethertype = 'ipv4', protocol = 'tcp', ports = 82"),
            ingress("ethertype = 'ipv6', protocol = 'icmp', remote_cidr = 'fd20::65'"),
            ingress("protocol = 'ipv6-icmp', icmp_type = 128, remote_cidr = 'fd20::66', ethertype = 'ipv6'"),
            ingress("protocol = 'icmpv6', icmp_type = 128, icmp_code = 0, remote_cidr = 'fd20::67', ethertype = 'ipv6'"),
            egress("protocol = 'udp', ports = 53, remote_cidr = 'fd20::c8'"),
        ])?;
        let (vm, outside, other) = (lab.guest("vm")?, lab.outside(), lab.add_station("other", 127)?);
        check([
            outside.tcp(&vm, 80, Family::V6).passes(),
            other.tcp(&vm, 80, Family::V6).passes(),
            outside.tcp(&vm, 80, Family::V4).blocked(),
            outside.tcp(&vm, 81, Family::V6).passes(),
            other.tcp(&vm, 81, Family::V6).blocked(),
            outside.tcp(&vm, 81, Family::V4).blocked(),
            outside.tcp(&vm, 82, Family::V4).passes(),
            outside.tcp(&vm, 82, Family::V6).blocked(),
            vm.udp(outside, 53, Family::V6).passes(),
            vm.udp(&other, 53, Family::V6).blocked(),
            vm.udp(outside, 53, Family::V4).blocked(),
        ]);
        // 128 is an echo request, 139 a node information query: the two that connection tracking lets begin something.
        let icmp = |from, kind, code| sends(outside, &vm, ipv6(0, from), Transport::icmp(kind, code));
        check([
            icmp(0x65, 128, 0)?.passes(),
            icmp(0x66, 128, 0)?.passes(),
            icmp(0x66, 139, 0)?.blocked(),
            icmp(0x67, 128, 0)?.passes(),
            icmp(0x67, 128, 1)?.blocked(),
            icmp(0x68, 128, 0)?.blocked(),
        ]);
        if tracks_everything(backend) {
            check([icmp(0x65, 128, 1)?.passes(), icmp(0x65, 139, 0)?.passes(), icmp(0x66, 128, 1)?.passes()]);
        }
    }

    /// 1 to 65535 is every port (neutron bug 1848213), of that protocol.
    fn a11_all_ports(backend) {
        let lab = one(backend, &[ingress("protocol = 'tcp', ports = '1-65535'")])?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        check(Family::BOTH.into_iter().flat_map(|family| [
            outside.tcp(&vm, 1, family).passes(),
            outside.tcp(&vm, 32_768, family).passes(),
            outside.tcp(&vm, 65_535, family).passes(),
            outside.udp(&vm, 32_768, family).blocked(),
            outside.echo(&vm, family).blocked(),
        ]));
    }

    /// The prefix of length 0 is everybody of its family, whatever network they are on (in ipset it was an error:
    /// CVE-2015-3221).
    fn a12_everybody_of_a_family(backend) {
        let lab = one(backend, &[
            ingress("protocol = 'udp', ports = 80, remote_cidr = '0.0.0.0/0'"),
            ingress("protocol = 'udp', ports = 80, remote_cidr = '::/0'"),
            ingress("protocol = 'udp', ports = 81, remote_cidr = '0.0.0.0/0'"),
            ingress("protocol = 'udp', ports = 82, remote_cidr = '::/0'"),
        ])?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        for address in ["10.20.0.200", "0.0.0.1", "127.255.255.255", "128.0.0.1", "223.255.255.254"] {
            let udp = |port| sends(outside, &vm, address.parse::<std::net::Ipv4Addr>()?, Transport::udp(50_000, port));
            check([udp(80)?.passes(), udp(81)?.passes(), udp(82)?.blocked(), udp(83)?.blocked()]);
        }
        for address in ["fd20::c8", "1::1", "7fff::1", "8000::1", "feff::1"] {
            let udp = |port| sends(outside, &vm, address.parse::<std::net::Ipv6Addr>()?, Transport::udp(50_000, port));
            check([udp(80)?.passes(), udp(81)?.blocked(), udp(82)?.passes(), udp(83)?.blocked()]);
        }
    }

    /// A prefix with host bits means the prefix it lies in (CVE-2014-0187: one such rule, and no rules were written any
    /// more), and once written it is found again.
    fn a13_a_prefix_with_host_bits(backend) {
        let lab = one(backend, &[
            ingress("protocol = 'tcp', ports = 80, remote_cidr = '10.20.0.205/25'"),
            ingress("protocol = 'tcp', ports = 80, remote_cidr = 'fd20::cd/121'"),
        ])?;
        let (vm, outside, other) = (lab.guest("vm")?, lab.outside(), lab.add_station("other", 127)?);
        check(Family::BOTH.into_iter().flat_map(|family| {
            [outside.tcp(&vm, 80, family).passes(), other.tcp(&vm, 80, family).blocked()]
        }));
        ensure!(lab.apply()?.success()?.changed()?.is_empty(), "what stands is not known again");
    }

    /// VRRP has no ports: the rule is refused by its line before anything is written, what stands stands, and without the
    /// ports it is a rule like others (CVE-2019-9735: dom0 refused it together with everybody's rules).
    fn a14_vrrp_with_a_port(backend) {
        let lab = one(backend, &[ingress("protocol = 'tcp', ports = 80")])?;
        let before = lab.writes("host1")?;
        let policy = |vrrp: &str| {
            let rules = [ingress("protocol = 'tcp', ports = 80"), ingress("protocol = 'tcp', ports = 81"), ingress(vrrp)];
            format!("{}{}", group("only", &rules), port("vm", 11, &["only"]))
        };
        lab.set_policy(&policy("protocol = 'vrrp', ports = 112"))?;
        let run = lab.apply()?.failure()?;
        let said = format!("{}{}", run.stdout, run.stderr);
        ensure!(run.status.code() == Some(2) && said.contains("vrrp has no ports") && said.contains("line 8"), "{said}");
        ensure!(lab.writes("host1")? == before, "a refused policy was applied");
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        let vrrp = sends(outside, &vm, ipv4(0, 200), Transport::Other(Protocol(112)))?;
        check([
            outside.tcp(&vm, 80, Family::V4).passes(),
            outside.tcp(&vm, 81, Family::V4).blocked(),
            vrrp.clone().blocked(),
        ]);
        lab.set_policy(&policy("protocol = 'vrrp'"))?;
        lab.apply()?.success()?;
        check([
            outside.tcp(&vm, 80, Family::V4).passes(),
            outside.tcp(&vm, 81, Family::V4).passes(),
            vrrp.passes(),
        ]);
    }
}

/// The ends of a range, what is next to them, and the ports on both sides of the highest bit in which the ends differ: there
/// a range of masks is put together.
fn edges(first: u16, last: u16) -> Vec<u16> {
    let middle = match first ^ last {
        0 => first,
        differing => (last >> differing.ilog2()) << differing.ilog2(),
    };
    let mut all = vec![first - 1, first, middle - 1, middle, last, last + 1];
    all.sort_unstable();
    all.dedup();
    all
}
