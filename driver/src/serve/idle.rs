//! VIFs without an interface: locked again, so that their next start finds them closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use xenapi::Client;

use super::duty::{Duty, relieved};
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

/// Whether there is nothing left to do for this driver.
async fn lock_all(client: &Client, plan: &Plan, duty: &watch::Receiver<Duty>) -> bool {
    let mut is_done = true;
    for vif in &plan.idle {
        if let Err(error) = close(client, vif, duty).await {
            is_done = false;
            tracing::warn!(vif = vif.name, error, "the VIF is still open for the next start");
        }
    }
    is_done
}

/// Locks one, as long as this driver is the one to write: whoever has the pool by then may have opened it since it was read.
///
/// # Errors
/// Why it may still be open.
pub(super) async fn close(
    client: &Client,
    vif: &VifLocking,
    duty: &watch::Receiver<Duty>,
) -> Result<(), String> {
    tokio::select! {
        biased;
        () = relieved(duty.clone()) => Err("this driver stops, or is not the one to write any more".to_owned()),
        done = vif.close_idle(client) => done.map_err(|error| chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use xenapi::{LockingMode, PowerState, Record as _, Ref, Vif, Vm};

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

    #[tokio::test]
    async fn a_vif_without_an_interface_is_locked_again() {
        let (mut xapi, (_tell, duty)) = (Xapi::start().await, watch::channel(Duty::Active));
        let (client, vif) = (xapi.client.clone(), vif());
        let answers = async {
            xapi.next("VIF.get_record").await.answer(vif.found.encode());
            let vm = &pool("host1", None, 1).vms[&reference("vm")];
            xapi.next("VM.get_record")
                .await
                .answer(Vm { power_state: PowerState::Halted, ..vm.clone() }.encode());
            xapi.next("VIF.set_locking_mode").await.answer("".into());
        };
        let (closed, ()) = tokio::join!(close(&client, &vif, &duty), answers);
        assert_eq!(closed, Ok(()));
    }

    /// A VIF that XAPI would not lock stayed open until something else happened; and so did all that a driver had not locked while
    /// another had the pool.
    #[tokio::test]
    async fn what_is_left_is_tried_again_and_so_is_all_by_who_takes_over() {
        let mut xapi = Xapi::start().await;
        let plan = Plan {
            number: 1,
            generation: 1,
            announced: 0,
            seen: Arc::default(),
            hosts: [].into(),
            idle: vec![vif()],
            bindings: Vec::new(),
            problems: Vec::new(),
        };
        let (_plans, plans) = watch::channel(Some(Arc::new(plan)));
        let (tell, duty) = watch::channel(Duty::Standby(Standby::NotAdopted));
        tokio::spawn(lock(xapi.client.clone(), plans, duty));
        // It comes to wait for its duty.
        tokio::task::yield_now().await;
        tell.send_replace(Duty::Active);
        for _ in 0..3 {
            drop(xapi.next("VIF.get_record").await);
        }
    }

    #[tokio::test]
    async fn who_does_not_have_the_pool_locks_nothing() {
        let (xapi, (_tell, duty)) = (Xapi::start().await, watch::channel(Duty::Standby(Standby::NotAdopted)));
        let vif = vif();
        let closed = timeout(PATIENCE, close(&xapi.client, &vif, &duty)).await.expect("XAPI is not asked");
        assert!(closed.is_err() && xapi.is_silent());
    }

    /// The driver that has the pool by then has just opened it for a guest.
    #[tokio::test]
    async fn who_loses_the_pool_after_reading_does_not_lock() {
        let (mut xapi, (tell, duty)) = (Xapi::start().await, watch::channel(Duty::Active));
        let (client, vif) = (xapi.client.clone(), vif());
        let answers = async {
            xapi.next("VIF.get_record").await.answer(vif.found.encode());
            let unanswered = xapi.next("VM.get_record").await;
            tell.send_replace(Duty::Standby(Standby::NotAdopted));
            unanswered
        };
        let work = async { tokio::join!(close(&client, &vif, &duty), answers) };
        let (closed, _unanswered) = timeout(PATIENCE, work).await.expect("it does not wait for XAPI");
        assert!(closed.is_err(), "a hook does not say that it is locked");
        assert!(xapi.is_silent());
    }
}
