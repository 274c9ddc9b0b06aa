//! What the store takes: edits a second with their delay, opening a large store, a snapshot of it.
//!
//! `cargo bench -p store --bench load`, or with `-- URL SECONDS EDITS_A_SECOND` for another store.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a program that measures")]

use std::time::{Duration, Instant};

use ruleset::model::{Direction, Family, PortRange, Protocol, Remote, Rule, Service};
use store::{By, Edit, Entity, Group, GroupRule, OnRuleRemoval, Store};

/// Of the large store.
const GROUPS: usize = 10_000;
const RULES_A_GROUP: u16 = 10;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let folder =
        tempfile::tempdir_in(std::env::current_dir().expect("a folder")).expect("a temporary folder");
    let own = format!("sqlite:{}/store.db", folder.path().display());
    let url = arguments.first().unwrap_or(&own);
    let number =
        |at: usize, default| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        load(url, number(1, 10), number(2, 2_000)).await;
        large(url).await;
    });
}

fn by() -> By {
    By { actor: "bench".to_owned(), origin: "bench".to_owned() }
}

fn group(name: &str) -> Edit {
    Edit::Create(Entity::Group(Group {
        id: name.parse().expect("an id"),
        project: None,
        name: name.to_owned(),
        description: String::new(),
        on_rule_removal: OnRuleRemoval::Cut,
    }))
}

fn rule(group: &str, port: u16) -> Edit {
    let range = PortRange::new(port, port).expect("a port");
    Edit::Create(Entity::Rule(GroupRule {
        group: group.parse().expect("an id"),
        rule: Rule {
            id: format!("{group}-{port}").parse().expect("an id"),
            direction: Direction::Ingress,
            family: Family::Ipv4,
            service: Service::Ports(Protocol::TCP, range),
            remote: Remote::Any,
            description: String::new(),
        },
    }))
}

/// Edits at a steady rate, whether the earlier ones were answered or not.
async fn load(url: &str, seconds: u64, rate: u64) {
    let store = Store::open(url).await.expect("a store");
    let groups = u64::from(u16::MAX);
    let needed = seconds * rate / groups + 1;
    for n in 0..needed {
        store.edit(vec![group(&format!("load{n}"))], by()).await.expect("an answer");
    }
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let (started, total) = (Instant::now(), seconds * rate);
    let mut edits = Vec::new();
    let mut sent = 0;
    while sent < total {
        tick.tick().await;
        let elapsed = u64::try_from(started.elapsed().as_micros()).expect("a short time");
        let due = (elapsed * rate / 1_000_000).min(total);
        for n in sent..due {
            let store = store.clone();
            edits.push(tokio::spawn(async move {
                let begun = Instant::now();
                let port = u16::try_from(n % groups + 1).expect("below 65536");
                store.edit(vec![rule(&format!("load{}", n / groups), port)], by()).await.expect("an answer");
                begun.elapsed()
            }));
        }
        sent = due;
    }
    let mut delays = Vec::new();
    for edit in edits {
        delays.push(edit.await.expect("no panic"));
    }
    let all = started.elapsed();
    delays.sort_unstable();
    let percentile = |part: usize| delays[(delays.len() - 1) * part / 1000].as_secs_f64() * 1e3;
    println!(
        "{rate} edits/s asked for {seconds} s: {:.0} edits/s answered; delay p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms",
        total as f64 / all.as_secs_f64(),
        percentile(500),
        percentile(990),
        percentile(999),
    );
    store.close().await;
}

async fn large(url: &str) {
    let store = Store::open(url).await.expect("a store");
    let begun = Instant::now();
    for chunk in 0..GROUPS / 100 {
        let names = (0..100).map(|n| format!("large{}", chunk * 100 + n));
        let edits = names.flat_map(|name| {
            let rules: Vec<_> = (1..=RULES_A_GROUP).map(|port| rule(&name, port)).collect();
            std::iter::once(group(&name)).chain(rules)
        });
        store.edit(edits.collect(), by()).await.expect("an answer");
    }
    println!(
        "{GROUPS} groups with {RULES_A_GROUP} rules each made in {:.2} s",
        begun.elapsed().as_secs_f64()
    );
    store.close().await;
    let begun = Instant::now();
    let store = Store::open(url).await.expect("the store again");
    let rules = store.state().count(store::Kind::Rule);
    println!("opened with {rules} rules in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    let snapshot = store.snapshot();
    println!(
        "snapshot of {} groups in {:.1} ms",
        snapshot.policy.groups.len(),
        begun.elapsed().as_secs_f64() * 1e3
    );
    drop(snapshot);
    let begun = Instant::now();
    store.edit(vec![group("one-more")], by()).await.expect("an answer");
    println!("one edit more in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    store.close().await;
}
