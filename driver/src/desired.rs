//! What every host of the pool should hold: the policy file's ports bound to XAPI's VIFs, each with its host.

mod bind;
mod own;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ruleset::ids::{GroupId, Interface, Mac, VifUuid};
use ruleset::model::Port;
use ruleset::resolve::{Attachment, Expected, HostPolicy, PeerSet, Places, ResolveError, resolve};
use store::PortTarget;
use xenapi::{Backend, Host, LockingMode, Network, Ref, Vif, Vm};

use self::bind::{Bound, Index, Live, about, bind};
use crate::intake::inventory::Inventory;
use crate::intake::policy_file::{Origin, PolicyFile};
use crate::locking::{self, VifLocking};

/// `network.other_config` key by which an operator guards a network.
pub const GUARDED_KEY: &str = "drawbridge:guarded";

/// The desired state of a pool.
#[derive(Debug, Default)]
pub struct Desired {
    /// By host; one that does not say which network back end it has is not here.
    pub hosts: BTreeMap<Ref<Host>, HostDesired>,
    /// VIFs of the policy that have no interface anywhere and whose next start would find them open, with the locking they
    /// should have until then.
    pub idle: Vec<VifLocking>,
    /// Where the ports are.
    pub bindings: Vec<Binding>,
    /// What could not be bound. The rest is enforced all the same.
    pub problems: Vec<Problem>,
}

/// A port that the pool has.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Where it is described.
    pub origin: Origin,
    /// Its VIF.
    pub vif: VifUuid,
    /// The VM.
    pub vm: Ref<Vm>,
    /// The host on which it has an interface, if it has one.
    pub host: Option<Ref<Host>>,
    /// Its groups.
    pub groups: Vec<GroupId>,
}

/// The desired state of a host.
#[derive(Debug)]
pub struct HostDesired {
    /// How it switches packets, as it says now.
    pub backend: Backend,
    /// For the rules.
    pub policy: HostPolicy,
    /// For XAPI's own VIF locking.
    pub locking: Vec<VifLocking>,
    /// VIFs that XAPI's own locking stands for and that are no ports of the policy, with the names they may have there.
    pub locked: BTreeMap<VifUuid, [String; 2]>,
}

impl HostDesired {
    /// Whether there is nothing to enforce on the host.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policy.is_empty()
    }

    /// Whether nothing has to be done for this where that stands. What is locked already asks for nothing.
    #[must_use]
    pub fn asks_for_the_same(&self, other: &Self) -> bool {
        let steps = |desired: &Self| {
            let steps = desired.locking.iter().map(|vif| (vif.reference.clone(), vif.steps()));
            steps.filter(|(_, steps)| !steps.is_empty()).collect::<Vec<_>>()
        };
        self.backend == other.backend
            && self.policy == other.policy
            && self.locked == other.locked
            && steps(self).iter().all(|step| steps(other).contains(step))
    }

    /// Whether a rule on this host refers to the members of one of these groups.
    #[must_use]
    pub fn refers_to(&self, groups: &BTreeSet<GroupId>) -> bool {
        self.policy.peers.keys().any(|peers| matches!(peers, PeerSet::Group(id) if groups.contains(id)))
    }
}

/// Something in the policy that the pool does not have, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// What it is about.
    pub subject: Subject,
    /// The VM, or the VIF, as the policy names it, if it concerns no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A VIF that a hook's VM no longer uses could not be locked.
    pub(crate) fn still_open(vif: &VifLocking, vm: &str, why: &str) -> Self {
        Self {
            subject: Subject::Vif(vif.name.clone()),
            vm: Some(vm.to_owned()),
            message: format!("the VIF is still open for the next start: {why}"),
        }
    }
}

/// What a problem is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A port of the policy.
    Port(PortTarget, Origin),
    /// A guarded network, as the policy names it.
    GuardedNetwork(String),
    /// A host, by its name.
    Host(String),
    /// A VIF, by its VM and device.
    Vif(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(target, origin) => write!(f, "{target} ({origin})"),
            Self::GuardedNetwork(name) => write!(f, "guarded network {name}"),
            Self::Host(name) => write!(f, "host {name}"),
            Self::Vif(name) => f.write_str(name),
        }
    }
}

impl serde::Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Guests that somebody has announced to a host before XAPI knows of it: where each is about to go.
pub type Announced = BTreeMap<Ref<Vm>, Ref<Host>>;

/// Binds a policy to a pool. `own` are the MAC addresses of the machine this runs on.
///
/// # Errors
/// [`ResolveError`] if the policy refers to what it does not define.
pub fn desired(
    file: &PolicyFile,
    inventory: &Inventory,
    own: &BTreeSet<Mac>,
) -> Result<Desired, ResolveError> {
    expecting(file, inventory, own, &Announced::new())
}

/// The same, with guests that are expected where XAPI does not send them yet.
///
/// # Errors
/// As [`desired`].
pub fn expecting(
    file: &PolicyFile,
    inventory: &Inventory,
    own: &BTreeSet<Mac>,
    announced: &Announced,
) -> Result<Desired, ResolveError> {
    let mut problems = Vec::new();
    let mut bound: Vec<Bound> = Vec::new();
    let mut seen: BTreeSet<Ref<Vif>> = BTreeSet::new();
    let index = Index::of(inventory, announced);
    let mut bindings = Vec::new();
    for spec in &file.ports {
        match bind(spec, &index) {
            Ok((vif, binding, found)) if !seen.contains(&vif) => {
                seen.insert(vif);
                bindings.push(binding);
                bound.push(found);
            }
            Ok(_) => problems.push(about(spec, "its VIF is described by another port of the policy already")),
            Err(message) => problems.push(about(spec, &message)),
        }
    }
    let guarded = guarded_bridges(file, inventory, &mut problems);
    own::keep_reachable(&mut bound, &seen, inventory, &guarded, own);
    let lifelines = own::lifelines(inventory, &guarded, own);
    let policy = own::with_group(&file.policy, inventory);
    let live: Vec<Port> = bound.iter().filter(|b| b.live.is_some()).map(|b| b.port.clone()).collect();

    let mut attachments: BTreeMap<Ref<Host>, (Vec<Attachment>, Vec<VifLocking>)> = BTreeMap::new();
    let mut expected: BTreeMap<Ref<Host>, Vec<Expected>> = BTreeMap::new();
    let mut idle = Vec::new();
    for Bound { port, live, coming, idle: locking } in bound {
        idle.extend(locking);
        for (host, bridge) in coming {
            expected.entry(host).or_default().push(Expected { port: port.clone(), bridge });
        }
        let Some(Live { host, domid, device, bridge, locking }) = live else { continue };
        let (ports, lockings) = attachments.entry(host).or_default();
        ports.push(Attachment { port, domid, device, bridge });
        lockings.push(locking);
    }
    let mut hosts = BTreeMap::new();
    let mut locked = locked_by_others(inventory, &seen);
    for (reference, host) in &inventory.hosts {
        let (attachments, mut locking) = attachments.remove(reference).unwrap_or_default();
        match host.backend() {
            Ok(backend) => {
                if backend == Backend::OpenVSwitch {
                    for (vif, attachment) in locking.iter_mut().zip(&attachments) {
                        vif.wanted = locking::wanted_on_switch(&attachment.port);
                    }
                }
                let expected = expected.remove(reference).unwrap_or_default();
                let places = Places { attachments, expected };
                let policy = resolve(&policy, &live, places, guarded.clone())?;
                let policy = HostPolicy { lifelines: lifelines.clone(), ..policy };
                let locked = locked.remove(reference).unwrap_or_default();
                hosts.insert(reference.clone(), HostDesired { backend, policy, locking, locked });
            }
            Err(error) => problems.push(Problem {
                subject: Subject::Host(host.name_label.clone()),
                vm: None,
                message: error.to_string(),
            }),
        }
    }
    Ok(Desired { hosts, idle, bindings, problems })
}

/// By host, the VIFs that XAPI has locked, but for those the policy describes.
fn locked_by_others(
    inventory: &Inventory,
    described: &BTreeSet<Ref<Vif>>,
) -> BTreeMap<Ref<Host>, BTreeMap<VifUuid, [String; 2]>> {
    let mut locked: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (reference, vif) in &inventory.vifs {
        let is_locked = vif.locking_mode == LockingMode::Locked && vif.currently_attached;
        let Some(vm) = inventory.vms.get(&vif.vm).filter(|_| is_locked && !described.contains(reference))
        else {
            continue;
        };
        if let (Some(host), Some(domid), Ok(uuid)) =
            (vm.resident_on.non_null(), vm.domid, vif.uuid.to_string().parse())
        {
            let names = ["vif", "tap"].map(|kind| format!("{kind}{domid}.{}", vif.device));
            locked.entry(host.clone()).or_default().insert(uuid, names);
        }
    }
    locked
}

fn guarded_bridges(
    file: &PolicyFile,
    inventory: &Inventory,
    problems: &mut Vec<Problem>,
) -> BTreeSet<Interface> {
    let mut networks: Vec<&Network> = inventory
        .networks
        .values()
        .filter(|n| n.other_config.get(GUARDED_KEY).is_some_and(|v| v == "true"))
        .collect();
    for name in &file.guarded_networks {
        let mut named =
            inventory.networks.values().filter(|n| n.name_label == *name || n.uuid.to_string() == *name);
        match (named.next(), named.next()) {
            (Some(network), None) => networks.push(network),
            (None, _) => problems.push(Problem {
                subject: Subject::GuardedNetwork(name.clone()),
                vm: None,
                message: "the pool has no network of this name or uuid".to_owned(),
            }),
            (Some(_), Some(_)) => problems.push(Problem {
                subject: Subject::GuardedNetwork(name.clone()),
                vm: None,
                message: "several networks have this name: write the uuid".to_owned(),
            }),
        }
    }
    let mut bridges = BTreeSet::new();
    for network in networks {
        match network.bridge.parse() {
            Ok(bridge) => {
                bridges.insert(bridge);
            }
            Err(error) => problems.push(Problem {
                subject: Subject::GuardedNetwork(network.name_label.clone()),
                vm: None,
                message: format!("{error}"),
            }),
        }
    }
    bridges
}

#[cfg(test)]
mod tests;
