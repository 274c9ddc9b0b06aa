//! How the driver's own VM reaches XAPI from guarded networks (docs/security.md, H1.1), read off the flows that stand.
//!
//! One line a MAC and host: the bridge, the VLAN or `-`, the MAC, the host's address. Whatever is wrong with the record, it can only
//! close.

use std::collections::BTreeSet;
use std::net::IpAddr;

use drawbridge_wire::flow::LIFELINES;

use super::{Written, failed, markers, network_of};
use crate::authorise::{is_interface, is_mac};
use crate::guarded::keep;
use crate::paths::Paths;
use crate::switch::Tag;
use crate::{Result, trusted};

/// On a network, this MAC may reach XAPI there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lifeline {
    /// The real bridge.
    pub(crate) bridge: String,
    /// The VLAN there.
    pub(crate) tag: Tag,
    /// The MAC.
    pub(crate) mac: String,
    /// The host's address.
    pub(crate) host: IpAddr,
}

/// Remembers what stands on a bridge after a write; if nothing there says what is guarded, what stood before.
///
/// # Errors
/// `GuardedRecord`
pub(super) fn record(paths: &Paths, written: &Written<'_>) -> Result<()> {
    if markers(written.dump).next().is_none() {
        return Ok(());
    }
    // Whatever is wrong with the old record, a new one mends it.
    let known = remembered(paths).unwrap_or_default();
    let others = known.into_iter().filter(|line| line.bridge != written.bridge);
    let lines: BTreeSet<Lifeline> = others.chain(standing(written)).collect();
    keep(paths, &paths.lifelines_flows(), &lines.iter().map(text).collect::<String>())
}

/// The lifelines remembered.
///
/// # Errors
/// `UnsafeFile`, `GuardedRecord`: none of them is to be believed then.
pub(crate) fn remembered(paths: &Paths) -> Result<BTreeSet<Lifeline>> {
    let path = paths.lifelines_flows();
    let text = trusted::read(&path)?.unwrap_or_default();
    let line = |(at, line)| {
        let lifeline = lifeline(line);
        lifeline.ok_or_else(|| {
            failed(&path, &format!("line {}: not a bridge, a VLAN, a MAC and an address", at + 1))
        })
    };
    text.lines().enumerate().map(line).collect()
}

fn text(line: &Lifeline) -> String {
    let Lifeline { bridge, tag, mac, host } = line;
    let tag = tag.map_or_else(|| "-".to_owned(), |tag| tag.to_string());
    format!("{bridge} {tag} {mac} {host}\n")
}

fn lifeline(line: &str) -> Option<Lifeline> {
    let words: Vec<&str> = line.split(' ').collect();
    let [bridge, tag, mac, host] = words.as_slice() else { return None };
    let tag = match *tag {
        "-" => None,
        tag => network_of(&format!("dl_vlan={tag}"))?,
    };
    let known = is_interface(bridge) && is_mac(mac);
    known.then(|| {
        Some(Lifeline { bridge: (*bridge).to_owned(), tag, mac: (*mac).to_owned(), host: host.parse().ok()? })
    })?
}

/// What the flows of a bridge say. A line that is not understood opens nothing.
fn standing(written: &Written<'_>) -> BTreeSet<Lifeline> {
    let place = format!("table={LIFELINES},");
    let lines = written.dump.lines().filter(|line| line.split(' ').any(|word| word == place));
    lines.filter_map(|line| said(written.bridge, line.trim_ascii())).collect()
}

/// `… priority=1,tcp,dl_vlan=100,dl_src=…,nw_dst=…,tp_dst=443 actions=drop`
fn said(bridge: &str, line: &str) -> Option<Lifeline> {
    let (flow, "drop") = line.split_once(" actions=")? else { return None };
    let fields: Vec<&str> = flow.rsplit(' ').next()?.split(',').collect();
    let value = |name| fields.iter().find_map(|field| field.strip_prefix(name));
    let tag = fields.iter().find_map(|field| network_of(field))?;
    let host = value("nw_dst=").or_else(|| value("ipv6_dst="))?;
    let mac = value("dl_src=").filter(|mac| is_mac(mac))?;
    Some(Lifeline { bridge: bridge.to_owned(), tag, mac: mac.to_owned(), host: host.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flows_say_is_read_and_remembered() {
        let mac = "00:16:3e:00:00:aa";
        let dump = format!(
            " cookie=0x4457427200000001, duration=1s, table=87, n_packets=0, n_bytes=0, priority=1,dl_vlan=5 actions=drop\n \
             cookie=0x4457427200000001, duration=1s, table=88, n_packets=0, n_bytes=0, priority=1,tcp,dl_vlan=5,dl_src={mac},nw_dst=192.0.2.7,tp_dst=443 actions=drop\n \
             cookie=0x4457427200000001, duration=1s, table=88, n_packets=0, n_bytes=0, priority=1,tcp6,vlan_tci=0x0000/0x1fff,dl_src={mac},ipv6_dst=2001:db8::7,tp_dst=443 actions=drop\n \
             cookie=0x4457427200000001, duration=1s, table=88, n_packets=0, n_bytes=0, priority=1,tcp,dl_src={mac},nw_dst=192.0.2.8 actions=drop\n"
        );
        let found = standing(&Written { bridge: "xenbr0", dump: &dump, forgets: false });
        let lines = format!("xenbr0 - {mac} 2001:db8::7\nxenbr0 5 {mac} 192.0.2.7\n");
        assert_eq!(found.iter().map(text).collect::<String>(), lines);
        assert_eq!(lines.lines().map(|line| lifeline(line).unwrap()).collect::<BTreeSet<_>>(), found);
        for wrong in [
            "",
            "xenbr0 - x 192.0.2.7",
            "xenbr0 4096 00:16:3e:00:00:aa 192.0.2.7",
            "a/b - 00:16:3e:00:00:aa 192.0.2.7",
            "xenbr0 - 00:16:3e:00:00:aa 192.0.2.7/0",
        ] {
            assert_eq!(lifeline(wrong), None, "{wrong}");
        }
    }
}
