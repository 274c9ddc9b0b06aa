//! VIFs without an interface: locked again, so that their next start finds them closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use xenapi::{CallError, Client, Kind, PowerState};

use super::duty::Duty;
use super::pauses::pauses;
use super::plan::Plan;
use crate::locking::VifLocking;
use crate::report::chain;

/// Pauses before what could not be locked is tried again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Locks what the newest plan says, as long as this driver is the one to write, until there are no more plans.
pub(super) async fn lock(
    client: Client,
    mut plans: watch::Receiver<Option<Arc<Plan>>>,
    mut duty: watch::Receiver<Duty>,
) {
    let mut failing = None;
    loop {
        let plan = plans.borrow_and_update().clone();
        let is_left = match plan {
            Some(plan) if duty.borrow_and_update().is_active() => !lock_all(&client, &plan, &duty).await,
            _ => false,
        };
        failing = is_left.then(|| failing.unwrap_or_else(|| pauses(PAUSES.0, PAUSES.1)));
        let pause = failing.as_mut().and_then(Iterator::next);
        tokio::select! {
            changed = plans.changed() => if changed.is_err() { return },
            changed = duty.changed() => if changed.is_err() { return },
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}

/// Whether there is nothing left to do, for this driver.
async fn lock_all(client: &Client, plan: &Plan, duty: &watch::Receiver<Duty>) -> bool {
    let mut is_done = true;
    for vif in plan.idle.iter().filter(|vif| !vif.steps().is_empty()) {
        if !duty.borrow().is_active() {
            return true;
        }
        match lock_again(client, vif).await {
            Ok(()) => {}
            // Destroyed in the meantime.
            Err(CallError::Api(error)) if matches!(error.kind(), Kind::HandleInvalid { .. }) => {}
            Err(error) => {
                is_done = false;
                let error = chain(&error);
                tracing::warn!(vif = vif.name, error, "the VIF is still open for the next start");
            }
        }
    }
    is_done
}

/// Locks a VIF, if it still has no interface: the plan may be from before XAPI was out of reach.
async fn lock_again(client: &Client, vif: &VifLocking) -> Result<(), CallError> {
    let found = client.record(&vif.reference).await?;
    let vm = client.record(&found.vm).await?;
    let is_up = matches!(vm.power_state, PowerState::Running | PowerState::Paused);
    match is_up && found.currently_attached {
        true => Ok(()),
        false => vif.with(found).carry_out(client).await,
    }
}
