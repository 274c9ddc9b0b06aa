//! Is everything as it should be? If not, what is the matter, and what to do.

use std::fmt;

use api::control::{HostState, HostStatus};
use api::wire::{Port, Status};
use serde::Serialize;

use crate::cli::port::target;
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

/// `others` is how many networks and hosts of the store fit nothing in the pool.
pub(super) fn verdict(status: &Status, hosts: &[HostState], unbound: &[Port], others: usize) -> Verdict {
    let mut reasons: Vec<String> = status.trouble.clone();
    if !status.adopted && status.trouble.is_empty() {
        reasons.push(
            "the store was not adopted, so nothing is taken away from a host: look at `drawbridge export`, \
             then say `drawbridge adopt`"
                .to_owned(),
        );
    }
    reasons.extend(hosts.iter().filter_map(of_host));
    for host in hosts {
        reasons.extend(host.quarantined.iter().map(|port| {
            format!(
                "{} on {} is closed, since dom0 refuses its rules ({}): change the rules of its groups",
                port.interface, host.name, port.reason
            )
        }));
    }
    reasons.extend(unbound.iter().map(|port| {
        let why =
            port.state.as_ref().and_then(|state| state.last_error.as_deref()).unwrap_or("no VIF fits it");
        format!(
            "port {} ({}) is not enforced: {why}: correct it (`drawbridge port edit {0}`) or delete it",
            port.id,
            target(port)
        )
    }));
    if others > 0 {
        reasons.push(format!(
            "{others} guarded networks or hosts fit nothing in the pool: compare `drawbridge network list` with XAPI's"
        ));
    }
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
        HostStatus::LeftAlone | HostStatus::Offline => true,
        HostStatus::Pending | HostStatus::Failing | HostStatus::Quarantined | HostStatus::Standby => false,
    }
}

fn of_host(host: &HostState) -> Option<String> {
    let (name, why) = (&host.name, host.last_error.as_deref().unwrap_or("it does not say why"));
    match host.status {
        HostStatus::Failing => Some(format!(
            "host {name} fails: {why}; what stood there stands, and it is tried again by itself: \
             `drawbridge call {name} iptables-save` shows whether dom0 answers"
        )),
        HostStatus::Quarantined => Some(format!(
            "host {name} was set aside after repeated failures: {why}; what stood there stands: mend it, then \
             `drawbridge hook host-init {name}`"
        )),
        // Said once, for all hosts, among the daemon's own troubles.
        HostStatus::Standby => None,
        HostStatus::InSync | HostStatus::Pending | HostStatus::Offline | HostStatus::LeftAlone => None,
    }
}
