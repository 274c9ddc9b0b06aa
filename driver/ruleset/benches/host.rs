//! Driver-side cost of one host: compile and compare, at four sizes (VIFs × rules a VIF).
//!
//! cold: nothing stands yet; nothing: everything stands; one rule, one member: the smallest edits, made to what was read or
//! to what is known to stand.
#![expect(clippy::unwrap_used, reason = "a benchmark of fixed input")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ruleset::iptables::{Epoch, Observed, Table, amend, parse_save, plan};
use ruleset::model::{
    Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, Remote, Rule, Service,
};
use ruleset::resolve::{Attachment, HostPolicy, resolve};

/// A group of its own for every VIF, with `rules` rules; every tenth rule admits the group's members.
fn policy(vifs: u16, rules: u16) -> Policy {
    let mut policy = Policy::default();
    for vif in 0..vifs {
        let id = format!("g{vif}").parse().unwrap();
        let rules = (0..rules).map(|n| rule(vif, n)).collect();
        let group = Group { id, rules };
        policy.groups.insert(group.id.clone(), group);
    }
    policy
}

fn rule(vif: u16, n: u16) -> Rule {
    let remote = if n.is_multiple_of(10) {
        Remote::Group(format!("g{vif}").parse().unwrap())
    } else {
        let [a, b] = n.to_be_bytes();
        Remote::Prefix(format!("192.168.{a}.{b}/32").parse().unwrap())
    };
    Rule {
        id: format!("r{n}").parse().unwrap(),
        direction: Direction::Ingress,
        family: Family::Ipv4,
        service: Service::Ports(Protocol::TCP, PortRange::new(1000 + n, 1000 + n).unwrap()),
        remote,
        description: String::new(),
    }
}

fn host(policy: &Policy, vifs: u16, extra: Option<Port>) -> HostPolicy {
    let attachments: Vec<Attachment> = (0..vifs)
        .map(|n| Attachment {
            port: port(n),
            domid: u32::from(n) + 1,
            device: 0,
            bridge: "xapi1".parse().unwrap(),
        })
        .collect();
    let live: Vec<Port> = attachments.iter().map(|a| a.port.clone()).chain(extra).collect();
    resolve(policy, &live, attachments, BTreeSet::new()).unwrap()
}

fn port(n: u16) -> Port {
    let [a, b] = n.to_be_bytes();
    Port {
        vif: format!("v{n}").parse().unwrap(),
        mac: format!("00:16:3e:00:{a:02x}:{b:02x}").parse().unwrap(),
        addresses: vec![format!("10.0.{a}.{b}").parse().unwrap()],
        pairs: Vec::new(),
        groups: vec![format!("g{n}").parse().unwrap()],
        security: PortSecurity::On,
    }
}

/// What iptables-save would say after this host was loaded: the input of a cold start, put in its form.
fn standing(host: &HostPolicy) -> Observed {
    let input = plan(host, Family::Ipv4, &Observed::default(), 1).unwrap().input.unwrap();
    let mut dump = "# drawbridge bridge-nf-call=1\n# drawbridge boundary=stands\n".to_owned();
    for table in Table::ALL {
        if !input.contains(&format!("*{}\n", table.name())) {
            let _ = write!(dump, "*{}\nCOMMIT\n", table.name());
        }
    }
    dump.push_str(&input);
    parse_save(&dump).unwrap()
}

fn benchmark(c: &mut Criterion) {
    for (vifs, rules) in [(10, 20), (100, 20), (200, 100), (500, 100)] {
        let size = format!("{vifs}x{rules}");
        let policy = policy(vifs, rules);
        let base = host(&policy, vifs, None);
        let observed = standing(&base);
        let mut one_rule = policy.clone();
        one_rule.groups.values_mut().next().unwrap().rules.push(rule(0, rules + 1));
        let one_rule = host(&one_rule, vifs, None);
        let mut newcomer = port(vifs);
        newcomer.groups = vec!["g0".parse().unwrap()];
        let one_member = host(&policy, vifs, Some(newcomer));
        for (what, wanted, seen) in [
            ("cold", &base, &Observed::default()),
            ("nothing", &base, &observed),
            ("one rule", &one_rule, &observed),
            ("one member", &one_member, &observed),
        ] {
            let bytes = plan(wanted, Family::Ipv4, seen, 1).unwrap().input.map_or(0, |input| input.len());
            let id = format!("{size}, {what}, {bytes} bytes to send");
            c.bench_function(&id, |b| {
                b.iter(|| black_box(plan(black_box(wanted), Family::Ipv4, black_box(seen), 1)));
            });
        }
        let epoch = Epoch::seeded(1);
        for (what, wanted) in [("one rule", &one_rule), ("one member", &one_member)] {
            for family in Family::ALL {
                c.bench_function(&format!("{size}, {what} where it is known what stands, {family}"), |b| {
                    b.iter(|| black_box(amend(black_box(&base), black_box(wanted), family, epoch)));
                });
            }
        }
    }
}

criterion_group! {
    name = hosts;
    config = Criterion::default().sample_size(20).without_plots();
    targets = benchmark
}
criterion_main!(hosts);
