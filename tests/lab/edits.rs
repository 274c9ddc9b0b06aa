//! The policy changes while guests talk; everybody else's rules stay as they are.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::flow::Flow;
use e2e::lab::{Guest, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;

use crate::{on_both, on_each};

/// No flow is without an echo for so long unless something is wrong, however busy the machine.
const STALLED: Duration = Duration::from_secs(2);

/// What stands in the scenario's policy, and what an edit makes of it.
const WEB_PORT: &str = "ports = 80";
const EDITED: &str = "ports = 81";

on_each! {
    /// A rule goes: its connections are cut, others never notice. It comes back: so do they.
    fn a_removed_rule_cuts_its_connections_only(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        let (web, db, outside) = (lab.guest("web1")?, lab.guest("db")?, lab.outside());
        let start = |family| -> Result<_> {
            Ok([
                Flow::start(&outside.tcp(&web, 80, family))?,
                Flow::start(&web.tcp(&db, 5432, family))?,
                Flow::start(&web.udp(outside, 53, family))?,
            ])
        };
        let flows = [start(Family::V4)?, start(Family::V6)?];
        lab.set_policy(&POLICY.replace(WEB_PORT, EDITED))?;
        lab.apply()?.success()?;
        for [cut, stays, datagrams] in &flows {
            ensure!(!cut.alive(Duration::from_millis(400)), "the connection to port 80 lives on");
            ensure!(stays.alive(Duration::from_secs(1)) && datagrams.alive(Duration::from_secs(1)), "cut too much");
        }
        for family in Family::BOTH {
            check([outside.tcp(&web, 80, family).blocked(), outside.tcp(&web, 81, family).passes()]);
        }
        lab.set_policy(POLICY)?;
        lab.apply()?.success()?;
        check(expectations(&lab)?);
        for [cut, stays, datagrams] in flows {
            // TCP asks again by itself, ever more rarely (neutron bug 1915530: it stayed dead).
            ensure!(cut.alive(Duration::from_secs(5)), "the rule is back, its connection is not");
            // TCP's own counters are of no use here: the connection that was cut counts in them, too.
            let (stays, datagrams) = (stays.stop()?, datagrams.stop()?);
            ensure!(stays.broken.is_none() && stays.longest_gap < STALLED, "a neighbour noticed: {stays:?}");
            ensure!(datagrams.sent <= datagrams.answered + 1, "a neighbour lost packets: {datagrams:?}");
        }
    }

    /// Everything that can happen to others happens to them; whoever is not concerned never notices.
    fn neighbours_never_notice(backend) {
        let lab = pool(backend).guest(Guest::new("nas", "host1", 16)).start()?;
        let with_nas = format!("{POLICY}{}", include_str!("policy/nas-lan.toml"));
        lab.set_policy(&with_nas)?;
        lab.apply()?.success()?;
        let (web, db, outside) = (lab.guest("web1")?, lab.guest("db")?, lab.outside());
        let mut flows = Vec::new();
        for family in Family::BOTH {
            for probe in [
                outside.tcp(&web, 80, family),
                web.tcp(&db, 5432, family),
                lab.guest("web2")?.tcp(&db, 5432, family),
                web.udp(outside, 53, family),
            ] {
                flows.push((probe.to_string(), Flow::start(&probe)?));
            }
        }
        lab.clean_reboot("nas")?;
        lab.hook("reboot", "nas")?.success()?;
        lab.set_policy(&with_nas.replace("873", "874"))?;
        lab.apply()?.success()?;
        lab.suspend("nas")?;
        lab.hook("suspend", "nas")?.success()?;
        lab.resume("nas", true)?;
        lab.hook("resume", "nas")?.success()?;
        lab.unpause("nas")?;
        lab.hard_shutdown("nas")?;
        lab.hook("terminate", "nas")?.success()?;
        lab.set_policy(POLICY)?;
        lab.apply()?.success()?;
        for (name, flow) in flows {
            ensure!(flow.alive(Duration::from_secs(1)), "{name} was cut");
            let report = flow.stop()?;
            ensure!(report.undisturbed() && report.longest_gap < STALLED, "{name} noticed: {report:?}");
        }
    }

    /// A guest joins a group that others admit: every host concerned learns of it.
    fn a_member_is_added(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        lab.set_policy(&format!("{POLICY}{}", include_str!("policy/plain-joins-web.toml")))?;
        lab.apply()?.success()?;
        let (plain, db) = (lab.guest("plain")?, lab.guest("db")?);
        for family in Family::BOTH {
            check([
                plain.tcp(&db, 5432, family).passes(),
                lab.outside().tcp(&plain, 80, family).passes(),
                lab.outside().tcp(&plain, 22, family).blocked(),
            ]);
        }
    }

    /// Nothing to do: nothing is written, counters go on, and the program says so.
    fn a_second_apply_writes_nothing(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        check(expectations(&lab)?);
        let before = snapshot(&lab)?;
        let run = lab.apply()?.success()?;
        ensure!(run.changed()?.is_empty(), "apply says it changed {:?}", run.changed()?);
        ensure!(lab.plan()?.success()?.changed()?.is_empty(), "plan finds something to change");
        for ((host, writes, counted), (_, writes_after, counted_after)) in before.iter().zip(snapshot(&lab)?) {
            ensure!(*writes == writes_after, "{host} was written to");
            ensure!(*counted > 0 && counted_after >= *counted, "{host}'s counters were reset");
        }
    }

    /// A rule changes for one guest: no other host is written to.
    fn other_hosts_are_left_alone(backend) {
        let lab = pool(backend)
            .host_count(3)
            .guest(Guest::new("nas", "host3", 16))
            .policy(&format!("{POLICY}{}", include_str!("policy/nas-lan.toml")))
            .start()?;
        lab.apply()?.success()?;
        let before = [lab.writes("host1")?, lab.writes("host2")?, lab.writes("host3")?];
        lab.set_policy(&format!("{POLICY}{}", include_str!("policy/nas-lan.toml").replace("873", "874")))?;
        let run = lab.apply()?.success()?;
        ensure!(run.changed()? == ["host3"], "changed: {:?}", run.changed()?);
        let after = [lab.writes("host1")?, lab.writes("host2")?, lab.writes("host3")?];
        ensure!(after[..2] == before[..2] && after[2] > before[2], "writes before {before:?}, after {after:?}");
    }

    /// Somebody took some of our rules out by hand: `apply` finds it and puts it right.
    fn drift_is_repaired(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        lab.damage("host1")?;
        let run = lab.apply()?.success()?;
        ensure!(run.changed()? == ["host1"], "changed: {:?}", run.changed()?);
        check(expectations(&lab)?);
    }

    /// More rules than one call of XAPI's can carry, compressed or not, arrive in parts and count.
    fn rules_beyond_one_call(backend) {
        let lab = pool(backend).policy(&large_policy()).start()?;
        lab.apply()?.success()?;
        let bytes: usize = lab.rules("host1")?.iter().map(String::len).sum();
        ensure!(bytes > 1_000_000, "only {bytes} bytes of rules");
        let parts = lab.audit("host1")?.iter().filter(|line| line.contains("part")).count();
        ensure!(parts > 1, "it did not take parts:\n{}", lab.audit("host1")?.join("\n"));
        check(expectations(&lab)?);
        ensure!(lab.apply()?.success()?.changed()?.is_empty(), "what arrived is not what was sent");
    }
}

on_both! {
    /// What others put into dom0's firewall keeps its order, its duplicates, its comments and its counters, whatever
    /// it says of us (nova: a line that mentions it is deleted, repeated rules are merged).
    fn foreign_rules_are_untouched(iptables) {
        let lab = pool(iptables).start()?;
        for family in Family::BOTH {
            let rules = match family {
                Family::V4 => include_str!("foreign.rules").to_owned(),
                Family::V6 => include_str!("foreign.rules").replace("192.0.2.", "2001:db8::").replace("/32", "/128"),
            };
            for host in ["host1", "host2"] {
                lab.iptables_restore(host, family, &rules)?;
            }
        }
        let before = foreign(&lab)?;
        let duplicates = before.iter().filter(|line| line.contains("others -s 192.0.2.7/32 -p tcp -j ACCEPT"));
        ensure!(duplicates.count() == 6, "the rules did not go in: {before:#?}");
        lab.apply()?.success()?;
        assert_same(&before, &foreign(&lab)?);
        lab.clean_reboot("web1")?;
        lab.hook("reboot", "web1")?.success()?;
        lab.set_policy(&POLICY.replace(WEB_PORT, EDITED))?;
        lab.apply()?.success()?;
        lab.hard_shutdown("web1")?;
        lab.hook("terminate", "web1")?.success()?;
        assert_same(&before, &foreign(&lab)?);
    }
}

/// Hosts with the number of writes so far and the packets that our rules counted.
fn snapshot(lab: &Lab) -> Result<Vec<(&'static str, usize, u64)>> {
    ["host1", "host2"]
        .map(|host| Ok((host, lab.writes(host)?, lab.packets_counted(host)?)))
        .into_iter()
        .collect()
}

/// Every line that is not ours, in order, each with its host, family and table. Rules of the chain `others`, which no
/// packet meets, with their counters; dom0's own count on. A table of built-in chains that only accept, as `raw` is
/// when we come first, says nothing.
fn foreign(lab: &Lab) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for host in ["host1", "host2"] {
        for family in Family::BOTH {
            let rules = lab.iptables_save_counters(host, family)?;
            let mut table = "";
            for line in rules.lines().filter(|line| !line.starts_with('#') && *line != "COMMIT") {
                match line.strip_prefix('*') {
                    Some(name) => table = name,
                    None if is_ours(line) || (table == "raw" && line.contains(" ACCEPT [")) => {}
                    None if line.contains("others") => all.push(format!("{host} {family} {table} {line}")),
                    None => all.push(format!("{host} {family} {table} {}", uncounted(line))),
                }
            }
        }
    }
    Ok(all)
}

#[track_caller]
fn assert_same(before: &[String], after: &[String]) {
    let lost: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(
        before == after,
        "others' rules were touched; lost: {lost:#?}, new: {new:#?} (none of both: reordered)"
    );
}

fn uncounted(line: &str) -> &str {
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, rule)) => rule,
        None => line.split(" [").next().unwrap_or(line),
    }
}

/// One of our chains, a rule in one, or the jump to one; and the tables that only they are in.
fn is_ours(line: &str) -> bool {
    let rule = uncounted(line);
    rule.starts_with(":dwb-")
        || rule.starts_with("-A dwb-")
        || rule == "-A FORWARD -m physdev --physdev-is-bridged -j dwb-forward"
        || rule == "-A PREROUTING -m addrtype ! --dst-type LOCAL -j dwb-raw"
}

/// The scenario's policy with thousands of rules more for `web` (its last group), of text that does not compress away.
fn large_policy() -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        // xorshift64: the same rules each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let rules: String = (0..12_000)
        .map(|_| {
            let bits = random();
            let [a, b, c, d, e, f, ..] = bits.to_be_bytes();
            let port = 1024 + u16::from_be_bytes([e, f]) % 60_000;
            let first = 100 + a % 100;
            format!(
                "\n[[group.rule]]\ndirection = \"ingress\"\nprotocol = \"tcp\"\nports = {port}\n\
                 remote_cidr = \"{first}.{b}.{c}.{d}/32\"\n"
            )
        })
        .collect();
    format!("{POLICY}{rules}")
}
