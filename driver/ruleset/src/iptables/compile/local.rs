//! Which packets go out to somebody else than the port whose address they are for.
//!
//! The connection's mark belongs to the connection, and whose rules are asked depends on the MAC address that the sender puts
//! into the frame. If every answer counted, a guest could send one packet of a refused connection to another MAC (the wire's,
//! or a neighbour's that admits it), have the connection marked as allowed, and reach the receiver by the fast path.
//!
//! So `dwb-local` marks every packet for an address of a port, and the chain of a port that has the address takes the mark off.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::groups::digest;
use super::{CompileError, Names, expected};
use crate::ids::{ChainName, Interface};
use crate::iptables::Chains;
use crate::iptables::mark::PacketMark;
use crate::iptables::rule::{Match, Rule, Target};
use crate::iptables::tree::PrefixTree;
use crate::model::{Family, Port, PortSecurity};
use crate::resolve::HostPolicy;

/// Writes the tree over the single addresses of filtered ports, each on its bridge. A prefix among the pairs may be meant for
/// anybody, and is left out.
pub(super) fn write(
    host: &HostPolicy,
    family: Family,
    names: &Names,
    chains: &mut Chains,
) -> Result<(), CompileError> {
    let mut homes: BTreeMap<IpNet, BTreeSet<&Interface>> = BTreeMap::new();
    let here = host.attachments.iter().map(|a| (&a.port, &a.bridge));
    let here = here.filter(|(port, _)| port.security == PortSecurity::On);
    let arriving = expected::open(host).map(|e| (&e.port, &e.bridge));
    for (port, bridge) in here.chain(arriving) {
        for address in addresses(port, family) {
            homes.entry(address).or_default().insert(bridge);
        }
    }
    let known: Vec<IpNet> = homes.keys().copied().collect();
    let strays = |address| {
        let bridges = homes.get(&address).into_iter().flatten();
        let here = bridges.map(|bridge| [Match::Destination(address), Match::InBridge((*bridge).clone())]);
        here.map(|here| Rule::new(here, Target::SetPacketMark(PacketMark::STRAY))).collect()
    };
    let tree = PrefixTree {
        root: names.local.clone(),
        inner: &|net| ChainName::ours(&format!("l-{}", digest(&["local", &net.to_string()]))),
        condition: Match::Destination,
        rules: &strays,
    };
    Ok(tree.write(&known, chains)?)
}

/// The single addresses of a port.
pub(super) fn addresses(port: &Port, family: Family) -> BTreeSet<IpNet> {
    let nets = port.sources(family).into_iter().map(|(_, net)| net);
    nets.filter(|net| net.prefix_len() == net.max_prefix_len()).collect()
}

/// How a receiving port's chain begins: what is for one of its addresses has come to the right one.
pub(super) fn meant(port: &Port, family: Family) -> impl Iterator<Item = Rule> {
    let nets: BTreeSet<IpNet> = port.sources(family).into_iter().map(|(_, net)| net).collect();
    let taken_off = Target::SetPacketMark(PacketMark::MEANT);
    nets.into_iter().map(move |net| Rule::new([Match::Destination(net)], taken_off.clone()))
}
