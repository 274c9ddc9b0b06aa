//! Whether this driver is the one to write.

use std::fmt;

use tokio::sync::watch;

/// Why, or that, hosts are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// It writes.
    Active,
    /// It only reads.
    Standby(Standby),
}

/// Why a driver does not write. What stands in the hosts stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standby {
    /// It has not yet read the pool, or planned what the store holds.
    Starting,
    /// The store was never adopted: it may be empty because it is new, or because the real one is lost.
    NotAdopted,
    /// The hosts were last written from a newer state of this store, or from another store.
    Stale {
        /// What the pool says it was last written from.
        recorded: String,
        /// What the store holds.
        own: String,
    },
    /// A driver that started later has taken the pool over.
    Superseded {
        /// That driver, as it calls itself.
        by: String,
    },
}

impl Duty {
    /// Whether hosts are written.
    #[must_use]
    pub(super) fn is_active(&self) -> bool {
        *self == Self::Active
    }
}

impl fmt::Display for Standby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("the pool has not been read yet, or there is no plan yet of what the store holds"),
            Self::NotAdopted => f.write_str(
                "the store is new: fill it, look at `drawbridge export`, then say `drawbridge adopt`; until then no host is written",
            ),
            Self::Stale { recorded, own } => write!(
                f,
                "the pool was last written from {recorded}, this store is {own}: bring the newer store back, or say \
                 `drawbridge adopt` if this one is to count"
            ),
            Self::Superseded { by } => write!(
                f,
                "driver {by} has taken this pool over: stop one of the two; to take it back, restart this one"
            ),
        }
    }
}

/// Waits until this driver is not, or no longer, the one to write, or nobody knows any more: that is listened for as long as hosts
/// are written, also while the daemon stops. XAPI's locking knows no numbers of writers: what goes that far is dropped then.
pub(super) async fn relieved(mut duty: watch::Receiver<Duty>) {
    // An error means that the daemon has done waiting for its hosts.
    let _ = duty.wait_for(|duty| !duty.is_active()).await;
}

#[cfg(test)]
mod tests {
    use super::super::fixture::PATIENCE;
    use super::*;

    #[tokio::test]
    async fn nobody_goes_on_when_nobody_listens() {
        let (listens, duty) = watch::channel(Duty::Active);
        drop(listens);
        assert!(tokio::time::timeout(PATIENCE, relieved(duty)).await.is_ok());
    }
}
