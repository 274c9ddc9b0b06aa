//! VIFs without an interface: locked again, so that their next start finds them closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use xenapi::{CallError, Client, Kind, PowerState};

use super::duty::{Duty, relieved};
use super::pauses::pauses;
use super::plan::Plan;
use crate::locking::VifLocking;
use crate::report::chain;

/// Pauses before what could not be locked is tried again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// A VIF that could not be locked.
#[derive(Debug)]
pub(super) struct StillOpen {
    /// Its name.
    pub vif: String,
    /// Why not.
    pub error: String,
}

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
            Some(plan) if duty.borrow_and_update().is_active() => {
                !lock_all(&client, plan.idle.iter(), &duty).await.is_empty()
            }
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

/// Locks these, as long as this driver is the one to write. Answers which could not be locked, and why.
pub(super) async fn lock_all(
    client: &Client,
    vifs: impl Iterator<Item = &VifLocking>,
    duty: &watch::Receiver<Duty>,
) -> Vec<StillOpen> {
    let mut open = Vec::new();
    for vif in vifs.filter(|vif| !vif.steps().is_empty()) {
        let locked = tokio::select! {
            // Whoever has the pool now may have opened it since it was read.
            biased;
            () = relieved(duty.clone()) => None,
            locked = lock_again(client, vif) => Some(locked),
        };
        let error = match locked {
            Some(Ok(())) => continue,
            // Destroyed in the meantime.
            Some(Err(CallError::Api(error))) if matches!(error.kind(), Kind::HandleInvalid { .. }) => {
                continue;
            }
            Some(Err(error)) => chain(&error),
            None => "this driver stops, or is not the one to write any more".to_owned(),
        };
        tracing::warn!(vif = vif.name, error, "the VIF is still open for the next start");
        open.push(StillOpen { vif: vif.name.clone(), error });
    }
    open
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use xenapi::{LockingMode, Record as _, Ref, Vif, Vm};

    use super::super::duty::Standby;
    use super::super::fixture::{PATIENCE, Xapi, pool, reference};
    use super::*;
    use crate::locking::Locking;

    fn vif() -> VifLocking {
        let found = Vif {
            uuid: "00000000-0000-0000-0000-000000000002".parse().unwrap(),
            device: 0,
            mac: "00:16:3e:00:00:01".parse().unwrap(),
            network: Ref::null(),
            vm: reference("vm"),
            currently_attached: false,
            locking_mode: LockingMode::Locked,
            ipv4_allowed: Vec::new(),
            ipv6_allowed: Vec::new(),
            other_config: [].into(),
        };
        VifLocking {
            reference: reference("vif"),
            name: "web 0".to_owned(),
            wanted: Locking::NetworkDefault,
            found,
            default_is_disabled: true,
        }
    }

    fn plan() -> Plan {
        Plan {
            number: 1,
            generation: 1,
            announced: 0,
            seen: Arc::default(),
            hosts: [].into(),
            idle: vec![vif()],
            bindings: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_vif_without_an_interface_is_locked_again() {
        let (mut xapi, (_tell, duty)) = (Xapi::start().await, watch::channel(Duty::Active));
        let (client, plan) = (xapi.client.clone(), plan());
        let answers = async {
            xapi.next("VIF.get_record").await.answer(vif().found.encode());
            let vm = &pool("host1", None, 1).vms[&reference("vm")];
            xapi.next("VM.get_record")
                .await
                .answer(Vm { power_state: PowerState::Halted, ..vm.clone() }.encode());
            xapi.next("VIF.set_locking_mode").await.answer("".into());
        };
        let (open, ()) = tokio::join!(lock_all(&client, plan.idle.iter(), &duty), answers);
        assert!(open.is_empty(), "{open:?}");
    }

    /// The driver that has the pool by then has just opened it for a guest.
    #[tokio::test]
    async fn who_loses_the_pool_after_reading_does_not_lock() {
        let (mut xapi, (tell, duty)) = (Xapi::start().await, watch::channel(Duty::Active));
        let (client, plan) = (xapi.client.clone(), plan());
        let answers = async {
            xapi.next("VIF.get_record").await.answer(vif().found.encode());
            let unanswered = xapi.next("VM.get_record").await;
            tell.send_replace(Duty::Standby(Standby::NotAdopted));
            unanswered
        };
        let work = async { tokio::join!(lock_all(&client, plan.idle.iter(), &duty), answers) };
        let (open, _unanswered) = timeout(PATIENCE, work).await.expect("it does not wait for XAPI");
        assert_eq!(open.len(), 1, "a hook does not say that it is locked");
        assert!(xapi.is_silent());
    }
}
