//! The policy changes while guests talk; everybody else's rules stay as they are. More of it: cases D2 to D5, D15 to D19.

use anyhow::ensure;
use e2e::flow::Flow;
use e2e::lab::Guest;
use e2e::probe::check;
use e2e::scenario::{POLICY, expectations, pool};
use e2e::station::Family;

use crate::on_each;

on_each! {
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
            ensure!(flow.lives(), "{name} was cut");
            let report = flow.stop()?;
            ensure!(report.undisturbed() && !report.stalled(), "{name} noticed: {report:?}");
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
