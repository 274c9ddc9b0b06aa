//! Whose turn it is: so many hosts are worked on at a time.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// A round that takes longer waits for something, maybe for a host that is dead and not known to be.
const BRIEF: Duration = Duration::from_secs(1);

/// Turns for hosts that are well, and turns for those that are not: a call to a dead host lasts until its deadline, and
/// must not keep a host waiting that would answer.
///
/// Who is well is known from the round before. So that hosts that die together do not keep the turns of the living until
/// their calls end, a turn is over after [`BRIEF`], though its round goes on. At worst as many rounds run as there are hosts, all
/// but those with a turn waiting.
#[derive(Debug)]
pub(super) struct Turns {
    well: Semaphore,
    ailing: Semaphore,
    /// Read by every round until it ends.
    under_way: RwLock<()>,
    over: AtomicBool,
}

/// A turn, and the right to finish what is begun in it.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    place: SemaphorePermit<'a>,
    under_way: RwLockReadGuard<'a, ()>,
}

impl Turn<'_> {
    /// Carries a round out. If it takes long, the next has the turn meanwhile.
    pub(super) async fn carry_out<T>(self, round: impl Future<Output = T>) -> T {
        let Self { place, under_way } = self;
        let mut round = pin!(round);
        let done = match timeout(BRIEF, &mut round).await {
            Ok(done) => done,
            Err(_) => {
                drop(place);
                round.await
            }
        };
        drop(under_way);
        done
    }
}

impl Turns {
    /// `at_a_time` hosts that are well, a quarter of that for the others.
    pub(super) fn new(at_a_time: u16) -> Self {
        let at_a_time = usize::from(at_a_time.max(4));
        Self {
            well: Semaphore::new(at_a_time),
            ailing: Semaphore::new(at_a_time / 4),
            under_way: RwLock::default(),
            over: AtomicBool::new(false),
        }
    }

    /// Waits for a turn. It ends when the answer is dropped, or a while after it is [used](Turn::carry_out); none if there are no more.
    pub(super) async fn take(&self, is_ailing: bool) -> Option<Turn<'_>> {
        let places = if is_ailing { &self.ailing } else { &self.well };
        // Never closed.
        let place = places.acquire().await.ok()?;
        let under_way = self.under_way.read().await;
        (!self.over.load(Ordering::Acquire)).then_some(Turn { place, under_way })
    }

    /// Gives no more turns, and waits until the rounds under way have ended.
    pub(super) async fn end(&self) {
        self.over.store(true, Ordering::Release);
        drop(self.under_way.write().await);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn the_dead_do_not_take_the_turns_of_the_living() {
        let turns = Turns::new(4);
        let dead = turns.take(true).await;
        assert!(dead.is_some());
        let another = timeout(Duration::from_millis(1), turns.take(true)).await;
        assert!(another.is_err(), "more than a quarter for hosts that fail");
        for _ in 0..4 {
            assert!(turns.take(false).await.is_some());
        }
    }

    /// A rack goes: nobody knows yet that these hosts fail, and their calls take a minute to end.
    #[tokio::test]
    async fn hosts_that_die_together_do_not_keep_the_turns_of_the_living() {
        let turns = Turns::new(4);
        let die = async |is_ailing| turns.take(is_ailing).await.unwrap().carry_out(pending::<()>()).await;
        let live = async || {
            for is_ailing in [false, true, false, true] {
                turns.take(is_ailing).await.unwrap().carry_out(async {}).await;
            }
        };
        let dead =
            async { tokio::join!(die(false), die(false), die(false), die(false), die(true), die(true)) };
        tokio::select! {
            biased;
            _ = dead => unreachable!("they never end"),
            done = timeout(30 * BRIEF, live()) => assert!(done.is_ok(), "the living wait for the dead"),
        }
    }

    #[tokio::test]
    async fn a_round_that_has_lost_its_turn_is_waited_for_all_the_same() {
        let turns = Turns::new(4);
        let (finish, finished) = tokio::sync::oneshot::channel();
        let turn = turns.take(false).await.unwrap();
        let round = turn.carry_out(async { finished.await.unwrap() });
        let end = async {
            // It begins with all turns free again.
            let all = turns.well.acquire_many(4).await;
            assert!(timeout(BRIEF / 10, turns.end()).await.is_err());
            finish.send(()).unwrap();
            turns.end().await;
            all
        };
        let (_, all) = tokio::join!(round, end);
        assert!(all.is_ok());
    }

    #[tokio::test]
    async fn the_end_waits_for_who_is_at_it_and_begins_nothing() {
        let turns = Turns::new(4);
        let turn = turns.take(false).await;
        assert!(timeout(Duration::from_millis(1), turns.end()).await.is_err());
        assert!(turns.take(false).await.is_none() && turns.take(true).await.is_none());
        drop(turn);
        turns.end().await;
    }
}
