//! One bad rule never hurts another tenant.

use anyhow::{Context, Result, ensure};
use e2e::lab::{Backend, Guest, Lab};
use e2e::probe::check;
use e2e::station::Family;
use serde_json::Value;

use crate::on_each;

/// Two tenants on one host; `bad`'s group has a rule that this dom0's iptables refuses.
pub(crate) const POLICY: &str = r#"
[[group]]
id = "good"
[[group.rule]]
direction = "ingress"
protocol = "tcp"
ports = 80
[[group]]
id = "bad"
[[group.rule]]
direction = "ingress"
protocol = "tcp"
ports = 80
[[group.rule]]
direction = "ingress"
ethertype = "ipv4"
protocol = "sctp"
ports = 9999
[[port]]
vm = "good"
device = 0
groups = ["good"]
addresses = ["10.20.0.11", "fd20::b"]
[[port]]
vm = "bad"
device = 0
groups = ["bad"]
addresses = ["10.20.0.12", "fd20::c"]
"#;

/// A dom0 that knows no SCTP: its iptables-restore, or its switch, refuses the whole input.
pub(crate) fn without_sctp(lab: &Lab, backend: Backend) -> Result<()> {
    let host = lab.host("host1")?;
    if backend == Backend::OpenVSwitch {
        host.command("cp", &["/usr/bin/ovs-ofctl", "/usr/bin/ovs-ofctl.real"], b"")?;
        let script = "#!/bin/bash\ninput=\ncase \"$*\" in *add-flows*) input=$(cat; echo x); input=${input%x};; esac\n\
             case \"$input\" in *sctp*) echo \"ovs-ofctl: -:1: sctp: unknown keyword\" >&2; exit 1;; esac\n\
             printf %s \"$input\" | exec -a ovs-ofctl /usr/bin/ovs-ofctl.real \"$@\"\n";
        host.write("/usr/bin/ovs-ofctl", 0o755, script.as_bytes())?;
        return Ok(());
    }
    let real = host.command("readlink", &["-f", "/usr/sbin/iptables-restore"], b"")?;
    let real = String::from_utf8(real.stdout)?;
    let script = format!(
        "#!/bin/bash\ninput=$(cat; echo x)\ninput=${{input%x}}\n\
         case \"$input\" in *sctp*) echo \"iptables-restore: Couldn't load match \\`sctp'\" >&2; exit 2;; esac\n\
         printf %s \"$input\" | exec -a iptables-restore {} \"$@\"\n",
        real.trim()
    );
    host.write("/usr/sbin/iptables-restore", 0o755, script.as_bytes())?;
    Ok(())
}

on_each! {
    /// The port with the refused rule is found, closed and reported; its neighbour gets its rules; when the rule goes,
    /// the port opens again.
    fn the_port_of_a_refused_rule_is_closed_and_the_rest_applied(backend) {
        let lab = Lab::builder(backend)
            .host_count(1)
            .guest(Guest::new("good", "host1", 11))
            .guest(Guest::new("bad", "host1", 12))
            .policy(POLICY)
            .start()?;
        without_sctp(&lab, backend)?;
        let run = lab.apply()?;
        ensure!(run.status.code() == Some(1), "{run:?}");
        let report = run.json()?;
        let closed = report["hosts"][0]["quarantined"].as_array().context("no list of quarantined ports")?.clone();
        ensure!(closed.len() == 1, "{report}");
        // Flows are of both families.
        let flows = backend == Backend::OpenVSwitch;
        let family = if flows { Value::Null } else { "ipv4".into() };
        ensure!(closed[0]["interface"] == "vif2.0" && closed[0]["family"] == family, "{report}");
        ensure!(closed[0]["reason"].as_str().is_some_and(|r| r.contains("sctp")), "{report}");

        let (good, bad, outside) = (lab.guest("good")?, lab.guest("bad")?, lab.outside());
        check([
            outside.tcp(&good, 80, Family::V4).passes(),
            outside.tcp(&good, 22, Family::V4).blocked(),
            outside.tcp(&bad, 80, Family::V4).blocked(),
            bad.tcp(outside, 80, Family::V4).blocked(),
            outside.tcp(&good, 80, Family::V6).passes(),
            outside.tcp(&bad, 22, Family::V6).blocked(),
        ]);
        let six = outside.tcp(&bad, 80, Family::V6);
        // Its IPv6 rules are fine.
        check([if flows { six.blocked() } else { six.passes() }]);

        lab.set_policy(&POLICY.replace("\"sctp\"", "\"udp\""))?;
        lab.apply()?.success()?;
        check([outside.tcp(&bad, 80, Family::V4).passes(), outside.tcp(&good, 80, Family::V4).passes()]);
    }
}
