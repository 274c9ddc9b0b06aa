//! How far chains lead one into the other. nf_tables walks every way from the hook when rules are loaded, gotos as well as
//! jumps, and refuses one of more than 16 chains ("Too many links"); older kernels walk a chain as often as there are ways to
//! it, with the table locked.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use ruleset::ids::ChainName;
use ruleset::iptables::{Chains, Epoch, Table, compile};
use ruleset::model::{
    Action, AddressPair, Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol,
    ProviderRule, Remote, Rule, Service,
};
use ruleset::resolve::{Attachment, Expected, HostPolicy, Places, resolve};

use crate::generate::Random;

/// `NFT_JUMP_STACK_SIZE`
const MOST_CHAINS: usize = 16;

/// Chains on the longest way that begins with a chain, and how many there are on all ways together.
fn ways(chains: &Chains, chain: &ChainName, known: &mut BTreeMap<ChainName, (usize, u64)>) -> (usize, u64) {
    if let Some(found) = known.get(chain) {
        return *found;
    }
    let (mut longest, mut all) = (0, 1);
    for next in chains[chain].iter().filter_map(|rule| rule.target.chain()) {
        let (below, walked) = ways(chains, next, known);
        longest = longest.max(below);
        all += walked;
    }
    known.insert(chain.clone(), (longest + 1, all));
    (longest + 1, all)
}

/// Longest way and chains walked from the built-in chain on, for both families the worse.
fn measure(host: &HostPolicy) -> (usize, u64) {
    let mut worst = (0, 0);
    for family in Family::ALL {
        let ruleset = compile(host, family, Epoch::seeded(1)).unwrap();
        let first = "dwb-forward".parse().unwrap();
        let (longest, all) = ways(ruleset.chains(Table::Filter), &first, &mut BTreeMap::new());
        worst = (worst.0.max(longest + 1), worst.1.max(all));
    }
    worst
}

/// Members in the shape that makes a tree deepest, each prefix in the other half of what is left; and many without a shape.
fn members(r: &mut Random, count: usize) -> Vec<IpNet> {
    let steps_v4 = (1..32).map(|n| IpNet::new(Ipv4Addr::from_bits(1 << (31 - n)).into(), n + 1).unwrap());
    let steps_v6 = (1..128).map(|n| IpNet::new(Ipv6Addr::from_bits(1 << (127 - n)).into(), n + 1).unwrap());
    let mut nets: Vec<IpNet> = steps_v4.map(|n| n.trunc()).chain(steps_v6.map(|n| n.trunc())).collect();
    for _ in 0..count {
        let mut bits = [0; 16];
        bits.fill_with(|| r.byte());
        let address = if r.percent(50) {
            IpAddr::V6(Ipv6Addr::from(bits))
        } else {
            IpAddr::V4(Ipv4Addr::new(bits[0], bits[1], bits[2], bits[3]))
        };
        nets.push(IpNet::from(address));
    }
    nets
}

fn rule(n: u16, direction: Direction, family: Family, remote: Remote) -> Rule {
    let service = Service::Ports(Protocol::TCP, PortRange::new(n + 1, n + 1).unwrap());
    let id = format!("{direction:?}{family:?}{n}").parse().unwrap();
    Rule { id, direction, family, service, remote, description: String::new() }
}

/// VIFs with a group of `rules` rules each, of which every tenth refers to `everybody`, a set; with all that makes ways longer.
fn host(vifs: u16, rules: u16, everybody: Vec<IpNet>) -> HostPolicy {
    let mut policy = Policy::default();
    policy.sets.insert("everybody".parse().unwrap(), everybody);
    let mut attachments = Vec::new();
    for n in 0..vifs {
        let id: ruleset::ids::GroupId = format!("g{n}").parse().unwrap();
        let mut found = Vec::new();
        for at in 0..rules {
            let remote = if at % 10 == 0 { Remote::Set("everybody".parse().unwrap()) } else { Remote::Any };
            let direction = if at % 2 == 0 { Direction::Egress } else { Direction::Ingress };
            for family in Family::ALL {
                found.push(rule(at, direction, family, remote.clone()));
                found.push(rule(1000 + at, Direction::Ingress, family, remote.clone()));
            }
        }
        if n % 3 == 0 {
            policy.keep.insert(id.clone());
        }
        let [a, b] = n.to_be_bytes();
        let port = Port {
            vif: format!("v{n}").parse().unwrap(),
            mac: format!("00:16:3e:00:{a:02x}:{b:02x}").parse().unwrap(),
            addresses: vec![Ipv4Addr::new(10, 0, a, b).into()],
            pairs: vec![AddressPair { mac: None, net: "10.9.0.0/16".parse().unwrap() }],
            groups: vec![id.clone()],
            security: PortSecurity::On,
        };
        // Domain ids spread over all that there are, and devices up to two digits.
        let domid = 1 + u32::from(n) * 7919 % 32_751;
        attachments.push(Attachment {
            port,
            domid,
            device: u32::from(n % 16),
            bridge: "xapi1".parse().unwrap(),
        });
        policy.groups.insert(id.clone(), Group { id, rules: found });
    }
    for direction in [Direction::Egress, Direction::Ingress] {
        let remote = Remote::Prefix("192.0.2.0/24".parse().unwrap());
        let rule = rule(1, direction, Family::Ipv4, remote);
        policy.provider.push(ProviderRule { action: Action::Allow, rule });
    }
    let live: Vec<Port> = attachments.iter().map(|a| a.port.clone()).collect();
    // The last one is about to arrive, by another bridge that is not guarded.
    let arriving = attachments.pop().filter(|_| vifs > 1);
    let expected = arriving.map(|a| Expected { port: a.port, bridge: "xapi2".parse().unwrap() });
    let places = Places { attachments, expected: expected.into_iter().collect() };
    resolve(&policy, &live, places, ["xapi1".parse().unwrap()].into()).unwrap()
}

#[test]
fn no_policy_leads_deeper_than_nf_tables_allows() {
    let mut r = Random(16);
    for (vifs, rules, count) in [(1, 1, 0), (60, 20, 100), (500, 100, 10_000), (5000, 4, 100_000)] {
        let host = host(vifs, rules, members(&mut r, count));
        let (longest, _) = measure(&host);
        assert!(longest <= MOST_CHAINS, "{vifs} VIFs × {rules} rules, {count} members: {longest} chains");
    }
}

/// What the kernel walks is what there is, and not every sender's rule times every receiver's.
#[test]
fn ways_are_not_multiplied() {
    let (_, small) = measure(&host(100, 20, members(&mut Random(1), 100)));
    let (_, large) = measure(&host(200, 20, members(&mut Random(1), 100)));
    assert!(large < small * 5 / 2, "{small} chains walked, with twice the VIFs {large}");
}
