//! `plan`, `apply` and `export` with a daemon: the policy file and the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use api::wire::{ApplyAnswer, DocumentInput, KeyName};
use api::{ApiClient, ClientError};
use serde_json::json;

use super::failure::Failure;
use super::said::Said;
use crate::intake::policy_file::{PolicyDocument, Rows};

/// How often the store is read again because it changed meanwhile.
const ATTEMPTS: usize = 8;

/// Brings the store to what a file says, or (`dry_run`) only tells what that would change.
pub(super) async fn apply(
    client: &ApiClient,
    file: &Path,
    prune: bool,
    dry_run: bool,
) -> Result<Said, Failure> {
    let file = PolicyDocument::load(file)?;
    let answer = client.apply(&file.document, prune, dry_run).await.map_err(|error| match error {
        ClientError::Problem(problem) if problem.pointer.is_some() => {
            let place = file.place(problem.pointer.as_deref().unwrap_or_default());
            Failure::Document { place, problem }
        }
        other => other.into(),
    })?;
    let mut programs = json!({ "action": if dry_run { "plan" } else { "apply" }, "ok": true });
    if let Some(fields) = programs.as_object_mut() {
        fields.extend(super::noun::fields(&answer));
    }
    let named = dry_run.then(|| ids(&file.document));
    let mut people = String::new();
    let words = if dry_run { ["create", "change", "remove"] } else { ["created", "changed", "removed"] };
    for (word, keys) in words.into_iter().zip([&answer.created, &answer.changed, &answer.removed]) {
        people.push_str(&tell(word, keys, named.as_ref().filter(|_| word == "create")));
    }
    Ok(Said::well(people + &sum(&answer, dry_run), &programs))
}

/// A line for each, in words. Of what a plan would create, an id that is not the file's would be another one in the end: those
/// are only counted.
fn tell(word: &str, keys: &[KeyName], named: Option<&BTreeSet<&str>>) -> String {
    let mut text = String::new();
    let mut unnamed: BTreeMap<&str, usize> = BTreeMap::new();
    for KeyName { kind, id } in keys {
        // Ids that are made up are uuids, as a file's own may be.
        if uuid::Uuid::try_parse(id).is_err() || named.is_none_or(|named| named.contains(id.as_str())) {
            text.push_str(&format!("{word} {kind} {id}\n"));
        } else {
            *unnamed.entry(kind).or_default() += 1;
        }
    }
    for (kind, count) in unnamed {
        let plural = if count == 1 { "" } else { "s" };
        text.push_str(&format!("{word} {count} {kind}{plural} without an id in the file\n"));
    }
    text
}

/// The ids that a document names.
fn ids(document: &DocumentInput) -> BTreeSet<&str> {
    let DocumentInput { projects, sets, groups, ports, provider_rules, guarded_networks } = document;
    let projects = projects.iter().flat_map(|project| [&project.id, &project.default_group]).flatten();
    let rules = groups.iter().flat_map(|group| &group.rules).filter_map(|rule| rule.id.as_ref());
    let groups = groups.iter().map(|group| &group.id);
    let others =
        sets.iter().filter_map(|set| set.id.as_ref()).chain(ports.iter().filter_map(|port| port.id.as_ref()));
    let provider_rules = provider_rules.iter().filter_map(|rule| rule.id.as_ref());
    let named =
        projects.chain(rules).chain(groups).chain(others).chain(provider_rules).chain(guarded_networks);
    named.map(String::as_str).collect()
}

/// How much of each.
fn sum(answer: &ApplyAnswer, dry_run: bool) -> String {
    let ApplyAnswer { generation, created, changed, removed } = answer;
    let counts = format!("{} created, {} changed, {} removed", created.len(), changed.len(), removed.len());
    match (created.len() + changed.len() + removed.len(), dry_run) {
        (0, true) => format!("plan: nothing to do; generation {generation} says the same\n"),
        (0, false) => format!("apply: nothing to do; generation {generation} said the same\n"),
        (_, true) => format!("plan: {counts} if applied to generation {generation}\n"),
        (_, false) => format!(
            "apply: {counts} in generation {generation}; `drawbridge status` says where it is enforced\n"
        ),
    }
}

/// The store as a policy file.
pub(super) async fn export(client: &ApiClient) -> Result<Said, Failure> {
    let text = rows(client).await?.to_toml().map_err(anyhow::Error::from)?;
    let programs = json!({ "policy": text });
    Ok(Said::well(text, &programs))
}

/// All rows of the store, as of one generation.
pub(super) async fn rows(client: &ApiClient) -> Result<Rows, Failure> {
    let mut before = client.status().await?.generation;
    for _ in 0..ATTEMPTS {
        let rows = Rows {
            projects: client.list("/v1/projects", "").await?,
            sets: client.list("/v1/sets", "").await?,
            groups: client.list("/v1/groups", "").await?,
            rules: client.list("/v1/rules", "").await?,
            ports: client.list("/v1/ports", "").await?,
            provider_rules: client.list("/v1/provider-rules", "").await?,
            guarded_networks: client.list("/v1/guarded-networks", "").await?,
        };
        let after = client.status().await?.generation;
        if before == after {
            return Ok(rows);
        }
        before = after;
    }
    Err(Failure::Restless)
}
