//! `explain`: by the daemon, or by a policy file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::control::{self, Explanation};

use super::POLICY;
use super::args::Explain;
use super::daemon::Way;
use super::failure::Failure;
use super::said::Said;
use crate::desired::desired;
use crate::explain::{Question, Wanted, explain};
use crate::intake::inventory::Inventory;
use crate::intake::own;
use crate::intake::policy_file::PolicyFile;
use crate::run::{Pool, RunError};

/// Answers.
pub(super) async fn run(config: &Path, way: &Way, asked: Explain) -> Result<Said, Failure> {
    let Explain { from, to, packet, live, policy } = asked;
    let answer = match (way, policy) {
        (Way::Daemon(client), None) => {
            client.explain(&control::Question { from, to, packet: packet.to_string(), live }).await?
        }
        (_, policy) => {
            let policy = policy.unwrap_or_else(|| PathBuf::from(POLICY));
            by_file(config, &policy, &Question { from, to, probe: packet, live }).await?
        }
    };
    Ok(Said { ok: answer.agrees(), ..Said::well(answer.to_string(), &answer) })
}

/// By a policy file, which need not be what is enforced. XAPI is asked from here.
async fn by_file(config: &Path, path: &Path, question: &Question) -> Result<Explanation, Failure> {
    let pool = Pool::open(config)?;
    let file = PolicyFile::load(path)?;
    let inventory = Inventory::read(&pool.client).await.map_err(RunError::from)?;
    let macs = own::macs().map_err(RunError::from)?;
    let desired = desired(&file, &inventory, &macs)
        .map_err(|source| RunError::Resolve { path: path.to_owned(), source })?;
    let wanted: Wanted = desired.hosts.into_iter().map(|(host, wanted)| (host, Arc::new(wanted))).collect();
    let answer = explain(&pool, &wanted, &inventory, question).await;
    pool.close().await;
    Ok(answer.map_err(anyhow::Error::from)?)
}
