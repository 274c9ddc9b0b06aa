//! The rows of the store. What a policy file holds, plus projects, ids and revisions.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use ruleset::ids::{GroupId, RuleId, SetId, VifUuid};
use ruleset::model::{Action, AddressPair, Direction, Family, PortSecurity, Remote, Rule, Service};
use serde::{Deserialize, Serialize};

use crate::ids::{PortId, ProjectId, new_id};

/// A project (tenant).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Id.
    pub id: ProjectId,
    /// Name for people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its default group, made with it: anything out, and everything from its own members in. Never changes.
    pub default_group: GroupId,
}

/// What becomes of a connection when the rule that allowed it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRuleRemoval {
    /// It is cut by its next packet.
    #[default]
    Cut,
    /// It lives on until it ends by itself.
    Keep,
}

/// A security group, without its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Id.
    pub id: GroupId,
    /// The project that owns it, if any. Never changes.
    pub project: Option<ProjectId>,
    /// Name for people.
    pub name: String,
    /// For people.
    pub description: String,
    /// What becomes of connections when their rule goes.
    pub on_rule_removal: OnRuleRemoval,
}

/// A rule of a group. Its id is unique in the store, not only in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRule {
    /// The group. Never changes.
    pub group: GroupId,
    /// The rule.
    pub rule: Rule,
}

/// A named set of prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    /// Id.
    pub id: SetId,
    /// The project that owns it, if any.
    pub project: Option<ProjectId>,
    /// Name for people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its prefixes, sorted, no host bits.
    pub addresses: Vec<IpNet>,
}

/// Which VIF a port is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortTarget {
    /// A device of a VM.
    Device {
        /// Name or uuid of the VM.
        vm: String,
        /// The VIF's device number.
        device: u32,
    },
    /// A VIF by XAPI's uuid.
    Vif(VifUuid),
}

impl fmt::Display for PortTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { vm, device } => write!(f, "VM {vm} device {device}"),
            Self::Vif(uuid) => write!(f, "VIF {uuid}"),
        }
    }
}

/// A port: one VIF with its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Id.
    pub id: PortId,
    /// The project that owns it, if any.
    pub project: Option<ProjectId>,
    /// The VIF.
    pub target: PortTarget,
    /// Fixed addresses, sorted.
    pub addresses: Vec<IpAddr>,
    /// Allowed address pairs, sorted.
    pub pairs: Vec<AddressPair>,
    /// Its groups, sorted; none means that nothing but the base rules passes.
    pub groups: Vec<GroupId>,
    /// Filtered at all?
    pub security: PortSecurity,
}

/// A rule of the operator's. They are asked in the order of their positions; among equals the id decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRule {
    /// Place in the order, lowest first.
    pub position: u32,
    /// What happens to a packet that matches.
    pub action: Action,
    /// The matching part.
    pub rule: Rule,
}

/// Anything the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entity {
    /// A project.
    Project(Project),
    /// A group.
    Group(Group),
    /// A group's rule.
    Rule(GroupRule),
    /// An address set.
    Set(AddressSet),
    /// A port.
    Port(Port),
    /// A rule of the operator's.
    ProviderRule(ProviderRule),
    /// A guarded network, by name or uuid.
    GuardedNetwork(String),
    /// The mark that the store was adopted: before, what stands on hosts must not be taken away in its name.
    Adoption,
}

/// The id of the one [`Entity::Adoption`].
pub(crate) const ADOPTED: &str = "store";

/// The identity of an [`Entity`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants of Entity")]
pub enum Key {
    Project(ProjectId),
    Group(GroupId),
    Rule(RuleId),
    Set(SetId),
    Port(PortId),
    ProviderRule(RuleId),
    GuardedNetwork(String),
    Adoption,
}

/// What an [`Entity`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants of Entity")]
pub enum Kind {
    Project,
    Group,
    Rule,
    Set,
    Port,
    ProviderRule,
    GuardedNetwork,
    Adoption,
}

impl Kind {
    pub(crate) const COUNT: usize = 8;

    /// In words: `project`, `group`, `rule`, `address set`, `port`, `provider rule`, `guarded network`, `adoption`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Group => "group",
            Self::Rule => "rule",
            Self::Set => "address set",
            Self::Port => "port",
            Self::ProviderRule => "provider rule",
            Self::GuardedNetwork => "guarded network",
            Self::Adoption => "adoption",
        }
    }
}

impl Key {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Project(_) => Kind::Project,
            Self::Group(_) => Kind::Group,
            Self::Rule(_) => Kind::Rule,
            Self::Set(_) => Kind::Set,
            Self::Port(_) => Kind::Port,
            Self::ProviderRule(_) => Kind::ProviderRule,
            Self::GuardedNetwork(_) => Kind::GuardedNetwork,
            Self::Adoption => Kind::Adoption,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Project(id) => id.as_str(),
            Self::Group(id) => id.as_str(),
            Self::Rule(id) | Self::ProviderRule(id) => id.as_str(),
            Self::Set(id) => id.as_str(),
            Self::Port(id) => id.as_str(),
            Self::GuardedNetwork(name) => name,
            Self::Adoption => ADOPTED,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().name(), self.id())
    }
}

impl Entity {
    /// Its identity.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Project(p) => Key::Project(p.id.clone()),
            Self::Group(g) => Key::Group(g.id.clone()),
            Self::Rule(r) => Key::Rule(r.rule.id.clone()),
            Self::Set(s) => Key::Set(s.id.clone()),
            Self::Port(p) => Key::Port(p.id.clone()),
            Self::ProviderRule(p) => Key::ProviderRule(p.rule.id.clone()),
            Self::GuardedNetwork(name) => Key::GuardedNetwork(name.clone()),
            Self::Adoption => Key::Adoption,
        }
    }

    /// What it cannot be without.
    #[must_use]
    pub fn references(&self) -> Vec<Key> {
        let project = |id: &Option<ProjectId>| id.iter().cloned().map(Key::Project).collect::<Vec<_>>();
        match self {
            Self::Project(_) | Self::GuardedNetwork(_) | Self::Adoption => Vec::new(),
            Self::Group(g) => project(&g.project),
            Self::Set(s) => project(&s.project),
            Self::Rule(r) => {
                let owner = Key::Group(r.group.clone());
                // A rule that names its own group needs it once.
                let remote = remote(&r.rule).filter(|key| *key != owner);
                [Some(owner), remote].into_iter().flatten().collect()
            }
            Self::ProviderRule(p) => remote(&p.rule).into_iter().collect(),
            Self::Port(p) => {
                let mut keys = project(&p.project);
                keys.extend(p.groups.iter().cloned().map(Key::Group));
                keys
            }
        }
    }
}

fn remote(rule: &Rule) -> Option<Key> {
    match &rule.remote {
        Remote::Any | Remote::Prefix(_) => None,
        Remote::Group(id) => Some(Key::Group(id.clone())),
        Remote::Set(id) => Some(Key::Set(id.clone())),
    }
}

/// An entity as it was saved last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The generation that made or changed it last.
    pub revision: u64,
    /// The entity.
    pub entity: Entity,
}

/// The rules a new group has without being told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImplicitRules {
    /// A new group: egress to anybody.
    #[default]
    Egress,
    /// A project's default group: also ingress from itself.
    DefaultGroup,
    /// None.
    None,
}

/// Those rules, with new ids (neutron `_ensure_default_security_group`).
#[must_use]
pub fn implicit_rules(kind: ImplicitRules, group: &GroupId) -> Vec<GroupRule> {
    let sides: &[(Direction, Remote)] = match kind {
        ImplicitRules::None => &[],
        ImplicitRules::Egress => &[(Direction::Egress, Remote::Any)],
        ImplicitRules::DefaultGroup => {
            &[(Direction::Egress, Remote::Any), (Direction::Ingress, Remote::Group(group.clone()))]
        }
    };
    let families = |(direction, remote): &(Direction, Remote)| {
        let (direction, remote) = (*direction, remote.clone());
        Family::ALL.map(|family| GroupRule {
            group: group.clone(),
            rule: Rule {
                id: new_id(),
                direction,
                family,
                service: Service::Any,
                remote: remote.clone(),
                description: String::new(),
            },
        })
    };
    sides.iter().flat_map(families).collect()
}
