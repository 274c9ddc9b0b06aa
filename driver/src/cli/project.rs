//! `drawbridge project`

use api::ApiClient;
use api::wire::Project;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::failure::Failure;
use super::noun::{self, AtRevision, Noun};
use super::said::Said;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them.
    List,
    /// Show one.
    Show {
        /// Id or name.
        project: String,
    },
    /// Make one, and its default group.
    Create(Create),
    /// Change what is given.
    #[command(visible_alias = "set")]
    Edit {
        /// Id or name.
        project: String,
        #[command(flatten)]
        labels: Labels,
        #[command(flatten)]
        at: AtRevision,
    },
    /// Remove one that nothing belongs to any more, and its default group.
    Delete {
        /// Id or name.
        project: String,
        #[command(flatten)]
        at: AtRevision,
    },
}

/// What is for people.
#[derive(Debug, Args, Serialize)]
pub(super) struct Labels {
    /// Name for people.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Words for people.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Debug, Args, Serialize)]
pub(super) struct Create {
    /// Made up if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    labels: Labels,
    /// The id that its default group gets; made up if not given.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    default_group: Option<String>,
}

pub(super) async fn run(client: &ApiClient, command: Command) -> Result<Said, Failure> {
    match command {
        Command::List => noun::list::<Project>(client, "").await,
        Command::Show { project } => noun::show::<Project>(client, &project).await,
        Command::Create(create) => {
            noun::create::<Project>(client, Project::PATH, &noun::fields(&create)).await
        }
        Command::Edit { project, labels, at } => {
            let changes = noun::fields(&labels);
            noun::change::<Project>(client, &project, &at, &changes).await
        }
        Command::Delete { project, at } => noun::delete::<Project>(client, &project, &at).await,
    }
}

impl Noun for Project {
    const KIND: &'static str = "project";
    const PATH: &'static str = "/v1/projects";
    const COLUMNS: &'static [&'static str] = &["id", "name", "default group", "description"];

    fn id(&self) -> &str {
        &self.id
    }

    fn goes_by(&self, name: &str) -> bool {
        self.name == name
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let Self { id, name, description, default_group, revision } = self;
        vec![
            ("id", id.clone()),
            ("name", name.clone()),
            ("description", description.clone()),
            ("default group", default_group.clone()),
            ("revision", revision.to_string()),
        ]
    }
}
