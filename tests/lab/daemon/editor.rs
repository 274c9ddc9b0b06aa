//! Somebody who edits all the time, and remembers what he was told.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::wire::{Direction, Ethertype, Ports, Protocol, Rule, RuleInput};
use api::{ApiClient, ClientError, Code};
use e2e::lab::Daemon;
use e2e::scenario::POLICY;

/// The ports whose rules come and go; nobody listens there.
const PORTS: std::ops::Range<u16> = 6000..6040;

/// A number below `end`, another one each time.
pub(crate) fn any_below(end: u64) -> u64 {
    RandomState::new().hash_one(0_u8) % end
}

/// Some moment of the next while.
pub(crate) fn some_time(at_most: Duration) {
    let millis = u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX);
    std::thread::sleep(Duration::from_millis(any_below(millis.max(1))));
}

/// What an editor knows of the store.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Ports of rules that are there: an edit was acknowledged.
    there: BTreeSet<u16>,
    /// Ports of rules whose last edit had no answer.
    unknown: BTreeSet<u16>,
    /// Ports of those whose last edit was answered by the store's not knowing, and whether the rule is there if it was done.
    pub in_doubt: Vec<(u16, bool)>,
    /// Edits that were acknowledged.
    pub acknowledged: usize,
    /// Edits that were refused because the store could not save.
    pub refused: usize,
}

/// An editor at work.
pub(super) struct Editor {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Ledger>>,
}

impl Editor {
    /// Begins where the store is.
    pub(super) fn start(daemon: &Daemon<'_>) -> Result<Self> {
        let ledger = Ledger { there: extra_ports(daemon)?, ..Ledger::default() };
        let over = Arc::new(AtomicBool::new(false));
        let (socket, told) = (daemon.socket(), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(edit(socket, ledger, &told))
        });
        Ok(Self { over, thread })
    }

    /// Ends it. What it was told is so; where it had no answer, either may be.
    pub(super) fn end(self, daemon: &Daemon<'_>) -> Result<Ledger> {
        self.over.store(true, Ordering::Relaxed);
        let ledger = self.thread.join().map_err(|_| anyhow::anyhow!("the editor panicked"))??;
        let stored = extra_ports(daemon)?;
        let wrong: Vec<_> = stored
            .symmetric_difference(&ledger.there)
            .filter(|port| !ledger.unknown.contains(port))
            .collect();
        ensure!(wrong.is_empty(), "the store has forgotten acknowledged edits of {wrong:?}: {ledger:?}");
        Ok(ledger)
    }
}

async fn edit(socket: PathBuf, mut ledger: Ledger, over: &AtomicBool) -> Result<Ledger> {
    let api = ApiClient::unix(&socket)?;
    while !over.load(Ordering::Relaxed) {
        let port = PORTS.start + u16::try_from(any_below(PORTS.len() as u64))?;
        if ledger.unknown.contains(&port) {
            continue;
        }
        let is_there = ledger.there.contains(&port);
        let done = if is_there {
            api.delete(&format!("/v1/rules/extra-{port}"), None).await
        } else {
            api.create_rule("db", &rule(port)).await.map(drop)
        };
        match done {
            Ok(()) => {
                ledger.acknowledged += 1;
                if is_there {
                    ledger.there.remove(&port)
                } else {
                    ledger.there.insert(port)
                };
            }
            Err(ClientError::Problem(problem)) => match problem.code {
                Code::StoreUnavailable | Code::Busy | Code::ShuttingDown => ledger.refused += 1,
                Code::OutcomeUnknown => {
                    ledger.unknown.insert(port);
                    ledger.in_doubt.push((port, !is_there));
                }
                _ => bail!("port {port}, there: {is_there}: {problem}"),
            },
            Err(ClientError::Unreachable { .. } | ClientError::Answer(_)) => {
                ledger.unknown.insert(port);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ledger)
}

fn rule(port: u16) -> RuleInput {
    RuleInput {
        id: Some(format!("extra-{port}")),
        direction: Direction::Ingress,
        ethertype: Some(Ethertype::Ipv4),
        protocol: Some(Protocol::Name("tcp".to_owned())),
        ports: Some(Ports::One(port.into())),
        icmp_type: None,
        icmp_code: None,
        remote_cidr: None,
        remote_group: Some("web".to_owned()),
        remote_set: None,
        description: String::new(),
    }
}

/// The ports of the rules in the store that are the editor's.
pub(super) fn extra_ports(daemon: &Daemon<'_>) -> Result<BTreeSet<u16>> {
    let rules: Vec<Rule> = daemon.call(daemon.api().rules("db"))?;
    let port = |rule: &Rule| rule.id.strip_prefix("extra-").map(str::parse);
    rules.iter().filter_map(port).collect::<Result<_, _>>().context("an id that is none of ours")
}

/// The scenario's policy with what the store has beside it.
pub(super) fn policy_of(daemon: &Daemon<'_>) -> Result<String> {
    let mut rules = String::from("remote_group = \"web\"\n");
    for port in extra_ports(daemon)? {
        write!(
            rules,
            "\n[[group.rule]]\nid = \"extra-{port}\"\ndirection = \"ingress\"\nethertype = \"ipv4\"\nprotocol = \"tcp\"\n\
             ports = {port}\nremote_group = \"web\"\n"
        )?;
    }
    Ok(POLICY.replacen("remote_group = \"web\"\n", &rules, 1))
}
