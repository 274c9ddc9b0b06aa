//! What the tests have in common.

use ruleset::model::{Direction, Family, PortRange, Protocol, Remote, Rule, Service};
use store::{
    By, Edit, Entity, Group, GroupRule, OnRuleRemoval, Port, PortTarget, Project, Receipt, Store, StoreError,
};

pub(crate) fn by() -> By {
    By { actor: "test".to_owned(), origin: "here".to_owned() }
}

pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("an id")
}

pub(crate) fn project(name: &str) -> Entity {
    Entity::Project(Project {
        id: id(name),
        name: name.to_owned(),
        description: String::new(),
        default_group: id(&format!("{name}-default")),
    })
}

pub(crate) fn group(name: &str) -> Entity {
    Entity::Group(Group {
        id: id(name),
        project: None,
        name: name.to_owned(),
        description: String::new(),
        on_rule_removal: OnRuleRemoval::Cut,
    })
}

/// Ingress TCP to one port.
pub(crate) fn rule(name: &str, group: &str, port: u16, remote: Remote) -> Entity {
    let range = PortRange::new(port, port).expect("a port");
    Entity::Rule(GroupRule {
        group: id(group),
        rule: Rule {
            id: id(name),
            direction: Direction::Ingress,
            family: Family::Ipv4,
            service: Service::Ports(Protocol::TCP, range),
            remote,
            description: String::new(),
        },
    })
}

pub(crate) fn port(name: &str, vm: &str, device: u32, groups: &[&str]) -> Port {
    Port {
        id: id(name),
        project: None,
        target: PortTarget::Device { vm: vm.to_owned(), device },
        addresses: vec![id("10.0.0.1")],
        pairs: Vec::new(),
        groups: groups.iter().map(|group| id(group)).collect(),
        security: ruleset::model::PortSecurity::On,
    }
}

pub(crate) async fn create(
    store: &Store,
    entities: impl IntoIterator<Item = Entity>,
) -> Result<Receipt, StoreError> {
    store.edit(entities.into_iter().map(Edit::Create).collect(), by()).await
}

/// A store of each kind, empty; whatever the body does must come out the same.
pub(crate) struct Stores {
    /// The SQLite file's folder, until the test ends.
    _folder: tempfile::TempDir,
    pub(crate) urls: [String; 2],
}

impl Stores {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sqlite = format!("sqlite:{}/store.db", folder.path().display());
        Self { _folder: folder, urls: [sqlite, crate::postgres::database().await] }
    }
}
