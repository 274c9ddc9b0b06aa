//! Random sequences of transactions: the store and the model agree on each answer, on everything they hold after it, and
//! after a restart at any place.

use proptest::prelude::*;
use ruleset::model::{self, Direction, Family, PortRange, Protocol, Service};
use store::{
    AddressSet, Edit, Entity, Group, GroupRule, Key, Kind, OnRuleRemoval, Port, PortTarget, ProviderRule,
    State, Store, StoreError,
};

use crate::model::{Expected, GroupName, Model, Op, Remote};
use crate::support::{Stores, by, id, project};

fn group_name() -> impl Strategy<Value = GroupName> {
    prop_oneof![4 => (0..2u8).prop_map(GroupName::Own), 1 => (0..2u8).prop_map(GroupName::DefaultOf)]
}

fn remote() -> impl Strategy<Value = Remote> {
    prop_oneof![
        5 => Just(Remote::Any),
        2 => group_name().prop_map(Remote::Group),
        1 => (0..2u8).prop_map(Remote::Set),
    ]
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![4 => Just(Expected::None), 2 => Just(Expected::Right), 1 => Just(Expected::Wrong)]
}

fn op() -> impl Strategy<Value = Op> {
    let some_project = || proptest::option::of(0..2u8);
    let groups = proptest::collection::vec(group_name(), 0..3);
    prop_oneof![
        3 => (0..2u8).prop_map(Op::CreateProject),
        1 => (0..2u8).prop_map(Op::DeleteProject),
        6 => (0..2u8, some_project()).prop_map(|(group, project)| Op::CreateGroup { group, project }),
        1 => (group_name(), any::<bool>(), expected())
            .prop_map(|(group, default, expected)| Op::RenameGroup { group, default, expected }),
        2 => (group_name(), expected()).prop_map(|(group, expected)| Op::DeleteGroup { group, expected }),
        8 => (0..4u8, group_name(), 1..3u8, remote(), any::<bool>(), expected()).prop_map(
            |(rule, group, port, remote, create, expected)| Op::PutRule { rule, group, port, remote, create, expected }
        ),
        2 => (0..4u8, expected()).prop_map(|(rule, expected)| Op::DeleteRule { rule, expected }),
        4 => (0..2u8, 0..3u8, any::<bool>())
            .prop_map(|(set, addresses, create)| Op::PutSet { set, addresses, create }),
        1 => (0..2u8).prop_map(Op::DeleteSet),
        6 => (0..3u8, 0..3u8, groups, some_project(), any::<bool>(), expected()).prop_map(
            |(port, device, groups, project, create, expected)| {
                Op::PutPort { port, device, groups, project, create, expected }
            }
        ),
        2 => (0..3u8).prop_map(Op::DeletePort),
        2 => (0..2u8, remote(), any::<bool>())
            .prop_map(|(rule, remote, create)| Op::PutProviderRule { rule, remote, create }),
        1 => (0..2u8).prop_map(Op::DeleteProviderRule),
        1 => (0..2u8).prop_map(Op::Guard),
        1 => (0..2u8).prop_map(Op::Unguard),
    ]
}

/// What happens to the store.
#[derive(Clone, Debug)]
enum Step {
    Transaction(Vec<Op>),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let transaction = proptest::collection::vec(op(), 1..4).prop_map(Step::Transaction);
    proptest::collection::vec(prop_oneof![12 => transaction, 1 => Just(Step::Restart)], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_its_model(steps in steps()) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            for url in Stores::new().await.urls {
                run(&url, &steps).await;
            }
        });
    }
}

async fn run(url: &str, steps: &[Step]) {
    let mut store = Store::open(url).await.expect("a store");
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Restart => {
                store.close().await;
                store = Store::open(url).await.expect("the store again");
            }
            Step::Transaction(ops) => {
                let edits = edits(ops, &store.state(), &model);
                let done = store.edit(edits, by()).await;
                match (model.transact(ops), done) {
                    (Some(next), Ok(receipt)) => {
                        assert_eq!(receipt.generation, next.generation, "{ops:?}");
                        model = next;
                    }
                    (None, Err(StoreError::Edit(_))) => {}
                    (next, done) => panic!("{ops:?}: the model says {next:?}, the store {done:?}"),
                }
            }
        }
        compare(&store.state(), &model);
    }
}

fn edits(ops: &[Op], state: &State, model: &Model) -> Vec<Edit> {
    // A transaction's own revisions count from its second edit on.
    let mut model = Some(model.clone());
    let next = state.generation() + 1;
    let mut edits = Vec::new();
    for op in ops {
        edits.push(edit(op, state, model.as_ref()));
        let single = std::slice::from_ref(op);
        model = model.and_then(|model| {
            let mut after = model.transact(single)?;
            for (id, revision) in &mut after.revisions {
                if model.revisions.get(id) != Some(revision) {
                    *revision = next;
                }
            }
            Some(after)
        });
    }
    edits
}

fn edit(op: &Op, state: &State, model: Option<&Model>) -> Edit {
    let expected = |id: &str, expected: Expected| match expected {
        Expected::None => None,
        Expected::Right => model.and_then(|model| model.revisions.get(id)).copied(),
        Expected::Wrong => {
            Some(1 + model.and_then(|model| model.revisions.get(id)).copied().unwrap_or_default())
        }
    };
    let put = |create, entity, expected| {
        if create { Edit::Create(entity) } else { Edit::Replace { entity, expected } }
    };
    let delete = |key, expected| Edit::Delete { key, expected };
    match op.clone() {
        Op::CreateProject(n) => Edit::Create(project(&format!("project{n}"))),
        Op::DeleteProject(n) => delete(Key::Project(id(&format!("project{n}"))), None),
        Op::CreateGroup { group, project } => {
            Edit::Create(Entity::Group(a_group(&GroupName::Own(group).id(), project, false)))
        }
        Op::RenameGroup { group, default, expected: e } => {
            let project =
                model.and_then(|model| model.groups.get(&group.id())).and_then(|(project, _)| *project);
            let mut entity = a_group(&group.id(), project, default);
            if let GroupName::DefaultOf(_) = group {
                entity.description = "Default security group".to_owned();
            }
            Edit::Replace { entity: Entity::Group(entity), expected: expected(&group.id(), e) }
        }
        Op::DeleteGroup { group, expected: e } => {
            delete(Key::Group(id(&group.id())), expected(&group.id(), e))
        }
        Op::PutRule { rule, group, port, remote, create, expected: e } => {
            let name = format!("rule{rule}");
            let there = model.and_then(|model| model.rules.get(&rule)).map(|(group, ..)| group.clone());
            let group = if create { group.id() } else { there.unwrap_or_else(|| group.id()) };
            let rule = a_rule(&name, port, remote);
            put(create, Entity::Rule(GroupRule { group: id(&group), rule }), expected(&name, e))
        }
        Op::DeleteRule { rule, expected: e } => {
            let name = format!("rule{rule}");
            delete(Key::Rule(id(&name)), expected(&name, e))
        }
        Op::PutSet { set, addresses, create } => put(create, Entity::Set(a_set(set, addresses)), None),
        Op::DeleteSet(n) => delete(Key::Set(id(&format!("set{n}"))), None),
        Op::PutPort { port, device, groups, project, create, expected: e } => {
            let name = format!("port{port}");
            let groups: Vec<String> = groups.into_iter().map(GroupName::id).collect();
            put(create, Entity::Port(a_port(&name, device, &groups, project)), expected(&name, e))
        }
        Op::DeletePort(n) => delete(Key::Port(id(&format!("port{n}"))), None),
        Op::PutProviderRule { rule, remote, create } => {
            let rule = a_rule(&format!("provider{rule}"), 1, remote);
            let entity =
                Entity::ProviderRule(ProviderRule { position: 1, action: model::Action::Deny, rule });
            put(create, entity, None)
        }
        Op::DeleteProviderRule(n) => delete(Key::ProviderRule(id(&format!("provider{n}"))), None),
        Op::Guard(n) => Edit::Create(Entity::GuardedNetwork(format!("network{n}"))),
        Op::Unguard(n) => {
            let key = Key::GuardedNetwork(format!("network{n}"));
            delete(key.clone(), state.row(&key).map(|row| row.revision))
        }
    }
}

fn a_group(name: &str, project: Option<u8>, default: bool) -> Group {
    Group {
        id: id(name),
        project: project.map(|n| id(&format!("project{n}"))),
        name: if default { "default" } else { "group" }.to_owned(),
        description: String::new(),
        on_rule_removal: OnRuleRemoval::Cut,
    }
}

fn a_rule(name: &str, port: u8, remote: Remote) -> model::Rule {
    let range = PortRange::new(port.into(), port.into()).expect("a port");
    model::Rule {
        id: id(name),
        direction: Direction::Ingress,
        family: Family::Ipv4,
        service: Service::Ports(Protocol::TCP, range),
        remote: match remote {
            Remote::Any => model::Remote::Any,
            Remote::Group(group) => model::Remote::Group(id(&group.id())),
            Remote::Set(n) => model::Remote::Set(id(&format!("set{n}"))),
        },
        description: String::new(),
    }
}

fn a_set(n: u8, addresses: u8) -> AddressSet {
    AddressSet {
        id: id(&format!("set{n}")),
        project: None,
        name: String::new(),
        description: String::new(),
        addresses: (0..addresses).map(|n| id(&format!("10.0.{n}.0/24"))).collect(),
    }
}

fn a_port(name: &str, device: u8, groups: &[String], project: Option<u8>) -> Port {
    Port {
        id: id(name),
        project: project.map(|n| id(&format!("project{n}"))),
        target: PortTarget::Device { vm: "vm".to_owned(), device: device.into() },
        addresses: Vec::new(),
        pairs: Vec::new(),
        groups: groups.iter().map(|group| id(group)).collect(),
        security: model::PortSecurity::On,
    }
}

/// Everything, as text: what the store holds, and what the model says it should.
fn compare(state: &State, model: &Model) {
    let mut wanted = Vec::new();
    let mut is = Vec::new();
    for n in &model.projects {
        wanted.push(format!("project project{n}"));
    }
    for (name, (project, default)) in &model.groups {
        wanted.push(format!("group {name} of {project:?} default {default}"));
    }
    for (n, (group, port, remote)) in &model.rules {
        let rule =
            Entity::Rule(GroupRule { group: id(group), rule: a_rule(&format!("rule{n}"), *port, *remote) });
        wanted.push(format!("{rule:?}"));
    }
    // The rules that a project's default group is made with.
    let implicit = 4 * model.projects.len();
    wanted
        .extend(model.sets.iter().map(|(n, addresses)| format!("{:?}", Entity::Set(a_set(*n, *addresses)))));
    for (n, (device, groups, project)) in &model.ports {
        let groups: Vec<String> = groups.iter().cloned().collect();
        wanted.push(format!("{:?}", Entity::Port(a_port(&format!("port{n}"), *device, &groups, *project))));
    }
    for (n, remote) in &model.provider {
        wanted.push(format!("provider {:?}", a_rule(&format!("provider{n}"), 1, *remote)));
    }
    wanted
        .extend(model.guarded.iter().map(|n| format!("{:?}", Entity::GuardedNetwork(format!("network{n}")))));

    let mut implicit_found = 0;
    let kinds = [
        Kind::Project,
        Kind::Group,
        Kind::Rule,
        Kind::Set,
        Kind::Port,
        Kind::ProviderRule,
        Kind::GuardedNetwork,
        Kind::Adoption,
    ];
    for row in kinds.iter().flat_map(|kind| state.rows(*kind, None)) {
        if let Some(revision) = model.revisions.get(row.entity.key().id()) {
            assert_eq!(row.revision, *revision, "{row:?}");
        }
        is.push(match &row.entity {
            Entity::Project(project) => format!("project {}", project.id),
            Entity::Group(group) => {
                let project = group
                    .project
                    .as_ref()
                    .map(|id| id.as_str()["project".len()..].parse::<u8>().expect("a number"));
                format!("group {} of {project:?} default {}", group.id, group.name == "default")
            }
            Entity::Rule(rule) if !rule.rule.id.as_str().starts_with("rule") => {
                implicit_found += 1;
                continue;
            }
            Entity::ProviderRule(rule) => format!("provider {:?}", rule.rule),
            other => format!("{other:?}"),
        });
    }
    wanted.sort();
    is.sort();
    assert_eq!(is, wanted);
    assert_eq!(implicit_found, implicit);
    assert_eq!(state.generation(), model.generation);
}
