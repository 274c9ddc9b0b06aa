//! Exit code 4 of the iptables programs: "resource problem".

/// The exit code.
const RESOURCE_PROBLEM: i32 = 4;

/// Whether an iptables program ended without a look at its input, because another one had the xtables lock for too long, or the
/// lock could not be had at all. Nothing is wrong with the rules then.
///
/// iptables-legacy ends with 4 for no other reason; 1.4.21 says "Another app is currently holding the xtables lock", as newer
/// ones do. iptables-nft ends with 4, too, when the kernel refuses a rule, and says `RULE_APPEND failed (Invalid argument)`.
#[must_use]
pub fn is_contention(exit_code: i32, stderr: &str) -> bool {
    exit_code == RESOURCE_PROBLEM && !stderr.contains(" failed (")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As they were printed by iptables 1.4.21 and 1.8.9, legacy and nft.
    #[test]
    fn exit_4_is_contention_unless_the_kernel_refused() {
        for said in [
            "Another app is currently holding the xtables lock. Perhaps you want to use the -w option?\n",
            "Another app is currently holding the xtables lock; waiting (1s) for it to exit...\n\
             Another app is currently holding the xtables lock. Stopped waiting after 1s.\n",
            "Can't lock /run/xtables.lock: Resource temporarily unavailable\n\
             Another app is currently holding the xtables lock. Stopped waiting after 1s.\n",
            "Fatal: can't open lock file /run/xtables.lock: Permission denied\n",
            "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Resource temporarily unavailable\n",
        ] {
            assert!(is_contention(4, said), "{said}");
            assert!(!is_contention(1, said), "{said}");
        }
        for said in [
            "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: CHAIN_DEL failed (Device or resource busy): chain dwb-a\n",
            "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Invalid argument): rule in chain dwb-a\n",
        ] {
            assert!(!is_contention(4, said), "{said}");
        }
    }
}
