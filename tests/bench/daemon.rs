//! The daemon: from an edit to the kernel, an unchanged host, a big pool watched and a full store opened, edits by the thousand.
//! Each beside a bare baseline of the same run.

pub(crate) mod enforce;
pub(crate) mod load;
pub(crate) mod thousand;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use drawbridge::desired::{HostDesired, desired};
use drawbridge::intake::inventory::Inventory;
use drawbridge::intake::policy_file::PolicyFile;
use drawbridge::run::Pool;
use e2e::crowd::Crowd;
use e2e::lab::{Backend, DaemonBuilder, Lab};

fn lab(crowd: &Crowd, backend: impl Into<Backend>, plugin: &Path) -> Result<Lab> {
    crowd.lab(backend).plugin(plugin.to_owned()).start().context("starting the Lab")
}

/// As it is installed. The first time, each VIF is locked by three calls of XAPI's: that may take minutes.
fn as_shipped(lab: &Lab) -> Result<DaemonBuilder<'_>> {
    let daemon = lab.daemon("a")?.look_after(5).deadline(120).call_timeout(60).longest_pause(5);
    Ok(daemon.patient_for(Duration::from_secs(600)))
}

/// What a policy means for a host, worked out without the daemon.
fn wanted(lab: &Lab, pool: &Pool, policy: &str, host: &str) -> Result<HostDesired> {
    let file = PolicyFile::parse(Path::new("policy"), policy)?;
    let (reference, _) = lab.block_on(pool.host(host))?;
    let inventory = lab.block_on(Inventory::read(&pool.client))?;
    desired(&file, &inventory, &BTreeSet::new())?.hosts.remove(&reference).context("no such host")
}

/// MiB of KiB.
fn mib(kib: u64) -> String {
    format!("{} MiB", kib.div_ceil(1024))
}
