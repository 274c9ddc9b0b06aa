//! `drawbridge set`: address sets.

use api::ApiClient;
use api::wire::{AddressSet, Project};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::failure::Failure;
use super::group::of_project;
use super::list::Addresses;
use super::noun::{self, AtRevision, Noun, text};
use super::project::Labels;
use super::said::Said;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them.
    List {
        /// Only those of this project (id or name).
        #[arg(long)]
        project: Option<String>,
    },
    /// Show one.
    Show {
        /// Id or name.
        set: String,
    },
    /// Make one.
    Create(Create),
    /// Change what is given.
    #[command(visible_alias = "set")]
    Edit(Edit),
    /// Remove one that no rule refers to any more.
    Delete {
        /// Id or name.
        set: String,
        #[command(flatten)]
        at: AtRevision,
    },
}

#[derive(Debug, Args, Serialize)]
pub(super) struct Create {
    /// Made up if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The project that owns it (id or name).
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    labels: Labels,
    /// Addresses and prefixes; several with commas, or several times.
    #[arg(long = "address", value_delimiter = ',', value_name = "ADDRESS")]
    addresses: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Edit {
    /// Id or name.
    set: String,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    addresses: Addresses,
    #[command(flatten)]
    at: AtRevision,
}

pub(super) async fn run(client: &ApiClient, command: Command) -> Result<Said, Failure> {
    match command {
        Command::List { project } => {
            noun::list::<AddressSet>(client, &of_project(client, project.as_deref()).await?).await
        }
        Command::Show { set } => noun::show::<AddressSet>(client, &set).await,
        Command::Create(mut create) => {
            create.project = noun::id_if::<Project>(client, create.project.as_deref()).await?;
            noun::create::<AddressSet>(client, AddressSet::PATH, &noun::fields(&create)).await
        }
        Command::Edit(edit) => {
            let Edit { set, labels, addresses, at } = edit;
            let labels = noun::fields(&labels);
            let change = addresses.change();
            noun::edit::<AddressSet>(client, &set, &at, |fields| {
                fields.extend(labels.clone());
                change.apply(AddressSet::KIND, "addresses", fields)
            })
            .await
        }
        Command::Delete { set, at } => noun::delete::<AddressSet>(client, &set, &at).await,
    }
}

impl Noun for AddressSet {
    const KIND: &'static str = "address set";
    const PATH: &'static str = "/v1/sets";
    const COLUMNS: &'static [&'static str] = &["id", "name", "project", "addresses"];

    fn id(&self) -> &str {
        &self.id
    }

    fn goes_by(&self, name: &str) -> bool {
        self.name == name
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let Self { id, project, name, description, addresses, revision } = self;
        vec![
            ("id", id.clone()),
            ("name", name.clone()),
            ("project", text(project.as_ref())),
            ("description", description.clone()),
            ("addresses", addresses.join(", ")),
            ("revision", revision.to_string()),
        ]
    }
}
