//! The driver's own network cards: by their MAC addresses it finds its own VM among the pool's.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use ruleset::ids::Mac;

use crate::report::chain;

/// This machine's network cards cannot be told, so neither can the driver's own VM: what is enforced without knowing it may
/// cut the driver off from XAPI.
#[derive(Debug, thiserror::Error)]
#[error("cannot read this machine's network cards at {path}")]
pub struct CardsError {
    path: PathBuf,
    source: io::Error,
}

/// The MAC addresses of this machine, from sysfs. They need be none of the pool's: the driver may run anywhere.
///
/// # Errors
/// [`CardsError`]: never less than all of them.
pub fn macs() -> Result<BTreeSet<Mac>, CardsError> {
    macs_under(Path::new("/sys/class/net"))
}

fn macs_under(class: &Path) -> Result<BTreeSet<Mac>, CardsError> {
    let failed = |path: &Path, source| CardsError { path: path.to_owned(), source };
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(class).map_err(|source| failed(class, source))? {
        let path = entry.map_err(|source| failed(class, source))?.path().join("address");
        match std::fs::read_to_string(&path) {
            // Tunnels and the like have addresses of other lengths, or none.
            Ok(text) => found.extend(text.trim().parse::<Mac>().ok()),
            Err(error) if is_no_card(&error) => {}
            Err(source) => return Err(failed(&path, source)),
        }
    }
    // The loopback's.
    found.remove(&Mac([0; 6]));
    Ok(found)
}

/// Whether the kernel says by this that a card goes at this moment, or that this is none (`bonding_masters` is a file).
fn is_no_card(error: &io::Error) -> bool {
    let says = error.raw_os_error().map(Errno::from_raw);
    matches!(says, Some(Errno::ENOENT | Errno::ENODEV | Errno::EINVAL | Errno::ENOTDIR))
}

/// The cards as they were last read.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastGood(Option<BTreeSet<Mac>>);

impl LastGood {
    /// Whether they were ever read.
    pub(crate) fn are_known(&self) -> bool {
        self.0.is_some()
    }

    /// What was read now, or else last.
    ///
    /// # Errors
    /// [`CardsError`] if they could never be read.
    pub(crate) fn or(
        &mut self,
        read: Result<BTreeSet<Mac>, CardsError>,
    ) -> Result<&BTreeSet<Mac>, CardsError> {
        match (read, &mut self.0) {
            (Ok(macs), known) => Ok(known.insert(macs)),
            (Err(error), Some(known)) => {
                tracing::warn!(error = chain(&error), "going on with the cards that were there before");
                Ok(known)
            }
            (Err(error), None) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, write};

    use super::*;

    #[test]
    fn every_card_with_a_mac_counts_and_nothing_else() {
        let class = tempfile::tempdir().unwrap();
        for (name, address) in [
            ("eth0", "00:16:3e:00:00:01\n"),
            ("lo", "00:00:00:00:00:00\n"),
            ("sit0", "0.0.0.0\n"),
            ("ib0", "80:00:02:08:fe:80:00:00:00:00:00:00:7c:fe:90:03:00:12:34:56\n"),
            ("tun0", "\n"),
        ] {
            create_dir(class.path().join(name)).unwrap();
            write(class.path().join(name).join("address"), address).unwrap();
        }
        write(class.path().join("bonding_masters"), "\n").unwrap();
        create_dir(class.path().join("going")).unwrap();
        assert_eq!(macs_under(class.path()).unwrap(), BTreeSet::from([Mac([0, 0x16, 0x3e, 0, 0, 1])]));
        assert!(!macs().unwrap().contains(&Mac([0; 6])));
    }

    /// The driver's own VM was closed when the process was out of file descriptors.
    #[test]
    fn cards_that_cannot_be_read_are_not_taken_for_none() {
        assert!(macs_under(Path::new("/nonexistent")).is_err());
        let class = tempfile::tempdir().unwrap();
        // Reading it is an error of another kind than its not being there.
        std::fs::create_dir_all(class.path().join("eth0/address")).unwrap();
        assert!(macs_under(class.path()).is_err());
        assert!(is_no_card(&Errno::ENODEV.into()) && !is_no_card(&Errno::EMFILE.into()));

        let unread = || macs_under(Path::new("/nonexistent"));
        let mut last = LastGood::default();
        assert!(last.or(unread()).is_err());
        let macs = BTreeSet::from([Mac([0, 0x16, 0x3e, 0, 0, 1])]);
        assert_eq!(last.or(Ok(macs.clone())).unwrap(), &macs);
        assert_eq!(last.or(unread()).unwrap(), &macs);
        assert!(last.or(Ok(BTreeSet::new())).unwrap().is_empty());
    }
}
