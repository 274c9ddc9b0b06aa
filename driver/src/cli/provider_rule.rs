//! `drawbridge provider-rule`

use api::ApiClient;
use api::wire::{Action, Direction, ProviderRule};
use clap::Subcommand;
use serde_json::json;

use super::failure::Failure;
use super::noun::{self, AtRevision, Noun, as_word, one_of, text};
use super::rule::{Matching, matching};
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
        #[arg(value_parser = one_of::<Action>(&["allow", "deny"]))]
        action: Action,
        /// Seen from the guest.
        #[arg(value_parser = one_of::<Direction>(&["ingress", "egress"]))]
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
        #[arg(long, value_parser = one_of::<Action>(&["allow", "deny"]))]
        action: Option<Action>,
        /// Seen from the guest.
        #[arg(long, value_parser = one_of::<Direction>(&["ingress", "egress"]))]
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
            noun::change::<ProviderRule>(client, &rule, &at, &changes).await
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
        let mut fields = vec![
            ("id", self.id.clone()),
            ("position", self.position.to_string()),
            ("action", as_word(&self.action)),
        ];
        fields.extend(matching!(self));
        fields
    }
}
