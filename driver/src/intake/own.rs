//! The driver's own network cards: by their MAC addresses it finds its own VM among the pool's.

use std::collections::BTreeSet;
use std::path::Path;

use ruleset::ids::Mac;

/// The MAC addresses of this machine, from sysfs. What cannot be read is not there: the driver need not run in a VM of
/// the pool at all.
#[must_use]
pub fn macs() -> BTreeSet<Mac> {
    macs_under(Path::new("/sys/class/net"))
}

fn macs_under(class: &Path) -> BTreeSet<Mac> {
    let Ok(entries) = std::fs::read_dir(class) else { return BTreeSet::new() };
    let address = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("address")).ok();
    let found = entries.flatten().filter_map(address).filter_map(|text| text.trim().parse::<Mac>().ok());
    // The loopback's.
    found.filter(|mac| mac.0 != [0; 6]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_cards_or_sysfs_has_none() {
        assert!(macs_under(Path::new("/nonexistent")).is_empty());
        assert!(!macs().contains(&Mac([0; 6])));
    }
}
