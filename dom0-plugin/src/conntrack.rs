//! How full dom0's connection tracking is. It is shared: where guests fill it, dom0 can begin no connection either.

use std::fs;

use crate::paths::Paths;

/// Connections tracked, and how many can be. `None`: nothing is tracked (the module is not loaded), or it is not known.
pub(crate) fn fill(paths: &Paths) -> Option<(u64, u64)> {
    let number = |name: &str| {
        fs::read_to_string(paths.net.join("netfilter").join(name)).ok()?.trim_ascii().parse::<u64>().ok()
    };
    Some((number("nf_conntrack_count")?, number("nf_conntrack_max")?))
}
