//! An edit is made to what stood when the host was last read, without reading again; and where that stands no more, all is as
//! it should be afterwards.

use anyhow::{Result, ensure};
use e2e::lab::{Daemon, Lab};
use e2e::probe::check;
use e2e::scenario::{POLICY, dom0_boots, expectations, pool};
use e2e::station::Family;

use crate::on_both;

const HOSTS: [&str; 2] = ["host1", "host2"];

/// A rule of the group `db` beside the one it has.
fn rule(text: &str) -> String {
    format!("\n[[group.rule]]\ndirection = \"ingress\"\n{text}\n")
}

/// The scenario's policy, with more rules for `db` and more at its end.
fn policy(rules: &[String], more: &str) -> String {
    let anchor = "remote_group = \"web\"\n";
    POLICY.replacen(anchor, &format!("{anchor}{}", rules.concat()), 1) + more
}

/// The scenario's policy, with one more rule for `web`, whose ports are on both hosts.
fn more_for_web() -> String {
    let more = format!("ports = 80\n{}", rule("protocol = \"tcp\"\nports = 81"));
    POLICY.replacen("ports = 80\n", &more, 1)
}

fn members(numbers: impl Iterator<Item = u8>) -> String {
    let mut set = "\n[[set]]\nid = \"far\"\naddresses = [\"2001:db8:ff::/64\"".to_owned();
    for n in numbers {
        set += &format!(", \"192.0.2.{}\"", 3 * n);
    }
    set + "]\n"
}

/// Each differs from the one before; together they change chains of every kind, with every kind of match.
fn edits() -> Vec<String> {
    let services = [
        "protocol = \"tcp\"\nports = 81",
        "protocol = \"tcp\"\nports = \"82-90\"\nremote_cidr = \"192.0.2.0/28\"",
        "protocol = \"udp\"\nports = 53\nremote_cidr = \"2001:db8::/64\"",
        "protocol = \"udplite\"\nports = \"7-9\"",
        "protocol = \"sctp\"\nports = 9",
        "protocol = \"dccp\"\nports = \"10-11\"",
        "protocol = \"icmp\"\nicmp_type = 8\nicmp_code = 0",
        "protocol = \"icmp\"\nicmp_type = 255",
        "protocol = \"icmp\"\nicmp_type = 255\nicmp_code = 1",
        "ethertype = \"ipv6\"\nprotocol = \"ipv6-icmp\"\nicmp_type = 128",
        "protocol = 47",
        "remote_cidr = \"198.51.100.7/32\"",
    ];
    let services = services.map(rule);
    let far = [rule("protocol = \"tcp\"\nports = 443\nremote_set = \"far\"")];
    let provider =
        "\n[[provider_rule]]\naction = \"deny\"\ndirection = \"egress\"\nprotocol = \"tcp\"\nports = 25\n";
    let mut edits: Vec<String> = (1..=services.len()).map(|n| policy(&services[..n], "")).collect();
    edits.extend((0..services.len()).map(|n| policy(&services[n + 1..], "")));
    edits.push(policy(&far, &members(1..40)));
    edits.push(policy(&far, &members(1..41)));
    edits.push(policy(&far, &members((1..41).filter(|n| *n != 7))));
    edits.push(policy(&[], provider));
    let both = POLICY.replacen("groups = [\"web\"]", "groups = [\"web\", \"db\"]", 1);
    edits.push(both.clone());
    edits.push(both.replacen(
        "\"fd20::b\"]",
        "\"fd20::b\"]\naddress_pairs = [{ address = \"10.20.0.99\" }]",
        1,
    ));
    edits.push(POLICY.to_owned());
    edits
}

fn reads(lab: &Lab) -> Result<usize> {
    let mut reads = 0;
    for host in HOSTS {
        reads += lab.audit(host)?.iter().filter(|line| line.contains("iptables-save")).count();
    }
    Ok(reads)
}

fn edit(daemon: &Daemon<'_>, policy: &str) -> Result<()> {
    daemon.set_policy(policy)?;
    daemon.settle_by_its_word()
}

on_both! {
    /// Whatever is edited, dom0 takes it, and nobody reads.
    fn an_edit_does_not_read(iptables) {
        let lab = pool(iptables).start()?;
        let daemon = lab.daemon("a")?.look_after(3600).start_with(POLICY)?;
        let before = reads(&lab)?;
        for (number, policy) in edits().iter().enumerate() {
            edit(&daemon, policy)?;
            ensure!(reads(&lab)? == before, "edit {number} began with reading\n{policy}\n{}", daemon.log());
        }
        daemon.settle()?;
        check(expectations(&lab)?);
    }

    /// Another hand is at the rules between two edits, and no look comes in between: after the second one all is as compiled.
    fn another_hand_between_edits(iptables) {
        let lab = pool(iptables).start()?;
        let daemon = lab.daemon("a")?.look_after(3600).start_with(POLICY)?;
        let edits = [more_for_web(), POLICY.to_owned()];
        for (number, hand) in HANDS.iter().enumerate() {
            for host in HOSTS {
                for family in Family::BOTH {
                    lab.iptables_restore(host, family, &format!("*filter\n{hand}\nCOMMIT\n"))?;
                }
            }
            // Both edits are about both families of both hosts.
            edit(&daemon, &edits[number % 2])?;
            ensure!(lab.plan()?.changed()?.is_empty(), "{hand} was not noticed");
        }
        check(expectations(&lab)?);
    }

    /// dom0 boots between two edits, and XAPI does not tell.
    fn dom0_boots_between_edits(iptables) {
        let lab = pool(iptables).guarded("lan").start()?;
        let daemon = lab.daemon("a")?.look_after(3600).start_with(POLICY)?;
        for policy in [more_for_web(), POLICY.to_owned()] {
            for host in HOSTS {
                dom0_boots(&lab, host)?;
            }
            edit(&daemon, &policy)?;
            ensure!(lab.plan()?.changed()?.is_empty(), "the boot was not noticed");
        }
    }
}

/// What another hand does. Some of it makes the next write fail, the rest is seen by what stands after it.
const HANDS: [&str; 7] = [
    "-F dwb-forward",
    "-F",
    "-I dwb-forward 1 -j ACCEPT",
    "-D dwb-forward 3",
    "-D FORWARD 1",
    "-I FORWARD 1 -j ACCEPT",
    "-A dwb-forward -j RETURN",
];
