//! `drawbridge host`

use api::ApiClient;
use api::control::HostState;
use clap::Subcommand;

use super::failure::Failure;
use super::noun::{as_word, text};
use super::said::Said;
use super::table::{lines, table};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them.
    List,
    /// Show one.
    Show {
        /// Name or uuid.
        host: String,
    },
}

pub(super) async fn run(client: &ApiClient, command: Command) -> Result<Said, Failure> {
    let hosts = client.hosts().await?;
    match command {
        Command::List => Ok(Said::well(list(&hosts), &hosts)),
        Command::Show { host: called } => {
            let named: Vec<&HostState> =
                hosts.iter().filter(|host| host.uuid == called || host.name == called).collect();
            match named.as_slice() {
                [] => Err(Failure::NoHost(called)),
                [host] => Ok(Said::well(lines(&fields(host)), host)),
                several => Err(Failure::Ambiguous {
                    kind: "host",
                    called,
                    ids: several.iter().map(|host| host.uuid.clone()).collect(),
                }),
            }
        }
    }
}

fn list(hosts: &[HostState]) -> String {
    let rows = hosts.iter().map(|host| {
        let backend = text(host.backend.as_ref());
        vec![host.name.clone(), host.uuid.clone(), as_word(&host.status), backend, generations(host)]
    });
    table(&["name", "uuid", "status", "backend", "generation"], &rows.collect::<Vec<_>>())
}

/// The generation that is enforced, of the one that should be.
pub(super) fn generations(host: &HostState) -> String {
    let enforced =
        host.enforced_generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string());
    format!("{enforced}/{}", host.wanted_generation)
}

fn fields(host: &HostState) -> Vec<(&'static str, String)> {
    let HostState {
        uuid,
        name,
        status,
        backend,
        enforced_generation: _,
        wanted_generation: _,
        ports,
        quarantined,
        complaints,
        last_drift,
        last_success,
        last_error,
        next_attempt,
    } = host;
    let mut fields = vec![
        ("name", name.clone()),
        ("uuid", uuid.clone()),
        ("status", as_word(status)),
        ("backend", text(backend.as_ref())),
        ("generation", generations(host)),
        ("ports", ports.to_string()),
        ("last drift", text(last_drift.as_ref())),
        ("last success", text(last_success.as_ref())),
        ("error", text(last_error.as_ref())),
        ("next attempt", text(next_attempt.as_ref())),
    ];
    fields.extend(
        quarantined
            .iter()
            .map(|port| ("closed", format!("{} (VIF {}): {}", port.interface, port.vif, port.reason))),
    );
    fields.extend(complaints.iter().map(|complaint| ("wrong", complaint.clone())));
    fields
}
