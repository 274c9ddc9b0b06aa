//! `dwb-local`: a pass counts for the connection only where it was meant for.
//!
//! The mark belongs to the connection, and whether the rules of its receiver were asked depends on the MAC address a guest
//! puts into the frame. Without this, a guest could send one packet of a refused connection to another MAC (the wire's, or
//! a neighbour's that admits it), have the connection marked as allowed, and reach the receiver by the fast path. So a
//! packet for an address of a port of ours that goes out elsewhere is let through and leaves the mark as it was.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::groups::digest;
use super::{CompileError, Names};
use crate::ids::{ChainName, InvalidId};
use crate::iptables::Chains;
use crate::iptables::rule::{IfPattern, Match, Rule, Target};
use crate::iptables::tree::PrefixTree;
use crate::model::{Family, PortSecurity};
use crate::resolve::HostPolicy;

/// The chain for one address.
fn leaf(net: IpNet) -> Result<ChainName, InvalidId> {
    ChainName::ours(&format!("l-{}", digest(&["local", &net.to_string()])))
}

/// Writes the tree over the single addresses of filtered ports, each with the interfaces it may go out by: several
/// ports may share one. Prefixes among the pairs stand for nobody in particular and are left out.
pub(super) fn write(
    host: &HostPolicy,
    family: Family,
    names: &Names,
    chains: &mut Chains,
) -> Result<(), CompileError> {
    let mut ways: BTreeMap<IpNet, Vec<String>> = BTreeMap::new();
    for attachment in host.attachments.iter().filter(|a| a.port.security == PortSecurity::On) {
        let sources = attachment.port.sources(family).into_iter().map(|(_, net)| net);
        for address in sources.filter(|net| net.prefix_len() == net.max_prefix_len()) {
            ways.entry(address).or_default().extend(attachment.interfaces());
        }
    }
    for (address, interfaces) in &mut ways {
        interfaces.sort_unstable();
        interfaces.dedup();
        let mut rules = Vec::new();
        for interface in interfaces {
            let out = Match::PhysdevOut(IfPattern::Exactly(interface.parse()?));
            rules.push(Rule::new([out], Target::Return));
        }
        rules.push(Rule::always(Target::Accept));
        chains.insert(leaf(*address)?, rules);
    }
    let addresses: Vec<IpNet> = ways.into_keys().collect();
    let inner = |net: IpNet| ChainName::ours(&format!("lt-{}", digest(&["local", &net.to_string()])));
    let target = |net: IpNet| leaf(net).map_or(Target::Accept, Target::Goto);
    let tree = PrefixTree {
        root: names.local.clone(),
        inner: &inner,
        condition: Match::Destination,
        target: &target,
    };
    Ok(tree.write(&addresses, chains)?)
}
