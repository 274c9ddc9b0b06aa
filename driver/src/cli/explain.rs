//! `explain`: by the policy file, or by the daemon's store.

use std::path::{Path, PathBuf};

use super::args::Explain;
use super::daemon::Way;
use super::failure::Failure;
use super::said::Said;
use super::{POLICY, policy};
use crate::desired::desired;
use crate::explain::{Question, explain};
use crate::intake::inventory::Inventory;
use crate::intake::own;
use crate::intake::policy_file::PolicyFile;
use crate::run::{Pool, RunError};

/// Answers. XAPI is asked from here either way.
pub(super) async fn run(config: &Path, way: &Way, asked: Explain) -> Result<Said, Failure> {
    let Explain { from, to, packet, live, policy } = asked;
    let pool = Pool::open(config)?;
    let (file, name) = match (way, policy) {
        (Way::Daemon(client), None) => (policy::rows(client).await?.policy()?, PathBuf::from("the store")),
        (_, path) => {
            let path = path.unwrap_or_else(|| PathBuf::from(POLICY));
            (PolicyFile::load(&path)?, path)
        }
    };
    let inventory = Inventory::read(&pool.client).await.map_err(RunError::from)?;
    let desired = desired(&file, &inventory, &own::macs())
        .map_err(|source| RunError::Resolve { path: name, source })?;
    let question = Question { from, to, probe: packet, live };
    let answer = explain(&pool, &desired, &inventory, &question).await;
    pool.close().await;
    let answer = answer.map_err(anyhow::Error::from)?;
    let agrees = answer.answers.iter().flat_map(|a| &a.live).all(|live| live.agrees);
    Ok(Said { ok: agrees, ..Said::well(answer.to_string(), &answer) })
}
