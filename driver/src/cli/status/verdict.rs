//! Is everything as it should be? If not, what is the matter, and what to do.

use std::fmt;

use api::control::{HostState, HostStatus, Misfit, MisfitKind};
use api::wire::Status;
use serde::Serialize;

use crate::cli::table::one_line;

/// How it stands, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Verdict {
    /// In a word.
    pub word: Word,
    /// Why, and what to do; the gravest first.
    pub reasons: Vec<String>,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Word {
    /// Everything is enforced.
    Ok,
    /// Nothing is wrong, and something is still to be done.
    Busy,
    /// Somebody has to do something.
    Problem,
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Busy => "BUSY",
            Self::Problem => "PROBLEM",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons = self.reasons.iter().map(|reason| one_line(reason));
        writeln!(f, "{}: {}", self.word.text(), reasons.next().unwrap_or_default())?;
        reasons.try_for_each(|reason| writeln!(f, "also: {reason}"))
    }
}

/// The verdict on all of this.
pub(super) fn verdict(status: &Status, hosts: &[HostState], misfits: &[Misfit]) -> Verdict {
    let mut reasons: Vec<String> = status.trouble.clone();
    if !status.adopted && status.trouble.is_empty() {
        reasons.push(
            "the store was not adopted, so nothing is taken away from a host: look at `drawbridge export`, \
             then say `drawbridge adopt`"
                .to_owned(),
        );
    }
    reasons.extend(of_hosts(hosts, HostStatus::Failing));
    reasons.extend(of_hosts(hosts, HostStatus::Quarantined));
    reasons.extend(closed(hosts));
    reasons.extend(of_hosts(hosts, HostStatus::Unsupported));
    reasons.extend(fit_nothing(misfits, MisfitKind::Port));
    reasons.extend(fit_nothing(misfits, MisfitKind::GuardedNetwork));
    if !reasons.is_empty() {
        return Verdict { word: Word::Problem, reasons };
    }
    let waiting: Vec<&str> =
        hosts.iter().filter(|host| !stands(host)).map(|host| host.name.as_str()).collect();
    let generation = status.generation;
    match (waiting.as_slice(), hosts) {
        ([], []) => {
            Verdict { word: Word::Busy, reasons: vec!["the daemon has not seen a host yet".to_owned()] }
        }
        ([], _) => {
            let ports: u64 = hosts.iter().map(|host| host.ports).sum();
            let reason = format!(
                "generation {generation} is enforced on {}, {}",
                count(hosts.len(), "host"),
                count(usize::try_from(ports).unwrap_or(usize::MAX), "port")
            );
            Verdict { word: Word::Ok, reasons: vec![reason] }
        }
        (waiting, _) => {
            let reason = format!(
                "generation {generation} is on its way to {} of {}: {}",
                waiting.len(),
                count(hosts.len(), "host"),
                waiting.join(", ")
            );
            Verdict { word: Word::Busy, reasons: vec![reason] }
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Whether nothing is to be done on a host.
fn stands(host: &HostState) -> bool {
    match host.status {
        HostStatus::InSync => host.enforced_generation >= Some(host.wanted_generation),
        HostStatus::Pending
        | HostStatus::Failing
        | HostStatus::Quarantined
        | HostStatus::Unsupported
        | HostStatus::Standby => false,
    }
}

/// Hosts in one of the states that somebody must see to, those that say the same together. (Why this driver does not write to any
/// is among the daemon's own troubles.)
fn of_hosts(hosts: &[HostState], status: HostStatus) -> Vec<String> {
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for host in hosts.iter().filter(|host| host.status == status) {
        let why = host.last_error.as_deref().unwrap_or("it does not say why");
        match by_reason.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, names)) => names.push(&host.name),
            None => by_reason.push((why, vec![&host.name])),
        }
    }
    let words = by_reason.into_iter().map(|(why, names)| {
        let who = format!("{} ({})", count(names.len(), "host"), names.join(", "));
        match status {
            HostStatus::Unsupported => format!("not enforced: {who}: {why}"),
            HostStatus::Quarantined => format!(
                "set aside after repeated failures: {who}: {why}. What stood there stands: mend it, then \
                 `drawbridge hook host-init HOST`"
            ),
            _ => format!("failing: {who}: {why}. What stood there stands, and it is tried again by itself"),
        }
    });
    words.collect()
}

/// Ports that are closed, as one reason.
fn closed(hosts: &[HostState]) -> Option<String> {
    let ports: Vec<_> =
        hosts.iter().flat_map(|host| host.quarantined.iter().map(move |port| (host, port))).collect();
    let (host, port) = ports.first()?;
    let and_others = if ports.len() > 1 { ", and others below" } else { "" };
    Some(format!(
        "{} closed: {} on {}: {}{and_others}",
        count(ports.len(), "port"),
        port.interface,
        host.name,
        port.reason
    ))
}

/// What of a kind fits nothing in the pool, as one reason.
fn fit_nothing(misfits: &[Misfit], kind: MisfitKind) -> Option<String> {
    let all: Vec<&Misfit> = misfits.iter().filter(|misfit| misfit.kind == kind).collect();
    let Misfit { id, message, .. } = all.first()?;
    let and_others = if all.len() > 1 { ", and others below" } else { "" };
    let (what, correct) = match kind {
        MisfitKind::GuardedNetwork => ("guarded network", "network create"),
        MisfitKind::Port | MisfitKind::Host => ("port", "port edit"),
    };
    Some(format!(
        "{} not enforced: {id} ({message}){and_others}. Correct it (`drawbridge {correct}`) or delete it",
        count(all.len(), what),
    ))
}
