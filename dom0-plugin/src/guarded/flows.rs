//! The same for Open vSwitch: which networks of which bridge are guarded, read off the flows that stand.
//!
//! One line a network: the bridge, the VLAN, and XAPI's name for it, by which a host that has changed to the Linux bridge
//! knows it (`xenbr0 100 xapi1`; `-` is the untagged network, or a name nobody knew).

pub(crate) mod lifelines;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Bridges, failed, forget, remembered, replace};
use drawbridge_wire::flow::GUARDED;

use crate::authorise::{is_interface, number};
use crate::paths::Paths;
use crate::switch::{Switch, Tag};
use crate::{Result, trusted};

/// A guarded network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Network {
    /// Its real bridge.
    pub(crate) bridge: String,
    /// Its VLAN there.
    pub(crate) tag: Tag,
    /// XAPI's name for it.
    pub(crate) name: Option<String>,
}

/// What flows were read of a bridge after a write.
pub(crate) struct Written<'a> {
    /// The bridge.
    pub(crate) bridge: &'a str,
    /// All flows of ours on it.
    pub(crate) dump: &'a str,
    /// The write deleted what says which networks are guarded: what is not said now no longer holds. Else it may be gone
    /// because the switch has lost its flows.
    pub(crate) forgets: bool,
}

/// Remembers what stands on a bridge of this switch after a write.
///
/// # Errors
/// `GuardedRecord`, `UnsafeFile`
pub(crate) fn record(paths: &Paths, written: &Written<'_>, switch: &Switch) -> Result<()> {
    lifelines::record(paths, written)?;
    let known = networks(paths)?;
    let mut tags = standing(written.dump)
        .map_err(|line| failed(&paths.guarded_flows(), &format!("not understood: {line}")))?;
    let recorded: BTreeSet<Tag> =
        known.iter().filter(|network| network.bridge == written.bridge).map(|network| network.tag).collect();
    if !written.forgets {
        tags.extend(&recorded);
    }
    let others = remembered(paths)?;
    if tags == recorded && others.is_empty() {
        return Ok(());
    }
    if tags != recorded {
        let kept = known.iter().filter(|network| network.bridge != written.bridge).cloned();
        let new = tags.iter().map(|tag| Network {
            bridge: written.bridge.to_owned(),
            tag: *tag,
            name: switch
                .networks_of(written.bridge)
                .find(|(_, its)| its == tag)
                .map(|(name, _)| name.to_owned()),
        });
        replace(paths, &paths.guarded_flows(), &text(kept.chain(new).collect()))?;
    }
    // Last: until here they are remembered twice, and never not at all.
    forget(paths, &switch.networks_of(written.bridge).map(|(name, _)| name).collect())
}

/// Forgets all of it: chains have been written, so this host has Linux bridges now, and the chains' record is whole.
///
/// # Errors
/// `GuardedRecord`
pub(crate) fn forget_all(paths: &Paths) -> Result<()> {
    for path in [paths.guarded_flows(), paths.lifelines_flows()] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&path, &error)),
            _ => {}
        }
    }
    Ok(())
}

/// The networks remembered.
///
/// # Errors
/// `UnsafeFile`, `GuardedRecord`
pub(crate) fn networks(paths: &Paths) -> Result<BTreeSet<Network>> {
    let path = paths.guarded_flows();
    let lines = trusted::read(&path)?.unwrap_or_default();
    let network = |(at, line)| {
        network(line).ok_or_else(|| {
            failed(&path, &format!("line {}: not a bridge, a VLAN and a network's name", at + 1))
        })
    };
    lines.lines().enumerate().map(network).collect()
}

/// Their names, as bridges have them on a host with Linux bridges.
pub(crate) fn names(networks: &BTreeSet<Network>) -> Bridges {
    networks.iter().filter_map(|network| network.name.clone()).collect()
}

fn network(line: &str) -> Option<Network> {
    let mut words = line.split(' ');
    let (bridge, tag, name, None) = (words.next()?, words.next()?, words.next()?, words.next()) else {
        return None;
    };
    let tag = match tag {
        "-" => None,
        tag => Some(number(tag).and_then(|tag| u16::try_from(tag).ok()).filter(|tag| *tag < 4096)?),
    };
    let name = match name {
        "-" => None,
        name => Some(is_interface(name).then(|| name.to_owned())?),
    };
    is_interface(bridge).then(|| Network { bridge: bridge.to_owned(), tag, name })
}

fn text(networks: BTreeSet<Network>) -> String {
    let mut text = String::new();
    for Network { bridge, tag, name } in networks {
        let tag = tag.map_or_else(|| "-".to_owned(), |tag| tag.to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{bridge} {tag} {}", name.as_deref().unwrap_or("-"));
    }
    text
}

/// The networks that flows say are guarded.
///
/// # Errors
/// A line that speaks of that, but is not understood.
fn standing(dump: &str) -> Result<BTreeSet<Tag>, &str> {
    markers(dump).map(|line| marked(line).ok_or(line)).collect()
}

/// The lines of a dump that say which networks are guarded.
pub(crate) fn markers(dump: &str) -> impl Iterator<Item = &str> {
    let place = format!("table={GUARDED},");
    dump.lines().filter(move |line| line.split(' ').any(|word| word == place)).map(str::trim_ascii)
}

/// `… priority=1,dl_vlan=100 actions=drop`
fn marked(line: &str) -> Option<Tag> {
    let (flow, "drop") = line.split_once(" actions=")? else { return None };
    network_of(flow.rsplit(' ').next()?.strip_prefix("priority=1,")?)
}

/// The network that a match on the VLAN header means.
fn network_of(matched: &str) -> Option<Tag> {
    match matched {
        "vlan_tci=0x0000/0x1fff" => Some(None),
        vlan => {
            let vlan = number(vlan.strip_prefix("dl_vlan=")?)?;
            Some(Some(u16::try_from(vlan).ok().filter(|vlan| *vlan < 4096)?))
        }
    }
}

#[cfg(test)]
mod tests;
