//! `bench`: what Drawbridge costs beside the bare programs, measured in one run, as ratios.
//!
//! Everything goes through the mock's XAPI over TLS to the real plugin in a host's namespace; the bare programs run in the same
//! namespace, by the same way of starting them.

mod apply;
mod commit;
mod flows;
mod load;
mod packets;
mod plugin;
mod stats;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use e2e::lab::{Iptables, Lab};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let plugin = match (arguments.next().as_deref().and_then(|a| a.to_str()), arguments.next()) {
        (Some("--plugin"), Some(path)) => PathBuf::from(path),
        _ => bail!("usage: bench --plugin PATH [openvswitch] (the static plugin of `make plugin`)"),
    };
    let only_flows = match arguments.next() {
        None => false,
        Some(argument) if argument == "openvswitch" => true,
        Some(other) => bail!("{}: only openvswitch can be measured alone", other.display()),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "## Open vSwitch\n\n{}\n", flows::measure(&plugin)?)?;
    if only_flows {
        return Ok(());
    }
    for iptables in [Iptables::Legacy, Iptables::Nft] {
        let lab = Lab::builder(iptables)
            .host_count(1)
            .plugin(plugin.clone())
            .start()
            .context("starting the Lab")?;
        writeln!(out, "## iptables-{}\n", format!("{iptables:?}").to_lowercase())?;
        writeln!(out, "{}\n", plugin::measure(&lab)?)?;
        for (vifs, rules) in [(10, 20), (100, 20), (200, 100)] {
            writeln!(out, "{}\n", apply::measure(&lab, vifs, rules)?)?;
        }
        writeln!(out, "{}\n", commit::measure(&lab)?)?;
        drop(lab);
        writeln!(out, "{}\n", packets::measure(iptables, &plugin)?)?;
    }
    Ok(())
}
