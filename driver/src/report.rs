//! What a run found and did, for people and for programs.

use std::collections::BTreeSet;
use std::fmt;

use ruleset::ids::{Interface, VifUuid};
use ruleset::iptables::{Change, ConntrackFill};
use ruleset::model::Family;
use ruleset::ovs;
use ruleset::resolve::HostPolicy;
use serde::Serialize;

use crate::desired::Problem;
use crate::reconcile::Standing;

/// The outcome of a run over a pool.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `plan`, `apply`, or the hook's name.
    pub action: String,
    /// Whether everything in scope is as the policy wants it (for a plan: could be brought there).
    pub ok: bool,
    /// One entry a host in scope.
    pub hosts: Vec<HostReport>,
    /// VIFs without an interface that were locked again.
    pub locking: Vec<String>,
    /// What of the policy could not be bound to the pool.
    pub problems: Vec<Problem>,
}

/// One host.
#[derive(Debug, Serialize)]
pub struct HostReport {
    /// Its name.
    pub host: String,
    /// Its uuid.
    pub uuid: String,
    /// What became of it.
    pub status: Status,
    /// Guests' ports that are enforced there.
    pub ports: usize,
    /// Changes to rules, made or planned.
    pub changes: Vec<HostChange>,
    /// Changes to VIF locking, made or planned.
    pub locking: Vec<String>,
    /// What is wrong there and not ours to change.
    pub complaints: Vec<String>,
    /// Ports that are closed: dom0 refuses their rules, or the switch does not have them.
    pub quarantined: Vec<Quarantined>,
    /// How full dom0's connection tracking was, if that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<ConntrackFill>,
    /// Bytes of rules written.
    pub bytes_written: usize,
    /// It failed because what stands there is not what was read, as when another writer came in between: worth another try.
    #[serde(skip)]
    pub overtaken: bool,
    /// It failed because XAPI holds it for offline.
    #[serde(skip)]
    pub offline: bool,
    /// How it stands there, if that is just what was compiled.
    #[serde(skip)]
    pub standing: Option<Standing>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A port that was closed: nothing but what every guest needs passes it.
#[derive(Clone, Debug, Serialize)]
pub struct Quarantined {
    /// The VIF's uuid.
    pub vif: String,
    /// Its interface in dom0.
    pub interface: String,
    /// The family whose rules dom0 refuses; of flows, there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Why, and what to do about it.
    pub reason: String,
    /// The switch has no port for it. That may come without a word.
    #[serde(skip)]
    pub portless: bool,
}

/// A change, and where.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum HostChange {
    /// On a Linux bridge host.
    Rules {
        /// `ipv4` or `ipv6`.
        family: Family,
        /// The change.
        #[serde(flatten)]
        change: Change,
    },
    /// On an Open vSwitch host.
    Flows {
        /// The real bridge.
        bridge: Interface,
        /// The change.
        #[serde(flatten)]
        change: Box<ovs::Change>,
    },
}

impl fmt::Display for HostChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules { family, change } => write!(f, "{family} {change}"),
            Self::Flows { bridge, change } => write!(f, "{bridge} {change}"),
        }
    }
}

/// What became of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Everything stood already.
    Unchanged,
    /// Changes are planned.
    Planned,
    /// Changes were made and read back.
    Changed,
    /// Nothing of ours is there and nothing to enforce.
    LeftAlone,
    /// Not as the policy wants it; `error` says why. What stood there stands.
    Failed,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Planned => "would change",
            Self::Changed => "changed",
            Self::LeftAlone => "left alone",
            Self::Failed => "FAILED",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for host in &self.hosts {
            host.write(f, self.action == "plan")?;
        }
        for change in &self.locking {
            writeln!(f, "{change}")?;
        }
        for Problem { subject, vm: _, message } in &self.problems {
            writeln!(f, "problem: {subject}: {message}")?;
        }
        let failed = self.hosts.iter().filter(|h| h.status == Status::Failed).count();
        match (self.ok, failed) {
            (true, _) => writeln!(f, "{}: ok, {} hosts", self.action, self.hosts.len()),
            (false, 0) => writeln!(f, "{}: done, but see the problems above", self.action),
            (false, _) => writeln!(f, "{}: {failed} of {} hosts FAILED", self.action, self.hosts.len()),
        }
    }
}

impl HostReport {
    /// Whether the host is as the policy wants it.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.error.is_none() && self.quarantined.is_empty()
    }

    /// This report after that of an earlier attempt that was overtaken, if there was one: what that one wrote counts, too.
    #[must_use]
    pub(crate) fn after(mut self, earlier: Option<Self>) -> Self {
        if let Some(earlier) = earlier.filter(|earlier| earlier.bytes_written > 0) {
            self.changes.splice(..0, earlier.changes);
            self.bytes_written += earlier.bytes_written;
            if self.status == Status::Unchanged {
                self.status = Status::Changed;
            }
        }
        self
    }

    /// Tells of ports that were closed because dom0 refuses their rules.
    pub(crate) fn quarantine(
        &mut self,
        policy: &HostPolicy,
        ports: &BTreeSet<VifUuid>,
        family: Option<Family>,
        refusal: &str,
    ) {
        let of_family = family.map(|family| format!("{family} ")).unwrap_or_default();
        let reason = format!("dom0 refuses its {of_family}rules, change those of its groups: {refusal}");
        self.close(policy, ports, family, false, &reason);
    }

    /// Tells of ports that the switch does not have.
    pub(crate) fn portless(&mut self, policy: &HostPolicy, ports: &BTreeSet<VifUuid>) {
        let reason =
            "the switch has no port for it, though XAPI says that it is plugged: see ovs-vsctl show there";
        self.close(policy, ports, None, true, reason);
    }

    /// Whether another round may lead further: somebody came in between, or the switch lacks a port that it did not lack `before`.
    /// (One whose locking somebody sets at this moment will come.)
    pub(crate) fn asks_for_another(&self, before: &[Quarantined]) -> bool {
        self.overtaken || !Self::missing(&self.quarantined).is_subset(&Self::missing(before))
    }

    /// The VIFs that the switch has no port for, by the names they would have there.
    pub(crate) fn missing(closed: &[Quarantined]) -> BTreeSet<(&str, &str)> {
        let portless = closed.iter().filter(|port| port.portless);
        portless.map(|port| (port.vif.as_str(), port.interface.as_str())).collect()
    }

    fn close(
        &mut self,
        policy: &HostPolicy,
        ports: &BTreeSet<VifUuid>,
        family: Option<Family>,
        portless: bool,
        reason: &str,
    ) {
        let here = policy.attachments.iter().map(|a| (&a.port.vif, a.interfaces()[0].clone()));
        let arriving =
            policy.expected.iter().map(|e| (&e.port.vif, "a VIF that is about to arrive".to_owned()));
        for (vif, interface) in here.chain(arriving).filter(|(vif, _)| ports.contains(vif)) {
            tracing::warn!(host = self.host, interface, reason, "port closed");
            let vif = vif.to_string();
            self.quarantined.push(Quarantined {
                vif,
                interface,
                family,
                reason: reason.to_owned(),
                portless,
            });
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, details: bool) -> fmt::Result {
        let Self {
            host,
            uuid: _,
            status,
            ports,
            changes,
            locking,
            complaints,
            quarantined,
            conntrack: _,
            bytes_written,
            overtaken: _,
            offline: _,
            standing: _,
            error,
        } = self;
        write!(f, "{host}: {}, {ports} ports", status.word())?;
        if !changes.is_empty() {
            write!(f, ", {} rule changes", changes.len())?;
        }
        if *bytes_written > 0 {
            write!(f, ", {bytes_written} bytes written")?;
        }
        writeln!(f)?;
        if details {
            for change in changes {
                writeln!(f, "  {change}")?;
            }
        }
        for change in locking {
            writeln!(f, "  {change}")?;
        }
        for Quarantined { vif, interface, family: _, reason, portless: _ } in quarantined {
            writeln!(f, "  CLOSED: {interface} (VIF {vif}): {reason}")?;
        }
        for complaint in complaints {
            writeln!(f, "  warning: {complaint}")?;
        }
        if let Some(error) = error {
            writeln!(f, "  error: {error}")?;
        }
        Ok(())
    }
}

/// An error with everything behind it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
