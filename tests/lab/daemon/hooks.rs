//! Hooks wait for the truth, and for nobody else's trouble; edits coalesce; a refresh marks whom it concerns.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::control::{HostStatus, Outcome};
use api::wire::{EditInput, EditsInput};
use api::{ClientError, Code, Problem};
use e2e::lab::{Backend, Daemon, Guest, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;
use xapi_mock::faults::{Fault, HostState, PluginFault};

use super::editor::Editor;
use crate::{on_bridge_and_ovs, on_each, quarantine};

fn problem<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Result<Problem> {
    match answer {
        Err(ClientError::Problem(problem)) => Ok(*problem),
        other => anyhow::bail!("no problem: {other:?}"),
    }
}

on_bridge_and_ovs! {
    /// Another host does not answer: the hook's own is enforced all the same, and the answer says which one is not.
    fn another_host_is_dead(backend) {
        let lab = pool(backend).guest(Guest::new("web3", "host1", 15).halted()).start()?;
        // Members of `web` know each other: who comes is news to every host.
        let rule = "[[group.rule]]\ndirection = \"ingress\"\nprotocol = \"tcp\"\nports = 8080\nremote_group = \"web\"\n\n[[port]]";
        let policy = format!("{}{}", POLICY.replacen("[[port]]", rule, 1), include_str!("../policy/web3.toml"));
        let daemon = lab.daemon("a")?.call_timeout(300).deadline(300).start_with(&policy)?;
        lab.mock()?.faults().inject(Fault::Host { host: "host2".to_owned(), state: HostState::Silent });
        lab.start("web3", true)?;
        let report = daemon.hook_within("create", "web3", 300)?;
        ensure!(report.outcome == Outcome::Enforced, "{report:?}");
        let of = |name: &str| report.hosts.iter().find(|host| host.host == name).map(|host| host.enforced);
        ensure!(of("host1") == Some(true) && of("host2") == Some(false), "{report:?}");
        lab.unpause("web3")?;
        let (web3, outside) = (lab.guest("web3")?, lab.outside());
        check(Family::BOTH.into_iter().flat_map(|family| {
            [outside.tcp(&web3, 80, family).passes(), outside.tcp(&web3, 22, family).blocked()]
        }));
        // An edit reaches the living, too.
        let wanted = daemon.set_policy(POLICY)?;
        daemon.until("host1 has the edit", |daemon| {
            Ok(daemon.host("host1")?.enforced_generation.is_some_and(|stands| stands >= wanted))
        })?;
        let problem = problem(daemon.hook_within("host-init", "host2", 1))?;
        ensure!(problem.code == Code::Deadline, "{problem:?}");
        lab.mock()?.faults().inject(Fault::Clear);
        daemon.settle()?;
        check(expectations(&lab)?);
    }

    /// A hook whose time is over says so, and names the host; the work goes on without it.
    fn a_deadline(backend) {
        let lab = pool(backend).start()?;
        let daemon = lab.daemon("a")?.call_timeout(60).deadline(60).start_with(POLICY)?;
        let fault = Fault::Plugin { host: Some("host1".to_owned()), action: PluginFault::Hang, times: 1000 };
        lab.mock()?.faults().inject(fault);
        lab.hard_reboot("web1")?;
        let problem = problem(daemon.hook_within("reboot", "web1", 6))?;
        ensure!(problem.code == Code::Deadline, "{problem:?}");
        let report = problem.report.context("no report")?;
        let host1 = report.hosts.iter().find(|host| host.host == "host1").context("no host1")?;
        ensure!(report.outcome == Outcome::Deadline && !host1.enforced && host1.error.is_some(), "{report:?}");
        lab.mock()?.faults().inject(Fault::Clear);
        daemon.settle()?;
        check(expectations(&lab)?);
    }

    /// A daemon that has just begun does not know what stands on a host that keeps silent: it does not say that nothing is left.
    fn a_host_that_was_not_read_yet(backend) {
        let lab = pool(backend).start()?;
        let mut daemon = lab.daemon("a")?.call_timeout(60).deadline(60).start_with(POLICY)?;
        daemon.kill()?;
        let fault = Fault::Plugin { host: Some("host2".to_owned()), action: PluginFault::Hang, times: 1000 };
        lab.mock()?.faults().inject(fault);
        daemon.start()?;
        let is_on_duty = |daemon: &Daemon<'_>| {
            Ok(daemon.host("host1").is_ok_and(|host| host.enforced_generation.is_some()))
        };
        daemon.until("it is on duty", is_on_duty)?;
        lab.hard_shutdown("web2")?;
        // Longer than hosts are waited for that merely have rules about the VM.
        let problem = problem(daemon.hook_within("terminate", "web2", 8))?;
        ensure!(problem.code == Code::Deadline, "{problem:?}");
        lab.mock()?.faults().inject(Fault::Clear);
        ensure!(daemon.hook("terminate", "web2")?.outcome == Outcome::Enforced);
        daemon.settle()?;
        // Once XAPI says that it is offline nobody waits for it, though it may be so for days.
        daemon.kill()?;
        lab.mock()?.faults().inject(Fault::Host { host: "host2".to_owned(), state: HostState::Offline });
        daemon.start()?;
        daemon.until("it is on duty", is_on_duty)?;
        let report = daemon.hook("terminate", "web2")?;
        let host2 = report.hosts.iter().find(|host| host.host == "host2").context("no host2")?;
        ensure!(report.outcome == Outcome::Enforced && !host2.enforced, "{report:?}");
        lab.mock()?.faults().inject(Fault::Clear);
        daemon.settle()?;
    }

    /// What XAPI does not have is said by name; nothing is waited for.
    fn about_what_is_not_there(backend) {
        let lab = pool(backend).guest(Guest::new("idle", "host1", 16).halted()).start()?;
        let daemon = lab.daemon("a")?.start_with(POLICY)?;
        for (event, object, code) in [
            ("create", "nobody", Code::UnknownVm),
            ("create", "idle", Code::NotRunning),
            ("host-init", "host9", Code::UnknownHost),
        ] {
            let problem = problem(daemon.hook(event, object))?;
            ensure!(problem.code == code, "{event} {object}: {problem:?}");
        }
        // A network that is gone is no failure of hooks that have nothing to do with it.
        daemon.set_policy(&format!("guarded_networks = [\"nowhere\"]\n{POLICY}"))?;
        for (event, object) in [("create", "web1"), ("host-init", "host1")] {
            ensure!(daemon.hook(event, object)?.outcome == Outcome::Enforced);
        }
        ensure!(daemon.call(daemon.api().misfits())?.len() == 1);
        daemon.set_policy(POLICY)?;
        // Which of two is meant is not guessed.
        let idle = lab.vm("idle")?.0;
        lab.xapi("VM.set_name_label", vec![(&idle).into(), "web1".into()])?;
        for event in ["create", "terminate"] {
            let problem = problem(daemon.hook(event, "web1"))?;
            ensure!(problem.code == Code::AmbiguousVm, "{event}: {problem:?}");
        }
        lab.xapi("VM.set_name_label", vec![(&idle).into(), "idle".into()])?;
        // It may well be gone by now.
        ensure!(daemon.hook("terminate", "nobody")?.outcome == Outcome::Enforced);
        lab.mock()?.faults().inject(Fault::Host { host: "host1".to_owned(), state: HostState::Unreachable });
        let problem = problem(daemon.hook("host-init", "host2"))?;
        ensure!(problem.code == Code::XapiUnavailable, "{problem:?}");
        lab.mock()?.faults().inject(Fault::Clear);
        daemon.settle()?;
    }

    /// The host a guest is about to migrate to must have its rules, or the guest must not come.
    fn a_migration_is_announced(backend) {
        let lab = pool(backend).start()?;
        let daemon = lab.daemon("a")?.longest_pause(1).start_with(POLICY)?;
        ensure!(daemon.pre_migrate("web1", "host2")?.hosts.len() == 2);
        let fault = Fault::Plugin { host: Some("host2".to_owned()), action: PluginFault::Die, times: 1000 };
        lab.mock()?.faults().inject(fault);
        let problem = problem(daemon.pre_migrate("web1", "host2"))?;
        ensure!(problem.code == Code::NotEnforced, "{problem:?}");
        lab.mock()?.faults().inject(Fault::Clear);
        // It stays where it is: nobody waits for it any more.
        daemon.hook("post-migrate", "web1")?;
        daemon.settle()?;
    }

    /// A port that dom0 closes fails the hooks of its own VM and of its host, and nobody else's; nor is it taken for another
    /// hand's work, look after look.
    fn a_closed_port(backend) {
        let lab = Lab::builder(backend)
            .host_count(1)
            .guest(Guest::new("good", "host1", 11))
            .guest(Guest::new("bad", "host1", 12))
            .start()?;
        quarantine::without_sctp(&lab, backend)?;
        let daemon = lab.daemon("a")?.look_after(1).start()?;
        daemon.set_policy(quarantine::POLICY)?;
        daemon.adopt()?;
        daemon.settle_by_its_word()?;
        ensure!(daemon.hook("create", "good")?.outcome == Outcome::Enforced);
        for (event, object) in [("create", "bad"), ("host-init", "host1")] {
            let problem = problem(daemon.hook(event, object))?;
            ensure!(problem.code == Code::NotEnforced && problem.detail.contains("sctp"), "{problem:?}");
        }
        let closed = daemon.host("host1")?.quarantined;
        ensure!(closed.len() == 1 && closed[0].interface == "vif2.0", "{closed:?}");
        let looks = daemon.number("host_reconciles_total")?;
        daemon.until("it is looked after", |daemon| Ok(daemon.number("host_reconciles_total")? > looks + 2))?;
        ensure!(daemon.number("host_drifts_total")? == 0, "{:?}", daemon.host("host1")?);
        daemon.set_policy(&quarantine::POLICY.replace("sctp", "udp"))?;
        daemon.settle()?;
        ensure!(daemon.host("host1")?.quarantined.is_empty());
    }

    /// A thousand edits one after the other are a few writes, and the last of them stands.
    fn a_thousand_edits(backend) {
        let lab = pool(backend).start()?;
        let daemon = lab.daemon("a")?.start_with(POLICY)?;
        let (before, started) = (lab.writes("host1")?, Instant::now());
        let generation = daemon.call(daemon.api().status())?.generation;
        for number in 0..1000_u16 {
            let edit = serde_json::json!({ "edits": [{ "replace": { "to": { "set": {
                "id": "many", "addresses": [format!("10.9.{}.{}", number / 200, number % 200)] } } } }] });
            let mut edits: EditsInput = serde_json::from_value(edit)?;
            if number == 0 {
                let many = r#"{"create": {"set": {"id": "many", "addresses": ["10.9.9.9"]}}}"#;
                let rule = r#"{"create": {"rule": {"group": "db", "rule": {"id": "many", "direction": "ingress",
                    "ethertype": "ipv4", "remote_set": "many"}}}}"#;
                edits.edits.insert(0, serde_json::from_str::<EditInput>(rule)?);
                edits.edits.insert(0, serde_json::from_str::<EditInput>(many)?);
            }
            daemon.call(daemon.api().edit(&edits))?;
        }
        let took = started.elapsed();
        let edited = POLICY.replacen(
            "remote_group = \"web\"\n",
            "remote_group = \"web\"\n\n[[group.rule]]\nid = \"many\"\ndirection = \"ingress\"\nethertype = \"ipv4\"\n\
             remote_set = \"many\"\n",
            1,
        );
        lab.set_policy(&format!("[[set]]\nid = \"many\"\naddresses = [\"10.9.4.199\"]\n\n{edited}"))?;
        daemon.settle()?;
        let (edits, writes) =
            (daemon.call(daemon.api().status())?.generation - generation, lab.writes("host1")? - before);
        ensure!(edits >= 1000, "{edits} edits");
        // One at a time, and each takes its time: a plan waits 50 ms for more.
        let most = usize::try_from(took.as_millis() / 50)? + 3;
        ensure!(writes < most.min(500), "{writes} writes for {edits} edits in {took:?}");
    }

    /// Asked for with every host in order, nothing is written; and only hosts that have to do with the group are asked for.
    fn a_refresh_marks_whom_it_concerns(backend) {
        let lab = pool(backend).start()?;
        let daemon = lab.daemon("a")?.look_after(600).start_with(POLICY)?;
        let calls = |host: &str| lab.audit(host).map(|lines| lines.len());
        let refresh = |group: &str, members: bool| -> Result<Vec<String>> {
            Ok(daemon.call(daemon.api().refresh(group, members))?.hosts)
        };
        for (group, members, marked) in [
            ("web", false, &["host1", "host2"][..]),
            ("db", false, &["host1"]),
            ("web", true, &["host1"]),
            ("db", true, &[]),
        ] {
            let before = [calls("host1")?, calls("host2")?];
            let (reads, writes) = (daemon.number("host_reconciles_total")?, lab.writes("host1")?);
            ensure!(refresh(group, members)? == marked, "{group} {members}");
            let wanted = reads + marked.len() as u64;
            daemon.until("they are read", |daemon| Ok(daemon.number("host_reconciles_total")? >= wanted))?;
            std::thread::sleep(Duration::from_millis(300));
            ensure!(daemon.number("host_reconciles_total")? == wanted, "{group} {members}: too many are read");
            for (host, before) in ["host1", "host2"].into_iter().zip(before) {
                ensure!((calls(host)? > before) == marked.contains(&host), "{group} {members}: {host}");
            }
            ensure!(lab.writes("host1")? == writes, "{group} {members}: something was written");
        }
    }
}

on_each! {
    /// A hook that comes while others edit waits for what was there when it came, not for the end of the edits.
    fn while_others_edit(backend) {
        let lab = pool(backend).start()?;
        let daemon = lab.daemon("a")?.start_with(POLICY)?;
        let editor = Editor::start(&daemon)?;
        for _ in 0..3 {
            lab.hard_reboot("web1")?;
            ensure!(daemon.hook("reboot", "web1")?.outcome == Outcome::Enforced);
            check(expectations(&lab)?);
        }
        editor.end(&daemon)?;
    }
}

/// One VIF without a port on the switch was the whole host's failure, and that of every hook about it.
#[test]
fn a_port_that_the_switch_lacks() -> Result<()> {
    let lab = Lab::builder(Backend::OpenVSwitch)
        .host_count(1)
        .guest(Guest::new("good", "host1", 11))
        .guest(Guest::new("bad", "host1", 12))
        .start()?;
    let daemon = lab.daemon("a")?.look_after(1).start()?;
    daemon.set_policy(&quarantine::POLICY.replace("sctp", "udp"))?;
    daemon.adopt()?;
    daemon.settle()?;
    // Of a kind that the switch cannot make.
    lab.ovs_vsctl("host1", &["--no-wait", "set", "Interface", "vif2.0", "type=gre"])?;
    lab.ovs_vsctl("host1", &["--timeout=30", "wait-until", "Interface", "vif2.0", "ofport=-1"])?;
    daemon.until("it is seen", |daemon| Ok(daemon.host("host1")?.quarantined.len() == 1))?;
    ensure!(daemon.hook("create", "good")?.outcome == Outcome::Enforced);
    let problem = problem(daemon.hook("create", "bad"))?;
    ensure!(
        problem.code == Code::NotEnforced && problem.detail.contains("has no port for it"),
        "{problem:?}"
    );
    let edited = daemon.set_policy(&quarantine::POLICY.replace("sctp", "udp").replacen(
        "ports = 80",
        "ports = 22",
        1,
    ))?;
    daemon.until("the neighbour has the edit", |daemon| {
        Ok(daemon.host("host1")?.enforced_generation.is_some_and(|stands| stands >= edited))
    })?;
    let host1 = daemon.host("host1")?;
    ensure!(host1.status == HostStatus::InSync && host1.quarantined[0].interface == "vif2.0", "{host1:?}");
    let (good, outside) = (lab.guest("good")?, lab.outside());
    check([outside.tcp(&good, 22, Family::V4).passes(), outside.tcp(&good, 80, Family::V4).blocked()]);

    lab.ovs_vsctl("host1", &["--no-wait", "set", "Interface", "vif2.0", "type=\"\""])?;
    lab.ovs_vsctl("host1", &["--timeout=30", "wait-until", "Interface", "vif2.0", "ofport>0"])?;
    daemon.until("it is seen", |daemon| Ok(daemon.host("host1")?.quarantined.is_empty()))?;
    daemon.settle()?;
    ensure!(daemon.hook("create", "bad")?.outcome == Outcome::Enforced);
    let bad = lab.guest("bad")?;
    check([outside.tcp(&bad, 80, Family::V4).passes(), outside.tcp(&bad, 22, Family::V4).blocked()]);
    // Ports that come and go are nobody's interference.
    ensure!(daemon.number("host_drifts_total")? == 0, "{:?}", daemon.host("host1")?);
    Ok(())
}
