//! `bench`: what Drawbridge costs beside the bare programs, measured in one run, as ratios.
//!
//! Everything goes through the mock's XAPI over TLS to the real plugin in a host's namespace; the bare programs run in the same
//! namespace, by the same way of starting them.

mod apply;
mod commit;
mod daemon;
mod flows;
mod load;
mod packets;
mod plugin;
mod stats;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use e2e::lab::{Iptables, Lab};

/// Measures with this plugin; the answer is Markdown.
type Measure = fn(&Path) -> Result<String>;

/// What can be measured alone, by the beginning of its name.
const PARTS: [(&str, &str, Measure); 5] = [
    ("apply", "One changed rule, end to end", apply::measure),
    ("openvswitch", "Open vSwitch", flows::measure),
    ("daemon-edits", "The daemon: edits", daemon::enforce::measure),
    ("daemon-pool", "The daemon: a big pool", daemon::thousand::measure),
    ("daemon-load", "The daemon: load", daemon::load::measure),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let plugin = match (arguments.next().as_deref().and_then(|a| a.to_str()), arguments.next()) {
        (Some("--plugin"), Some(path)) => PathBuf::from(path),
        _ => bail!("usage: bench --plugin PATH [PART] (the static plugin of `make plugin`)"),
    };
    let only = arguments.next().map(|argument| argument.to_string_lossy().into_owned());
    let mut out = std::io::stdout().lock();
    let parts = PARTS.iter().filter(|(name, ..)| only.as_deref().is_none_or(|only| name.starts_with(only)));
    for (name, heading, measure) in parts.clone() {
        writeln!(out, "## {heading}\n\n{}\n", measure(&plugin).with_context(|| (*name).to_owned())?)?;
    }
    if let Some(only) = &only {
        ensure!(
            parts.count() > 0,
            "{only}: what can be measured alone is {:?}",
            PARTS.map(|(name, ..)| name)
        );
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
        writeln!(out, "{}\n", commit::measure(&lab)?)?;
        drop(lab);
        writeln!(out, "{}\n", packets::measure(iptables, &plugin)?)?;
    }
    Ok(())
}
