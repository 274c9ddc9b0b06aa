//! Edits, one by one, on both databases.

use ruleset::model::Remote;
use store::{
    Edit, EditError, EditFailed, Entity, Key, Kind, PortTarget, Receipt, Store, StoreError, Touched,
};

use crate::postgres::{cut, execute};
use crate::support::{Stores, by, create, group, id, port, project, rule};

fn refused(done: Result<Receipt, StoreError>) -> EditError {
    match done {
        Err(StoreError::Edit(EditFailed { error, .. })) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let mut others = std::collections::BTreeSet::new();
    for url in Stores::new().await.urls {
        let store = Store::open(&url).await.unwrap();
        assert_eq!(store.state().generation(), 0);
        assert!(!store.state().adopted());
        let identity = store.identity().to_owned();
        create(&store, [project("acme"), group("web")]).await.unwrap();
        create(&store, [rule("http", "web", 80, Remote::Any)]).await.unwrap();
        create(&store, [Entity::Port(port("p1", "vm1", 0, &["web", "acme-default"]))]).await.unwrap();
        create(&store, [Entity::GuardedNetwork("tenants".to_owned())]).await.unwrap();
        store.adopt(by()).await.unwrap();
        let before = store.snapshot();
        assert_eq!(before.generation, 5);
        assert_eq!(before.policy.groups[&id("acme-default")].rules.len(), 4);
        store.close().await;
        assert!(matches!(store.adopt(by()).await, Ok(Receipt { changes: 0, .. })));
        assert!(matches!(create(&store, [group("late")]).await, Err(StoreError::Closed)));

        let store = Store::open(&url).await.unwrap();
        let after = store.snapshot();
        assert!(after.adopted);
        assert_eq!(store.identity(), identity);
        assert!(!identity.is_empty() && others.insert(identity));
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        assert_eq!(after.ports[0].groups, [id("acme-default"), id("web")]);
        assert_eq!(after.guarded_networks, ["tenants"]);
    }
}

#[tokio::test]
async fn each_mistake_has_its_error_and_changes_nothing() {
    for url in Stores::new().await.urls {
        let store = Store::open(&url).await.unwrap();
        create(&store, [project("acme"), group("web"), group("db")]).await.unwrap();
        create(&store, [rule("http", "web", 80, Remote::Group(id("db")))]).await.unwrap();
        create(&store, [Entity::Port(port("p1", "vm1", 0, &["db"]))]).await.unwrap();
        let before = store.state();
        let delete = |key| store.edit(vec![Edit::Delete { key, expected: None }], by());

        assert!(matches!(refused(create(&store, [group("web")]).await), EditError::Exists { .. }));
        assert!(matches!(refused(delete(Key::Group(id("nobody"))).await), EditError::NotFound { .. }));
        let again = create(&store, [rule("other", "web", 80, Remote::Group(id("db")))]).await;
        assert!(
            matches!(refused(again), EditError::DuplicateRule { existing, .. } if existing == id("http"))
        );
        let unknown = create(&store, [rule("other", "web", 80, Remote::Set(id("nobody")))]).await;
        assert!(matches!(refused(unknown), EditError::UnknownReference { .. }));
        let in_use = refused(delete(Key::Group(id("db"))).await);
        assert_eq!(in_use.to_string(), "group db is in use by rule http, port p1");
        let default = refused(delete(Key::Group(id("acme-default"))).await);
        assert!(matches!(default, EditError::DefaultGroup { .. }));
        let twice = create(&store, [Entity::Port(port("p2", "vm1", 0, &[]))]).await;
        assert!(matches!(refused(twice), EditError::DuplicateTarget { .. }));
        // The first of the two is fine, and not done either.
        let both = create(&store, [group("fine"), group("web")]).await;
        assert!(matches!(both, Err(StoreError::Edit(EditFailed { index: 1, .. }))));
        let stale = Edit::Replace { entity: group("web"), expected: Some(99) };
        assert!(matches!(
            refused(store.edit(vec![stale], by()).await),
            EditError::Conflict { actual: 1, .. }
        ));

        assert_eq!(store.state().generation(), before.generation());
        assert_eq!(store.state().count(Kind::Group), 3);
    }
}

#[tokio::test]
async fn a_group_goes_with_its_rules_and_a_project_with_its_default_group() {
    for url in Stores::new().await.urls {
        let store = Store::open(&url).await.unwrap();
        create(&store, [project("acme"), group("web")]).await.unwrap();
        create(&store, [rule("self", "web", 80, Remote::Group(id("web")))]).await.unwrap();
        let edits =
            [Key::Group(id("web")), Key::Project(id("acme"))].map(|key| Edit::Delete { key, expected: None });
        let receipt = store.edit(edits.to_vec(), by()).await.unwrap();
        assert_eq!(receipt.changes, 2 + 6);
        for kind in [Kind::Project, Kind::Group, Kind::Rule] {
            assert_eq!(store.state().count(kind), 0);
        }
        store.close().await;
        assert_eq!(Store::open(&url).await.unwrap().state().count(Kind::Rule), 0);
    }
}

#[tokio::test]
async fn the_audit_says_who_what_when_from_where() {
    for url in Stores::new().await.urls {
        let store = Store::open(&url).await.unwrap();
        create(&store, [group("web")]).await.unwrap();
        let Entity::Group(mut renamed) = group("web") else { unreachable!() };
        renamed.name = "Web".to_owned();
        let edit = Edit::Replace { entity: Entity::Group(renamed), expected: Some(1) };
        store.edit(vec![edit.clone()], by()).await.unwrap();
        // Nothing changes, and so nothing is said.
        let Edit::Replace { entity, .. } = edit else { unreachable!() };
        let same = store.edit(vec![Edit::Replace { entity, expected: Some(2) }], by()).await.unwrap();
        assert_eq!((same.generation, same.changes), (2, 0));

        let audit = store.audit(0, 10).await.unwrap();
        assert_eq!(audit.len(), 2);
        assert_eq!((audit[0].generation, audit[0].before.is_none()), (1, true));
        assert_eq!(audit[1].after.as_ref().unwrap()["name"], "Web");
        assert_eq!(audit[1].before.as_ref().unwrap()["name"], "web");
        assert_eq!(
            (audit[1].actor.as_str(), audit[1].origin.as_str(), audit[1].kind.as_str()),
            ("test", "here", "group")
        );
        assert_eq!(store.audit(1, 10).await.unwrap().len(), 1);
        assert_eq!(store.forget_audit(i64::MAX).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_change_touches_only_whom_it_concerns() {
    for url in Stores::new().await.urls {
        let store = Store::open(&url).await.unwrap();
        create(&store, [group("web"), group("db"), Entity::Port(port("p1", "vm1", 0, &["web"]))])
            .await
            .unwrap();
        let mut changes = store.subscribe();
        changes.borrow_and_update();
        let at = store.state().generation();

        create(&store, [rule("http", "db", 80, Remote::Any)]).await.unwrap();
        assert!(changes.has_changed().unwrap());
        let touched = store.touched_since(at);
        assert_eq!(touched, Touched { groups: [id("db")].into(), ..Touched::default() });

        let at = store.state().generation();
        let moved = Edit::Replace { entity: Entity::Port(port("p1", "vm1", 0, &["db"])), expected: None };
        store.edit(vec![moved], by()).await.unwrap();
        let touched = store.touched_since(at);
        assert_eq!(touched.members, [id("db"), id("web")].into());
        assert_eq!(touched.ports, [PortTarget::Device { vm: "vm1".to_owned(), device: 0 }].into());
        assert!(touched.groups.is_empty() && !touched.everything);

        assert!(store.touched_since(at + 1).is_empty());
        create(&store, [Entity::GuardedNetwork("n".to_owned())]).await.unwrap();
        assert!(store.touched_since(at + 1).everything);
        // A new process does not know what was before it.
        store.close().await;
        let store = Store::open(&url).await.unwrap();
        assert!(store.touched_since(at).everything);
    }
}

#[tokio::test]
async fn two_writers_of_one_database_see_each_other() {
    for url in Stores::new().await.urls {
        let (one, two) = (Store::open(&url).await.unwrap(), Store::open(&url).await.unwrap());
        create(&one, [group("web")]).await.unwrap();
        // The second does not know yet, and is told by the database.
        assert!(matches!(refused(create(&two, [group("web")]).await), EditError::Exists { .. }));
        create(&two, [group("db")]).await.unwrap();
        create(&one, [rule("r", "db", 80, Remote::Any)]).await.unwrap();
        assert_eq!(one.state().generation(), 3);
        let mut changes = two.subscribe();
        changes.wait_for(|generation| *generation == 3).await.unwrap();
        assert_eq!(two.state().count(Kind::Rule), 1);
    }
}

#[tokio::test]
async fn edits_at_the_same_time_get_generations_of_their_own() {
    for url in Stores::new().await.urls {
        let store = Store::open(&url).await.unwrap();
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { create(&store, [group(&format!("g{}", n % 190))]).await })
            })
            .collect();
        let mut generations = std::collections::BTreeSet::new();
        let mut refused = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(receipt) => assert!(generations.insert(receipt.generation)),
                Err(_) => refused += 1,
            }
        }
        assert_eq!((generations.len(), refused), (190, 10));
        assert_eq!(store.state().generation(), 190);
    }
}

#[tokio::test]
async fn a_connection_that_was_cut_is_made_anew() {
    let url = crate::postgres::database().await;
    let store = Store::open(&url).await.unwrap();
    create(&store, [group("web")]).await.unwrap();
    cut(&url).await;
    create(&store, [group("db")]).await.unwrap();
    assert_eq!(store.state().count(Kind::Group), 2);
    assert!(store.trouble().is_none());
}

/// Only a start makes and changes tables.
#[tokio::test]
async fn another_store_is_not_taken_for_this_one() {
    let url = crate::postgres::database().await;
    let store = Store::open(&url).await.unwrap();
    create(&store, [group("web")]).await.unwrap();
    for (change, back) in [
        (
            "ALTER SCHEMA public RENAME TO moved; CREATE SCHEMA public",
            "DROP SCHEMA public; ALTER SCHEMA moved RENAME TO public",
        ),
        (
            "INSERT INTO _sqlx_migrations VALUES (1000000, 'newer', now(), true, '', 0)",
            "DELETE FROM _sqlx_migrations WHERE version = 1000000",
        ),
        // A backup that is being brought back: its rows may still be to come.
        (
            "ALTER TABLE groups RENAME TO gone; CREATE TABLE groups (LIKE gone); UPDATE meta SET generation = 0",
            "DROP TABLE groups; ALTER TABLE gone RENAME TO groups; UPDATE meta SET generation = 1",
        ),
        ("UPDATE meta SET store = store || 'x'", "UPDATE meta SET store = left(store, -1)"),
    ] {
        execute(&url, change).await;
        cut(&url).await;
        let refused = create(&store, [group("meanwhile")]).await;
        assert!(matches!(refused, Err(StoreError::Database(_))), "{change}: {refused:?}");
        assert!(store.trouble().is_some());
        assert_eq!(store.state().count(Kind::Group), 1);
        execute(&url, back).await;
    }
    create(&store, [group("after")]).await.unwrap();
    assert_eq!(store.state().generation(), 2);
}

#[tokio::test]
async fn a_store_from_a_url_of_another_kind_is_refused() {
    for url in ["", "store.db", "mysql://a/b", "sqlite:/nowhere/at/all/store.db"] {
        assert!(Store::open(url).await.is_err(), "{url}");
    }
}
