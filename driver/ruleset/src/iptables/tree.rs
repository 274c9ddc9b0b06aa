//! Dispatch that costs a logarithm: trees of chains over interface names and over address prefixes.
//!
//! A node holds at most about [`FLAT`] rules. Chains are named after what they select, so that one more entry
//! changes one node, or splits one, and leaves the rest of the tree as it stands in the kernel.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Chains;
use super::rule::{IfPattern, Match, Rule, Target};
use crate::ids::{ChainName, Interface, InvalidId};

/// Up to so many entries stand in one chain.
const FLAT: usize = 8;

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
        self.node(self.root.clone(), leaves, chains)
    }

    fn node(
        &self,
        chain: ChainName,
        leaves: &[(String, Target)],
        chains: &mut Chains,
    ) -> Result<(), InvalidId> {
        let mut rules = Vec::new();
        if leaves.len() <= FLAT {
            for leaf in leaves {
                rules.push(self.leaf(leaf)?);
            }
        } else {
            let common = common_text(leaves);
            for group in
                leaves.chunk_by(|(a, _), (b, _)| a.as_bytes().get(common) == b.as_bytes().get(common))
            {
                if let [leaf] = group {
                    rules.push(self.leaf(leaf)?);
                } else {
                    let prefix = &group[0].0[..common_text(group)];
                    let child = ChainName::ours(&format!("{}-{prefix}", self.label))?;
                    let names = IfPattern::Prefix(prefix.parse::<Interface>()?);
                    rules.push(Rule::new([(self.condition)(names)], Target::Goto(child.clone())));
                    self.node(child, group, chains)?;
                }
            }
        }
        rules.extend_from_slice(self.otherwise);
        chains.insert(chain, rules);
        Ok(())
    }

    fn leaf(&self, (name, target): &(String, Target)) -> Result<Rule, InvalidId> {
        let exactly = IfPattern::Exactly(name.parse::<Interface>()?);
        Ok(Rule::new([(self.condition)(exactly)], target.clone()))
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
    /// What a match does.
    pub target: &'a dyn Fn(IpNet) -> Target,
}

impl PrefixTree<'_> {
    /// Writes the tree for `nets` (one family, sorted, disjoint).
    pub(super) fn write(&self, nets: &[IpNet], chains: &mut Chains) -> Result<(), InvalidId> {
        self.node(self.root.clone(), nets, chains)
    }

    fn node(&self, chain: ChainName, nets: &[IpNet], chains: &mut Chains) -> Result<(), InvalidId> {
        let mut rules = Vec::new();
        if nets.len() <= FLAT {
            rules.extend(nets.iter().map(|net| self.leaf(*net)));
        } else {
            // Three bits more than all have in common: at most eight children.
            let depth = common_net(nets).prefix_len() + 3;
            for group in nets.chunk_by(|a, b| child(*a, depth) == child(*b, depth)) {
                if let [net] = group {
                    rules.push(self.leaf(*net));
                } else {
                    let prefix = common_net(group);
                    let child = (self.inner)(prefix)?;
                    rules.push(Rule::new([(self.condition)(prefix)], Target::Goto(child.clone())));
                    self.node(child, group, chains)?;
                }
            }
        }
        chains.insert(chain, rules);
        Ok(())
    }

    fn leaf(&self, net: IpNet) -> Rule {
        Rule::new([(self.condition)(net)], (self.target)(net))
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
mod tests {
    use super::*;

    fn depth(chains: &Chains, chain: &ChainName) -> usize {
        let deepest = chains[chain]
            .iter()
            .filter_map(|r| r.target.chain())
            .filter(|c| chains.contains_key(*c))
            .map(|c| depth(chains, c));
        1 + deepest.max().unwrap_or(0)
    }

    #[test]
    fn five_hundred_interfaces_are_found_in_few_steps() {
        let mut leaves: Vec<_> = (1..=500)
            .flat_map(|d| [format!("vif{d}.0"), format!("tap{d}.0")])
            .map(|n| (n, Target::Drop))
            .collect();
        leaves.sort_unstable();
        let otherwise = [Rule::always(Target::Return)];
        let tree = NameTree {
            root: ChainName::ours("from").unwrap(),
            label: "f",
            condition: Match::PhysdevIn,
            otherwise: &otherwise,
        };
        let mut chains = Chains::new();
        tree.write(&leaves, &mut chains).unwrap();
        assert!(chains.values().all(|rules| rules.len() <= 12));
        assert!(depth(&chains, &tree.root) <= 5);
        let exact = chains
            .values()
            .flatten()
            .filter(|r| matches!(r.matches(), [Match::PhysdevIn(IfPattern::Exactly(_))]))
            .count();
        assert_eq!(exact, 1000);
    }

    #[test]
    fn one_more_member_changes_few_rules_of_thousands() {
        let nets: Vec<IpNet> = (0u32..2000)
            .map(|i| IpNet::from(std::net::IpAddr::from((0x0a00_0000 + i * 7).to_be_bytes())))
            .collect();
        let inner = |net: IpNet| {
            ChainName::ours(&format!(
                "n-{:x}-{}",
                match net.network() {
                    std::net::IpAddr::V4(a) => a.to_bits(),
                    std::net::IpAddr::V6(_) => 0,
                },
                net.prefix_len()
            ))
        };
        let tree = PrefixTree {
            root: ChainName::ours("ms").unwrap(),
            inner: &inner,
            condition: Match::Source,
            target: &|_| Target::Accept,
        };
        let (mut before, mut after) = (Chains::new(), Chains::new());
        tree.write(&nets, &mut before).unwrap();
        let mut more = nets;
        more.push("10.0.9.9/32".parse().unwrap());
        more.sort_unstable();
        tree.write(&more, &mut after).unwrap();
        assert!(depth(&after, &tree.root) <= 5);
        let changed = after.iter().filter(|(name, rules)| before.get(*name) != Some(rules)).count();
        assert!(changed <= 3, "{changed} chains changed");
    }
}
