//! `explain`: what it says is what the packets do.

use anyhow::{Context, Result, ensure};
use e2e::lab::{Backend, Lab};
use e2e::scenario::{POLICY, pool};
use serde_json::{Value, json};

use crate::on_each;

/// The answer for IPv4.
fn ipv4(lab: &Lab, from: &str, to: &str, packet: &str) -> Result<Value> {
    let answers = lab.explain(from, to, packet)?.json()?["answers"].clone();
    let answers = answers.as_array().context("no answers")?;
    answers.iter().find(|a| a["family"] == "ipv4").cloned().context("no answer for IPv4")
}

on_each! {
    /// Allowed by which rule of which group, refused by which side; and the installed chains say the same.
    fn it_names_the_rule_and_the_side(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        for (from, to, packet, allowed, side, group, rule) in [
            ("web1", "db", "tcp/5432", true, "ingress", Some("db"), Some("rule-1-ipv4")),
            ("web2", "db", "tcp/5432", true, "ingress", Some("db"), Some("rule-1-ipv4")),
            ("web1", "db", "tcp/22", false, "ingress", None, None),
            ("10.20.0.200", "web1", "tcp/80", true, "ingress", Some("web"), Some("rule-1-ipv4")),
            ("10.20.0.200", "web1", "icmp", true, "ingress", Some("web"), Some("rule-2")),
            ("10.20.0.200", "web1", "udp/80", false, "ingress", None, None),
            ("db", "10.20.0.200", "tcp/80", false, "egress", None, None),
            ("web1", "10.20.0.200", "gre", true, "egress", Some("web"), Some("implicit-egress-ipv4")),
        ] {
            let answer = ipv4(&lab, from, to, packet)?;
            ensure!(answer["allowed"] == allowed, "{from} {to} {packet}: {answer}");
            let decisive = answer["sides"].as_array().and_then(|sides| sides.last()).context("no sides")?;
            ensure!(decisive["direction"] == side && decisive["passes"] == allowed, "{answer}");
            ensure!(decisive["group"].as_str() == group && decisive["rule"].as_str() == rule, "{answer}");
            for live in answer["live"].as_array().context("no live answers")? {
                ensure!(live["agrees"] == true, "{answer}");
            }
        }
    }

    /// A rule put in by hand is found out, and so is one taken away; the exit code says so.
    fn it_notices_that_the_host_says_otherwise(backend) {
        let lab = pool(backend).start()?;
        lab.apply()?.success()?;
        let vif = lab.vif_names("db")?.first().context("db has no VIF")?.clone();
        if backend == Backend::OpenVSwitch {
            let flow = "cookie=0x4457427200000002,table=75,priority=60000,tcp,tp_dst=22,actions=resubmit(,80)";
            lab.ovs_ofctl("host1", &["-O", "OpenFlow13", "add-flow", "xenbr0", flow], b"")?;
        } else {
            let rule = format!("*filter\n-I dwb-i-{vif} 1 -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n");
            lab.iptables_restore("host1", e2e::station::Family::V4, &rule)?;
        }
        let run = lab.explain("web1", "db", "tcp/22")?;
        ensure!(run.status.code() == Some(1), "{run:?}");
        let answer = ipv4(&lab, "web1", "db", "tcp/22")?;
        ensure!(answer["allowed"] == false && answer["live"][0]["allowed"] == true, "{answer}");
        lab.apply()?.success()?;
        ensure!(lab.explain("web1", "db", "tcp/22")?.status.success(), "the rule is still there");
    }

    /// A daemon answers whoever may call it: neither XAPI nor dom0 has to be asked from where the command is given.
    fn a_daemon_explains(backend) {
        let lab = pool(backend).start()?;
        let daemon = lab.daemon("a")?.start()?;
        daemon.set_policy(POLICY)?;
        let ask = |from: &str, to: &str, packet: &str| {
            daemon.drawbridge(&["--json", "explain", "--live", "--from", from, "--to", to, packet])
        };
        // It stands by, and knows all the same.
        let run = daemon.drawbridge(&["explain", "--from", "web1", "--to", "db", "tcp/22"])?.success()?;
        ensure!(run.stdout.contains("ipv4: refused\n") && !run.stdout.contains("installed"), "{run:?}");
        daemon.adopt()?;
        daemon.settle()?;
        for (from, to, packet) in
            [("web1", "db", "tcp/5432"), ("web2", "db", "tcp/22"), ("10.20.0.200", "web1", "icmp"), ("db", "web2", "udp/53")]
        {
            let (by_daemon, by_file) = (ask(from, to, packet)?.success()?, lab.explain(from, to, packet)?.success()?);
            let told = |run: &e2e::lab::Run| -> Result<Vec<Value>> {
                let answers = run.json()?["answers"].as_array().cloned().context("no answers")?;
                Ok(answers.iter().map(|a| json!([a["family"], a["allowed"], a["sides"].as_array().map(Vec::len),
                    a["live"].as_array().map(|live| live.iter().map(|l| l["host"].clone()).collect::<Vec<_>>())])).collect())
            };
            ensure!(told(&by_daemon)? == told(&by_file)?, "{by_daemon:?} {by_file:?}");
        }
        for (from, to, words) in
            [("nobody", "web1", "no VM of this name"), ("10.20.0.200", "10.20.0.201", "neither end")]
        {
            let run = daemon.drawbridge(&["explain", "--from", from, "--to", to, "tcp/80"])?;
            ensure!(run.status.code() == Some(2) && run.stderr.contains(words), "{run:?}");
        }
    }

    /// Who is not there is said, not guessed.
    fn it_says_who_is_unknown(backend) {
        let lab = pool(backend).start()?;
        for (from, to, words) in [
            ("nobody", "web1", "no VM of this name"),
            ("web1#7", "db", "no VIF of this device"),
            ("10.20.0.200", "10.20.0.201", "neither end"),
            ("plain", "web1", "in no policy"),
        ] {
            let run = lab.explain(from, to, "tcp/80")?;
            ensure!(run.status.code() == Some(2) && run.stdout.contains(words), "{run:?}");
        }
    }
}
