//! Whose turn it is: so many hosts are worked on at a time.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Turns for hosts that are well, and turns for those that are not: a call to a dead host lasts until its deadline, and
/// must not keep a host waiting that would answer.
#[derive(Debug)]
pub(super) struct Turns {
    well: Semaphore,
    ailing: Semaphore,
    at_a_time: u32,
    over: AtomicBool,
}

impl Turns {
    /// `at_a_time` hosts that are well, a quarter of that for the others.
    pub(super) fn new(at_a_time: u16) -> Self {
        let at_a_time = u32::from(at_a_time.max(4));
        let turns = |n: u32| Semaphore::new(usize::try_from(n).unwrap_or(usize::MAX));
        Self { well: turns(at_a_time), ailing: turns(at_a_time / 4), at_a_time, over: AtomicBool::new(false) }
    }

    /// Waits for a turn. It ends when the answer is dropped; none if there are no more.
    pub(super) async fn take(&self, is_ailing: bool) -> Option<SemaphorePermit<'_>> {
        let turns = if is_ailing { &self.ailing } else { &self.well };
        let turn = turns.acquire().await.ok()?;
        (!self.over.load(Ordering::Acquire)).then_some(turn)
    }

    /// Gives no more turns, and waits until those that were given have ended.
    pub(super) async fn end(&self) {
        self.over.store(true, Ordering::Release);
        // Neither is ever closed.
        let well = self.well.acquire_many(self.at_a_time).await;
        let ailing = self.ailing.acquire_many(self.at_a_time / 4).await;
        drop((well, ailing));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_dead_do_not_take_the_turns_of_the_living() {
        let turns = Turns::new(4);
        let dead = turns.take(true).await;
        assert!(dead.is_some());
        let another = tokio::time::timeout(Duration::from_millis(1), turns.take(true)).await;
        assert!(another.is_err(), "more than a quarter for hosts that fail");
        for _ in 0..4 {
            assert!(turns.take(false).await.is_some());
        }
    }

    #[tokio::test]
    async fn the_end_waits_for_who_is_at_it_and_begins_nothing() {
        let turns = Turns::new(4);
        let turn = turns.take(false).await;
        assert!(tokio::time::timeout(Duration::from_millis(1), turns.end()).await.is_err());
        assert!(turns.take(false).await.is_none() && turns.take(true).await.is_none());
        drop(turn);
        turns.end().await;
    }
}
