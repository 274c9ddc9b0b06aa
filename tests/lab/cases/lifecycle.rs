//! D, the guests' part: they start, stop, come back under other names, and others come after them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::flow::Flow;
use e2e::frame::ip::{Path, UDP};
use e2e::lab::{Builder, Guest, Lab, ipv4, ipv6, mac, mentions};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::service::{Service, Transport as Over};
use e2e::station::Family;
use e2e::tap::Tap;
use ruleset::packet::Transport;

use super::{addresses, applied, egress, group, ingress, port, sends, tcp};
use crate::{assert_nothing_of, on_each};

/// `web1` has other names than these, its rules go by the new ones, and nothing speaks of the old.
fn moved_to_new_names(lab: &Lab, old: &[String]) -> Result<()> {
    ensure!(lab.vif_names("web1")? != old, "the domain id should change: {old:?}");
    check(expectations(lab)?);
    assert_nothing_of(lab, "host1", old)
}

/// Started by whoever knows of hooks.
fn start(lab: &Lab, name: &str) -> Result<()> {
    lab.start(name, true)?;
    lab.hook("create", name)?.success()?;
    lab.unpause(name)
}

on_each! {
    /// Every way to a new domain: the rules follow to the new names, nothing speaks of the old ones.
    fn d06_a_reboot_keeps_the_rules(backend) {
        let lab = applied(pool(backend))?;
        for reboot in [Lab::clean_reboot, Lab::hard_reboot, Lab::guest_reboots] {
            let old = lab.vif_names("web1")?;
            reboot(&lab, "web1")?;
            lab.hook("reboot", "web1")?.success()?;
            moved_to_new_names(&lab, &old)?;
        }
        let old = lab.vif_names("web1")?;
        lab.hard_shutdown("web1")?;
        lab.hook("terminate", "web1")?.success()?;
        start(&lab, "web1")?;
        moved_to_new_names(&lab, &old)?;
    }

    /// Suspended it leaves nothing behind; rescued, another VM has its addresses and its rules, and gives them back.
    fn d07_suspended_resumed_rescued_and_back(backend) {
        let lab = applied(pool(backend).guest(Guest::new("web1-rescue", "host1", 11).halted()))?;
        let old = lab.vif_names("web1")?;
        lab.suspend("web1")?;
        lab.hook("suspend", "web1")?.success()?;
        assert_nothing_of(&lab, "host1", &old)?;
        check(expectations(&lab)?);
        lab.resume("web1", true)?;
        lab.hook("resume", "web1")?.success()?;
        lab.unpause("web1")?;
        check(expectations(&lab)?);
        for (stops, starts) in [("web1", "web1-rescue"), ("web1-rescue", "web1")] {
            let old = lab.vif_names(stops)?;
            lab.hard_shutdown(stops)?;
            lab.hook("terminate", stops)?.success()?;
            lab.set_policy(&POLICY.replace("vm = \"web1\"", &format!("vm = {starts:?}")))?;
            start(&lab, starts)?;
            let (guest, db, outside) = (lab.guest(starts)?, lab.guest("db")?, lab.outside());
            check(tcp(outside, &guest, &[80], &[22]));
            check(tcp(&guest, &db, &[5432], &[22]));
            check(expectations(&lab)?);
            assert_nothing_of(&lab, "host1", &old)?;
        }
    }

    /// Another tenant's guest gets the address of one that was destroyed: by its own rules only. It is nobody's member,
    /// and what it sends does not pass for the old one's connections.
    fn d10_an_address_changes_hands(backend) {
        let policy = |last: &[String]| [
            group("web", &[ingress("protocol = 'tcp', ports = 80"), egress("")]),
            group("theirs", &[ingress("protocol = 'tcp', ports = 8080"), egress("")]),
            group("db", &[ingress("protocol = 'udp', ports = 5432, remote_group = 'web'")]),
            port("db", 12, &["db"]),
            last.concat(),
        ].concat();
        let builder = Lab::builder(backend)
            .guest(Guest::new("db", "host1", 12))
            .guest(Guest::new("old", "host2", 13))
            .guest(Guest::new("new", "host2", 13).halted())
            .policy(&policy(&[port("old", 13, &["web"])]));
        let lab = applied(builder)?;
        let (old, db) = (lab.guest("old")?, lab.guest("db")?);
        let mut services = Vec::new();
        for (own, there) in addresses(13).into_iter().zip(addresses(12)) {
            services.push(Service::start(&db.namespace, Over::Udp, (there, 5432).into())?);
            check([sends(&old, &db, own, Transport::udp(50_000, 5432))?.passes()]);
        }
        check(tcp(lab.outside(), &old, &[80], &[8080]));
        let names = lab.vif_names("old")?;
        lab.hard_shutdown("old")?;
        lab.destroy("old")?;
        lab.set_policy(&policy(&[]))?;
        lab.hook("terminate", "old")?.success()?;
        assert_nothing_of(&lab, "host2", &names)?;
        for host in ["host1", "host2"] {
            for address in addresses(13).map(|address| address.to_string()) {
                let rules = lab.rules(host)?;
                let left: Vec<_> = rules.iter().filter(|line| mentions(line, &address)).collect();
                ensure!(left.is_empty(), "{host} still speaks of {address}: {left:#?}");
            }
        }
        lab.set_policy(&policy(&[port("new", 13, &["theirs"])]))?;
        start(&lab, "new")?;
        let new = lab.guest("new")?;
        check(tcp(lab.outside(), &new, &[8080], &[80]));
        for own in addresses(13) {
            check([
                sends(&new, &db, own, Transport::udp(50_000, 5432))?.blocked(),
                sends(&new, &db, own, Transport::udp(50_001, 5432))?.blocked(),
                sends(&new, lab.outside(), own, Transport::udp(50_000, 5432))?.passes(),
            ]);
        }
        drop(services);
    }

    /// Names that begin alike are different names (nova: with 1, the rules of 10 to 19 went).
    fn d11_destroying_one_leaves_ten_to_nineteen(backend) {
        let guests = (1..=19u8).map(|number| (format!("vm{number}"), 20 + number));
        let policy: Vec<_> = guests
            .clone()
            .filter(|(name, _)| name.starts_with("vm1"))
            .map(|(name, number)| port(&name, number, &["web"]))
            .collect();
        let web = group("web", &[ingress("protocol = 'tcp', ports = 80"), egress("protocol = 'tcp', ports = 443")]);
        let builder: Builder = guests.fold(Lab::builder(backend).host_count(1), |lab, (name, number)| {
            lab.guest(Guest::new(&name, "host1", number))
        });
        let lab = applied(builder.policy(&[&web, &policy.concat()].map(String::as_str).concat()))?;
        ensure!(lab.vif_names("vm1")? == ["vif1.0"] && lab.vif_names("vm19")? == ["vif19.0"], "other names");
        let outside = lab.outside();
        let mut flows = Vec::new();
        for name in ["vm10", "vm19"] {
            flows.push(Flow::start(&outside.tcp(&lab.guest(name)?, 80, Family::V4))?);
            flows.push(Flow::start(&lab.guest(name)?.tcp(outside, 443, Family::V6))?);
        }
        lab.hard_shutdown("vm1")?;
        lab.destroy("vm1")?;
        lab.set_policy(&[&web, &policy[1..].concat()].map(String::as_str).concat())?;
        lab.hook("terminate", "vm1")?.success()?;
        assert_nothing_of(&lab, "host1", &["vif1.0".to_owned()])?;
        for number in 10..=19 {
            let guest = lab.guest(&format!("vm{number}"))?;
            check(tcp(outside, &guest, &[80], &[22]));
            check(tcp(&guest, outside, &[443], &[80]));
        }
        for flow in flows {
            let report = flow.stop()?;
            ensure!(report.undisturbed(), "{report:?}");
        }
    }

    /// An interface plugged into a running guest is filtered from its first packet on; pulled out, nothing of it remains.
    fn d12_an_interface_comes_and_goes(backend) {
        let lab = pool(backend)
            .network("backup")
            .guarded("backup")
            .guest(Guest::new("nas", "host1", 16).on(&[0, 1]))
            .guest(Guest::new("peer", "host2", 17).on(&[1]))
            .policy(&format!("{POLICY}{}{}", include_str!("../policy/nas.toml"), include_str!("../policy/peer.toml")))
            .start()?;
        lab.unplug("nas", 1)?;
        lab.apply()?.success()?;
        let (peer, before) = (lab.guest("peer")?, lab.vif_names("nas")?);
        let ears = peer.namespace.enter(|| Tap::open("eth0"))?;
        for _ in 0..2 {
            let talking = lab.guest("nas")?.namespace.spawn(lie_through_a_new_interface);
            lab.plug("nas", 1)?;
            lab.hook("create", "nas")?.success()?;
            let names: Vec<_> = lab.vif_names("nas")?.into_iter().filter(|name| !before.contains(name)).collect();
            let sent = talking.join().map_err(|_| anyhow::anyhow!("the guest panicked"))?;
            ensure!(sent > 0, "the guest never spoke through its new interface: the test shows nothing");
            let lies = lies();
            let leaked = ears.drain()?.iter().filter(|one| !one.outgoing && lies.contains(&one.bytes)).count();
            ensure!(leaked == 0, "{leaked} of {sent} frames it must not send arrived");
            let backup = lab.guest_nic("nas", 1)?;
            check(tcp(&peer, &backup, &[873], &[22]));
            lab.unplug("nas", 1)?;
            lab.hook("terminate", "nas")?.success()?;
            ensure!(names.len() == 1, "one interface came: {names:?}");
            assert_nothing_of(&lab, "host1", &names)?;
            check(expectations(&lab)?);
        }
    }
}

/// What nobody may send through `nas`'s second interface, rules or not.
fn lies() -> Vec<Vec<u8>> {
    let own = mac(1, 16);
    let four = Path::V4(ipv4(1, 99), ipv4(1, 17));
    let six = Path::V6(ipv6(1, 99), ipv6(1, 17));
    [four, six].map(|path| path.frame(mac(1, 17), own, UDP, &path.udp(1000, 53, b"not me"))).to_vec()
}

/// Runs in the guest: waits for `eth1`, then lies for a while. How many frames went.
fn lie_through_a_new_interface() -> u64 {
    let (lies, end) = (lies(), Instant::now() + Duration::from_secs(2));
    let mut sent = 0;
    while Instant::now() < end {
        if let Ok(tap) = Tap::open("eth1") {
            sent += lies.iter().filter(|frame| tap.send(frame).is_ok()).count() as u64;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    sent
}
