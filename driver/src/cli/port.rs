//! `drawbridge port`

use api::control::{PortState, PortStatus};
use api::wire::{AddressPair, Group, Port, Project};
use api::{ApiClient, segment};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::list::{Addresses, Change, addresses, pairs};
use super::noun::{self, AtRevision, Fields, Noun, as_word, one_of, text};
use super::said::Said;

/// How ports may stand, as the API says it.
const STATES: [&str; 7] = ["enforced", "pending", "idle", "unbound", "quarantined", "failing", "standby"];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them.
    List {
        /// Only those of this project (id or name).
        #[arg(long)]
        project: Option<String>,
        /// Only those in this group (id or name).
        #[arg(long)]
        group: Option<String>,
        /// Only those of this VM, as the port names it.
        #[arg(long)]
        vm: Option<String>,
        /// Only those that stand so.
        #[arg(long, value_parser = one_of::<PortStatus>(&STATES))]
        state: Option<PortStatus>,
    },
    /// Show one, and how it stands.
    Show {
        /// Id, VM#DEVICE, the VIF's uuid, or the VM if it has one port.
        port: String,
    },
    /// Make one.
    Create(Create),
    /// Change what is given.
    #[command(visible_alias = "set")]
    Edit(Edit),
    /// Remove one.
    Delete {
        /// Id, VM#DEVICE, the VIF's uuid, or the VM if it has one port.
        port: String,
        #[command(flatten)]
        at: AtRevision,
    },
}

/// Which VIF.
#[derive(Debug, Args)]
pub(super) struct Vif {
    /// Name or uuid of the VM.
    #[arg(long, requires = "device", conflicts_with = "vif")]
    vm: Option<String>,
    /// The VIF's device number.
    #[arg(long, requires = "vm")]
    device: Option<u32>,
    /// Instead of VM and device: XAPI's uuid of the VIF.
    #[arg(long)]
    vif: Option<String>,
}

impl Vif {
    fn put(&self, fields: &mut Fields) {
        let Self { vm, device, vif } = self;
        if vm.is_some() || vif.is_some() {
            fields.insert("vm".to_owned(), json!(vm));
            fields.insert("device".to_owned(), json!(device));
            fields.insert("vif".to_owned(), json!(vif));
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Neutron's uuid; made up if not given.
    id: Option<String>,
    /// The project that owns it (id or name).
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    vif: Vif,
    /// Its groups (id or name); several with commas, or several times. Without one only DHCP, ARP, ND and replies pass.
    #[arg(long, value_delimiter = ',')]
    group: Vec<String>,
    /// Fixed addresses.
    #[arg(long, value_delimiter = ',')]
    address: Vec<String>,
    /// Further addresses or prefixes that the guest may use, each with its own MAC if it differs.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS[@MAC]")]
    pair: Vec<String>,
    /// false: nothing is filtered for it.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    port_security: bool,
}

#[derive(Debug, Args)]
pub(super) struct Edit {
    /// Id, VM#DEVICE, the VIF's uuid, or the VM if it has one port.
    port: String,
    /// Give it to this project (id or name).
    #[arg(long)]
    project: Option<String>,
    /// Take it from its project.
    #[arg(long, conflicts_with = "project")]
    no_project: bool,
    #[command(flatten)]
    vif: Vif,
    /// All of its groups, instead of those it has.
    #[arg(long, value_delimiter = ',')]
    group: Option<Vec<String>>,
    /// Add these groups.
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    add_group: Vec<String>,
    /// Take these groups away.
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    remove_group: Vec<String>,
    /// Take all groups away.
    #[arg(long, conflicts_with = "group")]
    no_groups: bool,
    #[command(flatten)]
    addresses: Addresses,
    /// All of its further addresses, instead of those it has.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS[@MAC]")]
    pair: Option<Vec<String>>,
    /// Add these.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS[@MAC]")]
    add_pair: Vec<String>,
    /// Take these away.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS[@MAC]")]
    remove_pair: Vec<String>,
    /// Take all further addresses away.
    #[arg(long, conflicts_with = "pair")]
    no_pairs: bool,
    /// false: nothing is filtered for it.
    #[arg(long, value_name = "BOOL")]
    port_security: Option<bool>,
    #[command(flatten)]
    at: AtRevision,
}

pub(super) async fn run(client: &ApiClient, command: Command) -> Result<Said, Failure> {
    match command {
        Command::List { project, group, vm, state } => {
            let project = noun::id_if::<Project>(client, project.as_deref()).await?;
            let group = noun::id_if::<Group>(client, group.as_deref()).await?;
            let wanted = [
                ("project", project),
                ("group", group),
                ("vm", vm),
                ("state", state.map(|state| as_word(&state))),
            ];
            let query =
                wanted.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", segment(&value?))));
            noun::list::<Port>(client, &query.collect::<Vec<_>>().join("&")).await
        }
        Command::Show { port } => noun::show::<Port>(client, &port).await,
        Command::Create(create) => make(client, create).await,
        Command::Edit(change) => edit(client, change).await,
        Command::Delete { port, at } => noun::delete::<Port>(client, &port, &at).await,
    }
}

async fn make(client: &ApiClient, create: Create) -> Result<Said, Failure> {
    let Create { id, project, vif, group, address, pair, port_security } = create;
    let mut fields = Fields::new();
    fields.insert("id".to_owned(), json!(id));
    fields.insert("project".to_owned(), json!(noun::id_if::<Project>(client, project.as_deref()).await?));
    vif.put(&mut fields);
    fields.insert("groups".to_owned(), Value::Array(groups(client, &group).await?));
    fields.insert("addresses".to_owned(), Value::Array(addresses(address)));
    fields.insert("address_pairs".to_owned(), Value::Array(pairs(&pair)));
    fields.insert("port_security".to_owned(), json!(port_security));
    noun::create::<Port>(client, Port::PATH, &fields).await
}

async fn edit(client: &ApiClient, edit: Edit) -> Result<Said, Failure> {
    let project = noun::id_if::<Project>(client, edit.project.as_deref()).await?;
    let instead = match &edit.group {
        Some(called) => Some(groups(client, called).await?),
        None => edit.no_groups.then(Vec::new),
    };
    let in_groups = Change::new(
        instead,
        groups(client, &edit.add_group).await?,
        groups(client, &edit.remove_group).await?,
    );
    let of_addresses = edit.addresses.change();
    let of_pairs = Change::new(
        edit.pair.as_deref().map(pairs).or_else(|| edit.no_pairs.then(Vec::new)),
        pairs(&edit.add_pair),
        pairs(&edit.remove_pair),
    );
    noun::edit::<Port>(client, &edit.port, &edit.at, |fields| {
        if project.is_some() || edit.no_project {
            fields.insert("project".to_owned(), json!(project));
        }
        edit.vif.put(fields);
        if let Some(on) = edit.port_security {
            fields.insert("port_security".to_owned(), json!(on));
        }
        in_groups.apply(Port::KIND, "groups", fields)?;
        of_addresses.apply(Port::KIND, "addresses", fields)?;
        of_pairs.apply(Port::KIND, "address_pairs", fields)
    })
    .await
}

/// The ids of groups.
async fn groups(client: &ApiClient, called: &[String]) -> Result<Vec<Value>, Failure> {
    let mut ids = Vec::new();
    for called in called {
        ids.push(Value::String(noun::id::<Group>(client, called).await?));
    }
    Ok(ids)
}

/// How a port names its VIF: `VM#DEVICE`, or the VIF's uuid.
pub(super) fn target(port: &Port) -> String {
    match (&port.vm, port.device, &port.vif) {
        (Some(vm), Some(device), _) => format!("{vm}#{device}"),
        (.., vif) => text(vif.as_ref()),
    }
}

impl Noun for Port {
    const KIND: &'static str = "port";
    const PATH: &'static str = "/v1/ports";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "vif",
        "addresses",
        "groups",
        "port security",
        "status",
        "on host",
        "enforced generation",
        "closed because",
        "error",
    ];
    const READ_ONLY: &'static [&'static str] = &["revision", "state"];

    fn id(&self) -> &str {
        &self.id
    }

    /// Its VIF, or its VM: one port of several is then said to be meant, which is told.
    fn goes_by(&self, name: &str) -> bool {
        target(self) == name || self.vm.as_deref() == Some(name)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let Self { id, project, vm: _, device: _, vif: _, addresses, address_pairs, groups, .. } = self;
        let pair = |AddressPair { mac, address }: &AddressPair| match mac {
            Some(mac) => format!("{address}@{mac}"),
            None => address.clone(),
        };
        let mut fields = vec![
            ("id", id.clone()),
            ("vif", target(self)),
            ("project", text(project.as_ref())),
            ("addresses", addresses.join(", ")),
            ("address pairs", address_pairs.iter().map(pair).collect::<Vec<_>>().join(", ")),
            ("groups", groups.join(", ")),
            ("port security", if self.port_security { "on" } else { "OFF" }.to_owned()),
            ("revision", self.revision.to_string()),
        ];
        fields.extend(self.state.as_ref().into_iter().flat_map(standing));
        fields
    }
}

/// How a port stands.
fn standing(state: &PortState) -> Vec<(&'static str, String)> {
    let PortState { status, host, vif, interface, enforced_generation, last_drift, quarantine, last_error } =
        state;
    vec![
        ("status", as_word(status)),
        ("on host", text(host.as_ref())),
        ("xapi's vif", text(vif.as_ref())),
        ("interface", text(interface.as_ref())),
        ("enforced generation", text(enforced_generation.as_ref())),
        ("last drift", text(last_drift.as_ref())),
        ("closed because", text(quarantine.as_ref())),
        ("error", text(last_error.as_ref())),
    ]
}
