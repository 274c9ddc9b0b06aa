//! Drawbridge against real packets: pool, plugin, driver and kernel together.

mod bad_input;
mod boundary;
mod cases;
mod cli;
mod concurrency;
mod daemon;
mod dom0;
mod edits;
mod endurance;
mod explain;
mod first_packet;
mod guarded;
mod keep;
mod lifecycle;
mod lifeline;
mod meaning;
mod migration;
mod ovs;
mod quarantine;
mod replay;
mod smoke;
mod spoofing;

/// A test once for each value of its one parameter: `fn name(parameter: Type) { … }` becomes a module `name` with a
/// test for each `instance => value`.
macro_rules! instances {
    ([$($instance:ident => $value:expr),+] $(#[$meta:meta])* fn $name:ident($parameter:ident: $type:ty) $body:block) => {
        $(#[$meta])*
        mod $name {
            use super::*;

            fn body($parameter: $type) -> anyhow::Result<()> {
                $body
                Ok(())
            }

            $(
                #[test]
                fn $instance() -> anyhow::Result<()> {
                    body($value)
                }
            )+
        }
    };
}
pub(crate) use instances;

/// Each test once for every back end: what passes must not depend on it.
macro_rules! on_each {
    ($($(#[$meta:meta])* fn $name:ident($backend:ident) $body:block)+) => {$(
        $crate::instances! {
            [
                nft => e2e::lab::Backend::Nft,
                legacy => e2e::lab::Backend::Legacy,
                ovs => e2e::lab::Backend::OpenVSwitch
            ]
            $(#[$meta])* fn $name($backend: e2e::lab::Backend) $body
        }
    )+};
}
pub(crate) use on_each;

/// Each test once for a Linux bridge and once for Open vSwitch: for what is the same whatever iptables is behind.
macro_rules! on_bridge_and_ovs {
    ($($(#[$meta:meta])* fn $name:ident($backend:ident) $body:block)+) => {$(
        $crate::instances! {
            [bridge => e2e::lab::Backend::Nft, ovs => e2e::lab::Backend::OpenVSwitch]
            $(#[$meta])* fn $name($backend: e2e::lab::Backend) $body
        }
    )+};
}
pub(crate) use on_bridge_and_ovs;

/// Each test once for either kernel back end of iptables: for what is about iptables itself.
macro_rules! on_both {
    ($($(#[$meta:meta])* fn $name:ident($iptables:ident) $body:block)+) => {$(
        $crate::instances! {
            [nft => e2e::lab::Iptables::Nft, legacy => e2e::lab::Iptables::Legacy]
            $(#[$meta])* fn $name($iptables: e2e::lab::Iptables) $body
        }
    )+};
}
pub(crate) use on_both;

/// Nothing on this host speaks of these interfaces, which are gone. (Domain ids are each host's own: another host may
/// well have one of the same name.)
#[track_caller]
pub(crate) fn assert_nothing_of(lab: &e2e::lab::Lab, host: &str, vifs: &[String]) -> anyhow::Result<()> {
    for vif in vifs {
        let left = lab.rules_left_of(host, vif)?;
        assert!(left.is_empty(), "{host} still speaks of {vif}:\n  {}", left.join("\n  "));
    }
    Ok(())
}
