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
        rules: &|net| vec![Rule::new([Match::Source(net)], Target::Accept)],
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
