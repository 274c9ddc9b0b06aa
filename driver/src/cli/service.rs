//! `refresh`, `adopt`, `audit`.

use api::ApiClient;
use api::wire::{AuditLine, Group};

use super::args::Refresh;
use super::failure::Failure;
use super::noun;
use super::said::Said;
use super::table::table;

/// Has the daemon look again at the hosts that a group concerns.
pub(super) async fn refresh(client: &ApiClient, what: Refresh, group: &str) -> Result<Said, Failure> {
    let group = noun::id::<Group>(client, group).await?;
    let marked = client.refresh(&group, matches!(what, Refresh::Members)).await?;
    let people = match marked.hosts.as_slice() {
        [] => "no host is concerned\n".to_owned(),
        hosts => format!("looking again at {}\n", hosts.join(", ")),
    };
    Ok(Said::well(people, &marked))
}

/// Says that the store is what should be.
pub(super) async fn adopt(client: &ApiClient) -> Result<Said, Failure> {
    let status = client.adopt().await?;
    let people = format!(
        "adopted: generation {} with {} groups and {} ports is what should be; \
         what it does not hold is taken away from hosts\n",
        status.generation, status.groups, status.ports
    );
    Ok(Said::well(people, &status))
}

/// Who did what.
pub(super) async fn audit(client: &ApiClient, after: u64, limit: u32) -> Result<Said, Failure> {
    let lines = client.audit(after, limit).await?;
    let rows = lines.iter().map(|line| {
        let AuditLine { generation, at, actor, origin, kind, id, before, after } = line;
        let did = match (before.is_some(), after.is_some()) {
            (false, _) => "created",
            (true, true) => "changed",
            (true, false) => "removed",
        };
        vec![generation.to_string(), at.clone(), actor.clone(), origin.clone(), format!("{did} {kind} {id}")]
    });
    let people = table(&["generation", "when", "who", "from", "what"], &rows.collect::<Vec<_>>());
    Ok(Said::well(people, &lines))
}
