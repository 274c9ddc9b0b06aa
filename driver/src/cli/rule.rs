//! `drawbridge rule`

use std::convert::Infallible;
use std::str::FromStr;

use api::wire::{AddressSet, Direction, Ethertype, Group, Rule};
use api::{ApiClient, segment};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::noun::{self, AtRevision, Fields, Noun, as_word, one_of, text};
use super::said::Said;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them.
    List {
        /// Only those of this group (id or name).
        #[arg(long)]
        group: Option<String>,
    },
    /// Show one.
    Show {
        /// Its id.
        rule: String,
    },
    /// Make one.
    Create {
        /// The group (id or name).
        group: String,
        /// Seen from the guest.
        #[arg(value_parser = one_of::<Direction>(&["ingress", "egress"]))]
        direction: Direction,
        /// Its id, unique among all rules; made up if not given.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        matching: Matching,
    },
    /// Change what is given.
    #[command(visible_alias = "set")]
    Edit {
        /// Its id.
        rule: String,
        /// Seen from the guest.
        #[arg(long, value_parser = one_of::<Direction>(&["ingress", "egress"]))]
        direction: Option<Direction>,
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

/// What a rule matches, apart from the direction.
#[derive(Debug, Args, Serialize)]
pub(super) struct Matching {
    /// If it is not given, the family of --remote-cidr.
    #[arg(long, value_parser = one_of::<Ethertype>(&["ipv4", "ipv6"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    ethertype: Option<Ethertype>,
    /// tcp, udp, icmp, …, 0 to 255, or any.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<OrAny>,
    /// 80, 8000-8080, or any.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<OrAny>,
    /// 0 to 255, or any.
    #[arg(long, value_parser = number_or_any)]
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<OrAny<u8>>,
    /// 0 to 255, or any.
    #[arg(long, value_parser = number_or_any)]
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_code: Option<OrAny<u8>>,
    /// Whom it admits: an address or a prefix.
    #[arg(long, group = "remote", value_name = "CIDR")]
    #[serde(skip)]
    remote_cidr: Option<String>,
    /// Whom it admits: the members of a group (id or name).
    #[arg(long, group = "remote", value_name = "GROUP")]
    #[serde(skip)]
    remote_group: Option<String>,
    /// Whom it admits: an address set (id or name).
    #[arg(long, group = "remote", value_name = "SET")]
    #[serde(skip)]
    remote_set: Option<String>,
    /// Whom it admits: anybody.
    #[arg(long, group = "remote")]
    #[serde(skip)]
    remote_any: bool,
    /// Words for people.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// A value, or that any will do: on the wire that is null.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum OrAny<T = String> {
    Any,
    This(T),
}

impl FromStr for OrAny {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "any" { Self::Any } else { Self::This(text.to_owned()) })
    }
}

fn number_or_any(text: &str) -> Result<OrAny<u8>, String> {
    match text {
        "any" => Ok(OrAny::Any),
        text => text.parse().map(OrAny::This).map_err(|_| "it is neither 0 to 255 nor any".to_owned()),
    }
}

impl Matching {
    /// The fields that are given; groups and sets by their ids.
    pub(super) async fn fields(&self, client: &ApiClient) -> Result<Fields, Failure> {
        let mut fields = noun::fields(self);
        let group = noun::id_if::<Group>(client, self.remote_group.as_deref()).await?;
        let set = noun::id_if::<AddressSet>(client, self.remote_set.as_deref()).await?;
        if self.remote_any || self.remote_cidr.is_some() || group.is_some() || set.is_some() {
            fields.insert("remote_cidr".to_owned(), json!(self.remote_cidr));
            fields.insert("remote_group".to_owned(), json!(group));
            fields.insert("remote_set".to_owned(), json!(set));
        }
        // A prefix of the other family brings its family along.
        if self.remote_cidr.is_some() {
            fields.entry("ethertype").or_insert(Value::Null);
        }
        Ok(fields)
    }
}

pub(super) async fn run(client: &ApiClient, command: Command) -> Result<Said, Failure> {
    match command {
        Command::List { group: None } => noun::list::<Rule>(client, "").await,
        Command::List { group: Some(group) } => {
            let rules = client.rules(&noun::id::<Group>(client, &group).await?).await?;
            Ok(Said::well(noun::rows(&rules), &rules))
        }
        Command::Show { rule } => noun::show::<Rule>(client, &rule).await,
        Command::Create { group, direction, id, matching } => {
            let group = noun::id::<Group>(client, &group).await?;
            let mut fields = matching.fields(client).await?;
            fields.insert("id".to_owned(), json!(id));
            fields.insert("direction".to_owned(), json!(direction));
            noun::create::<Rule>(client, &format!("/v1/groups/{}/rules", segment(&group)), &fields).await
        }
        Command::Edit { rule, direction, matching, at } => {
            let mut changes = matching.fields(client).await?;
            changes.extend(direction.map(|direction| ("direction".to_owned(), json!(direction))));
            noun::change::<Rule>(client, &rule, &at, &changes).await
        }
        Command::Delete { rule, at } => noun::delete::<Rule>(client, &rule, &at).await,
    }
}

/// What a rule matches, in words: fields that groups' rules and the operator's have in common.
macro_rules! matching {
    ($rule:expr) => {{
        let rule = $rule;
        let any = || "any".to_owned();
        let icmp = rule.icmp_type.map(|kind| match rule.icmp_code {
            Some(code) => format!("{kind}/{code}"),
            None => kind.to_string(),
        });
        let remote = match (&rule.remote_cidr, &rule.remote_group, &rule.remote_set) {
            (Some(cidr), ..) => cidr.clone(),
            (_, Some(group), _) => format!("group {group}"),
            (.., Some(set)) => format!("set {set}"),
            _ => any(),
        };
        [
            ("direction", as_word(&rule.direction)),
            ("ethertype", as_word(&rule.ethertype)),
            ("protocol", rule.protocol.clone().unwrap_or_else(any)),
            ("ports", text(rule.ports.as_ref())),
            ("icmp", icmp.unwrap_or_default()),
            ("remote", remote),
            ("description", rule.description.clone()),
            ("revision", rule.revision.to_string()),
        ]
    }};
}
pub(super) use matching;

impl Noun for Rule {
    const KIND: &'static str = "rule";
    const PATH: &'static str = "/v1/rules";
    const COLUMNS: &'static [&'static str] =
        &["id", "group", "direction", "ethertype", "protocol", "ports", "remote", "description"];
    const READ_ONLY: &'static [&'static str] = &["revision", "group"];

    fn id(&self) -> &str {
        &self.id
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("id", self.id.clone()), ("group", self.group.clone())];
        fields.extend(matching!(self));
        fields
    }
}
