//! The store once more, small and obvious: maps of text, checked from beginning to end after each edit.

use std::collections::{BTreeMap, BTreeSet};

/// One edit, over few enough ids that they meet.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    CreateProject(u8),
    DeleteProject(u8),
    CreateGroup {
        group: u8,
        project: Option<u8>,
    },
    RenameGroup {
        group: GroupName,
        default: bool,
        expected: Expected,
    },
    DeleteGroup {
        group: GroupName,
        expected: Expected,
    },
    PutRule {
        rule: u8,
        group: GroupName,
        port: u8,
        remote: Remote,
        create: bool,
        expected: Expected,
    },
    DeleteRule {
        rule: u8,
        expected: Expected,
    },
    PutSet {
        set: u8,
        addresses: u8,
        create: bool,
    },
    DeleteSet(u8),
    PutPort {
        port: u8,
        device: u8,
        groups: Vec<GroupName>,
        project: Option<u8>,
        create: bool,
        expected: Expected,
    },
    DeletePort(u8),
    PutProviderRule {
        rule: u8,
        remote: Remote,
        create: bool,
    },
    DeleteProviderRule(u8),
    Guard(u8),
    Unguard(u8),
}

/// A group by its own id, or as a project's default group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GroupName {
    Own(u8),
    DefaultOf(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Remote {
    Any,
    Group(GroupName),
    Set(u8),
}

/// The revision an editor names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    None,
    Right,
    Wrong,
}

impl GroupName {
    pub(crate) fn id(self) -> String {
        match self {
            Self::Own(n) => format!("group{n}"),
            Self::DefaultOf(n) => format!("project{n}-default"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub generation: u64,
    pub projects: BTreeSet<u8>,
    /// Project and whether it is called "default".
    pub groups: BTreeMap<String, (Option<u8>, bool)>,
    pub rules: BTreeMap<u8, (String, u8, Remote)>,
    pub sets: BTreeMap<u8, u8>,
    /// Device, groups, project.
    pub ports: BTreeMap<u8, (u8, BTreeSet<String>, Option<u8>)>,
    pub provider: BTreeMap<u8, Remote>,
    pub guarded: BTreeSet<u8>,
    /// By kind and id.
    pub revisions: BTreeMap<String, u64>,
}

impl Model {
    /// The model after a transaction; `None` if it is refused.
    pub(crate) fn transact(&self, ops: &[Op]) -> Option<Self> {
        let mut next = self.clone();
        for op in ops {
            next = next.step(op, self.generation + 1)?;
        }
        let changed = next != *self;
        // A row made and removed again is no difference, but it was an edit.
        let touched = changed || ops.iter().any(|op| self.step(op, 0).is_some_and(|one| one != *self));
        if touched {
            next.generation = self.generation + 1;
        }
        Some(next)
    }

    fn step(&self, op: &Op, revision: u64) -> Option<Self> {
        let mut next = self.clone();
        next.edit(op, revision)?;
        next.is_whole().then_some(next)
    }

    /// Whether everything that is referred to is there, and what must be unique is.
    fn is_whole(&self) -> bool {
        let remote = |remote: &Remote| match remote {
            Remote::Any => true,
            Remote::Group(group) => self.groups.contains_key(&group.id()),
            Remote::Set(set) => self.sets.contains_key(set),
        };
        let project = |project: &Option<u8>| project.is_none_or(|project| self.projects.contains(&project));
        let contents: BTreeSet<_> = self.rules.values().collect();
        let devices: BTreeSet<_> = self.ports.values().map(|(device, ..)| device).collect();
        contents.len() == self.rules.len()
            && devices.len() == self.ports.len()
            && self.rules.values().all(|(group, _, to)| self.groups.contains_key(group) && remote(to))
            && self.provider.values().all(remote)
            && self
                .ports
                .values()
                .all(|(_, groups, of)| groups.iter().all(|g| self.groups.contains_key(g)) && project(of))
            && self.groups.iter().all(|(id, (of, default))| {
                let is_default = id.ends_with("-default");
                // The name belongs to the default group, and it keeps it; outside of projects it is a name like any other.
                project(of) && (!is_default || *default) && (is_default || of.is_none() || !*default)
            })
    }

    fn edit(&mut self, op: &Op, revision: u64) -> Option<()> {
        match op.clone() {
            Op::CreateProject(n) => {
                self.projects.insert(n).then_some(())?;
                self.groups.insert(GroupName::DefaultOf(n).id(), (Some(n), true));
                self.touch(format!("project{n}"), revision);
                self.touch(GroupName::DefaultOf(n).id(), revision);
            }
            Op::DeleteProject(n) => {
                self.projects.remove(&n).then_some(())?;
                self.remove_group(&GroupName::DefaultOf(n).id());
            }
            Op::CreateGroup { group, project } => {
                let id = GroupName::Own(group).id();
                self.groups.insert(id.clone(), (project, false)).is_none().then_some(())?;
                self.touch(id, revision);
            }
            Op::RenameGroup { group, default, expected } => {
                self.expect(&group.id(), expected)?;
                let (_, name) = self.groups.get_mut(&group.id())?;
                if std::mem::replace(name, default) != default {
                    self.touch(group.id(), revision);
                }
            }
            Op::DeleteGroup { group, expected } => {
                self.expect(&group.id(), expected)?;
                matches!(group, GroupName::Own(_)).then_some(())?;
                self.groups.contains_key(&group.id()).then_some(())?;
                self.remove_group(&group.id());
            }
            Op::PutRule { rule, group, port, remote, create, expected } => {
                let before = self.rules.get(&rule).cloned();
                let group = if create { group.id() } else { before.clone()?.0 };
                (before.is_some() != create).then_some(())?;
                if !create {
                    self.expect(&format!("rule{rule}"), expected)?;
                }
                let after = (group, port, remote);
                if before.as_ref() != Some(&after) {
                    self.rules.insert(rule, after);
                    self.touch(format!("rule{rule}"), revision);
                }
            }
            Op::DeleteRule { rule, expected } => {
                self.expect(&format!("rule{rule}"), expected)?;
                self.rules.remove(&rule)?;
            }
            Op::PutSet { set, addresses, create } => {
                (self.sets.contains_key(&set) != create).then_some(())?;
                if self.sets.insert(set, addresses) != Some(addresses) {
                    self.touch(format!("set{set}"), revision);
                }
            }
            Op::DeleteSet(set) => drop(self.sets.remove(&set)?),
            Op::PutPort { port, device, groups, project, create, expected } => {
                (self.ports.contains_key(&port) != create).then_some(())?;
                if !create {
                    self.expect(&format!("port{port}"), expected)?;
                }
                let after = (device, groups.into_iter().map(GroupName::id).collect(), project);
                if self.ports.get(&port) != Some(&after) {
                    self.ports.insert(port, after);
                    self.touch(format!("port{port}"), revision);
                }
            }
            Op::DeletePort(port) => drop(self.ports.remove(&port)?),
            Op::PutProviderRule { rule, remote, create } => {
                (self.provider.contains_key(&rule) != create).then_some(())?;
                if self.provider.insert(rule, remote) != Some(remote) {
                    self.touch(format!("provider{rule}"), revision);
                }
            }
            Op::DeleteProviderRule(rule) => drop(self.provider.remove(&rule)?),
            Op::Guard(n) => self.guarded.insert(n).then_some(())?,
            Op::Unguard(n) => self.guarded.remove(&n).then_some(())?,
        }
        Some(())
    }

    fn touch(&mut self, id: String, revision: u64) {
        self.revisions.insert(id, revision);
    }

    /// The revision that `expected` names; `None` if the edit must be refused for it.
    fn expect(&self, id: &str, expected: Expected) -> Option<()> {
        let there = match id.split_at(4) {
            ("rule", n) => self.rules.contains_key(&n.parse().ok()?),
            ("port", n) => self.ports.contains_key(&n.parse().ok()?),
            _ => self.groups.contains_key(id),
        };
        (there && !matches!(expected, Expected::Wrong)).then_some(())
    }

    fn remove_group(&mut self, id: &str) {
        self.groups.remove(id);
        self.rules.retain(|_, (group, ..)| group != id);
    }
}
