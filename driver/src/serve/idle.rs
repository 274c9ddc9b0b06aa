//! VIFs without an interface: locked again, so that their next start finds them closed.

use std::sync::Arc;

use tokio::sync::watch;
use xenapi::{CallError, Client, Kind};

use super::duty::Duty;
use super::plan::Plan;
use crate::report::chain;

/// Locks what each plan says, until there are no more. What fails is in the next plan again.
pub(super) async fn lock(
    client: Client,
    mut plans: watch::Receiver<Option<Arc<Plan>>>,
    duty: watch::Receiver<Duty>,
) {
    while plans.changed().await.is_ok() {
        let Some(plan) = plans.borrow_and_update().clone() else { continue };
        for vif in plan.idle.iter().filter(|vif| !vif.steps().is_empty()) {
            if !duty.borrow().is_active() {
                break;
            }
            match vif.carry_out(&client).await {
                Ok(()) => {}
                // Destroyed in the meantime.
                Err(CallError::Api(error)) if matches!(error.kind(), Kind::HandleInvalid { .. }) => {}
                Err(error) => tracing::warn!(
                    vif = vif.name,
                    error = chain(&error),
                    "the VIF is still open for the next start"
                ),
            }
        }
    }
}
