//! `drawbridge group`

use api::wire::{Group, ImplicitRules, OnRuleRemoval, Project, Rule};
use api::{ApiClient, segment};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::failure::Failure;
use super::noun::{self, AtRevision, Noun, as_word, one_of, text};
use super::project::Labels;
use super::said::Said;
use super::table::lines;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them.
    List {
        /// Only those of this project (id or name).
        #[arg(long)]
        project: Option<String>,
    },
    /// Show one, with its rules.
    Show {
        /// Id or name.
        group: String,
    },
    /// Make one.
    Create(Create),
    /// Change what is given.
    #[command(visible_alias = "set")]
    Edit {
        /// Id or name.
        group: String,
        #[command(flatten)]
        fields: Common,
        #[command(flatten)]
        at: AtRevision,
    },
    /// Remove one that nothing refers to any more, and its rules.
    Delete {
        /// Id or name.
        group: String,
        #[command(flatten)]
        at: AtRevision,
    },
}

#[derive(Debug, Args, Serialize)]
pub(super) struct Common {
    #[command(flatten)]
    #[serde(flatten)]
    labels: Labels,
    /// What becomes of a connection when the rule that allowed it goes: it is cut by its next packet, or lives on until it ends.
    #[arg(long, value_parser = one_of::<OnRuleRemoval>(&["cut", "keep"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    on_rule_removal: Option<OnRuleRemoval>,
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
    common: Common,
    /// The rules it begins with: egress to anybody, also ingress from its own members, or none.
    #[arg(long, value_parser = one_of::<ImplicitRules>(&["egress", "default-group", "none"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    implicit_rules: Option<ImplicitRules>,
}

pub(super) async fn run(client: &ApiClient, command: Command) -> Result<Said, Failure> {
    match command {
        Command::List { project } => {
            noun::list::<Group>(client, &of_project(client, project.as_deref()).await?).await
        }
        Command::Show { group } => show(client, &group).await,
        Command::Create(mut create) => {
            create.project = noun::id_if::<Project>(client, create.project.as_deref()).await?;
            noun::create::<Group>(client, Group::PATH, &noun::fields(&create)).await
        }
        Command::Edit { group, fields: changes, at } => {
            let changes = noun::fields(&changes);
            noun::change::<Group>(client, &group, &at, &changes).await
        }
        Command::Delete { group, at } => noun::delete::<Group>(client, &group, &at).await,
    }
}

async fn show(client: &ApiClient, called: &str) -> Result<Said, Failure> {
    let group = noun::read::<Group>(client, called).await?.value;
    let rules: Vec<Rule> = client.rules(&group.id).await?;
    let people = format!("{}\n{}", lines(&group.fields()), noun::rows(&rules));
    let mut programs = noun::fields(&group);
    programs.insert("rules".to_owned(), json!(rules));
    Ok(Said::well(people, &programs))
}

/// The query for what belongs to a project.
pub(super) async fn of_project(client: &ApiClient, project: Option<&str>) -> Result<String, Failure> {
    let id = noun::id_if::<Project>(client, project).await?;
    Ok(id.map(|id| format!("project={}", segment(&id))).unwrap_or_default())
}

impl Noun for Group {
    const KIND: &'static str = "group";
    const PATH: &'static str = "/v1/groups";
    const COLUMNS: &'static [&'static str] = &["id", "name", "project", "description"];

    fn id(&self) -> &str {
        &self.id
    }

    fn goes_by(&self, name: &str) -> bool {
        self.name == name
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let Self { id, project, name, description, on_rule_removal, revision } = self;
        vec![
            ("id", id.clone()),
            ("name", name.clone()),
            ("project", text(project.as_ref())),
            ("description", description.clone()),
            ("on rule removal", as_word(on_rule_removal)),
            ("revision", revision.to_string()),
        ]
    }
}
