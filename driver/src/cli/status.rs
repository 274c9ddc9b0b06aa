//! `drawbridge status`: what somebody wants to know at 3 a.m.

mod verdict;

use api::ApiClient;
use api::control::{HostState, HostStatus, Misfit, MisfitKind};
use api::wire::Status;
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::host::generations;
use super::noun::{as_word, text};
use super::said::Said;
use super::table::{one_line, table};
use verdict::{Verdict, Word, verdict};

/// Everything there is to say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Overview {
    /// In a word, and why.
    pub verdict: Verdict,
    /// The store and the daemon.
    pub status: Status,
    /// Every host.
    pub hosts: Vec<HostState>,
    /// What fits nothing in the pool. (Closed ports stand with their hosts.)
    pub misfits: Vec<Misfit>,
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
    let misfits = client.misfits().await?;
    Ok(Overview { verdict: verdict(&status, &hosts, &misfits), status, hosts, misfits })
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
        let Self { verdict, status, hosts, misfits } = self;
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
            for complaint in &host.complaints {
                page.push_str(&format!("  {}: {}\n", host.name, one_line(complaint)));
            }
        }
        let closed = hosts.iter().flat_map(|host| host.quarantined.iter().map(move |port| (host, port)));
        let mut ports: Vec<Vec<String>> = closed
            .map(|(host, port)| {
                let name = format!("{} (VIF {})", port.interface, port.vif);
                vec![name, host.name.clone(), "closed".to_owned(), port.reason.clone()]
            })
            .collect();
        ports.extend(misfits.iter().filter_map(|Misfit { kind, id, message }| {
            let (what, status) = match kind {
                MisfitKind::Port => ("port", "unbound"),
                MisfitKind::GuardedNetwork => ("guarded network", "unknown"),
                // It stands among the hosts.
                MisfitKind::Host => return None,
            };
            Some(vec![format!("{what} {id}"), String::new(), status.to_owned(), message.clone()])
        }));
        if !ports.is_empty() {
            page.push('\n');
            page.push_str(&table(&["in trouble", "host", "status", "why"], &ports));
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
