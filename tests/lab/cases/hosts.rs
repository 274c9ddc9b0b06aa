//! D, dom0's part: others write there, too, programs fail half way, and what need not be written is not.

use anyhow::{Context, Result, ensure};
use e2e::flow::Flow;
use e2e::lab::{Iptables, Lab};
use e2e::probe::{Expectation, check, run};
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;
use xapi_mock::faults::{Fault, PluginFault};

use super::{applied, group, ingress, port, tcp};
use crate::{on_both, on_each};

/// What stands in the scenario's policy, and what an edit makes of it.
const WEB_PORT: &str = "ports = 80";
const EDITED: &str = "ports = 81";

on_both! {
    /// What others put into dom0's firewall keeps its order, its duplicates, its comments and its counters, whatever
    /// it says of us (nova: a line that mentions it is deleted, repeated rules are merged).
    fn d15_foreign_rules_are_untouched(iptables) {
        let lab = pool(iptables).start()?;
        for family in Family::BOTH {
            let rules = match family {
                Family::V4 => include_str!("../foreign.rules").to_owned(),
                Family::V6 => include_str!("../foreign.rules").replace("192.0.2.", "2001:db8::").replace("/32", "/128"),
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

    /// Somebody in dom0 adds rules of his own, also in front of ours, exactly between our reading and our writing, and
    /// all the time: none of them is lost, ours come first again, and neither writer fails (nova wrote back what it had
    /// read, whole).
    fn d16_another_writer_between_reading_and_writing(iptables) {
        let lab = pool(iptables).start()?;
        // With every write of ours, one of theirs just before.
        Wrapper::new(&lab, iptables)?.before(
            "n=$(cat /run/others 2>/dev/null || echo 0); echo $((n + 1)) >/run/others\n\
             iptables -w 5 -I FORWARD 1 -s 192.0.2.$n -j DROP && iptables -w 5 -A INPUT -s 192.0.2.$n -j DROP",
        )?;
        for policy in [POLICY.to_owned(), POLICY.replace(WEB_PORT, EDITED), POLICY.to_owned()] {
            lab.set_policy(&policy)?;
            lab.apply()?.success()?;
            let counted = lab.dom0_program("host1", "cat", &["/run/others"], b"")?;
            let counted: usize = counted.trim().parse()?;
            ensure!(counted > 0, "nobody else wrote: the test shows nothing");
            let saved = lab.iptables_save("host1", Family::V4)?;
            for number in 0..counted {
                for chain in ["FORWARD", "INPUT"] {
                    let rule = format!("-A {chain} -s 192.0.2.{number}/32 -j DROP");
                    ensure!(saved.lines().any(|line| line == rule), "{rule:?} was lost:\n{saved}");
                }
            }
        }
        lab.apply()?;
        Wrapper::new(&lab, iptables)?.remove()?;
        lab.apply()?.success()?;
        let saved = lab.iptables_save("host1", Family::V4)?;
        let first = saved.lines().find(|line| line.starts_with("-A FORWARD")).context("no rule in FORWARD")?;
        ensure!(first.contains("dwb-forward"), "ours does not come first: {first}");
        check(expectations(&lab)?);
        // And one who never stops.
        let script = "i=0; while [ $i -lt 60 ]; do iptables -w 20 -A OUTPUT -s 198.51.100.$i -j DROP || exit 1; i=$((i+1)); done";
        let other = lab.host("host1")?.spawn("bash", &["-c", script])?;
        for round in 0..6 {
            lab.set_policy(&if round % 2 == 0 { POLICY.replace(WEB_PORT, EDITED) } else { POLICY.to_owned() })?;
            lab.apply()?.success()?;
        }
        let ended = other.wait()?;
        ensure!(ended.status.success(), "the other writer failed: {ended:?}");
        let saved = lab.iptables_save("host1", Family::V4)?;
        let theirs: Vec<_> = saved.lines().filter(|line| line.contains("198.51.100.")).collect();
        let expected: Vec<_> = (0..60).map(|i| format!("-A OUTPUT -s 198.51.100.{i}/32 -j DROP")).collect();
        ensure!(theirs == expected, "theirs are not as they wrote them: {theirs:#?}");
        check(expectations(&lab)?);
    }

    /// dom0's program fails, is killed, or never ends, before or after its work, in each of the calls a change takes: what
    /// stands then is the old policy or the new one, and the next run makes it the new one.
    fn d17_a_write_fails_half_way(iptables) {
        let lab = pool(iptables).start()?;
        lab.host("host1")?.write("/etc/drawbridge/dom0.toml", 0o644, b"program_seconds = 1\n")?;
        lab.apply()?.success()?;
        let flow = Flow::start(&lab.guest("web1")?.tcp(&lab.guest("db")?, 5432, Family::V4))?;
        let mut policies = [POLICY.replace(WEB_PORT, EDITED), POLICY.to_owned()].into_iter().cycle();
        let mut failures = 0;
        for (name, before, after) in [
            ("it fails", "exit 1", ""),
            ("it fails having done its work", "", "exit 1"),
            ("it is killed", "kill -9 $$", ""),
            ("the plugin is killed", "kill -9 $PPID", ""),
            ("the plugin is killed when the work is done", "", "kill -9 $PPID"),
            ("it never ends", "exec sleep 1000", ""),
        ] {
            // A trial and the write, of IPv4 and of IPv6.
            for call in 1..=4 {
                lab.set_policy(&policies.next().context("endless")?)?;
                Wrapper::new(&lab, iptables)?.nth(call, before, after)?;
                let run = lab.apply()?;
                failures += usize::from(!run.status.success());
                old_or_new(&lab, &format!("{name}, call {call}"))?;
                Wrapper::new(&lab, iptables)?.remove()?;
                lab.apply()?.success()?;
                ensure!(lab.plan()?.success()?.changed()?.is_empty(), "{name}, call {call}: something is left to do");
            }
        }
        ensure!(failures >= 12, "only {failures} of 24 runs failed: the faults do not work");
        // XAPI's part of the way: the plugin hangs or dies before it has done anything, or the answer is lost.
        lab.set_call_timeout(2)?;
        for _ in 0..2 {
            for fault in [
                Fault::Plugin { host: Some("host1".to_owned()), action: PluginFault::Die, times: 1 },
                Fault::Plugin { host: Some("host1".to_owned()), action: PluginFault::Hang, times: 1 },
                Fault::Cut { method: Some("host.call_plugin".to_owned()), times: 2 },
            ] {
                lab.set_policy(&policies.next().context("endless")?)?;
                let name = format!("{fault:?}");
                lab.mock()?.faults().inject(fault);
                lab.apply()?;
                old_or_new(&lab, &name)?;
                lab.mock()?.faults().inject(Fault::Clear);
                lab.apply()?.success()?;
            }
        }
        lab.set_policy(POLICY)?;
        lab.apply()?.success()?;
        check(expectations(&lab)?);
        ensure!(flow.lives(), "a connection that was always allowed was cut");
        let report = flow.stop()?;
        ensure!(report.undisturbed(), "{report:?}");
    }

    /// One rule more or less takes a handful of lines in one call a family, however many rules and guests there are.
    fn d19_one_rule_is_one_change(iptables) {
        let mut costs = Vec::new();
        for size in [3, 300] {
            let policy = |extra: bool| {
                let mut rules: Vec<_> =
                    (0..size).map(|n| ingress(&format!("protocol = 'tcp', ports = {}", 2000 + 2 * n))).collect();
                rules.extend(extra.then(|| ingress("protocol = 'tcp', ports = 80")));
                [group("web", &rules), port("web1", 11, &["web"]), port("db", 12, &["web"])].concat()
            };
            let lab = applied(pool(iptables).policy(&policy(false)))?;
            let (web, outside) = (lab.guest("web1")?, lab.outside());
            let mut cost = Vec::new();
            for (extra, open) in [(true, &[80, 2000][..]), (false, &[2000])] {
                lab.set_policy(&policy(extra))?;
                let before = lab.audit("host1")?.len();
                let run = lab.apply()?.success()?.json()?;
                check(tcp(outside, &web, open, &[81]));
                let changes = run["hosts"][0]["changes"].as_array().context("no changes")?.len();
                let bytes = run["hosts"][0]["bytes_written"].as_u64().context("no bytes")?;
                cost.push((changes, bytes, lab.audit("host1")?.len() - before));
            }
            check(tcp(outside, &web, &[], &[80]));
            costs.push(cost);
        }
        let (small, large) = (&costs[0], &costs[1]);
        ensure!(small == large, "3 rules: {small:?}, 300 rules: {large:?} (changes, bytes, calls; adding, removing)");
        for (changes, bytes, calls) in large {
            ensure!(*changes <= 14 && *bytes <= 1000 && *calls <= 4, "{changes} changes, {bytes} bytes, {calls} calls");
        }
    }
}

on_each! {
    /// Nothing to do: nothing is written, counters go on, and the program says so.
    fn d18_a_second_apply_writes_nothing(backend) {
        let lab = applied(pool(backend))?;
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
}

/// The policies of D17 differ in which port `web1` serves: it is one of them, for each family, and nothing else is open.
fn old_or_new(lab: &Lab, name: &str) -> Result<()> {
    let (web, db, outside) = (lab.guest("web1")?, lab.guest("db")?, lab.outside());
    let either = Family::BOTH.map(|family| [80, 81].map(|port| outside.tcp(&web, port, family).blocked()));
    let mut all: Vec<Expectation> = either.concat();
    all.extend(tcp(outside, &web, &[], &[22, 443]));
    all.extend(tcp(outside, &db, &[], &[22, 5432]));
    all.extend(tcp(&web, &db, &[5432], &[22]));
    all.extend(Family::BOTH.map(|family| db.tcp(outside, 80, family).blocked()));
    let outcomes = run(all);
    let (either, always) = outcomes.split_at(4);
    let wrong: Vec<_> = always.iter().filter(|one| !one.ok()).map(ToString::to_string).collect();
    ensure!(wrong.is_empty(), "{name}: {wrong:#?}");
    for pair in either.chunks(2) {
        let open = pair.iter().filter(|one| !one.ok()).count();
        ensure!(open == 1, "{name}: {}; {}", pair[0], pair[1]);
    }
    Ok(())
}

/// `host1`'s `iptables-restore` and `ip6tables-restore`, with something added.
struct Wrapper<'a> {
    lab: &'a Lab,
    iptables: Iptables,
}

impl<'a> Wrapper<'a> {
    fn new(lab: &'a Lab, iptables: Iptables) -> Result<Self> {
        Ok(Self { lab, iptables })
    }

    /// Runs `script` before each write of IPv4's. A write is not a trial: it has no `--test`.
    fn before(&self, script: &str) -> Result<()> {
        self.write("iptables-restore", &format!("case \" $* \" in *' --test '*) ;; *) {script} ;; esac"), "")
    }

    /// At the `nth` call from now on, of either family, trials counted, runs `before` first and `after` afterwards.
    fn nth(&self, nth: u32, before: &str, after: &str) -> Result<()> {
        self.lab.dom0_program("host1", "rm", &["-f", "/run/calls"], b"")?;
        let count = "n=$(cat /run/calls 2>/dev/null || echo 0); n=$((n + 1)); echo $n >/run/calls";
        let when = |script: &str| match script {
            "" => String::new(),
            script => format!("[ $n = {nth} ] && {script}"),
        };
        for program in ["iptables-restore", "ip6tables-restore"] {
            self.write(program, &format!("{count}\n{}", when(before)), &when(after))?;
        }
        Ok(())
    }

    /// Puts the real programs back.
    fn remove(&self) -> Result<()> {
        for program in ["iptables-restore", "ip6tables-restore"] {
            self.write(program, "", "")?;
        }
        Ok(())
    }

    fn write(&self, program: &str, before: &str, after: &str) -> Result<()> {
        let multi = match self.iptables {
            Iptables::Nft => "/usr/sbin/xtables-nft-multi",
            Iptables::Legacy => "/usr/sbin/xtables-legacy-multi",
        };
        // Its input is on standard input throughout; the real program goes by its name.
        let script =
            format!("#!/bin/bash\n{before}\n{multi} {program} \"$@\"\nstatus=$?\n{after}\nexit $status\n");
        Ok(self.lab.host("host1")?.write(format!("/usr/sbin/{program}"), 0o755, script.as_bytes())?)
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
        || rule == "-A PREROUTING -j dwb-dom0"
}
