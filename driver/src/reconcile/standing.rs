//! What is known to stand on a host between two looks at it.

use ruleset::iptables::Epoch;

/// What was read back from a host with Linux bridges is, for both families, just what was compiled. An edit that follows need
/// not read first: what it would read can be compiled once more.
///
/// It may hold no longer. If another driver read or wrote since, dom0 has seen a higher generation than this one's, and
/// refuses what is written on the strength of it. If dom0 booted, the chains are not there, and if another hand was at them,
/// the read-back after the write shows it; then the host is read (`ruleset::iptables::amend` says what such a write does).
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The epochs in which the rules stand, of IPv4 and IPv6.
    pub(super) epochs: [Epoch; 2],
    /// The writer that has read the host.
    pub(super) generation: u64,
}
