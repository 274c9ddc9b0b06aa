//! Rung whenever what the API tells of hosts and ports may be another: who watches looks again.

use std::sync::Arc;

use tokio::sync::watch;

use super::duty::Duty;
use super::plan::{Plan, Trouble};

/// Counts how often it was rung.
#[derive(Clone, Debug, Default)]
pub(super) struct Bell(watch::Sender<u64>);

impl Bell {
    pub(super) fn ring(&self) {
        self.0.send_modify(|rings| *rings += 1);
    }

    /// A number that rises when it is rung.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// Rings for what concerns all hosts: their workers ring for themselves, and those of a driver that does not write are silent.
    pub(super) async fn ring_for(self, told: Told) {
        let Told { mut duty, mut xapi, mut trouble, mut plans } = told;
        loop {
            let changed = tokio::select! {
                changed = duty.changed() => changed,
                changed = xapi.changed() => changed,
                changed = trouble.changed() => changed,
                changed = plans.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            self.ring();
        }
    }
}

/// What concerns all hosts.
pub(super) struct Told {
    /// Whether this driver writes.
    pub duty: watch::Receiver<Duty>,
    /// Why XAPI cannot be asked.
    pub xapi: watch::Receiver<Option<String>>,
    /// Why no plan can be made.
    pub trouble: watch::Receiver<Option<Trouble>>,
    /// Which hosts there are, what fits nothing, where ports are.
    pub plans: watch::Receiver<Option<Arc<Plan>>>,
}

#[cfg(test)]
mod tests {
    use super::super::duty::Standby;
    use super::*;

    #[tokio::test]
    async fn it_rings_for_what_no_worker_tells() {
        let (tell_duty, duty) = watch::channel(Duty::Active);
        let (tell_xapi, xapi) = watch::channel(None);
        let (tell_trouble, trouble) = watch::channel(None);
        let (tell_plan, plans) = watch::channel(None);
        let bell = Bell::default();
        let mut heard = bell.subscribe();
        tokio::spawn(bell.ring_for(Told { duty, xapi, trouble, plans }));
        let reason = "because".to_owned();
        let changes: [&dyn Fn(); 4] = [
            &|| drop(tell_duty.send_replace(Duty::Standby(Standby::NotAdopted))),
            &|| drop(tell_xapi.send_replace(Some(reason.clone()))),
            &|| {
                let reason = reason.clone();
                drop(tell_trouble.send_replace(Some(Trouble {
                    seen: 1,
                    generation: 1,
                    announced: 0,
                    reason,
                })));
            },
            &|| drop(tell_plan.send_replace(None)),
        ];
        for (change, rings) in changes.into_iter().zip(1..) {
            change();
            heard.changed().await.unwrap();
            assert_eq!(*heard.borrow_and_update(), rings);
        }
    }
}
