//! Random sequences of requests: each gets the status that a model of maps says, and the lists hold what the model holds.

use std::collections::{BTreeMap, BTreeSet};

use api::wire::{Group, Port, Rule};
use api::{ApiClient, ClientError};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fake::Daemon;

/// A request, over few enough ids that they meet.
#[derive(Clone, Debug)]
enum Op {
    Group {
        group: u8,
        name: u8,
        create: bool,
        etag: Etag,
    },
    DeleteGroup {
        group: u8,
        etag: Etag,
    },
    Rule {
        rule: u8,
        group: u8,
        port: u8,
        remote: Option<u8>,
        create: bool,
        etag: Etag,
    },
    DeleteRule {
        rule: u8,
        etag: Etag,
    },
    Port {
        port: u8,
        device: u8,
        groups: BTreeSet<u8>,
        create: bool,
        etag: Etag,
    },
    DeletePort {
        port: u8,
        etag: Etag,
    },
    /// Several of them in one transaction.
    Edits(Vec<Self>),
}

#[derive(Clone, Copy, Debug)]
enum Etag {
    None,
    Right,
    Wrong,
}

fn etag() -> impl Strategy<Value = Etag> {
    prop_oneof![3 => Just(Etag::None), 2 => Just(Etag::Right), 1 => Just(Etag::Wrong)]
}

fn single() -> impl Strategy<Value = Op> {
    let groups = || proptest::collection::btree_set(0..3u8, 0..3);
    prop_oneof![
        3 => (0..3u8, 0..2u8, any::<bool>(), etag())
            .prop_map(|(group, name, create, etag)| Op::Group { group, name, create, etag }),
        1 => (0..3u8, etag()).prop_map(|(group, etag)| Op::DeleteGroup { group, etag }),
        4 => (0..4u8, 0..3u8, 1..3u8, proptest::option::weighted(0.3, 0..3u8), any::<bool>(), etag()).prop_map(
            |(rule, group, port, remote, create, etag)| Op::Rule { rule, group, port, remote, create, etag }
        ),
        1 => (0..4u8, etag()).prop_map(|(rule, etag)| Op::DeleteRule { rule, etag }),
        3 => (0..3u8, 0..3u8, groups(), any::<bool>(), etag())
            .prop_map(|(port, device, groups, create, etag)| Op::Port { port, device, groups, create, etag }),
        1 => (0..3u8, etag()).prop_map(|(port, etag)| Op::DeletePort { port, etag }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![6 => single(), 1 => proptest::collection::vec(single(), 1..4).prop_map(Op::Edits)]
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    generation: u64,
    /// Name.
    groups: BTreeMap<u8, u8>,
    /// Group, port, remote group.
    rules: BTreeMap<u8, (u8, u8, Option<u8>)>,
    /// Device, groups.
    ports: BTreeMap<u8, (u8, BTreeSet<u8>)>,
    /// By path.
    revisions: BTreeMap<String, u64>,
}

const CREATED: u16 = 201;
const OK: u16 = 200;
const GONE: u16 = 204;
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;
const STALE: u16 = 412;
const UNKNOWN_REFERENCE: u16 = 422;

impl Model {
    /// What the request does, or the status that refuses it.
    fn apply(&mut self, op: &Op) -> Result<u16, u16> {
        let revision = self.generation + 1;
        let mut next = self.clone();
        let status = match op {
            Op::Edits(ops) => {
                let mut changed = false;
                for op in ops {
                    let before = next.clone();
                    next.step(op, revision)?;
                    changed |= next != before;
                }
                if changed {
                    next.generation = revision;
                }
                OK
            }
            one => {
                let status = next.step(one, revision)?;
                if next != *self {
                    next.generation = revision;
                }
                status
            }
        };
        *self = next;
        Ok(status)
    }

    fn step(&mut self, op: &Op, revision: u64) -> Result<u16, u16> {
        let path = path(op);
        let there = match op {
            Op::Group { group, .. } | Op::DeleteGroup { group, .. } => self.groups.contains_key(group),
            Op::Rule { rule, .. } | Op::DeleteRule { rule, .. } => self.rules.contains_key(rule),
            Op::Port { port, .. } | Op::DeletePort { port, .. } => self.ports.contains_key(port),
            Op::Edits(_) => unreachable!("edits are single"),
        };
        let stale = |etag: &Etag| matches!(etag, Etag::Wrong);
        match op {
            Op::Group { create: true, .. }
            | Op::Rule { create: true, .. }
            | Op::Port { create: true, .. } => {
                if let Op::Rule { group, .. } = op
                    && !self.groups.contains_key(group)
                {
                    // By its path the group is not found; within edits it is an unknown reference.
                    return Err(NOT_FOUND);
                }
                if there {
                    return Err(CONFLICT);
                }
            }
            Op::Group { etag, .. }
            | Op::Rule { etag, .. }
            | Op::Port { etag, .. }
            | Op::DeleteGroup { etag, .. }
            | Op::DeleteRule { etag, .. }
            | Op::DeletePort { etag, .. } => {
                if !there {
                    return Err(NOT_FOUND);
                }
                if stale(etag) {
                    return Err(STALE);
                }
            }
            Op::Edits(_) => {}
        }
        match op {
            Op::Group { group, name, create, .. } => {
                if self.groups.insert(*group, *name) != Some(*name) {
                    self.revisions.insert(path, revision);
                }
                return Ok(if *create { CREATED } else { OK });
            }
            Op::DeleteGroup { group, .. } => {
                let foreign =
                    self.rules.values().any(|(of, _, remote)| of != group && *remote == Some(*group));
                if foreign || self.ports.values().any(|(_, groups)| groups.contains(group)) {
                    return Err(CONFLICT);
                }
                self.groups.remove(group);
                self.rules.retain(|_, (of, ..)| of != group);
            }
            Op::Rule { rule, group, port, remote, create, .. } => {
                let group = self.rules.get(rule).map_or(*group, |(group, ..)| *group);
                let after = (group, *port, *remote);
                if self.rules.get(rule) == Some(&after) {
                    return Ok(OK);
                }
                if remote.is_some_and(|remote| !self.groups.contains_key(&remote)) {
                    return Err(UNKNOWN_REFERENCE);
                }
                if self.rules.iter().any(|(other, is)| other != rule && *is == after) {
                    return Err(CONFLICT);
                }
                self.rules.insert(*rule, after);
                self.revisions.insert(path, revision);
                return Ok(if *create { CREATED } else { OK });
            }
            Op::DeleteRule { rule, .. } => drop(self.rules.remove(rule)),
            Op::Port { port, device, groups, create, .. } => {
                let after = (*device, groups.clone());
                if self.ports.get(port) == Some(&after) {
                    return Ok(OK);
                }
                if groups.iter().any(|group| !self.groups.contains_key(group)) {
                    return Err(UNKNOWN_REFERENCE);
                }
                if self.ports.iter().any(|(other, (taken, _))| other != port && taken == device) {
                    return Err(CONFLICT);
                }
                self.ports.insert(*port, after);
                self.revisions.insert(path, revision);
                return Ok(if *create { CREATED } else { OK });
            }
            Op::DeletePort { port, .. } => drop(self.ports.remove(port)),
            Op::Edits(_) => {}
        }
        Ok(GONE)
    }

    fn revision(&self, op: &Op) -> Option<u64> {
        self.revisions.get(&path(op)).copied()
    }
}

fn path(op: &Op) -> String {
    match op {
        Op::Group { group, .. } | Op::DeleteGroup { group, .. } => format!("/v1/groups/g{group}"),
        Op::Rule { rule, .. } | Op::DeleteRule { rule, .. } => format!("/v1/rules/r{rule}"),
        Op::Port { port, .. } | Op::DeletePort { port, .. } => format!("/v1/ports/p{port}"),
        Op::Edits(_) => "/v1/edits".to_owned(),
    }
}

/// The body that makes or changes it.
fn body(op: &Op) -> Value {
    match op {
        Op::Group { group, name, .. } => {
            json!({"id": format!("g{group}"), "name": format!("name {name}"), "implicit_rules": "none"})
        }
        Op::Rule { rule, port, remote, .. } => json!({
            "id": format!("r{rule}"), "direction": "ingress", "ethertype": "ipv4", "protocol": "tcp", "ports": port,
            "remote_group": remote.map(|group| format!("g{group}")),
        }),
        Op::Port { port, device, groups, .. } => json!({
            "id": format!("p{port}"), "vm": "vm", "device": device,
            "groups": groups.iter().map(|group| format!("g{group}")).collect::<Vec<_>>(),
        }),
        _ => Value::Null,
    }
}

async fn send(client: &ApiClient, op: &Op, model: &Model) -> Result<u16, u16> {
    let named = |etag: &Etag| match (etag, model.revision(op)) {
        (Etag::None, _) => None,
        (Etag::Right, revision) => Some(format!("\"{}\"", revision.unwrap_or(1))),
        (Etag::Wrong, revision) => Some(format!("\"{}\"", revision.unwrap_or(0) + 1)),
    };
    let (path, body) = (path(op), body(op));
    let status = |done: Result<Value, ClientError>, ok: u16| match done {
        Ok(_) => Ok(ok),
        Err(ClientError::Problem(problem)) => Err(problem.status),
        Err(error) => panic!("{error:?}"),
    };
    match op {
        Op::Rule { group, create: true, .. } => {
            status(client.post(&format!("/v1/groups/g{group}/rules"), &body).await, CREATED)
        }
        Op::Group { create: true, .. } => status(client.post("/v1/groups", &body).await, CREATED),
        Op::Port { create: true, .. } => status(client.post("/v1/ports", &body).await, CREATED),
        Op::Group { etag, .. } | Op::Rule { etag, .. } | Op::Port { etag, .. } => {
            status(client.put(&path, &body, named(etag).as_deref()).await, OK)
        }
        Op::DeleteGroup { etag, .. } | Op::DeleteRule { etag, .. } | Op::DeletePort { etag, .. } => {
            status(client.delete(&path, named(etag).as_deref()).await.map(|()| Value::Null), GONE)
        }
        Op::Edits(ops) => {
            let mut model = model.clone();
            let mut edits = Vec::new();
            let revision = model.generation + 1;
            for op in ops {
                edits.push(edit(op, &model));
                // What is refused ends the transaction: what comes behind does not matter.
                if model.step(op, revision).is_err() {
                    break;
                }
            }
            status(client.post("/v1/edits", &json!({ "edits": edits })).await, OK)
        }
    }
}

fn edit(op: &Op, model: &Model) -> Value {
    let revision = |etag: &Etag| match (etag, model.revision(op)) {
        (Etag::None, _) => None,
        (Etag::Right, revision) => Some(revision.unwrap_or(1)),
        (Etag::Wrong, revision) => Some(revision.unwrap_or(0) + 1),
    };
    let body = body(op);
    let (thing, create, etag) = match op {
        Op::Group { create, etag, .. } => (json!({ "group": body }), create, etag),
        Op::Rule { rule, group, create, etag, .. } => {
            let group = model.rules.get(rule).filter(|_| !create).map_or(*group, |(group, ..)| *group);
            (json!({"rule": {"group": format!("g{group}"), "rule": body}}), create, etag)
        }
        Op::Port { create, etag, .. } => (json!({ "port": body }), create, etag),
        Op::DeleteGroup { group, etag } => {
            return json!({"delete": {"what": {"group": format!("g{group}")}, "revision": revision(etag)}});
        }
        Op::DeleteRule { rule, etag } => {
            return json!({"delete": {"what": {"rule": format!("r{rule}")}, "revision": revision(etag)}});
        }
        Op::DeletePort { port, etag } => {
            return json!({"delete": {"what": {"port": format!("p{port}")}, "revision": revision(etag)}});
        }
        Op::Edits(_) => unreachable!("edits are single"),
    };
    if *create {
        json!({ "create": thing })
    } else {
        json!({"replace": {"to": thing, "revision": revision(etag)}})
    }
}

async fn compare(client: &ApiClient, model: &Model) {
    let groups: Vec<Group> = client.list("/v1/groups", "").await.expect("the list");
    let is: Vec<_> = groups.into_iter().map(|g| (g.id, g.name, g.revision)).collect();
    let wanted = model.groups.iter().map(|(group, name)| {
        (format!("g{group}"), format!("name {name}"), model.revisions[&format!("/v1/groups/g{group}")])
    });
    assert_eq!(is, wanted.collect::<Vec<_>>());

    let rules: Vec<Rule> = client.list("/v1/rules", "").await.expect("the list");
    let is: Vec<_> =
        rules.into_iter().map(|r| (r.id, r.group, r.ports, r.remote_group, r.revision)).collect();
    let wanted = model.rules.iter().map(|(rule, (group, port, remote))| {
        let remote = remote.map(|group| format!("g{group}"));
        let revision = model.revisions[&format!("/v1/rules/r{rule}")];
        (format!("r{rule}"), format!("g{group}"), Some(port.to_string()), remote, revision)
    });
    assert_eq!(is, wanted.collect::<Vec<_>>());

    let ports: Vec<Port> = client.list("/v1/ports", "").await.expect("the list");
    let is: Vec<_> = ports.into_iter().map(|p| (p.id, p.device, p.groups, p.revision)).collect();
    let wanted = model.ports.iter().map(|(port, (device, groups))| {
        let groups = groups.iter().map(|group| format!("g{group}")).collect::<Vec<_>>();
        (format!("p{port}"), Some(u32::from(*device)), groups, model.revisions[&format!("/v1/ports/p{port}")])
    });
    assert_eq!(is, wanted.collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_api_is_its_model(ops in proptest::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let daemon = Daemon::start().await;
            let mut model = Model::default();
            for op in &ops {
                let answer = send(&daemon.client, op, &model).await;
                let before = model.clone();
                let wanted = model.apply(op);
                match (op, wanted) {
                    // Which of an edit's mistakes is named first is told elsewhere; that it is refused is what counts.
                    (Op::Edits(_), Err(_)) => assert!(answer.is_err(), "{op:?}"),
                    _ => assert_eq!(answer, wanted, "{op:?} on {before:?}"),
                }
                compare(&daemon.client, &model).await;
            }
            daemon.stop().await;
        });
    }
}
