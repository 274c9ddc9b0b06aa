//! `hook` with a daemon.

use api::control::{HookHost, HookReport, Outcome};
use api::wire::HookInput;
use api::{ApiClient, ClientError};

use super::args::{HookEvent, How, OnVm};
use super::failure::Failure;
use super::said::Said;

impl HookEvent {
    /// As the API calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Reboot(_) => "reboot",
            Self::Suspend(_) => "suspend",
            Self::Resume(_) => "resume",
            Self::Terminate(_) => "terminate",
            Self::Plug(_) => "plug",
            Self::Unplug(_) => "unplug",
            Self::PreMigrate { .. } => "pre-migrate",
            Self::PostMigrate(_) => "post-migrate",
            Self::HostInit { .. } => "host-init",
        }
    }

    /// VM, host, and how.
    pub(super) fn parts(self) -> (Option<String>, Option<String>, How) {
        match self {
            Self::Create(OnVm { vm, how })
            | Self::Reboot(OnVm { vm, how })
            | Self::Suspend(OnVm { vm, how })
            | Self::Resume(OnVm { vm, how })
            | Self::Terminate(OnVm { vm, how })
            | Self::Plug(OnVm { vm, how })
            | Self::Unplug(OnVm { vm, how })
            | Self::PostMigrate(OnVm { vm, how }) => (Some(vm), None, how),
            Self::PreMigrate { on: OnVm { vm, how }, host } => (Some(vm), Some(host), how),
            Self::HostInit { host, how } => (None, Some(host), how),
        }
    }
}

/// Tells the daemon what happened, and waits until it is enforced.
pub(super) async fn hook(client: &ApiClient, event: HookEvent) -> Result<Said, Failure> {
    let name = event.name();
    let (vm, host, How { policy, deadline }) = event.parts();
    if policy.is_some() {
        return Err(Failure::Usage(
            "--policy is for a driver without a daemon; the daemon enforces what its store says".to_owned(),
        ));
    }
    let about = vm.clone().or_else(|| host.clone()).unwrap_or_default();
    match client.hook(name, &HookInput { vm, host, deadline }).await {
        Ok(report) => Ok(tell(name, &about, &report)),
        Err(ClientError::Problem(problem)) => match problem.report {
            Some(report) => Ok(tell(name, &about, &report)),
            None => Err(ClientError::Problem(problem).into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn tell(event: &str, about: &str, report: &HookReport) -> Said {
    let HookReport { outcome, generation, hosts, problems } = report;
    let word = match outcome {
        Outcome::Enforced => "enforced",
        Outcome::Failed => "NOT enforced; what stood there stands",
        Outcome::Deadline => "NOT enforced in time; the work goes on",
    };
    let mut text = format!("hook {event} {about}: {word} (generation {generation})\n");
    for HookHost { host, enforced, error } in hosts {
        let word = if *enforced { "enforced" } else { "NOT enforced" };
        let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        text.push_str(&format!("  {host}: {word}{error}\n"));
    }
    for problem in problems {
        text.push_str(&format!("  problem: {problem}\n"));
    }
    Said { ok: *outcome == Outcome::Enforced, ..Said::well(text, report) }
}
