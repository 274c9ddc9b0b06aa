//! A guarded network is closed until somebody opens it, guest by guest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drawbridge_wire::xmlrpc::Value;
use e2e::flow::Flow;
use e2e::frame::ip::{Path, TCP, UDP, flag};
use e2e::frame::{ARP, Mac, arp_request, dhcp, ether_type, nd, source};
use e2e::lab::{Backend, Builder, Guest, Lab, NetworkBackend, OUTSIDE, ipv4, ipv6, mac};
use e2e::probe::{Expectation, check};
use e2e::scenario::{POLICY, dom0_boots, expectations, pool};
use e2e::station::{Family, Station};
use e2e::tap::Tap;
use xenapi::LockingMode;

use crate::{on_both, on_each};

fn start(backend: Backend) -> Result<Lab> {
    let lab = pool(backend).guarded("lan").start()?;
    lab.apply()?.success()?;
    Ok(lab)
}

/// Nothing passes between the two, either way.
fn closed(one: &Station, other: &Station) -> Vec<Expectation> {
    Family::BOTH
        .into_iter()
        .flat_map(|family| {
            [
                one.tcp(other, 22, family).blocked(),
                other.tcp(one, 22, family).blocked(),
                one.udp(other, 53, family).blocked(),
                other.echo(one, family).blocked(),
            ]
        })
        .collect()
}

on_each! {
    /// Who has rules talks by them; who has none is off the network, even if somebody opens its VIF by hand.
    fn without_a_port_nothing_passes(backend) {
        let lab = start(backend)?;
        let (plain, outside) = (lab.guest("plain")?, lab.outside());
        let ruled = expectations(&lab)?.into_iter();
        check(ruled.filter(|one| [&one.probe.from, &one.probe.to].iter().all(|end| end.name != "plain")));
        check(closed(&plain, outside));
        lab.set_locking_mode("plain", 0, LockingMode::Unlocked)?;
        check(closed(&plain, outside));
        check(closed(&plain, &lab.guest("web2")?));
    }

    /// A guest suspended, resumed, terminated and created again is never open in between.
    fn whoever_leaves_is_closed_again(backend) {
        let lab = start(backend)?;
        let outside = lab.outside();
        lab.hard_shutdown("web1")?;
        lab.hook("terminate", "web1")?.success()?;
        // Started by somebody who knows nothing of hooks.
        lab.start("web1", false)?;
        check(closed(&lab.guest("web1")?, outside));
        lab.hook("create", "web1")?.success()?;
        check(served(&lab, "web1")?);
    }

    /// A guest that nobody announced is silent from its first instant, whatever it says: its VIF is off the bridge.
    fn started_without_a_hook(backend) {
        let lab = with_late(backend).start()?;
        lab.apply()?.success()?;
        let heard = heard_from(&lab, "late", |lab| lab.start("late", false))?;
        ensure!(heard.is_empty(), "{heard:02x?}");
        lab.hook("create", "late")?.success()?;
        check(served(&lab, "late")?);
    }

    /// The guest restarts itself: a new domain, its VIF on the bridge as XAPI remembers it, and nobody to give it
    /// rules. Only what our rules do not see gets out.
    fn rebooted_by_itself(backend) {
        let lab = with_late(backend).start()?;
        lab.start("late", true)?;
        lab.hook("create", "late")?.success()?;
        lab.unpause("late")?;
        // Until it reboots it may speak: its kernel repeats multicast reports at random times.
        let down = lab.domain("late")?.command("ip", &["link", "set", "eth0", "down"], b"")?;
        ensure!(down.status.success(), "{down:?}");
        let heard = heard_from(&lab, "late", |lab| lab.guest_reboots("late"))?;
        // On an Open vSwitch bridge whose networks are all guarded nobody who is not known says anything.
        let silent = backend == Backend::OpenVSwitch;
        ensure!(heard.is_empty() == silent, "the guest was not on the bridge, or was heard: {heard:02x?}");
        assert_harmless(backend, &heard)?;
        check(closed(&lab.guest("late")?, lab.outside()));
        lab.hook("reboot", "late")?.success()?;
        check(served(&lab, "late")?);
    }

    /// Resumed by somebody who knows nothing of hooks. Announced when it went, its VIF is off the bridge when it comes;
    /// not announced, it has what one that rebooted by itself has.
    fn resumed_without_a_hook(backend) {
        let lab = with_late(backend).start()?;
        for announced in [true, false] {
            if announced {
                lab.start("late", false)?;
                lab.hook("create", "late")?.success()?;
            }
            lab.suspend("late")?;
            if announced {
                lab.hook("suspend", "late")?.success()?;
                ensure!(lab.vif("late", 0)?.1.locking_mode == LockingMode::NetworkDefault);
            }
            let heard = heard_from(&lab, "late", |lab| lab.resume("late", false))?;
            let silent = announced || backend == Backend::OpenVSwitch;
            ensure!(heard.is_empty() == silent, "announced {announced}: {heard:02x?}");
            assert_harmless(backend, &heard)?;
            lab.hook("resume", "late")?.success()?;
            check(served(&lab, "late")?);
        }
    }

    /// dom0 lost power and came back; its guests are started before anybody has given it rules.
    fn a_boot_of_dom0_opens_nothing(backend) {
        let lab = with_late(backend).start()?;
        lab.apply()?.success()?;
        lab.start("late", false)?;
        lab.hook("create", "late")?.success()?;
        // The power goes: no hook. XAPI remembers the VIFs as they were.
        for guest in ["late", "db"] {
            lab.hard_shutdown(guest)?;
            ensure!(lab.vif(guest, 0)?.1.locking_mode == LockingMode::Locked);
        }
        dom0_boots(&lab, "host1")?;
        let heard = heard_from(&lab, "late", |lab| lab.start("late", false))?;
        // Closed flows leave nothing to be heard; chains do not see ARP.
        let silent = backend == Backend::OpenVSwitch;
        ensure!(heard.is_empty() == silent, "not on the bridge, or not closed: {heard:02x?}");
        assert_harmless(backend, &heard)?;
        let late = lab.guest("late")?;
        check(closed(&late, lab.outside()));
        check(closed(&late, &lab.guest("web1")?));
        // One that may say nothing tries while the rules are replaced.
        let heard = heard_from(&lab, "db", |lab| {
            lab.start("db", false)?;
            lab.hook("host-init", "host1")?.success().map(drop)
        })?;
        let words = words(number("db"));
        let (refused, _) = words.split_at(REFUSED);
        ensure!(!heard.iter().any(|frame| refused.contains(frame)), "{heard:02x?}");
        check(served(&lab, "late")?);
        check([lab.guest("web2")?.tcp(&lab.guest("db")?, 5432, Family::V4).passes()]);
    }

    /// The networks that are not guarded go on as if nothing happened.
    fn a_boot_of_dom0_leaves_others_alone(backend) {
        let lab = pool(backend)
            .network("other")
            .guest(Guest::new("free", "host1", 17).on(&[1]))
            .guest(Guest::new("peer", "host2", 18).on(&[1]))
            .guest(Guest::new("neighbour", "host1", 19).on(&[1]))
            .guarded("lan")
            .start()?;
        lab.apply()?.success()?;
        let [free, peer, neighbour] = [lab.guest("free")?, lab.guest("peer")?, lab.guest("neighbour")?];
        let flows = [
            Flow::start(&free.tcp(&peer, 7, Family::V4))?,
            Flow::start(&peer.tcp(&free, 7, Family::V6))?,
            Flow::start(&neighbour.tcp(&free, 8, Family::V4))?,
        ];
        dom0_boots(&lab, "host1")?;
        let open = || Family::BOTH.into_iter().flat_map(|family| [
            free.tcp(&peer, 22, family).passes(),
            peer.udp(&free, 53, family).passes(),
            neighbour.echo(&free, family).passes(),
        ]);
        check(open());
        lab.hook("host-init", "host1")?.success()?;
        check(open());
        for flow in flows {
            ensure!(flow.lives(), "a connection was cut");
            let report = flow.stop()?;
            // A switch that starts anew carries nothing meanwhile.
            let well = report.undisturbed() || backend == Backend::OpenVSwitch && report.broken.is_none();
            ensure!(well, "{report:?}");
        }
    }

    /// A guest that the policy does not know passes nothing, ever: not after a boot, not after the driver's run, not if its
    /// VIF is opened by hand. (Opened by hand on an Open vSwitch host, its next port is known from the next run on.)
    fn strangers_stay_out(backend) {
        let lab = start(backend)?;
        if backend != Backend::OpenVSwitch {
            lab.set_locking_mode("plain", 0, LockingMode::Unlocked)?;
        }
        lab.hard_shutdown("plain")?;
        dom0_boots(&lab, "host2")?;
        let heard = heard_from(&lab, "plain", |lab| lab.start("plain", false))?;
        assert_harmless(backend, &heard)?;
        check(closed(&lab.guest("plain")?, lab.outside()));
        let heard = heard_from(&lab, "plain", |lab| {
            lab.hook("host-init", "host2")?.success()?;
            lab.clean_reboot("plain")
        })?;
        assert_harmless(backend, &heard)?;
        check(closed(&lab.guest("plain")?, lab.outside()));
        check(closed(&lab.guest("plain")?, &lab.guest("web2")?));
    }
}

on_both! {
    /// A dom0 that boots twice before the driver comes is closed both times, and an unguarded network is not remembered for
    /// longer than it is guarded.
    fn what_is_remembered(iptables) {
        let lab = pool(iptables).policy(&format!("guarded_networks = [\"lan\"]\n{POLICY}")).start()?;
        lab.apply()?.success()?;
        let record = |family: &str| {
            lab.dom0_program("host1", "cat", &[&format!("/var/lib/drawbridge/guarded-{family}")], b"")
        };
        ensure!((record("ipv4")?, record("ipv6")?) == ("xenbr0\n".to_owned(), "xenbr0\n".to_owned()));
        lab.hard_shutdown("db")?;
        dom0_boots(&lab, "host1")?;
        dom0_boots(&lab, "host1")?;
        lab.start("db", false)?;
        check(closed(&lab.guest("db")?, lab.outside()));
        lab.set_policy(POLICY)?;
        lab.apply()?.success()?;
        ensure!((record("ipv4")?, record("ipv6")?) == (String::new(), String::new()));
        dom0_boots(&lab, "host1")?;
        ensure!(!lab.iptables_save("host1", Family::V4)?.contains("dwb-"));
    }
}

/// A host's back end is changed: its guests are started on another switch than the one they were locked for, and nobody
/// has given it rules. Neither way is open. (The host is another one of the pool; XAPI's records of the VIF are what a
/// change leaves.)
#[test]
fn a_changed_back_end_opens_nothing() -> Result<()> {
    for (old, new) in [("host1", "host2"), ("host2", "host1")] {
        let lab = with_late(Backend::OpenVSwitch).switch_of("host1", NetworkBackend::Bridge).start()?;
        let start_on = |host: &str, paused: bool| -> Result<()> {
            let found = lab.xapi("host.get_by_name_label", vec![host.into()])?;
            let Value::Array(hosts) = found else { anyhow::bail!("{found:?}") };
            let (vm, _) = lab.vm("late")?;
            let host = hosts.into_iter().next().context("no such host")?;
            lab.xapi("VM.start_on", vec![(&vm).into(), host, paused.into(), false.into()]).map(drop)
        };
        lab.apply()?.success()?;
        start_on(old, true)?;
        lab.hook("create", "late")?.success()?;
        lab.unpause("late")?;
        check(served(&lab, "late")?);
        // The power goes: no hook.
        lab.hard_shutdown("late")?;
        let backend = if new == "host1" { Backend::Nft } else { Backend::OpenVSwitch };
        let heard = heard_from(&lab, "late", |_| start_on(new, false))?;
        assert_harmless(backend, &heard)?;
        check(closed(&lab.guest("late")?, lab.outside()));
        lab.hook("create", "late")?.success()?;
        check(served(&lab, "late")?);
    }
    Ok(())
}

/// The scenario on a guarded network, with a web server that is not started yet.
fn with_late(backend: Backend) -> Builder {
    let port = "[[port]]\nvm = \"late\"\ndevice = 0\ngroups = [\"web\"]\naddresses = [\"10.20.0.16\", \"fd20::10\"]\n";
    pool(backend)
        .guest(Guest::new("late", "host1", number("late")).halted())
        .policy(&format!("{POLICY}\n{port}"))
        .guarded("lan")
}

fn number(guest: &str) -> u8 {
    match guest {
        "db" => 12,
        "plain" => 14,
        _ => 16,
    }
}

/// What a member of `web` may do.
fn served(lab: &Lab, guest: &str) -> Result<Vec<Expectation>> {
    // Who asked for an address in vain a moment ago believes for seconds that nobody has it.
    lab.forget_neighbours(guest)?;
    let (guest, outside) = (lab.guest(guest)?, lab.outside());
    let both = Family::BOTH.into_iter();
    Ok(both
        .flat_map(|family| {
            [
                outside.tcp(&guest, 80, family).passes(),
                guest.udp(outside, 53, family).passes(),
                outside.tcp(&guest, 22, family).blocked(),
            ]
        })
        .collect())
}

/// How many of the [`words`] are a matter of rules; every guest needs the others.
const REFUSED: usize = 5;

/// What a guest of this number says, most of it to the machine outside.
fn words(number: u8) -> Vec<Vec<u8>> {
    let (own, out) = (mac(0, number), mac(0, OUTSIDE));
    let four = Path::V4(ipv4(0, number), ipv4(0, OUTSIDE));
    let six = Path::V6(ipv6(0, number), ipv6(0, OUTSIDE));
    vec![
        four.frame(out, own, TCP, &four.tcp((1000, 80), flag::SYN, (1, 0), b"")),
        six.frame(out, own, TCP, &six.tcp((1000, 80), flag::SYN, (1, 0), b"")),
        four.frame(out, own, UDP, &four.udp(1000, 53, b"first")),
        six.frame(out, own, UDP, &six.udp(1000, 53, b"first")),
        four.frame(Mac::BROADCAST, own, UDP, &four.udp(1000, 9, b"everybody")),
        dhcp::discover(own),
        nd::solicitation((own, ipv6(0, number)), ipv6(0, OUTSIDE)),
        arp_request((own, ipv4(0, number)), ipv4(0, OUTSIDE)),
    ]
}

/// Has the guest say its [`words`] from its first instant on, does `act`, and answers the frames of the guest's that the
/// machine outside hears meanwhile, and for a while after, its kernel's own, too; each once.
fn heard_from(lab: &Lab, name: &str, act: impl FnOnce(&Lab) -> Result<()>) -> Result<Vec<Vec<u8>>> {
    let (words, sent) = (words(number(name)), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&sent);
    let vm = lab.vm(name)?.1.uuid.to_string();
    lab.plane().set_boot(&vm, move || talk(&words, &counter));
    let outside = lab.outside().namespace.enter(|| Tap::open("eth0"))?;
    act(lab)?;
    std::thread::sleep(Duration::from_millis(600));
    let frames = outside.drain()?.into_iter().filter(|frame| !frame.outgoing);
    let frames = frames.map(|frame| frame.bytes);
    let heard: BTreeSet<_> = frames.filter(|frame| source(frame) == Some(mac(0, number(name)))).collect();
    let heard = Vec::from_iter(heard);
    // On a VIF that is off the bridge it cannot send at all.
    ensure!(sent.load(Ordering::Relaxed) > 0 || heard.is_empty(), "heard {heard:02x?}, but never spoke");
    Ok(heard)
}

/// Runs in the guest.
fn talk(words: &[Vec<u8>], sent: &AtomicU64) {
    let Ok(tap) = Tap::open("eth0") else { return };
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        for frame in words {
            if tap.send(frame).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Nothing but what gets past a guest's VIF that is on its bridge without rules. XAPI's locking lets its own ARP out; on
/// an Open vSwitch host, where it is a matter of flows as our rules are, also a DHCP client's broadcast.
fn assert_harmless(backend: Backend, heard: &[Vec<u8>]) -> Result<()> {
    for frame in heard {
        let number = frame.get(11).copied().unwrap_or_default();
        if backend == Backend::OpenVSwitch && *frame == dhcp::discover(mac(0, number)) {
            continue;
        }
        ensure!(ether_type(frame) == Some(ARP), "got out: {frame:02x?}");
        let (hardware, address) = (frame.get(22..28), frame.get(28..32));
        // A kernel that asks whether its address is taken has none yet.
        let own = address == Some(&ipv4(0, number).octets()) || address == Some(&[0; 4]);
        ensure!(hardware == frame.get(6..12) && own, "got out: {frame:02x?}");
    }
    Ok(())
}
