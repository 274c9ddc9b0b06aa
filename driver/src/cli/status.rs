//! `drawbridge status`: what somebody wants to know at 3 a.m.

mod verdict;

use std::sync::Arc;

use api::control::{HostState, HostStatus, PortStatus};
use api::wire::{Port, Status};
use api::{ApiClient, ClientError, segment};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::failure::Failure;
use super::host::generations;
use super::noun::{Noun as _, as_word, text};
use super::port::target;
use super::said::Said;
use super::table::{one_line, table};
use verdict::{Verdict, Word, verdict};

/// So many ports are asked about at a time.
const AT_A_TIME: usize = 16;

/// Everything there is to say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Overview {
    /// In a word, and why.
    pub verdict: Verdict,
    /// The store and the daemon.
    pub status: Status,
    /// Every host.
    pub hosts: Vec<HostState>,
    /// Ports that fit no VIF of the pool. (Closed ports stand with their hosts.)
    pub unbound: Vec<Port>,
}

/// `drawbridge status`
pub(super) async fn status(client: &ApiClient) -> Result<Said, Failure> {
    let overview = look(client).await?;
    let ok = overview.verdict.word == Word::Ok;
    Ok(Said { ok, ..Said::well(overview.to_text(Timestamp::now()), &overview) })
}

/// Asks the daemon for everything.
pub(super) async fn look(client: &ApiClient) -> Result<Overview, Failure> {
    let status = client.status().await?;
    let hosts = client.hosts().await?;
    let misfits = misfits(&client.text("/metrics").await?);
    // Who has no misfits need not be asked about each of ten thousand ports.
    let unbound = if misfits == Some(0) { Vec::new() } else { unbound(client).await? };
    let others = misfits.unwrap_or_default().saturating_sub(unbound.len());
    Ok(Overview { verdict: verdict(&status, &hosts, &unbound, others), status, hosts, unbound })
}

/// How many ports and networks of the store fit nothing in the pool, if the daemon says so.
fn misfits(metrics: &str) -> Option<usize> {
    metrics.lines().find_map(|line| line.strip_prefix("drawbridge_problems ")?.trim().parse().ok())
}

async fn unbound(client: &ApiClient) -> Result<Vec<Port>, Failure> {
    let ports: Vec<Port> = client.list(Port::PATH, "").await?;
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let mut asked = JoinSet::new();
    for port in ports {
        let (client, turns) = (client.clone(), Arc::clone(&turns));
        asked.spawn(async move {
            let _turn = turns.acquire().await;
            client.get::<Port>(&format!("{}/{}", Port::PATH, segment(&port.id))).await
        });
    }
    let mut unbound = Vec::new();
    while let Some(answer) = asked.join_next().await {
        match answer.map_err(anyhow::Error::from)? {
            Ok(port) if port.value.state.as_ref().is_some_and(|s| s.status == PortStatus::Unbound) => {
                unbound.push(port.value);
            }
            Ok(_) => {}
            // Removed in the meantime.
            Err(ClientError::Problem(problem)) if problem.code == api::Code::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    unbound.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(unbound)
}

impl Overview {
    /// The same, but for what changes with every look at a host.
    pub(super) fn without_times(&self) -> Self {
        let mut same = self.clone();
        for host in &mut same.hosts {
            (host.last_success, host.next_attempt) = (None, None);
        }
        same
    }

    /// For people, as of `now`.
    pub(super) fn to_text(&self, now: Timestamp) -> String {
        let Self { verdict, status, hosts, unbound } = self;
        let mut page = verdict.to_string();
        page.push_str(&format!(
            "\nstore: generation {}, {}; {} projects, {} groups, {} rules, {} sets, {} ports, {} provider rules, \
             {} guarded networks\n\n",
            status.generation,
            if status.adopted { "adopted" } else { "NOT adopted" },
            status.projects,
            status.groups,
            status.rules,
            status.sets,
            status.ports,
            status.provider_rules,
            status.guarded_networks,
        ));
        page.push_str(&table(
            &[
                "host",
                "status",
                "backend",
                "generation",
                "ports",
                "closed",
                "last success",
                "last drift",
                "next try",
            ],
            &hosts.iter().map(|host| row(host, now)).collect::<Vec<_>>(),
        ));
        // Why this driver does not write was said above, for all hosts.
        for host in hosts.iter().filter(|host| host.status != HostStatus::Standby) {
            if let Some(error) = &host.last_error {
                page.push_str(&format!("  {}: {}\n", host.name, one_line(error)));
            }
        }
        let closed = hosts.iter().flat_map(|host| host.quarantined.iter().map(move |port| (host, port)));
        let mut ports: Vec<Vec<String>> = closed
            .map(|(host, port)| {
                let name = format!("{} (VIF {})", port.interface, port.vif);
                vec![name, host.name.clone(), "closed".to_owned(), port.reason.clone()]
            })
            .collect();
        ports.extend(unbound.iter().map(|port| {
            let state = port.state.as_ref();
            let why = text(state.and_then(|state| state.last_error.as_ref()));
            let status = state.map(|state| as_word(&state.status)).unwrap_or_default();
            vec![format!("{} ({})", port.id, target(port)), String::new(), status, why]
        }));
        if !ports.is_empty() {
            page.push('\n');
            page.push_str(&table(&["port in trouble", "host", "status", "why"], &ports));
        }
        page
    }
}

fn row(host: &HostState, now: Timestamp) -> Vec<String> {
    vec![
        host.name.clone(),
        as_word(&host.status),
        text(host.backend.as_ref()),
        generations(host),
        host.ports.to_string(),
        host.quarantined.len().to_string(),
        since(host.last_success.as_deref(), now)
            .map_or_else(|| "never".to_owned(), |ago| format!("{ago} ago")),
        since(host.last_drift.as_deref(), now).map_or_else(|| "-".to_owned(), |ago| format!("{ago} ago")),
        until(host.next_attempt.as_deref(), now).map_or_else(|| "-".to_owned(), |wait| format!("in {wait}")),
    ]
}

/// How long ago a time of RFC 3339 was.
fn since(then: Option<&str>, now: Timestamp) -> Option<String> {
    let then: Timestamp = then?.parse().ok()?;
    Some(length(now.as_second() - then.as_second()))
}

/// How long it is until then.
fn until(then: Option<&str>, now: Timestamp) -> Option<String> {
    let then: Timestamp = then?.parse().ok()?;
    Some(length(then.as_second() - now.as_second()))
}

/// Seconds in the unit that people would use.
fn length(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
