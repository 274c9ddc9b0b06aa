//! kill -9 at random instants: whatever the killed process had printed as answered is there afterwards, nothing is there by
//! halves, and the generations have no gap.
//!
//! And a disk that is full: edits are refused, nothing is lost, and they go on when there is room again.
//!
//! The program starts itself as the one that is killed: `faults child URL ROUND`.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a program for a test")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use store::{
    By, Edit, Entity, Group, ImplicitRules, Key, Kind, OnRuleRemoval, Store, StoreError, implicit_rules,
};

/// Processes that are killed, one after the other, on the same file.
const ROUNDS: u64 = 12;
/// Editors of each, all at it at the same time.
const EDITORS: u64 = 32;

fn main() -> ExitCode {
    // A file's limit stands for the disk's; without this, the process would be killed for it. Threads inherit it.
    SigSet::from(Signal::SIGXFSZ).thread_block().expect("a signal");
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match arguments.get(1..) {
        Some([word, url, round]) if word == "child" => {
            runtime.block_on(child(url, round));
            ExitCode::FAILURE
        }
        _ => {
            runtime.block_on(parent());
            runtime.block_on(full_disk());
            ExitCode::SUCCESS
        }
    }
}

/// Makes groups, each with two rules in one transaction, and prints the id of each that was answered; until killed.
async fn child(url: &str, round: &str) {
    let store = Store::open(url).await.expect("a store");
    let editors = (0..EDITORS).map(|editor| {
        let (store, round) = (store.clone(), round.to_owned());
        tokio::spawn(async move {
            for n in 0.. {
                let name = format!("r{round}-e{editor}-{n}");
                let receipt = store.edit(group(&name), by()).await.expect("an answer");
                // One write: a line is whole or not there.
                let line = format!("{name} {}\n", receipt.generation);
                std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
            }
        })
    });
    for editor in editors.collect::<Vec<_>>() {
        editor.await.expect("no panic");
    }
}

/// A group with two rules.
fn group(name: &str) -> Vec<Edit> {
    let group = Group {
        id: name.parse().expect("an id"),
        project: None,
        name: name.to_owned(),
        description: String::new(),
        on_rule_removal: OnRuleRemoval::Cut,
    };
    let rules = implicit_rules(ImplicitRules::Egress, &group.id).into_iter().map(Entity::Rule);
    std::iter::once(Entity::Group(group)).chain(rules).map(Edit::Create).collect()
}

fn by() -> By {
    By { actor: "child".to_owned(), origin: "test".to_owned() }
}

async fn full_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite:{}/store.db", folder.path().display());
    let store = Store::open(&url).await.expect("a store");
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, 2 << 20, hard).expect("a lower limit");
    let mut answered = 0_u64;
    let error = loop {
        match store.edit(group(&format!("g{answered}")), by()).await {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
        assert!(answered < 10_000, "the limit is not felt");
    };
    assert!(matches!(error, StoreError::Database(_)), "{error}");
    // What was answered is there to be read all the while, and nothing else.
    assert_eq!(store.state().generation(), answered);
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).expect("the old limit");
    store.edit(group("after"), by()).await.expect("there is room again");
    assert!(store.trouble().is_none());
    store.close().await;
    let state = Store::open(&url).await.expect("the store again").state();
    let groups = u64::try_from(state.count(Kind::Group)).expect("a number");
    assert_eq!((state.generation(), groups), (answered + 1, answered + 1));
    println!("{answered} edits before the disk was full, and one after");
}

async fn parent() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite:{}/store.db", folder.path().display());
    let mut answered = BTreeSet::new();
    for round in 0..ROUNDS {
        // From the very beginning (a file that is being made) to the middle of the work.
        let life = Duration::from_millis(3 + round * round * 7 + u64::from(std::process::id()) % 11);
        answered.extend(killed_after(&url, round, life));
        let store = Store::open(&url).await.expect("the store opens after the kill");
        check(&store, &answered).await;
        store.close().await;
    }
    assert!(answered.len() > 100, "only {} edits were answered before the kills", answered.len());
    println!("{} answered edits survived {ROUNDS} kills", answered.len());
}

fn killed_after(url: &str, round: u64, life: Duration) -> Vec<(String, u64)> {
    #[expect(clippy::disallowed_methods, reason = "the program starts itself, to be killed")]
    let mut child = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args(["child", url, &round.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("itself");
    let stdout = child.stdout.take().expect("a pipe");
    let reader =
        std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(life);
    // SIGKILL.
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let lines = reader.join().expect("no panic").into_iter();
    let lines = lines.filter_map(|line| {
        let (name, generation) = line.split_once(' ')?;
        Some((name.to_owned(), generation.parse().ok()?))
    });
    lines.collect()
}

async fn check(store: &Store, answered: &BTreeSet<(String, u64)>) {
    let state = store.state();
    for (name, generation) in answered {
        let row = state.row(&Key::Group(name.parse().expect("an id")));
        let row = row.unwrap_or_else(|| panic!("group {name} was answered, and is not there"));
        assert_eq!(row.revision, *generation, "group {name}");
    }
    for row in state.rows(Kind::Group, None) {
        let Entity::Group(group) = &row.entity else { panic!("{row:?} among the groups") };
        assert_eq!(state.rules_of(&group.id).count(), 2, "group {} is there by halves", group.id);
    }
    let groups = u64::try_from(state.count(Kind::Group)).expect("a number");
    assert_eq!(state.generation(), groups, "a generation without its group");
    let mut after = 0;
    loop {
        let lines = store.audit(after, 3000).await.expect("the audit");
        let Some(last) = lines.last() else { break };
        let mut at = after;
        for line in &lines {
            assert!(line.generation == at || line.generation == at + 1, "behind {at} comes {line:?}");
            at = line.generation;
        }
        after = last.generation;
    }
    assert_eq!(after, state.generation(), "the audit ends with the last transaction");
}
