//! D, the policy's part: it changes while guests talk, and whoever carries it out comes and goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::flow::Flow;
use e2e::frame::arp_request;
use e2e::frame::ip::{Path, TCP, UDP, flag};
use e2e::lab::{Guest, OUTSIDE, ipv4, ipv6, mac};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;
use e2e::tap::Tap;
use e2e::traffic::{Shouting, Traffic};

use super::{applied, egress, group, ingress, one, port, tcp};
use crate::first_packet::{LOUD, forbidden, with_loud};
use crate::on_each;

/// Policy changes under traffic.
const REFRESHES: u64 = if cfg!(feature = "soak") { 2000 } else { 100 };

on_each! {
    /// Everything a guest must not say is said, and everything that must not reach it is sent, from its first instant
    /// on, over and over: neither arrives.
    fn d01_rules_stand_before_the_first_packet(backend) {
        let lab = applied(with_loud(backend).guest(Guest::new("loud", "host1", LOUD).halted()))?;
        let (heard, said) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (leaked_in, counters) = (Arc::new(AtomicU64::new(0)), (Arc::clone(&heard), Arc::clone(&said)));
        let leaks = Arc::clone(&leaked_in);
        let (_, vm) = lab.vm("loud")?;
        lab.plane().set_boot(&vm.uuid.to_string(), move || talk_and_listen(&counters.0, &counters.1, &leaks));
        let ears = lab.outside().namespace.enter(|| Tap::open("eth0"))?;
        // ARP needs no rules: by it the guest is known to hear.
        let ask = arp_request((mac(0, OUTSIDE), ipv4(0, OUTSIDE)), ipv4(0, LOUD));
        let shouting = Shouting::start(lab.outside(), [unwanted(), vec![ask]].concat());
        lab.start("loud", true)?;
        lab.hook("create", "loud")?.success()?;
        lab.unpause("loud")?;
        std::thread::sleep(Duration::from_millis(800));
        let sent = shouting.stop()?;
        ensure!(sent > 100 && said.load(Ordering::Relaxed) > 100, "nobody spoke: the test shows nothing");
        ensure!(heard.load(Ordering::Relaxed) > 0, "the guest heard nothing at all: the test shows nothing");
        let forbidden = forbidden();
        let leaked_out = ears.drain()?.iter().filter(|one| !one.outgoing && forbidden.contains(&one.bytes)).count();
        ensure!(leaked_out == 0, "{leaked_out} forbidden frames got out");
        let leaked_in = leaked_in.load(Ordering::Relaxed);
        ensure!(leaked_in == 0, "{leaked_in} unwanted frames got in");
    }

    /// Rules come and go, of either direction and family, and count from then on.
    fn d02_a_rule_counts_from_when_it_is_there(backend) {
        let both = [ingress("protocol = 'tcp', ports = 80"), egress("protocol = 'tcp', ports = 443")];
        let lab = one(backend, &both)?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        for added in [
            ingress("protocol = 'tcp', ports = 81"),
            ingress("protocol = 'tcp', ports = 81, ethertype = 'ipv6'"),
            ingress("protocol = 'tcp', ports = 81, remote_cidr = '10.20.0.200/32'"),
            egress("protocol = 'tcp', ports = 444"),
            egress("ethertype = 'ipv4'"),
        ] {
            let more = [&both[..], std::slice::from_ref(&added)].concat();
            for (rules, there) in [(&more[..], true), (&both[..], false)] {
                lab.set_policy(&format!("{}{}", group("only", rules), port("vm", 11, &["only"])))?;
                lab.apply()?.success()?;
                check(tcp(outside, &vm, &[80], &[79]));
                check(tcp(&vm, outside, &[443], &[442]).into_iter().filter(|one| {
                    // What lets out everything lets out that, too.
                    !(there && added == egress("ethertype = 'ipv4'") && one.probe.family == Family::V4)
                }));
                let probes = Family::BOTH.map(|family| match added.contains("ingress") {
                    true => outside.tcp(&vm, 81, family),
                    false => vm.tcp(outside, 444, family),
                });
                check(probes.map(|probe| {
                    let meant = match probe.family {
                        Family::V4 => !added.contains("ipv6"),
                        Family::V6 => !added.contains("ipv4") && !added.contains("10.20."),
                    };
                    if there && meant { probe.passes() } else { probe.blocked() }
                }));
            }
        }
    }

    /// The connections of a rule that goes are cut, in either direction; those of a rule that stays live on, though all of
    /// them were judged by one group.
    fn d03_connections_end_with_their_rule(backend) {
        let stay = [
            ingress("protocol = 'tcp', ports = 80"),
            ingress("protocol = 'udp', ports = 53"),
            egress("protocol = 'tcp', ports = 443"),
            egress("protocol = 'udp', ports = 123"),
        ];
        let go = [
            ingress("protocol = 'tcp', ports = 81"),
            ingress("protocol = 'udp', ports = 54"),
            egress("protocol = 'tcp', ports = 444"),
            egress("protocol = 'udp', ports = 124"),
        ];
        let lab = one(backend, &[&stay[..], &go[..]].concat())?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        let start = |offset: u16| -> Result<Vec<_>> {
            let mut flows = Vec::new();
            for family in Family::BOTH {
                for probe in [
                    outside.tcp(&vm, 80 + offset, family),
                    outside.udp(&vm, 53 + offset, family),
                    vm.tcp(outside, 443 + offset, family),
                    vm.udp(outside, 123 + offset, family),
                ] {
                    flows.push((probe.to_string(), Flow::start(&probe)?));
                }
            }
            Ok(flows)
        };
        let (staying, going) = (start(0)?, start(1)?);
        lab.set_policy(&format!("{}{}", group("only", &stay), port("vm", 11, &["only"])))?;
        lab.apply()?.success()?;
        for (name, flow) in going {
            ensure!(flow.is_cut(), "{name} outlives its rule");
            flow.stop()?;
        }
        for (name, flow) in staying {
            ensure!(flow.lives(), "{name} was cut, its rule is there");
            let report = flow.stop()?;
            // The cut ones' segments that were sent again count in the same namespaces.
            let lost = name.contains("udp") && report.sent > report.answered + 1;
            ensure!(report.broken.is_none() && !report.stalled() && !lost, "{name} noticed: {report:?}");
        }
    }

    /// A hundred changes, half of which take something away, under traffic that is allowed and traffic that is not:
    /// none of the one is lost, none of the other arrives (neutron bug 1708731).
    fn d04_no_refresh_blinks(backend) {
        let lab = applied(pool(backend))?;
        let traffic = Traffic::start(&lab)?;
        for round in 0..REFRESHES {
            let more = "[[group.rule]]\ndirection = \"ingress\"\nprotocol = \"tcp\"\nports = 8080\n";
            let policy = POLICY.replacen("[[port]]", &format!("{more}\n[[port]]"), 1);
            lab.set_policy(if round % 2 == 0 { &policy } else { POLICY })?;
            ensure!(!lab.apply()?.success()?.changed()?.is_empty(), "round {round} changed nothing");
        }
        traffic.judge_after(REFRESHES)?;
    }

    /// Nothing is kept but what stands in the hosts: after every restart the driver knows all rules again, adds to them
    /// and takes from them (nova: the others' rules were lost, a refresh failed, a deleted rule stayed). Killed at any
    /// moment it leaves the old or the new; nobody notices.
    fn d05_the_driver_restarts(backend) {
        let lab = pool(backend).guest(Guest::new("web3", "host2", 15).halted()).start()?;
        let policy = format!("{POLICY}{}", include_str!("../policy/web3.toml"));
        lab.set_policy(&policy)?;
        lab.apply()?.success()?;
        let traffic = Traffic::start(&lab)?;
        // Every run is a process of its own. The first brings one guest more, the second takes a rule away.
        lab.start("web3", true)?;
        lab.hook("create", "web3")?.success()?;
        lab.unpause("web3")?;
        let web3 = lab.guest("web3")?;
        check(tcp(lab.outside(), &web3, &[80], &[22]));
        check(expectations(&lab)?);
        lab.set_policy(&policy.replace("protocol = \"icmp\"", "protocol = \"icmp\"\nicmp_type = 13"))?;
        lab.apply()?.success()?;
        check([lab.outside().echo(&web3, Family::V4).blocked(), lab.outside().echo(&web3, Family::V6).passes()]);
        lab.set_policy(&policy)?;
        lab.apply()?.success()?;
        check(expectations(&lab)?);
        for round in 0..12 {
            let edited = policy.replace("ports = 5432", "ports = \"5432-5433\"");
            lab.set_policy(if round % 2 == 0 { &edited } else { &policy })?;
            lab.apply_and_kill(Duration::from_millis(8 * (round + 1)))?;
        }
        lab.set_policy(&policy)?;
        lab.apply()?.success()?;
        check(expectations(&lab)?);
        ensure!(lab.plan()?.success()?.changed()?.is_empty(), "something is left to do");
        traffic.judge()?;
    }

    /// A rule goes and its connections are cut; it comes back, and so do they (neutron bug 1915530: they stayed dead).
    fn d21_a_rule_that_comes_back_revives_its_connections(backend) {
        let rules = [ingress("protocol = 'tcp', ports = 80"), egress("protocol = 'tcp', ports = 443")];
        let lab = one(backend, &rules)?;
        let (vm, outside) = (lab.guest("vm")?, lab.outside());
        let mut flows = Vec::new();
        for family in Family::BOTH {
            flows.push(Flow::start(&outside.tcp(&vm, 80, family))?);
            flows.push(Flow::start(&vm.tcp(outside, 443, family))?);
        }
        for _ in 0..2 {
            lab.set_policy(&format!("{}{}", group("only", &[]), port("vm", 11, &["only"])))?;
            lab.apply()?.success()?;
            for flow in &flows {
                ensure!(flow.is_cut(), "a connection outlives its rule");
            }
            lab.set_policy(&format!("{}{}", group("only", &rules), port("vm", 11, &["only"])))?;
            lab.apply()?.success()?;
            for flow in &flows {
                ensure!(flow.lives(), "the rule is back, its connection is not");
            }
        }
        for flow in flows {
            ensure!(flow.stop()?.broken.is_none());
        }
    }
}

/// What must not come in to the talkative guest.
fn unwanted() -> Vec<Vec<u8>> {
    let (loud, out) = (mac(0, LOUD), mac(0, OUTSIDE));
    let four = Path::V4(ipv4(0, OUTSIDE), ipv4(0, LOUD));
    let six = Path::V6(ipv6(0, OUTSIDE), ipv6(0, LOUD));
    let mut frames = Vec::new();
    for path in [four, six] {
        frames.push(path.frame(loud, out, TCP, &path.tcp((1000, 22), flag::SYN, (1, 0), b"")));
        frames.push(path.frame(loud, out, UDP, &path.udp(1000, 53, b"in")));
        frames.push(path.frame(loud, out, path.icmp_protocol(), &path.echo_request(77, 1)));
    }
    frames
}

/// Runs in the guest for half a second: says what is forbidden, counts what it hears of `outside` and what it should not.
fn talk_and_listen(heard: &AtomicU64, said: &AtomicU64, leaked: &AtomicU64) {
    let Ok(tap) = Tap::open("eth0") else { return };
    let (forbidden, unwanted) = (forbidden(), unwanted());
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        let sent = forbidden.iter().filter(|frame| tap.send(frame).is_ok()).count();
        said.fetch_add(sent as u64, Ordering::Relaxed);
        for captured in tap.drain().unwrap_or_default() {
            let from_outside = e2e::frame::source(&captured.bytes) == Some(mac(0, OUTSIDE));
            heard.fetch_add(u64::from(from_outside), Ordering::Relaxed);
            leaked.fetch_add(u64::from(unwanted.contains(&captured.bytes)), Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
