//! The boundary between guests' frames and dom0's own firewall, in the table `raw`. It is the plugin's own: it stands
//! whatever callers want, and nothing of it is theirs to name.
//!
//! Once bridged packets meet iptables, they meet connection tracking too, which is dom0's. A guest that sends both
//! directions of a connection would make dom0's INPUT see its next packet as ESTABLISHED. So, for frames that came in by
//! a port of one of XAPI's bridges:
//!
//! - what is for dom0's own addresses stays in zone 0, where only dom0 itself can say the other direction;
//! - what is for many gets zone 65535: dom0's INPUT hears it, and must see it as NEW. What is *from* a broadcast or
//!   multicast address never gets that zone, so nothing there is ever answered;
//! - what is from dom0's own address or from many, to dom0 or to many, is not tracked at all: it is forged, and dom0 would
//!   hear the answer it never gave;
//! - everything else gets the zone that the caller's chain `dwb-raw` gives to its bridge. Where that gives none, nobody
//!   filters, and it is not tracked.
//!
//! What a guest sends by an interface that is on no bridge (XAPI's locking mode `disabled` leaves it up) is not tracked, and
//! nothing that comes in from elsewhere with one of dom0's own addresses is: dom0 talks to itself by `lo`. Other bridges, and
//! what dom0 routes and translates between them, are left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use drawbridge_wire::Family;

use super::grammar::is_interface;
use crate::bridges::GUEST_INTERFACES;

/// Where the built-in chain leads.
const ENTRY: &str = "dwb-dom0";
/// A frame that came in by a port of one of XAPI's bridges.
const ZONE: &str = "dwb-dom0-zone";
/// It is between others than dom0.
const OTHERS: &str = "dwb-dom0-others";
/// It is for one of dom0's addresses, or for many.
const HERE: &str = "dwb-dom0-here";
/// It says that it is from dom0, or from many.
const FORGED: &str = "dwb-dom0-forged";

/// The callers' chain: a zone for each bridge that has filtered ports.
const CALLERS: &str = "dwb-raw";

/// The jump, which must be the first rule of PREROUTING: the first CT target that a packet meets decides, and an ACCEPT
/// before it would leave it in zone 0.
const JUMP: &str = "-j dwb-dom0";

/// The zone of what goes to many. No caller may use it.
pub(crate) const OTHER_ZONE: u64 = 65_535;

/// How XAPI calls its bridges (xapi: `xapi_network.ml`, `xapi_pif.ml`): of a network, of a NIC, of the host's own network.
pub(crate) const NAMES: [&str; 3] = ["xapi+", "xenbr+", "xenapi"];

/// Whether a chain is part of the boundary, and so not the caller's to name.
pub(crate) fn is_reserved(chain: &str) -> bool {
    chain.strip_prefix(ENTRY).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// How the boundary stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As it should.
    Stands,
    /// Nothing leads to it.
    Missing,
    /// Another rule of PREROUTING comes first.
    Preceded,
    /// Its rules are not those that should stand.
    Altered,
}

impl fmt::Display for Standing {
    /// The word in the answer of `iptables-save`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stands => "stands",
            Self::Missing => "missing",
            Self::Preceded => "preceded",
            Self::Altered => "altered",
        })
    }
}

/// The boundary as it is found in a dump, and as it should be.
#[derive(Debug)]
pub struct Boundary {
    wanted: BTreeMap<&'static str, Vec<String>>,
    found: BTreeMap<&'static str, Vec<String>>,
    /// Positions of our jump in PREROUTING, from 1.
    jumps: Vec<usize>,
    /// Whether the callers' chain is there.
    callers_chain: bool,
}

impl Boundary {
    /// Reads it off a whole dump of `iptables-save` of this family. `bridges`: those that have guests' interfaces, whatever
    /// their names.
    #[must_use]
    pub fn read(dump: &str, family: Family, bridges: &BTreeSet<String>) -> Self {
        let mut boundary = Self {
            wanted: wanted(family, bridges),
            found: BTreeMap::new(),
            jumps: Vec::new(),
            callers_chain: false,
        };
        let mut position = 0;
        let raw = dump.lines().skip_while(|&line| line != "*raw").take_while(|&line| line != "COMMIT");
        for line in raw {
            if let Some(declared) = line.strip_prefix(':') {
                let chain = declared.split(' ').next().unwrap_or_default();
                boundary.callers_chain |= chain == CALLERS;
                continue;
            }
            let Some((chain, rule)) = rule(line) else { continue };
            if chain == "PREROUTING" {
                position += 1;
                if rule == JUMP {
                    boundary.jumps.push(position);
                }
            } else if let Some(chain) = CHAINS.into_iter().find(|own| *own == chain) {
                boundary.found.entry(chain).or_default().push(rule);
            }
        }
        boundary
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.jumps.as_slice() {
            [] => Standing::Missing,
            [1] if self.found == self.wanted && self.callers_chain => Standing::Stands,
            [1] => Standing::Altered,
            _ => Standing::Preceded,
        }
    }

    /// Input for `iptables-restore` that puts it as it should stand, at once.
    pub(super) fn repair(&self) -> String {
        let mut text = String::from("*raw\n");
        // A declaration empties a chain that is there: the callers' is declared only where it is not.
        let callers = (!self.callers_chain).then_some(CALLERS);
        // Writing to a String cannot fail.
        for chain in CHAINS.into_iter().chain(callers) {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for (chain, rules) in &self.wanted {
            for rule in rules {
                let _ = writeln!(text, "-A {chain} {rule}");
            }
        }
        for _ in &self.jumps {
            let _ = writeln!(text, "-D PREROUTING {JUMP}");
        }
        let _ = writeln!(text, "-I PREROUTING 1 {JUMP}");
        text + "COMMIT\n"
    }
}

const CHAINS: [&str; 5] = [ENTRY, ZONE, OTHERS, HERE, FORGED];

/// The chain and the rule of a line, without counters. iptables 1.4.21 writes two spaces after `-m physdev`.
fn rule(line: &str) -> Option<(&str, String)> {
    let line = match line.strip_prefix('[') {
        Some(counted) => counted.split_once("] ")?.1,
        None => line,
    };
    let (chain, rule) = line.strip_prefix("-A ")?.split_once(' ')?;
    Some((chain, rule.split_ascii_whitespace().collect::<Vec<_>>().join(" ")))
}

/// The chains as they should be.
fn wanted(family: Family, bridges: &BTreeSet<String>) -> BTreeMap<&'static str, Vec<String>> {
    let own = |name: &str| !is_xapi_bridge(name) && is_interface(name);
    let names = NAMES.into_iter().chain(bridges.iter().map(String::as_str).filter(|name| own(name)));
    let mut entry = vec!["-i lo -j RETURN".to_owned()];
    entry.extend(GUEST_INTERFACES.map(|start| format!("-i {start}+ -j CT --notrack")));
    entry.extend(names.map(|name| format!("-i {name} -m physdev --physdev-is-in -g {ZONE}")));
    entry.push("-m addrtype --src-type LOCAL -j CT --notrack".to_owned());

    // For IPv6 the types are not alternatives: MULTICAST must hold beside another that is named with it.
    let (from, to, to_others) = match family {
        Family::Ipv4 => (
            vec!["-m addrtype --src-type LOCAL,BROADCAST,MULTICAST"],
            vec!["-m addrtype --dst-type LOCAL,BROADCAST,MULTICAST"],
            "-m addrtype ! --dst-type LOCAL,BROADCAST,MULTICAST",
        ),
        Family::Ipv6 => (
            // dom0 hears an anycast address, and answers from another.
            vec![
                "-s ff00::/8",
                "-m addrtype --src-type LOCAL",
                "-m addrtype --src-type ANYCAST --dst-type ANYCAST",
            ],
            vec!["-d ff00::/8", "-m addrtype --dst-type LOCAL,ANYCAST"],
            "! -d ff00::/8 -m addrtype ! --dst-type LOCAL,ANYCAST",
        ),
    };
    let mut zone: Vec<String> = from.iter().map(|from| format!("{from} -g {FORGED}")).collect();
    zone.extend(to.iter().map(|to| format!("{to} -g {HERE}")));
    zone.push(format!("-g {OTHERS}"));
    let others = vec![format!("-j {CALLERS}"), "-j CT --notrack".to_owned()];
    // No ICMP error goes to many (RFC 1122, RFC 4443); one that does must not be related to what somebody said to many.
    let (own, icmp, errors): (_, _, &[u8]) = match family {
        Family::Ipv4 => ("LOCAL", "-p icmp -m icmp --icmp-type", &[3, 4, 5, 11, 12]),
        Family::Ipv6 => ("LOCAL,ANYCAST", "-p ipv6-icmp -m icmp6 --icmpv6-type", &[1, 2, 3, 4]),
    };
    let mut here = vec![format!("-m addrtype --dst-type {own} -j RETURN")];
    here.extend(errors.iter().map(|kind| format!("{icmp} {kind} -j CT --notrack")));
    here.push(format!("-j CT --zone {OTHER_ZONE}"));
    // A DHCP client has no address yet; the kernel counts that as broadcast.
    let client =
        (family == Family::Ipv4).then(|| format!("-s 0.0.0.0/32 ! -d 0.0.0.0/8 -j CT --zone {OTHER_ZONE}"));
    // An address of dom0's that a guest of another network has, or that comes back by another NIC.
    let mut forged = vec![format!("{to_others} -g {OTHERS}")];
    forged.extend(client);
    forged.push("-j CT --notrack".to_owned());
    BTreeMap::from([(ENTRY, entry), (ZONE, zone), (OTHERS, others), (HERE, here), (FORGED, forged)])
}

/// Whether a bridge has a name that XAPI gives.
pub(crate) fn is_xapi_bridge(name: &str) -> bool {
    NAMES.iter().any(|own| own.strip_suffix('+').map_or(*own == name, |start| name.starts_with(start)))
}

#[cfg(test)]
mod tests;
