//! What is told of hosts and ports is so: enforced, closed, idle, unbound, failing, put right; and what a person reads of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::control::{HostStatus, MisfitKind, PortState, PortStatus};
use api::wire::{Port, WatchAnswer};
use e2e::lab::{Backend, Daemon, Guest, Lab};
use e2e::station::Family;
use xapi_mock::faults::{Fault, HostState};

use crate::{on_bridge_and_ovs, quarantine};

/// Beside the guests of `quarantine`: one on the other host, one that does not run, one that is not there, and a network that
/// is not there either.
const MORE: &str = r#"
[[port]]
vm = "far"
device = 0
groups = ["good"]
addresses = ["10.20.0.13", "fd20::d"]
[[port]]
vm = "off"
device = 0
groups = ["good"]
addresses = ["10.20.0.14", "fd20::e"]
[[port]]
id = "of-nobody"
vm = "ghost"
device = 0
groups = ["good"]
"#;

fn start(backend: Backend) -> Result<Lab> {
    let lab = Lab::builder(backend)
        .host_count(2)
        .guest(Guest::new("good", "host1", 11))
        .guest(Guest::new("bad", "host1", 12))
        .guest(Guest::new("far", "host2", 13))
        .guest(Guest::new("off", "host1", 14).halted())
        .start()?;
    quarantine::without_sctp(&lab, backend)?;
    Ok(lab)
}

fn policy() -> String {
    format!("guarded_networks = [\"nowhere\"]\n{}{MORE}", quarantine::POLICY)
}

/// Every port's state, by its VM: from the list, which must say what each port says by itself.
fn states(daemon: &Daemon<'_>) -> Result<BTreeMap<String, PortState>> {
    let mut states = BTreeMap::new();
    for port in daemon.call(daemon.api().list::<Port>("/v1/ports", ""))? {
        states.insert(port.vm.context("a port without VM")?, port.state.context("a port without state")?);
    }
    Ok(states)
}

/// The VMs whose port stands so.
fn that_are(daemon: &Daemon<'_>, word: &str) -> Result<Vec<String>> {
    let ports = daemon.call(daemon.api().list::<Port>("/v1/ports", &format!("state={word}")))?;
    let mut vms: Vec<String> = ports.into_iter().filter_map(|port| port.vm).collect();
    vms.sort_unstable();
    Ok(vms)
}

fn until_status(daemon: &Daemon<'_>, vm: &str, status: PortStatus) -> Result<()> {
    daemon.until(&format!("{vm} is {status:?}"), |daemon| Ok(states(daemon)?[vm].status == status))
}

on_bridge_and_ovs! {
    fn ports_and_hosts(backend) {
        let lab = start(backend)?;
        let daemon = lab.daemon("a")?.look_after(600).longest_pause(1).start()?;
        daemon.set_policy(&policy())?;
        // Nothing is written yet, and that is what every port with a guest that runs says.
        until_status(&daemon, "good", PortStatus::Standby)?;
        let good = &states(&daemon)?["good"];
        ensure!(good.last_error.as_deref().is_some_and(|why| why.contains("the store is new")), "{good:?}");
        ensure!(good.enforced_generation.is_none(), "{good:?}");

        daemon.adopt()?;
        for vm in ["good", "far"] {
            until_status(&daemon, vm, PortStatus::Enforced)?;
        }
        for (word, vms) in [
            ("enforced", &["far", "good"][..]),
            ("quarantined", &["bad"]),
            ("idle", &["off"]),
            ("unbound", &["ghost"]),
            ("pending", &[]),
            ("failing", &[]),
            ("standby", &[]),
        ] {
            ensure!(that_are(&daemon, word)? == vms, "{word}: {:#?}", states(&daemon)?);
        }
        let generation = daemon.call(daemon.api().status())?.generation;
        let now = states(&daemon)?;
        let (good, bad, ghost) = (&now["good"], &now["bad"], &now["ghost"]);
        ensure!(good.enforced_generation == Some(generation) && good.host.as_deref() == Some("host1"), "{good:?}");
        ensure!(good.interface.as_deref() == Some("vif1.0") && good.vif == Some(lab.vif("good", 0)?.1.uuid.to_string()));
        ensure!(good.last_drift.is_none() && good.last_error.is_none(), "{good:?}");
        ensure!(bad.quarantine.as_deref().is_some_and(|why| why.contains("sctp")), "{bad:?}");
        ensure!(ghost.last_error.as_deref().is_some_and(|why| why.contains("no VM of this name")), "{ghost:?}");
        let one = daemon.call(daemon.api().get::<Port>("/v1/ports/of-nobody"))?.value;
        ensure!(one.state.as_ref() == Some(ghost), "{one:?}");
        let misfits = daemon.call(daemon.api().misfits())?;
        let named: Vec<_> = misfits.iter().map(|misfit| (misfit.kind, misfit.id.as_str())).collect();
        ensure!(
            named == [(MisfitKind::Port, "of-nobody"), (MisfitKind::GuardedNetwork, "nowhere")],
            "{misfits:?}"
        );
        ensure!(misfits[0].message.starts_with("VM ghost device 0: "), "{misfits:?}");

        // A network that is not there fails every hook.
        let policy = format!("{}{MORE}", quarantine::POLICY);
        let generation = daemon.set_policy(&policy)?;
        // Another hand empties a chain, or takes a flow.
        if backend == Backend::OpenVSwitch {
            lab.ovs_ofctl("host2", &["-O", "OpenFlow13", "del-flows", "xenbr0", "table=60"], b"")?;
        } else {
            let vif = lab.vif_names("far")?.first().context("far has no VIF")?.clone();
            lab.iptables_restore("host2", Family::V4, &format!("*filter\n-F dwb-i-{vif}\nCOMMIT\n"))?;
        }
        daemon.hook("host-init", "host2")?;
        ensure!(daemon.call(daemon.api().misfits())?.len() == 1);
        let now = states(&daemon)?;
        ensure!(now["far"].last_drift.is_some() && now["good"].last_drift.is_none(), "{now:#?}");

        // The host dies: what stood there is said to stand, and what fails.
        lab.mock()?.faults().inject(Fault::Host { host: "host2".to_owned(), state: HostState::Unreachable });
        let newer = daemon.set_policy(&policy.replacen("ports = 80", "ports = 81", 1))?;
        daemon.hook("host-init", "host2").err().context("a dead host was enforced")?;
        until_status(&daemon, "far", PortStatus::Failing)?;
        until_status(&daemon, "good", PortStatus::Enforced)?;
        let now = states(&daemon)?;
        ensure!(now["far"].enforced_generation == Some(generation), "{now:#?}");
        ensure!(now["far"].last_error.is_some() && now["good"].enforced_generation == Some(newer), "{now:#?}");
        daemon.until("it is set aside", |daemon| Ok(daemon.host("host2")?.status == HostStatus::Quarantined))?;
        lab.mock()?.faults().inject(Fault::Clear);
        daemon.hook("host-init", "host2")?;
        ensure!(states(&daemon)?["far"].enforced_generation == Some(newer));
    }
}

/// Who looks whenever the watch answers sees it: no watch may end with its time while it is so.
fn is_heard(daemon: &Daemon<'_>, mut last: WatchAnswer, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(120) {
        let next = daemon.call(daemon.api().watch(Some(&last)))?;
        if is_so()? {
            ensure!((next.engine, next.generation) != (last.engine, last.generation), "nobody was told");
            return Ok(());
        }
        last = next;
    }
    bail!("it never was so")
}

/// What becomes of ports and hosts while this driver does not write, or because it no longer does: no host's worker tells.
#[test]
fn who_watches_misses_nothing() -> Result<()> {
    let lab = start(Backend::Nft)?;
    let daemon = lab.daemon("a")?.look_after(600).start()?;
    daemon.set_policy(&policy())?;
    until_status(&daemon, "far", PortStatus::Standby)?;
    let last = daemon.call(daemon.api().watch(None))?;
    lab.hard_shutdown("far")?;
    is_heard(&daemon, last, || Ok(states(&daemon)?["far"].status == PortStatus::Idle))?;
    daemon.adopt()?;
    until_status(&daemon, "good", PortStatus::Enforced)?;
    let last = daemon.call(daemon.api().watch(None))?;
    let other = lab.daemon("b")?.start()?;
    other.store_policy(&policy())?;
    other.adopt()?;
    is_heard(&daemon, last, || Ok(daemon.host("host1")?.status == HostStatus::Standby))
}

/// Numbers and names that differ from night to night.
fn alike(text: &str) -> String {
    let line = |line: &str| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for at in 0..words.len() {
            let is_number = words[at].parse::<u64>().is_ok();
            if is_number && words.get(at + 1).is_some_and(|unit| unit == "s" || unit == "min") {
                words[at] = "N".to_owned();
            }
            if words[at].trim_end_matches(')').len() == 36 && words[at].matches('-').count() == 4 {
                words[at] = if words[at].ends_with(')') { "UUID)" } else { "UUID" }.to_owned();
            }
        }
        // Both families are read at the same time.
        words.join(" ").replace("ipv4 rules", "ipvN rules").replace("ipv6 rules", "ipvN rules") + "\n"
    };
    text.lines().map(line).collect()
}

/// One host is dead, a port of the other is closed: the first lines say so, and what to do.
#[test]
fn at_three_in_the_morning() -> Result<()> {
    let lab = start(Backend::Nft)?;
    let daemon = lab.daemon("a")?.longest_pause(60).start()?;
    daemon.set_policy(&policy())?;
    daemon.adopt()?;
    until_status(&daemon, "far", PortStatus::Enforced)?;
    until_status(&daemon, "bad", PortStatus::Quarantined)?;
    lab.mock()?.faults().inject(Fault::Host { host: "host2".to_owned(), state: HostState::Offline });
    daemon.hook("host-init", "host2").err().context("a dead host was enforced")?;
    let said = daemon.drawbridge(&["status"])?;
    ensure!(said.status.code() == Some(1), "{said:?}");
    ensure!(alike(&said.stdout) == include_str!("at_three.txt"), "{}", alike(&said.stdout));
    let listed = daemon.drawbridge(&["port", "list", "--state", "failing"])?.success()?;
    ensure!(listed.stdout.contains("far#0") && !listed.stdout.contains("good#0"), "{listed:?}");
    Ok(())
}
