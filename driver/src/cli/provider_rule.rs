//! `drawbridge provider-rule`

use api::ApiClient;
use api::wire::{Action, Direction, ProviderRule};
use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde_json::json;

use super::failure::Failure;
use super::noun::{self, AtRevision, Noun, as_word, text, word};
use super::rule::{Matching, icmp, or_any, overlay, remote};
use super::said::Said;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them in the order in which they are asked.
    List,
    /// Show one.
    Show {
        /// Its id.
        rule: String,
    },
    /// Make one.
    Create {
        /// What happens to a packet that matches.
        #[arg(value_parser = PossibleValuesParser::new(["allow", "deny"]).try_map(word::<Action>))]
        action: Action,
        /// Seen from the guest.
        #[arg(value_parser = PossibleValuesParser::new(["ingress", "egress"]).try_map(word::<Direction>))]
        direction: Direction,
        /// Its id; made up if not given.
        #[arg(long)]
        id: Option<String>,
        /// Place in the order, lowest first; behind all others if not given.
        #[arg(long)]
        position: Option<u32>,
        #[command(flatten)]
        matching: Matching,
    },
    /// Change what is given.
    #[command(visible_alias = "set")]
    Edit {
        /// Its id.
        rule: String,
        /// What happens to a packet that matches.
        #[arg(long, value_parser = PossibleValuesParser::new(["allow", "deny"]).try_map(word::<Action>))]
        action: Option<Action>,
        /// Seen from the guest.
        #[arg(long, value_parser = PossibleValuesParser::new(["ingress", "egress"]).try_map(word::<Direction>))]
        direction: Option<Direction>,
        /// Place in the order, lowest first.
        #[arg(long)]
        position: Option<u32>,
        #[command(flatten)]
        matching: Matching,
        #[command(flatten)]
        at: AtRevision,
    },
    /// Remove one.
    Delete {
        /// Its id.
        rule: String,
        #[command(flatten)]
        at: AtRevision,
    },
}

pub(super) async fn run(client: &ApiClient, command: Command) -> Result<Said, Failure> {
    match command {
        Command::List => {
            let mut rules: Vec<ProviderRule> = client.list(ProviderRule::PATH, "").await?;
            // Among equals the id decides, by which they come.
            rules.sort_by_key(|rule| rule.position);
            Ok(Said::well(noun::rows(&rules), &rules))
        }
        Command::Show { rule } => noun::show::<ProviderRule>(client, &rule).await,
        Command::Create { action, direction, id, position, matching } => {
            let mut fields = matching.fields(client).await?;
            fields.insert("id".to_owned(), json!(id));
            fields.insert("action".to_owned(), json!(action));
            fields.insert("direction".to_owned(), json!(direction));
            fields.insert("position".to_owned(), json!(position));
            noun::create::<ProviderRule>(client, ProviderRule::PATH, &fields).await
        }
        Command::Edit { rule, action, direction, position, matching, at } => {
            let mut changes = matching.fields(client).await?;
            changes.extend(action.map(|action| ("action".to_owned(), json!(action))));
            changes.extend(direction.map(|direction| ("direction".to_owned(), json!(direction))));
            changes.extend(position.map(|position| ("position".to_owned(), json!(position))));
            noun::edit::<ProviderRule>(client, &rule, &at, |fields| {
                overlay(fields, &changes);
                Ok(())
            })
            .await
        }
        Command::Delete { rule, at } => noun::delete::<ProviderRule>(client, &rule, &at).await,
    }
}

impl Noun for ProviderRule {
    const KIND: &'static str = "provider rule";
    const PATH: &'static str = "/v1/provider-rules";
    const COLUMNS: &'static [&'static str] =
        &["position", "action", "id", "direction", "ethertype", "protocol", "ports", "remote", "description"];

    fn id(&self) -> &str {
        &self.id
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let Self {
            id,
            position,
            action,
            direction,
            ethertype,
            protocol,
            ports,
            icmp_type,
            icmp_code,
            remote_cidr,
            remote_group,
            remote_set,
            description,
            revision,
        } = self;
        vec![
            ("id", id.clone()),
            ("position", position.to_string()),
            ("action", as_word(action)),
            ("direction", as_word(direction)),
            ("ethertype", as_word(ethertype)),
            ("protocol", or_any(protocol.as_ref())),
            ("ports", text(ports.as_ref())),
            ("icmp", icmp(*icmp_type, *icmp_code)),
            ("remote", remote(remote_cidr.as_ref(), remote_group.as_ref(), remote_set.as_ref())),
            ("description", description.clone()),
            ("revision", revision.to_string()),
        ]
    }
}
