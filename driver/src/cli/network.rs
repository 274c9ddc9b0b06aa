//! `drawbridge network`

use api::ApiClient;
use api::wire::GuardedNetwork;
use clap::Subcommand;
use serde_json::json;

use super::failure::Failure;
use super::noun::{self, AtRevision, Noun};
use super::said::Said;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them.
    List,
    /// Show one.
    Show {
        /// As it is called here: name or uuid.
        network: String,
    },
    /// Guard a network.
    #[command(visible_alias = "guard")]
    Create {
        /// Name or uuid, as XAPI knows it.
        network: String,
    },
    /// Guard a network no longer.
    #[command(visible_alias = "unguard")]
    Delete {
        /// As it is called here: name or uuid.
        network: String,
        #[command(flatten)]
        at: AtRevision,
    },
}

pub(super) async fn run(client: &ApiClient, command: Command) -> Result<Said, Failure> {
    match command {
        Command::List => noun::list::<GuardedNetwork>(client, "").await,
        Command::Show { network } => noun::show::<GuardedNetwork>(client, &network).await,
        Command::Create { network } => {
            let input = noun::fields(&json!({ "name": network }));
            noun::create::<GuardedNetwork>(client, GuardedNetwork::PATH, &input).await
        }
        Command::Delete { network, at } => noun::delete::<GuardedNetwork>(client, &network, &at).await,
    }
}

impl Noun for GuardedNetwork {
    const KIND: &'static str = "guarded network";
    const PATH: &'static str = "/v1/guarded-networks";
    const COLUMNS: &'static [&'static str] = &["name"];

    fn id(&self) -> &str {
        &self.name
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let Self { name, revision } = self;
        vec![("name", name.clone()), ("revision", revision.to_string())]
    }
}
