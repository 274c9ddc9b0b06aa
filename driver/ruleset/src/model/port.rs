//! Ports: a port is one VIF and what may be said in its name.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::group::Family;
use crate::ids::{GroupId, Mac, VifUuid};

/// Whether a port is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortSecurity {
    /// Source checks and groups apply.
    On,
    /// Nothing is checked: the operator vouches for the guest.
    Off,
}

/// Another address the guest may use (neutron's `allowed_address_pairs`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressPair {
    /// Its MAC; `None` means the port's own.
    pub mac: Option<Mac>,
    /// Its address or prefix.
    pub net: IpNet,
}

/// One VIF with its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// XAPI's uuid of the VIF.
    pub vif: VifUuid,
    /// The VIF's MAC.
    pub mac: Mac,
    /// Fixed addresses.
    pub addresses: Vec<IpAddr>,
    /// Further (MAC, prefix) pairs the guest may use.
    pub pairs: Vec<AddressPair>,
    /// Groups; none means that nothing but the base rules passes.
    pub groups: Vec<GroupId>,
    /// Filtered at all?
    pub security: PortSecurity,
}

impl Port {
    /// Every (MAC, prefix) the guest may send from, of one family, sorted; for IPv6 with the link-local address of
    /// each MAC.
    #[must_use]
    pub fn sources(&self, family: Family) -> Vec<(Mac, IpNet)> {
        let own = self.addresses.iter().map(|a| (self.mac, IpNet::from(*a)));
        let pairs = self.pairs.iter().map(|p| (p.mac.unwrap_or(self.mac), p.net.trunc()));
        let mut sources: Vec<_> = own.chain(pairs).filter(|(_, net)| Family::of(net) == family).collect();
        if family == Family::Ipv6 {
            let local: Vec<_> = link_local_sources(self);
            sources.extend(local);
        }
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// The addresses by which this port counts as a member of its groups.
    ///
    /// A pair of prefix length 0 does not count: it would make every address a member (neutron bug 1867119).
    pub fn member_addresses(&self) -> impl Iterator<Item = IpNet> + '_ {
        let own = self.addresses.iter().map(|a| IpNet::from(*a));
        own.chain(self.pairs.iter().map(|p| p.net.trunc()).filter(|net| net.prefix_len() > 0))
    }
}

/// The link-local source of each MAC the port may use.
#[must_use]
pub fn link_local_sources(port: &Port) -> Vec<(Mac, IpNet)> {
    let macs = port.pairs.iter().filter_map(|p| p.mac).chain([port.mac]);
    macs.map(|mac| (mac, IpNet::from(IpAddr::V6(mac.link_local())))).collect()
}
