//! The bridges of this host that have guests' interfaces: XAPI's, whatever they are called.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::authorise::boundary::{NAMES, is_xapi_bridge};
use crate::paths::Paths;

/// How a guest's interfaces in dom0 are called (xenopsd).
pub(crate) const GUEST_INTERFACES: [&str; 2] = ["vif", "tap"];

/// Linux bridges with a guest's interface on them now.
pub(crate) fn of_guests(paths: &Paths) -> BTreeSet<String> {
    let has_guest =
        |name: &String| entries(&paths.interfaces.join(name).join("brif")).any(|port| is_guests(&port));
    entries(&paths.interfaces).filter(has_guest).collect()
}

/// Patterns for all of XAPI's bridges, those that will come too.
pub(crate) fn all(paths: &Paths) -> BTreeSet<String> {
    let patterns = NAMES.into_iter().map(str::to_owned);
    patterns.chain(of_guests(paths).into_iter().filter(|name| !is_xapi_bridge(name))).collect()
}

/// `vif5.0`, `tap5.0`
pub(crate) fn is_guests(interface: &str) -> bool {
    GUEST_INTERFACES.iter().any(|start| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = interface.strip_prefix(start).and_then(|rest| rest.split_once('.'));
        number.is_some_and(|(domid, device)| digits(domid) && digits(device))
    })
}

/// Names in a folder; none if it is not there: not every interface is a bridge.
fn entries(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Bridges of XAPI's from which dom0 routes: the connections it forwards from there are not tracked, or in a zone of their
/// own, so that its own NAT and stateful rules do not see them.
pub(crate) fn routed(paths: &Paths) -> BTreeSet<String> {
    let routes = |name: &String| {
        ["ipv4", "ipv6"].iter().any(|family| {
            let path = paths.net.join(family).join("conf").join(name).join("forwarding");
            fs::read_to_string(path).is_ok_and(|text| text.trim_ascii() == "1")
        })
    };
    let guests = of_guests(paths);
    let is_bridge = |name: &String| paths.interfaces.join(name).join("bridge").exists();
    entries(&paths.interfaces)
        .filter(|name| guests.contains(name) || is_xapi_bridge(name))
        .filter(is_bridge)
        .filter(routes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_interfaces() {
        for name in ["vif0.0", "tap12.7"] {
            assert!(is_guests(name), "{name}");
        }
        for name in ["vif", "vif1", "vif1.", "vif.1", "vifx.1", "eth0", "veth1.2", "vif1.0.1"] {
            assert!(!is_guests(name), "{name}");
        }
    }
}
