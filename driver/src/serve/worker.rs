//! One host's worker: brings the host to its newest task, tries again when that fails, and looks after it from time to
//! time.

use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use xenapi::{Backend, Host, Ref};

use super::bell::Bell;
use super::claim::writer;
use super::duty::{Duty, relieved};
use super::health::Health;
use super::looks::Looks;
use super::pauses::pauses;
use super::turns::Turns;
use crate::config::Reconcile;
use crate::desired::HostDesired;
use crate::dom0::{self, Dom0};
use crate::reconcile::{Mode, Rounds, Standing, reconcile};
use crate::report::{HostReport, Status, chain};
use crate::run::Pool;

/// The pause after the first failure is as long, or up to twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// So often it is asked again who has the pool, if its record names nobody, and the first pause before that: three seconds in all, at most.
const GAPS: usize = 4;
const SHORTEST_GAP: Duration = Duration::from_millis(100);

/// Why a host is not worked on though it should be.
const LOST: &str = "another driver has taken this pool over";
const NOBODYS: &str = "somebody else has written to hosts, and the pool does not say which driver writes; this one says so within seconds";

/// What a host should hold, and what that was decided from.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Number of the plan.
    pub plan: u64,
    /// Generation of the store that the plan was made from.
    pub generation: u64,
    /// For people.
    pub name: String,
    /// The host's uuid.
    pub uuid: String,
    /// Changes when dom0 or its toolstack starts anew: what stood there need not stand any more.
    pub incarnation: String,
    /// So many hosts the pool has.
    pub hosts: usize,
    /// What should be.
    pub wanted: Arc<HostDesired>,
}

impl Task {
    /// Whether a guest is about to arrive by a port that only a look at the switch shows.
    fn awaits_a_port(&self) -> bool {
        self.wanted.backend == Backend::OpenVSwitch && !self.wanted.policy.expected.is_empty()
    }

    /// Whether nothing has to be done for this one where that one stands.
    fn asks_for_the_same(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation
            && (Arc::ptr_eq(&self.wanted, &other.wanted) || self.wanted.asks_for_the_same(&other.wanted))
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// A host is read and compared so often, at most, though nothing has changed.
    pub look_after: Duration,
    /// A reconcile has to end within this.
    pub deadline: Duration,
    /// Longest time between two attempts at a host that fails.
    pub longest_pause: Duration,
}

impl From<Reconcile> for Timing {
    fn from(settings: Reconcile) -> Self {
        let Reconcile { look_after, deadline, longest_pause, hosts_at_a_time: _ } = settings;
        let [look_after, deadline, longest_pause] =
            [look_after, deadline, longest_pause].map(|seconds| Duration::from_secs(seconds.get()));
        Self { look_after, deadline, longest_pause }
    }
}

/// A host's worker.
#[derive(Debug)]
pub(super) struct Worker {
    /// The way there.
    pub pool: Arc<Pool>,
    /// The host.
    pub host: Ref<Host>,
    /// What it should hold; the newest counts.
    pub tasks: watch::Receiver<Task>,
    /// Rises when somebody wants the host looked at now.
    pub kicks: watch::Receiver<u64>,
    /// Whether this driver is the one to write.
    pub duty: watch::Receiver<Duty>,
    /// What others see of it.
    pub health: watch::Sender<Health>,
    /// Rung with whatever changes in the health of any host.
    pub bell: Bell,
    /// Shared with the other workers.
    pub turns: Arc<Turns>,
    /// How long things take.
    pub timing: Timing,
    /// This driver, as it calls itself in the pool's record.
    pub instance: Arc<str>,
    /// Doubts (see [`dom0::doubts`]) that XAPI has dispelled.
    pub dispelled: u64,
}

/// What a worker remembers from one round to the next.
struct Memory {
    /// The task that stood when the host was last read.
    stands: Option<Task>,
    /// How it stood then, if there was nothing to say about it.
    standing: Option<Standing>,
    /// Pauses before the next attempts, while it fails.
    pauses: Option<ExponentialBackoff>,
    /// Pauses before the next looks, while the switch lacks a port.
    portless: Option<ExponentialBackoff>,
    /// What it takes to see how the host stands.
    looks: Looks,
    /// The next round, whatever happens.
    next: Instant,
}

impl Memory {
    /// The pause after a round that failed.
    fn failed(&mut self, timing: Timing) -> Duration {
        self.stands = None;
        let longest = timing.longest_pause;
        self.pauses.get_or_insert_with(|| pauses(FIRST_PAUSE, longest)).next().unwrap_or(longest)
    }

    /// The pause after one that did not.
    fn succeeded(&mut self, task: &Task, report: &HostReport, timing: Timing) -> Duration {
        self.stands = Some(task.clone());
        self.pauses = None;
        let Timing { look_after, longest_pause, .. } = timing;
        let apart = match task.awaits_a_port() {
            true => self.looks.for_a_port(look_after),
            false => self.looks.apart(look_after, task.hosts),
        };
        // It may come at any moment, and where the network is not guarded nothing filters it then.
        let lacks_a_port = report.quarantined.iter().any(|port| port.portless);
        let soon = || self.portless.take().unwrap_or_else(|| pauses(FIRST_PAUSE, longest_pause));
        self.portless = lacks_a_port.then(soon);
        self.portless.as_mut().and_then(Iterator::next).map_or(apart, |soon| soon.min(apart))
    }
}

impl Worker {
    /// Works until the host is no longer one of the pool's.
    pub(super) async fn run(mut self) {
        let looks = Looks::default();
        let mut memory = Memory {
            stands: None,
            standing: None,
            pauses: None,
            portless: None,
            looks,
            next: Instant::now(),
        };
        loop {
            let task = self.tasks.borrow_and_update().clone();
            let kick = *self.kicks.borrow_and_update();
            let on_duty = self.duty.borrow_and_update().is_active();
            let kicked = kick > self.health.borrow().answered;
            let is_due = Instant::now() >= memory.next;
            let is_new = !memory.stands.as_ref().is_some_and(|stands| task.asks_for_the_same(stands));
            // A host that fails is left its pause, however many edits come in meanwhile; who waits for it is not.
            let is_wanted = is_due || kicked || (is_new && memory.pauses.is_none());
            if on_duty && is_wanted {
                let turns = Arc::clone(&self.turns);
                // None when the daemon stops.
                let Some(turn) = turns.take(memory.pauses.is_some()).await else { return };
                // It may have taken a while.
                if !self.duty.borrow().is_active() {
                    continue;
                }
                let task = self.tasks.borrow_and_update().clone();
                let kick = *self.kicks.borrow_and_update();
                turn.carry_out(self.round(&task, kick, &mut memory)).await;
                if self.tasks.has_changed().is_err() {
                    return;
                }
                continue;
            }
            if on_duty && !is_new {
                let changed = self.health.send_if_modified(|health| {
                    let before = health.enforced;
                    health.stands_as_well(&task);
                    health.enforced != before
                });
                if changed {
                    self.bell.ring();
                }
                memory.stands = Some(task);
            }
            tokio::select! {
                changed = self.tasks.changed() => if changed.is_err() { return },
                _ = self.kicks.changed() => {}
                changed = self.duty.changed() => if changed.is_err() { return },
                () = sleep_until(memory.next), if on_duty => {}
            }
        }
    }

    /// One attempt, and what is to be remembered of it.
    async fn round(&mut self, task: &Task, kick: u64, memory: &mut Memory) {
        // A port that has come is nobody's interference.
        let settled = memory.stands.as_ref().is_some_and(|stands| task.asks_for_the_same(stands))
            && !task.awaits_a_port();
        // Who asks for a look gets one, and so does a host that may have started anew.
        let is_asked = kick > self.health.borrow().answered || Instant::now() >= memory.next;
        let known = memory.standing.take().zip(memory.stands.as_ref());
        let known = known.filter(|(_, stands)| !is_asked && stands.incarnation == task.incarnation);
        let known = known.map(|(standing, stands)| (Arc::clone(&stands.wanted), standing));
        let is_looked_at = known.is_none();
        let begun = Instant::now();
        let (deadline, duty) = (self.timing.deadline, self.duty.clone());
        let mut done = tokio::select! {
            biased;
            () = relieved(duty) => Err(LOST.to_owned()),
            done = timeout(deadline, self.attempt(task, known)) => done.unwrap_or_else(|_| Err(self.silence())),
        };
        memory.standing = done.as_mut().ok().and_then(|report| report.standing.take());
        let whole = done.as_ref().ok().filter(|report| report.status != Status::Failed);
        // What is written, or looked for several times, tells nothing of one look.
        let is_one_look = |report: &HostReport| {
            report.bytes_written == 0 && !report.asks_for_another(&self.health.borrow().quarantined)
        };
        if is_looked_at && whole.is_some_and(is_one_look) {
            memory.looks.note(begun.elapsed());
        }
        let failed = whole.is_none();
        let pause = match whole {
            Some(report) => memory.succeeded(task, report, self.timing),
            None => memory.failed(self.timing),
        };
        self.health.send_modify(|health| {
            match done {
                Ok(report) => health.note(report, task, settled),
                Err(reason) => health.note_silence(reason, task.plan),
            }
            health.try_again(pause);
            health.answered = health.answered.max(kick);
        });
        self.bell.ring();
        // Edits do not put the next look off.
        if is_looked_at || failed {
            memory.next = Instant::now() + pause;
        }
    }

    /// Reconciles, anew when another writer came in between; first without reading, if it is known what stands.
    ///
    /// # Errors
    /// Why nothing was begun.
    async fn attempt(
        &mut self,
        task: &Task,
        mut known: Option<(Arc<HostDesired>, Standing)>,
    ) -> Result<HostReport, String> {
        let mut rounds = Rounds::new();
        let mut earlier = None;
        loop {
            let generation = dom0::generation();
            self.dispel_doubts().await?;
            let Task { name, uuid, wanted, .. } = task;
            let dom0 = Dom0 {
                client: &self.pool.client,
                signer: &self.pool.signer,
                host: &self.host,
                uuid: uuid.clone(),
            };
            let known = known.take();
            let mode = match &known {
                Some((before, standing)) => Mode::Amend { before, standing: *standing },
                None => Mode::Apply { generation },
            };
            let report = reconcile(&dom0, name, wanted, mode, generation / 1_000_000_000).await;
            let report = report.after(earlier.take());
            // A port that was waited for before is not waited for at every look.
            let again = report.asks_for_another(&self.health.borrow().quarantined);
            if !again || !self.duty.borrow().is_active() || !rounds.again().await {
                return Ok(report);
            }
            earlier = Some(report);
        }
    }

    /// Somebody who writes with higher numbers may be a person at a command line, or the driver that has the pool now: this one
    /// may have slept, and its events may not have come yet. XAPI is asked before anything is done.
    async fn dispel_doubts(&mut self) -> Result<(), String> {
        let doubts = dom0::doubts();
        if doubts == self.dispelled {
            return Ok(());
        }
        // While it is replaced, the record names nobody.
        let mut pauses = pauses(SHORTEST_GAP, self.timing.longest_pause).take(GAPS);
        loop {
            let pools = self.pool.client.pools().await.map_err(|error| chain(&error))?;
            match (pools.values().find_map(writer), pauses.next()) {
                (Some(writer), _) if *writer == *self.instance => break,
                (Some(_), _) => return Err(LOST.to_owned()),
                (None, Some(pause)) => sleep(pause).await,
                (None, None) => return Err(NOBODYS.to_owned()),
            }
        }
        self.dispelled = doubts;
        Ok(())
    }

    fn silence(&self) -> String {
        format!(
            "not done within {} s: look whether the host is reachable from the pool's master, and what holds its dom0 up",
            self.timing.deadline.as_secs()
        )
    }
}

#[cfg(test)]
mod tests;
