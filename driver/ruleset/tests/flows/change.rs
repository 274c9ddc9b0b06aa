//! From one policy to the next: the fewest changes, and none that opens more than before or after.

use ipnet::IpNet;
use proptest::prelude::*;
use ruleset::iptables::Epoch;
use ruleset::model::{
    Action, Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, ProviderRule, Remote,
    Rule, Service,
};
use ruleset::ovs::interpret::{Arrival, Outcome, Tables};
use ruleset::ovs::{CtState, OvsHost, plan};
use ruleset::resolve::{Attachment, HostPolicy, resolve};

use crate::agree::{Case, case, header, state, world};
use crate::generate::{Random, World, rule};
use crate::switch::{Model, parent, switch};

/// Packets sent at each moment, each as the first of a connection and in another state.
const PACKETS: usize = 12;

/// Moments looked at in a random change.
const MOMENTS: usize = 12;

type State = (CtState, u32);

fn passes(model: &Model, cases: &[(Case<'_>, State)]) -> Vec<Outcome> {
    let observed = model.observed();
    let tables = Tables::new(&observed);
    let send = |(case, (state, mark)): &(Case<'_>, State)| {
        let vlan = header(case.tag, case.from);
        let (packet, in_port) = (&case.packet, case.from.ofport);
        let of_state = |state, mark| tables.send(Arrival { packet, in_port, vlan, state, mark }).unwrap();
        [of_state(CtState::NEW, 0), of_state(*state, *mark)]
    };
    cases.iter().flat_map(send).collect()
}

/// What becomes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Anything, a little.
    Edited,
    /// The operator's rules, under the same names.
    Rewritten,
    /// A set that one of the operator's rules denies.
    Denied,
}

/// The operator denies a set, and groups permit all the rest.
fn deny_a_set(world: &mut World, r: &mut Random) {
    for group in world.policy.groups.values_mut() {
        for (n, direction) in [Direction::Egress, Direction::Ingress].into_iter().cycle().take(4).enumerate()
        {
            let family = Family::ALL[n / 2];
            let id = format!("all{n}").parse().unwrap();
            let (service, remote, description) = (Service::Any, Remote::Any, String::new());
            group.rules.push(Rule { id, direction, family, service, remote, description });
        }
    }
    let mut rule = rule(r, "denied");
    rule.remote = Remote::Set("s".parse().unwrap());
    if r.percent(50) {
        rule.service = Service::Any;
    }
    world.policy.provider.push(ProviderRule { action: Action::Deny, rule });
    r.shuffle(&mut world.policy.provider);
}

/// Of the set's members some become fewer, some go, and some come.
fn edit_the_set(world: &mut World, r: &mut Random) {
    let mut other = world.policy.sets[&"t".parse().unwrap()].clone();
    let set = world.policy.sets.get_mut(&"s".parse().unwrap()).unwrap();
    let halved = |net: &IpNet| net.subnets(net.prefix_len() + 1).map(|mut halves| halves.next().unwrap());
    for net in &mut *set {
        if r.percent(50) {
            *net = halved(net).unwrap_or(*net);
        }
    }
    set.retain(|_| r.percent(80));
    other.retain(|_| r.percent(30));
    set.append(&mut other);
}

/// The operator's rules under the same names say something else.
fn rewrite(world: &mut World, r: &mut Random) {
    let mut rules = std::mem::take(&mut world.policy.provider);
    for provider in &mut rules {
        if r.percent(40) {
            provider.action = r.pick(&[Action::Allow, Action::Deny]);
        }
        if r.percent(40) {
            provider.rule = rule(r, provider.rule.id.as_str());
        }
    }
    rules.retain(|_| r.percent(70));
    r.shuffle(&mut rules);
    world.policy.provider = rules;
}

fn one_change(seed: u64, how: How, moments: usize) -> Result<(), String> {
    let mut r = Random(seed);
    let mut world = world(&mut r);
    if how == How::Denied {
        deny_a_set(&mut world, &mut r);
    }
    let before_host = world.host();
    let ports = switch(&mut r, &before_host);
    let mut before = Model::default();
    before.apply(&plan(&before_host, &ports, &parent(), &before.observed(), 77).unwrap().bundle());
    let nothing = plan(&before_host, &ports, &parent(), &before.observed(), 99).unwrap();
    if !nothing.is_empty() {
        return Err(format!("a second plan changes {:?}", nothing.changes));
    }

    if how == How::Denied {
        edit_the_set(&mut world, &mut r);
    } else {
        for _ in 0..=r.below(3) {
            world.edit(&mut r);
        }
    }
    if how == How::Rewritten {
        rewrite(&mut world, &mut r);
    }
    let after_host = world.host();
    let cases: Vec<Case<'_>> =
        (0..PACKETS).filter_map(|_| case(&mut r, &world, &before_host, &ports)).collect();
    opens_nothing(&mut r, before, cases, (&after_host, &ports), moments)
}

/// From flows that stand to those of a policy: the bundle leads there, and at no moment of the single changes does anything
/// pass that passes neither before nor after.
fn opens_nothing(
    r: &mut Random,
    before: Model,
    cases: Vec<Case<'_>>,
    (after_host, ports): (&HostPolicy, &OvsHost),
    moments: usize,
) -> Result<(), String> {
    let change = plan(after_host, ports, &parent(), &before.observed(), 77).unwrap();
    let mut after = before.clone();
    after.apply(&change.bundle());
    if !plan(after_host, ports, &parent(), &after.observed(), 77).unwrap().is_empty() {
        return Err("the bundle does not lead to what was planned".to_owned());
    }

    let epoch = before.observed().epoch().unwrap_or_else(|| Epoch::seeded(77));
    let mut with_state = Vec::new();
    for case in cases {
        let (state, mark, _) = state(r, &case.packet, epoch);
        with_state.push((case, (state, mark)));
    }
    let cases = with_state;
    let (closed, open) = (passes(&before, &cases), passes(&after, &cases));
    let text = change.ordered();
    let lines: Vec<&str> = text.lines().collect();
    let every = (lines.len() / moments).max(1);
    let ended = before.observed().epoch().filter(|old| after.observed().epoch() != Some(*old));
    let mut moment = before;
    for (at, line) in lines.iter().enumerate() {
        moment.line(line);
        if at % every != 0 {
            continue;
        }
        // The write may be cut off here: who lost a permission loses the connection all the same.
        let resumed = plan(after_host, ports, &parent(), &moment.observed(), 99).unwrap();
        let mut then = moment.clone();
        then.apply(&resumed.bundle());
        if ended.is_some() && then.observed().epoch() == ended {
            return Err(format!("cut off after line {at}, {line}, nobody's connection is cut\n{text}"));
        }
        for (i, now) in passes(&moment, &cases).iter().enumerate() {
            let allowed = |port| closed[i].outputs.contains(port) || open[i].outputs.contains(port);
            let normal = closed[i].normal || open[i].normal;
            if !normal && (now.normal || !now.outputs.iter().all(allowed)) {
                return Err(format!(
                    "after line {at}, {line}\n{:?} passes as {now:?}, before {:?}, after {:?}\n{text}",
                    cases[i / 2].0.packet,
                    closed[i],
                    open[i]
                ));
            }
        }
    }
    if moment == after { Ok(()) } else { Err("line by line leads elsewhere than the bundle".to_owned()) }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(feature = "soak") { 20_000 } else { 150 },
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn changes_lead_where_they_should_and_open_nothing_on_the_way(seed: u64, how in prop::sample::select(vec![How::Edited, How::Rewritten, How::Denied])) {
        let result = one_change(seed, how, MOMENTS);
        prop_assert!(result.is_ok(), "seed {seed:#x}, {how:?}\n{}", result.unwrap_err());
    }
}

/// What the first layout had: `add` lines of its compiler, each file for a policy and a switch of the generator then.
const FIRST_LAYOUT: [(u64, &str); 4] = [
    (0, include_str!("layout-1/0.flows")),
    (10, include_str!("layout-1/10.flows")),
    (15, include_str!("layout-1/15.flows")),
    (28, include_str!("layout-1/28.flows")),
];

/// An upgrade of the driver: the tables have other numbers, and zones are no longer in a register.
#[test]
fn from_the_first_layout_nothing_opens_on_the_way() {
    let (mut passed, mut seeds) = (0, 0..);
    for (seed, text) in FIRST_LAYOUT {
        let mut before = Model::default();
        before.apply(text);
        let mut r = Random(seed);
        let mut world = world(&mut r);
        let host = world.host();
        let ports = switch(&mut r, &host);
        for edits in 0..4 {
            (0..edits).for_each(|_| world.edit(&mut r));
            let after = world.host();
            let mut r = Random(seeds.next().unwrap());
            let cases: Vec<Case<'_>> =
                (0..4 * PACKETS).filter_map(|_| case(&mut r, &world, &host, &ports)).collect();
            let news: Vec<_> = cases.iter().map(|case| sent(&before, case)).collect();
            passed += news.iter().filter(|outcome| !outcome.outputs.is_empty()).count();
            opens_nothing(&mut r, before.clone(), cases, (&after, &ports), 60).unwrap();
        }
    }
    assert!(passed > 20, "of the packets sent, only {passed} passed the flows that the fixtures hold");
}

/// What becomes of a packet as the first of its connection.
fn sent(model: &Model, case: &Case<'_>) -> Outcome {
    let observed = model.observed();
    let (packet, in_port, vlan) = (&case.packet, case.from.ofport, header(case.tag, case.from));
    let arrival = Arrival { packet, in_port, vlan, state: CtState::NEW, mark: 0 };
    Tables::new(&observed).send(arrival).unwrap()
}

/// Every moment of one change.
fn every_moment(seed: u64, how: How) {
    one_change(seed, how, usize::MAX).unwrap();
}

#[test]
fn the_way_is_laid_before_a_hook_leads_there() {
    // A MAC that a filtered port begins to share with one that is not: its copies went to the wire for a moment.
    every_moment(0xf6a1_5062_fe6e_3825, How::Edited);
}

#[test]
fn a_switch_without_flows_has_no_epoch_to_end() {
    every_moment(0x9ac6_6bee_58e5_d259, How::Rewritten);
}

#[test]
fn in_one_table_high_priorities_come_first() {
    // The driver's own VM on a guarded network: its multicast took the way of its unicast for a moment.
    every_moment(0xc479_6578_4da6_155b, How::Edited);
}

#[test]
fn a_broadcast_that_is_about_to_stop_gets_no_new_receiver() {
    // A port that is filtered no more got a copy from a guest whose rule was going.
    every_moment(0x14d6_2f79_107a_7541, How::Edited);
}

#[test]
fn who_stays_denied_is_denied_all_the_while() {
    // A member of a denied set became a smaller one: the flows that make the set a denial stayed, and the half that went was
    // taken for a permission's.
    every_moment(0x96af_9ccb_4967_5251, How::Denied);
}

#[test]
fn a_permission_that_becomes_a_denial_admits_nobody_new() {
    // An operator's rule, whose action and remote changed at once: the new remote passed until it was denied.
    every_moment(0xec4b_c661_9838_c5de, How::Rewritten);
    every_moment(0x75f2_c8b4_d84d_385f, How::Rewritten);
}

/// `vifs` ports in one group that admits its own members to a few services.
fn cloud(vifs: u16, members: u16, rules: u16) -> (Policy, Vec<Attachment>, Vec<Port>) {
    let rule = |n: u16| Rule {
        id: format!("r{n}").parse().unwrap(),
        direction: if n.is_multiple_of(2) { Direction::Ingress } else { Direction::Egress },
        family: Family::Ipv4,
        service: Service::Ports(Protocol::TCP, PortRange::new(1000 + 10 * n, 1009 + 10 * n).unwrap()),
        remote: Remote::Group("g".parse().unwrap()),
        description: String::new(),
    };
    let mut policy = Policy::default();
    let group = Group { id: "g".parse().unwrap(), rules: (0..rules).map(rule).collect() };
    policy.groups.insert(group.id.clone(), group);
    let attachments = (0..vifs).map(|n| Attachment {
        port: port(n),
        domid: u32::from(n) + 1,
        device: 0,
        bridge: "xapi1".parse().unwrap(),
    });
    let attachments: Vec<Attachment> = attachments.collect();
    (policy, attachments, (vifs..members).map(port).collect())
}

fn port(n: u16) -> Port {
    // Neighbours, which would make a bigger prefix together.
    let [a, b] = n.to_be_bytes();
    Port {
        vif: format!("v{n}").parse().unwrap(),
        mac: format!("00:16:3e:00:{a:02x}:{b:02x}").parse().unwrap(),
        addresses: vec![format!("10.0.{a}.{b}").parse().unwrap()],
        pairs: Vec::new(),
        groups: vec!["g".parse().unwrap()],
        security: PortSecurity::On,
    }
}

fn host((policy, attachments, elsewhere): &(Policy, Vec<Attachment>, Vec<Port>)) -> HostPolicy {
    let live = attachments.iter().map(|a| &a.port).chain(elsewhere);
    resolve(policy, live, attachments.clone(), std::collections::BTreeSet::new()).unwrap()
}

/// Flows on the bridge, and changes when the cloud becomes another.
fn changes(
    from: &(Policy, Vec<Attachment>, Vec<Port>),
    to: &(Policy, Vec<Attachment>, Vec<Port>),
) -> (usize, usize) {
    let before = host(from);
    let ports: OvsHost = switch(&mut Random(1), &before);
    let mut model = Model::default();
    model.apply(&plan(&before, &ports, &parent(), &model.observed(), 77).unwrap().bundle());
    let change = plan(&host(to), &ports, &parent(), &model.observed(), 77).unwrap();
    (model.observed().flows.len(), change.changes.len())
}

#[test]
fn one_member_is_one_flow_a_direction_however_many_ports_refer_to_it() {
    for (vifs, members, rules) in [(10, 20, 4), (50, 2_000, 5), (200, 400, 100)] {
        let cloud_before = cloud(vifs, members, rules);
        let cloud_after = cloud(vifs, members + 1, rules);
        let (flows, changed) = changes(&cloud_before, &cloud_after);
        assert_eq!(changed, 2, "{vifs} ports, {members} members, {flows} flows");
        let (_, changed) = changes(&cloud_after, &cloud_before);
        // Somebody is to be cut: the epoch rises, in seven flows that speak of it.
        assert!(changed <= 2 + 2 * 7, "{changed}");
    }
}

#[test]
fn one_rule_is_one_rules_flows_however_many_ports_have_it() {
    for vifs in [1, 20, 200] {
        let one_more = cloud(vifs, 300, 6);
        let (flows, changed) = changes(&cloud(vifs, 300, 5), &one_more);
        assert!(changed <= 4, "{vifs} ports: {changed} of {flows}");
        assert_eq!(changes(&cloud(vifs, 300, 5), &cloud(vifs, 300, 5)).1, 0);
    }
}

#[test]
fn flows_grow_with_ports_plus_rules_plus_members() {
    let count = |vifs, members, rules| changes(&cloud(vifs, members, rules), &cloud(vifs, members, rules)).0;
    let (base, more_ports) = (count(10, 20, 5), count(110, 120, 5));
    // A port: two hooks, two ways to it, source checks, ND, its groups, its output, and its address as a member.
    assert!(more_ports - base <= 100 * 30, "{base}, {more_ports}");
    assert_eq!(count(10, 1020, 5) - count(10, 20, 5), 2 * 1000);
}
