//! Dispatch that costs a logarithm: trees of chains over interface names and over address prefixes.
//!
//! A node holds at most about [`FLAT`] rules. Chains are named after what they select, so that one more entry
//! changes one node, or splits one, and leaves the rest of the tree as it stands in the kernel.
//!
//! How deep a tree may be is fixed, whatever it holds (nf_tables allows 16 chains from the hook to the last): where entries
//! are so unlucky that they would need more, upper nodes take in the nodes below and become wider.

mod branch;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use self::branch::Branch;
use super::Chains;
use super::rule::{IfPattern, Match, Rule, Target};
use crate::ids::{ChainName, Interface, InvalidId};

/// Up to so many entries stand in one chain.
const FLAT: usize = 8;

/// So many chains follow one another at most in a tree over interface names.
pub(super) const NAME_LEVELS: usize = 4;

/// So many chains follow one another at most in a tree over prefixes.
pub(super) const PREFIX_LEVELS: usize = 6;

/// A tree over interface names.
pub(super) struct NameTree<'a> {
    /// Name of the root chain.
    pub root: ChainName,
    /// Inner chains are `dwb-<label>-<prefix of names>`.
    pub label: &'a str,
    /// `-m physdev --physdev-in` or `--physdev-out`.
    pub condition: fn(IfPattern) -> Match,
    /// What follows for a name that is not in the tree.
    pub otherwise: &'a [Rule],
}

impl NameTree<'_> {
    /// Writes the tree for `leaves` (sorted by name, unique).
    pub(super) fn write(&self, leaves: &[(String, Target)], chains: &mut Chains) -> Result<(), InvalidId> {
        let tree = Branch::grow(leaves, &|leaves| {
            let common = common_text(leaves);
            let next = move |leaf: &(String, Target)| leaf.0.as_bytes().get(common).copied();
            Box::new(leaves.chunk_by(move |a, b| next(a) == next(b)))
        });
        self.node(self.root.clone(), &tree, NAME_LEVELS, chains)
    }

    fn node(
        &self,
        chain: ChainName,
        branch: &Branch<'_, (String, Target)>,
        levels: usize,
        chains: &mut Chains,
    ) -> Result<(), InvalidId> {
        let mut rules = Vec::new();
        for child in branch.children(levels) {
            if let [(name, target)] = child.entries {
                let exactly = IfPattern::Exactly(name.parse::<Interface>()?);
                rules.push(Rule::new([(self.condition)(exactly)], target.clone()));
            } else {
                let prefix = &child.entries[0].0[..common_text(child.entries)];
                let chain = ChainName::ours(&format!("{}-{prefix}", self.label))?;
                let names = IfPattern::Prefix(prefix.parse::<Interface>()?);
                rules.push(Rule::new([(self.condition)(names)], Target::Goto(chain.clone())));
                self.node(chain, child, levels - 1, chains)?;
            }
        }
        rules.extend_from_slice(self.otherwise);
        chains.insert(chain, rules);
        Ok(())
    }
}

/// Length of the longest prefix that all names share; names are ASCII.
fn common_text(leaves: &[(String, Target)]) -> usize {
    // Sorted: what the first and the last share, all share.
    let (first, last) = (&leaves[0].0, &leaves[leaves.len() - 1].0);
    first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count()
}

/// A tree over address prefixes; a packet that matches none comes back to the caller.
pub(super) struct PrefixTree<'a> {
    /// Name of the root chain.
    pub root: ChainName,
    /// Name of the inner chain that selects a prefix.
    pub inner: &'a dyn Fn(IpNet) -> Result<ChainName, InvalidId>,
    /// `-s` or `-d`.
    pub condition: fn(IpNet) -> Match,
    /// The rules for an entry.
    pub rules: &'a dyn Fn(IpNet) -> Vec<Rule>,
}

impl PrefixTree<'_> {
    /// Writes the tree for `nets` (one family, sorted, disjoint).
    pub(super) fn write(&self, nets: &[IpNet], chains: &mut Chains) -> Result<(), InvalidId> {
        let tree = Branch::grow(nets, &|nets| {
            // Three bits more than all have in common: at most eight children.
            let depth = common_net(nets).prefix_len() + 3;
            Box::new(nets.chunk_by(move |a, b| child(*a, depth) == child(*b, depth)))
        });
        self.node(self.root.clone(), &tree, PREFIX_LEVELS, chains)
    }

    fn node(
        &self,
        chain: ChainName,
        branch: &Branch<'_, IpNet>,
        levels: usize,
        chains: &mut Chains,
    ) -> Result<(), InvalidId> {
        let mut rules = Vec::new();
        for child in branch.children(levels) {
            if let [net] = child.entries {
                rules.extend((self.rules)(*net));
            } else {
                let prefix = common_net(child.entries);
                let chain = (self.inner)(prefix)?;
                rules.push(Rule::new([(self.condition)(prefix)], Target::Goto(chain.clone())));
                self.node(chain, child, levels - 1, chains)?;
            }
        }
        chains.insert(chain, rules);
        Ok(())
    }
}

/// The child of length `depth` in which a prefix lies; a shorter prefix is its own child.
fn child(net: IpNet, depth: u8) -> IpNet {
    match net {
        IpNet::V4(n) if n.prefix_len() > depth => {
            Ipv4Net::new(n.addr(), depth).map_or(net, |n| IpNet::V4(n.trunc()))
        }
        IpNet::V6(n) if n.prefix_len() > depth => {
            Ipv6Net::new(n.addr(), depth).map_or(net, |n| IpNet::V6(n.trunc()))
        }
        _ => net,
    }
}

/// The longest prefix that holds all of them.
fn common_net(nets: &[IpNet]) -> IpNet {
    let (first, last) = (nets[0], nets[nets.len() - 1]);
    let shared = match (first.network(), last.network()) {
        (std::net::IpAddr::V4(a), std::net::IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (std::net::IpAddr::V6(a), std::net::IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    };
    let shortest = nets.iter().map(IpNet::prefix_len).min().unwrap_or_default();
    child(first, u8::try_from(shared).unwrap_or(u8::MAX).min(shortest))
}

#[cfg(test)]
mod tests;
