//! How far apart looks at a host are while nothing changes.

use std::time::Duration;

/// All looks together take no more than this part of the time: they go through the pool's master, which has others to serve.
const SHARE: u32 = 10;

/// Whatever looks take: what another hand did must not stand for ever.
const AT_MOST: Duration = Duration::from_secs(60);

/// Where a guest is about to arrive on a switch, its port is looked for this often: it is plugged before the guest runs there.
const PORT_COMES: Duration = Duration::from_secs(1);

/// What looks at a host take.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The last two at which nothing was written. Zero is no look yet.
    took: [Duration; 2],
}

impl Looks {
    /// A look at which nothing was written.
    pub(super) fn note(&mut self, took: Duration) {
        self.took = [took, self.took[0]];
    }

    /// The pause between two looks at a host, of so many: `look_after`, or longer where looks take long.
    pub(super) fn apart(&self, look_after: Duration, hosts: usize) -> Duration {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        let share = self.one().saturating_mul(SHARE).saturating_mul(hosts);
        share.min(AT_MOST).max(look_after)
    }

    /// The pause before the next look for a port that is about to come. Half the host's time at most goes to this.
    pub(super) fn for_a_port(&self, look_after: Duration) -> Duration {
        PORT_COMES.min(look_after).max(self.one())
    }

    /// One look. That another was held up says nothing about the host.
    fn one(&self) -> Duration {
        self.took[0].min(self.took[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK_AFTER: Duration = Duration::from_secs(5);

    fn looks(took: [u64; 2]) -> Looks {
        let mut looks = Looks::default();
        took.map(Duration::from_millis).into_iter().for_each(|took| looks.note(took));
        looks
    }

    #[test]
    fn looks_leave_the_pools_master_to_others() {
        let apart = |hosts, took| looks([took, took]).apart(LOOK_AFTER, hosts);
        assert_eq!(apart(2, 50), LOOK_AFTER);
        assert_eq!(apart(64, 50), Duration::from_secs(32));
        assert_eq!(apart(1, 3_000), Duration::from_secs(30));
        assert_eq!(apart(64, 3_000), AT_MOST);
        assert_eq!(looks([3_000, 3_000]).apart(2 * AT_MOST, 64), 2 * AT_MOST);
    }

    /// The first round of all writes, and may wait for locks: after one of 5 s, 64 hosts were not looked at for an hour.
    #[test]
    fn one_that_was_held_up_does_not_count() {
        assert_eq!(Looks::default().apart(LOOK_AFTER, 64), LOOK_AFTER);
        assert_eq!(looks([50, 5_000]).apart(LOOK_AFTER, 2), LOOK_AFTER);
        assert_eq!(looks([5_000, 50]).apart(LOOK_AFTER, 2), LOOK_AFTER);
        assert_eq!(looks([0, 5_000]).apart(LOOK_AFTER, 2), LOOK_AFTER, "the first look");
    }

    #[test]
    fn a_port_is_looked_for_often_and_not_all_the_time() {
        assert_eq!(looks([50, 50]).for_a_port(LOOK_AFTER), PORT_COMES);
        assert_eq!(looks([50, 50]).for_a_port(PORT_COMES / 2), PORT_COMES / 2);
        assert_eq!(looks([2_000, 2_000]).for_a_port(LOOK_AFTER), Duration::from_secs(2));
    }
}
