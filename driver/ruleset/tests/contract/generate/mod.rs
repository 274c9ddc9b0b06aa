//! Random policies, hosts and packets, made to meet: few addresses, few ports, everything near something that matters.

mod packet;
mod rule;

use std::collections::BTreeSet;

use ruleset::ids::{GroupId, Interface};
use ruleset::model::{Action, AddressPair, Group, Policy, Port, PortSecurity, ProviderRule, Rule};
use ruleset::resolve::{Attachment, Expected, HostPolicy, Lifeline, Places, resolve};

pub(crate) use self::packet::Way;
pub(crate) use self::rule::rule;
use self::rule::{mac, prefix, v4, v6};

/// SplitMix64: a whole case from one number.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    pub(crate) fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A policy and one host of it.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) attachments: Vec<Attachment>,
    /// Ports that are about to arrive.
    pub(crate) expected: Vec<Expected>,
    /// Ports that run on other hosts.
    pub(crate) elsewhere: Vec<Port>,
    pub(crate) guarded: BTreeSet<Interface>,
    /// For VIFs without rules on guarded bridges.
    pub(crate) lifelines: BTreeSet<Lifeline>,
}

pub(crate) const BRIDGES: [&str; 2] = ["xapi1", "xenbr0"];
const GROUPS: [&str; 4] = ["a", "b", "c", "d"];
const DOMIDS: [u32; 14] = [1, 2, 3, 9, 10, 11, 12, 19, 100, 101, 110, 111, 112, 1000];
const PORTS: [u16; 14] = [1, 22, 53, 67, 68, 80, 81, 82, 443, 546, 547, 1023, 40000, 65535];
const ICMP: [u8; 19] = [0, 1, 3, 5, 8, 11, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143, 254, 255];
const PROTOCOLS: [u8; 14] = [1, 2, 6, 17, 33, 47, 50, 51, 58, 59, 112, 132, 136, 255];

impl World {
    pub(crate) fn random(r: &mut Random) -> Self {
        let mut policy = Policy::default();
        for id in &GROUPS[..1 + r.below(4)] {
            let rules = (0..r.below(7)).map(|n| rule(r, &format!("{id}{n}"))).collect();
            policy.groups.insert(id.parse().unwrap(), group(id, rules));
        }
        for id in ["s", "t"] {
            let many = if r.percent(20) { 30 } else { 4 };
            policy.sets.insert(id.parse().unwrap(), (0..r.below(many)).map(|_| prefix(r, None)).collect());
        }
        for n in 0..r.below(4) {
            let action = r.pick(&[Action::Allow, Action::Deny]);
            policy.provider.push(ProviderRule { action, rule: rule(r, &format!("p{n}")) });
        }
        let bridges = 1 + r.below(2);
        let mut attachments: Vec<Attachment> = Vec::new();
        for n in 0..=r.below(12) {
            let (domid, device) = (r.pick(&DOMIDS), u32::try_from(r.below(2)).unwrap());
            if attachments.iter().any(|a| (a.domid, a.device) == (domid, device)) {
                continue;
            }
            let bridge = BRIDGES[r.below(bridges)].parse().unwrap();
            attachments.push(Attachment { port: port(r, n, &policy), domid, device, bridge });
        }
        let elsewhere: Vec<Port> = (20..20 + r.below(6)).map(|n| port(r, n, &policy)).collect();
        // From another host, or to a new domain on this one.
        let expected: Vec<Expected> = match r.below(10) {
            0..4 => {
                let coming = elsewhere.iter().take(2).cloned();
                coming
                    .map(|port| Expected { port, bridge: BRIDGES[r.below(bridges)].parse().unwrap() })
                    .collect()
            }
            4 => {
                let moving = attachments.iter().take(1);
                moving.map(|a| Expected { port: a.port.clone(), bridge: a.bridge.clone() }).collect()
            }
            _ => Vec::new(),
        };
        let guarded: BTreeSet<Interface> =
            BRIDGES.iter().filter(|_| r.percent(25)).map(|b| b.parse().unwrap()).collect();
        let lifelines = lifelines(r, &guarded);
        Self { policy, attachments, expected, elsewhere, guarded, lifelines }
    }

    pub(crate) fn host(&self) -> HostPolicy {
        let live = self.attachments.iter().map(|a| &a.port).chain(&self.elsewhere);
        let places = Places { attachments: self.attachments.clone(), expected: self.expected.clone() };
        let host = resolve(&self.policy, live, places, self.guarded.clone()).unwrap();
        HostPolicy { lifelines: self.lifelines.clone(), ..host }
    }

    /// Changes one thing.
    pub(crate) fn edit(&mut self, r: &mut Random) {
        let id = r.pick(&self.policy.groups.keys().cloned().collect::<Vec<_>>());
        let rules = &mut self.policy.groups.get_mut(&id).unwrap().rules;
        match r.below(11) {
            0..4 if !rules.is_empty() => {
                rules.remove(r.below(rules.len()));
            }
            4 => r.shuffle(&mut self.policy.provider),
            5 => self.policy.provider.clear(),
            6 => {
                let new = rule(r, "edited");
                self.policy
                    .provider
                    .push(ProviderRule { action: r.pick(&[Action::Allow, Action::Deny]), rule: new });
            }
            7 if !self.attachments.is_empty() => {
                let at = r.below(self.attachments.len());
                let port = &mut self.attachments[at].port;
                match r.below(3) {
                    0 => port.groups = some_groups(r, &self.policy),
                    1 => {
                        port.security = match port.security {
                            PortSecurity::On => PortSecurity::Off,
                            PortSecurity::Off => PortSecurity::On,
                        }
                    }
                    _ => {
                        self.attachments.remove(at);
                    }
                }
            }
            8 => {
                let set = self.policy.sets.get_mut(&"s".parse().unwrap()).unwrap();
                *set = (0..r.below(12)).map(|_| prefix(r, None)).collect();
            }
            9 => self.lifelines = lifelines(r, &self.guarded),
            _ => {
                let id = format!("more{}", r.next());
                rules.push(rule(r, &id));
            }
        }
    }

    pub(crate) fn add_rule(&mut self, r: &mut Random) {
        let id = r.pick(&self.policy.groups.keys().cloned().collect::<Vec<_>>());
        let name = format!("added{}", r.next());
        let new = rule(r, &name);
        self.policy.groups.get_mut(&id).unwrap().rules.push(new);
    }
}

fn lifelines(r: &mut Random, guarded: &BTreeSet<Interface>) -> BTreeSet<Lifeline> {
    let host = |r: &mut Random| if r.percent(70) { v4(1 + r.byte() % 14) } else { v6(1 + r.byte() % 14) };
    let hosts: BTreeSet<_> = (0..r.below(4)).map(|_| host(r)).collect();
    let mut lifelines = BTreeSet::new();
    for bridge in guarded {
        for _ in 0..r.below(3) {
            let (bridge, mac) = (bridge.clone(), mac(r.byte() % 14));
            lifelines.insert(Lifeline { bridge, mac, hosts: hosts.clone() });
        }
    }
    lifelines
}

fn group(id: &str, rules: Vec<Rule>) -> Group {
    Group { id: id.parse().unwrap(), rules }
}

fn some_groups(r: &mut Random, policy: &Policy) -> Vec<GroupId> {
    let all: Vec<GroupId> = policy.groups.keys().cloned().collect();
    (0..r.below(4)).map(|_| r.pick(&all)).collect()
}

fn port(r: &mut Random, n: usize, policy: &Policy) -> Port {
    let mut addresses = Vec::new();
    let at = u8::try_from(if r.percent(10) { r.below(12) } else { n }).unwrap();
    if r.percent(90) {
        addresses.push(v4(at + 1));
    }
    if r.percent(80) {
        addresses.push(v6(at + 1));
    }
    if r.percent(15) {
        addresses.push(v4(at + 40));
    }
    let pairs = (0..if r.percent(40) { 1 + r.below(2) } else { 0 }).map(|_| AddressPair {
        mac: if r.percent(60) { None } else { Some(mac(200 + r.byte() % 3)) },
        net: prefix(r, None),
    });
    let pairs = pairs.collect();
    let security = if r.percent(10) { PortSecurity::Off } else { PortSecurity::On };
    let groups = some_groups(r, policy);
    Port { vif: format!("vif-{n}").parse().unwrap(), mac: mac(at), addresses, pairs, groups, security }
}
