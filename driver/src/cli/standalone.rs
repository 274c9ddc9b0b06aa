//! `plan`, `apply` and `hook` without a daemon: a policy file, XAPI, and every host in scope.

use std::path::{Path, PathBuf};

use super::POLICY;
use super::args::{HookEvent, How};
use super::failure::Failure;
use super::progress::Progress;
use super::said::Said;
use crate::run::{Pool, RunError, Scope, run};

/// A plan, or its carrying out.
pub(super) async fn policy(config: &Path, file: &Path, prune: bool, write: bool) -> Result<Said, Failure> {
    if prune {
        return Err(Failure::Usage(
            "--prune is for the daemon's store; without a daemon the file is all there is".to_owned(),
        ));
    }
    let action = if write { "apply" } else { "plan" };
    carry_out(config, file, action, &Scope::Everything, write).await
}

/// A hook.
pub(super) async fn hook(config: &Path, event: HookEvent) -> Result<Said, Failure> {
    let name = event.name();
    let migrates = matches!(event, HookEvent::PreMigrate { .. } | HookEvent::PostMigrate(_));
    let leaving = matches!(event, HookEvent::Suspend(_) | HookEvent::Terminate(_));
    let (vm, host, How { policy, deadline }) = event.parts();
    if deadline.is_some() {
        return Err(Failure::Usage("--deadline is for the daemon; there is none".to_owned()));
    }
    let scope = match vm {
        Some(vm) if migrates => Scope::Migration { vm, to: host },
        Some(vm) => Scope::Vm { vm, leaving },
        None => Scope::Host(host.unwrap_or_default()),
    };
    let policy = policy.unwrap_or_else(|| PathBuf::from(POLICY));
    carry_out(config, &policy, name, &scope, true).await
}

async fn carry_out(
    config: &Path,
    policy: &Path,
    action: &'static str,
    scope: &Scope,
    write: bool,
) -> Result<Said, Failure> {
    let bar = Progress::start(action);
    let pool = Pool::open(config).map_err(RunError::Config)?;
    let report = run(pool, policy, action, scope, write, |done, total| bar.tell(done, total)).await?;
    drop(bar);
    Ok(Said { ok: report.ok, ..Said::well(report.to_string(), &report) })
}
