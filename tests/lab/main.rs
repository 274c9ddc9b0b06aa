//! Drawbridge against real packets: pool, plugin, driver and kernel together.

mod bad_input;
mod cli;
mod concurrency;
mod dom0;
mod edits;
mod endurance;
mod explain;
mod first_packet;
mod guarded;
mod keep;
mod lifecycle;
mod meaning;
mod quarantine;
mod replay;
mod smoke;
mod spoofing;

/// Each test once for either kernel back end of iptables.
macro_rules! on_both {
    ($($(#[$meta:meta])* fn $name:ident($iptables:ident) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            fn body($iptables: e2e::lab::Iptables) -> anyhow::Result<()> {
                $body
                Ok(())
            }

            #[test]
            fn nft() -> anyhow::Result<()> {
                body(e2e::lab::Iptables::Nft)
            }

            #[test]
            fn legacy() -> anyhow::Result<()> {
                body(e2e::lab::Iptables::Legacy)
            }
        }
    )+};
}
pub(crate) use on_both;

/// Nothing on this host, in either family, speaks of these interfaces. (Domain ids are each host's own: another host
/// may well have one of the same name.)
#[track_caller]
pub(crate) fn assert_nothing_of(lab: &e2e::lab::Lab, host: &str, vifs: &[String]) -> anyhow::Result<()> {
    for family in e2e::station::Family::BOTH {
        let rules = lab.iptables_save(host, family)?;
        for vif in vifs {
            let left: Vec<_> = rules.lines().filter(|line| e2e::scenario::mentions(line, vif)).collect();
            assert!(left.is_empty(), "{host} {family} still speaks of {vif}:\n  {}", left.join("\n  "));
        }
    }
    Ok(())
}
