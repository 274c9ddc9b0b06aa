use std::fmt::Write as _;

use super::*;
use crate::iptables::fixtures::{self, host};
use crate::iptables::interpret::{Conntrack, Fate, Transit, traverse};
use crate::iptables::parse_save;
use crate::model::{Direction, Policy, Protocol, Remote, Service};
use crate::packet::{Packet, Transport};
use crate::resolve::{Expected, Lifeline};

fn text(ruleset: &Ruleset) -> String {
    let mut out = String::new();
    for table in Table::ALL {
        let _ = writeln!(out, "*{}", table.name());
        for (chain, rules) in ruleset.chains(table) {
            let _ = writeln!(out, ":{chain}");
            for rule in rules {
                let _ = writeln!(out, "-A {chain} {rule}");
            }
        }
    }
    out
}

fn compiled(policy: &Policy, guests: u32, family: Family) -> Ruleset {
    compile(&host(policy, guests), family, Epoch::seeded(0)).unwrap()
}

#[test]
fn golden_ipv4() {
    insta::assert_snapshot!(text(&compiled(&fixtures::policy(), 2, Family::Ipv4)));
}

#[test]
fn golden_ipv6() {
    insta::assert_snapshot!(text(&compiled(&fixtures::policy(), 2, Family::Ipv6)));
}

#[test]
fn golden_guarded_with_an_open_port() {
    let mut host = host(&fixtures::policy(), 2);
    host.attachments[1].port.security = PortSecurity::Off;
    host.guarded.insert("xapi1".parse().unwrap());
    insta::assert_snapshot!(text(&compile(&host, Family::Ipv4, Epoch::seeded(0)).unwrap()));
}

#[test]
fn golden_guarded_with_the_drivers_own_vm() {
    let mut host = host(&fixtures::policy(), 0);
    host.guarded.extend(["xapi1".parse().unwrap(), "xenbr0".parse().unwrap()]);
    let hosts = ["192.0.2.7", "192.0.2.8", "2001:db8::7"].map(|address| address.parse().unwrap());
    let mac = "00:16:3e:00:00:aa".parse().unwrap();
    host.lifelines.insert(Lifeline { bridge: "xenbr0".parse().unwrap(), mac, hosts: hosts.into() });
    for family in Family::ALL {
        let ruleset = compile(&host, family, Epoch::seeded(0)).unwrap();
        let unknown = |(chain, _): &(&ChainName, &Vec<Rule>)| chain.as_str().starts_with("dwb-unknown-");
        let rules = ruleset.filter.iter().filter(unknown);
        let lines: Vec<_> =
            rules.flat_map(|(c, rules)| rules.iter().map(move |r| format!("{c} {r}"))).collect();
        insta::assert_snapshot!(format!("lifeline_{family}"), lines.join("\n"));
    }
}

#[test]
fn golden_one_that_is_about_to_arrive() {
    let mut host = host(&fixtures::policy(), 2);
    let Some(Attachment { port, bridge, .. }) = host.attachments.pop() else { panic!("two guests") };
    host.expected.push(Expected { port, bridge });
    insta::assert_snapshot!(text(&compile(&host, Family::Ipv4, Epoch::seeded(0)).unwrap()));
    // Where a stranger could be taken for it, nothing is opened.
    host.guarded.insert("xapi1".parse().unwrap());
    let closed = text(&compile(&host, Family::Ipv4, Epoch::seeded(0)).unwrap());
    host.expected.clear();
    assert_eq!(closed, text(&compile(&host, Family::Ipv4, Epoch::seeded(0)).unwrap()));
}

#[test]
fn golden_with_a_group_that_keeps_connections() {
    let mut policy = fixtures::policy();
    policy.keep.insert("web".parse().unwrap());
    insta::assert_snapshot!(text(&compiled(&policy, 2, Family::Ipv4)));
}

#[test]
fn equal_input_gives_equal_bytes_whatever_the_order() {
    let policy = fixtures::policy();
    let mut shuffled = host(&policy, 20);
    shuffled.attachments.reverse();
    for group in shuffled.groups.values_mut() {
        group.rules.reverse();
    }
    for family in Family::ALL {
        let a = compile(&host(&policy, 20), family, Epoch::seeded(0)).unwrap();
        let b = compile(&shuffled, family, Epoch::seeded(0)).unwrap();
        assert_eq!(text(&a), text(&b));
    }
}

#[test]
fn every_chain_of_a_port_ends_in_the_default_verdict() {
    let ruleset = compiled(&fixtures::policy(), 20, Family::Ipv6);
    let of_ports = ruleset
        .filter
        .iter()
        .filter(|(c, _)| ["dwb-o-", "dwb-i-", "dwb-s-", "dwb-n-"].iter().any(|p| c.as_str().starts_with(p)));
    let mut count = 0;
    for (chain, rules) in of_ports {
        assert_eq!(rules.last(), Some(&Rule::always(DEFAULT_VERDICT)), "{chain}");
        count += 1;
    }
    assert_eq!(count, 20 * 4);
}

#[test]
fn every_chain_led_to_exists() {
    for family in Family::ALL {
        let ruleset = compiled(&fixtures::policy(), 40, family);
        for (chain, rules) in &ruleset.filter {
            for target in rules.iter().filter_map(|r| r.target.chain()) {
                assert!(ruleset.filter.contains_key(target), "{chain} leads to {target}");
            }
        }
    }
}

/// What a host's chains, read back, do with a packet.
fn through(
    ruleset: &Ruleset,
    packet: &Packet,
    ports: [&str; 2],
    conntrack: Conntrack,
) -> (Fate, Option<u32>) {
    let mut dump = "# drawbridge bridge-nf-call=1\n# drawbridge boundary=stands\n".to_owned();
    for table in Table::ALL {
        let chains = ruleset.chains(table);
        let _ = writeln!(dump, "*{}", table.name());
        for chain in chains.keys() {
            let _ = writeln!(dump, ":{chain} - [0:0]");
        }
        if let Some(hook) = hook(table).unwrap() {
            let _ = writeln!(dump, "-I {} 1 {hook}", table.hook());
        }
        for (chain, rules) in chains {
            for rule in rules {
                let _ = writeln!(dump, "-A {chain} {rule}");
            }
        }
        dump.push_str("COMMIT\n");
    }
    let observed = parse_save(&dump).unwrap();
    let [input, output] = ports;
    let transit =
        Transit { packet, bridge: "xapi1", input, output: Some(output), for_dom0: false, conntrack };
    let outcome = traverse(&observed, Table::Filter, &transit).unwrap();
    (outcome.fate, outcome.mark)
}

/// From guest 1, which may send anything, to guest 2, which admits ICMP from 10.0.0.0/24.
fn icmp_between_guests(kind: u8) -> Packet {
    let macs = ("00:16:3e:00:00:01".parse().unwrap(), "00:16:3e:00:00:02".parse().unwrap());
    Packet::ip(macs, ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()), Transport::icmp(kind, 1)).unwrap()
}

#[test]
fn an_icmp_error_does_not_revive_a_cut_connection() {
    let ruleset = compiled(&fixtures::policy(), 2, Family::Ipv4);
    let error = icmp_between_guests(3);
    for direction in [CtDirection::Original, CtDirection::Reply] {
        let mark = Mark::REVOKED.value();
        let related = Conntrack::Some { state: CtStates::RELATED, direction, mark };
        let outcome = through(&ruleset, &error, ["vif1.0", "vif2.0"], related);
        assert_eq!(outcome, (Fate::Dropped, Some(mark)), "{direction:?}");
    }
}

#[test]
fn a_vif_without_rules_on_a_guarded_bridge_gets_no_replies_either() {
    let mut host = host(&fixtures::policy(), 2);
    host.guarded.insert("xapi1".parse().unwrap());
    let epoch = Epoch::seeded(0);
    let ruleset = compile(&host, Family::Ipv4, epoch).unwrap();
    let packet = icmp_between_guests(0);
    for mark in [0, epoch.mark().value()] {
        let reply = Conntrack::Some { state: CtStates::ESTABLISHED, direction: CtDirection::Reply, mark };
        assert_eq!(through(&ruleset, &packet, ["eth0", "vif9.0"], reply).0, Fate::Dropped);
        assert_eq!(through(&ruleset, &packet, ["eth0", "vif2.0"], reply).0, Fate::Accepted);
    }
}

#[test]
fn icmp_type_255_is_not_every_icmp() {
    let mut policy = fixtures::policy();
    let web = policy.groups.get_mut(&"web".parse().unwrap()).unwrap();
    web.rules.retain(|rule| rule.id.as_str() != "lan");
    for (code, passes) in [(None, true), (Some(1), true), (Some(2), false)] {
        let service = Service::new(Family::Ipv4, Some(Protocol::ICMP), None, Some(255), code).unwrap();
        let odd = fixtures::rule("odd", Direction::Ingress, Family::Ipv4, service, Remote::Any);
        let mut policy = policy.clone();
        policy.groups.get_mut(&"web".parse().unwrap()).unwrap().rules.push(odd);
        let ruleset = compiled(&policy, 2, Family::Ipv4);
        let new = Conntrack::Some { state: CtStates::NEW, direction: CtDirection::Original, mark: 0 };
        let fate = |kind| through(&ruleset, &icmp_between_guests(kind), ["vif1.0", "vif2.0"], new).0;
        assert_eq!(fate(8), Fate::Dropped, "{code:?}");
        assert_eq!(fate(255) == Fate::Accepted, passes, "{code:?}");
    }
}

/// nf_tables takes an authentication header for the protocol: these rules are then asked, with the packet's bytes.
#[test]
fn nobody_plays_router_behind_an_authentication_header() {
    let ruleset = compiled(&fixtures::policy(), 2, Family::Ipv6);
    let asked = ruleset.filter[&"dwb-guard".parse().unwrap()]
        .iter()
        .filter(|rule| rule.matches().contains(&Match::Protocol(Protocol::AH)));
    let rules: Vec<&Rule> = asked.collect();
    let fate = |first: u8, behind: &[u8]| {
        let mut bytes = vec![0; 40];
        bytes[6] = first;
        bytes.extend_from_slice(behind);
        let decides = |rule: &&&Rule| {
            rule.matches().iter().all(|m| match m {
                Match::U32(test) => crate::iptables::interpret::u32::holds(test, &bytes).unwrap(),
                _ => true,
            })
        };
        rules.iter().find(decides).map(|rule| rule.target.clone())
    };
    // The header's length, in words less two, says where its data begins.
    let header = |next: u8, words: u8, data: &[u8]| {
        let mut bytes = vec![0; 4 * (usize::from(words) + 2)];
        (bytes[0], bytes[1]) = (next, words);
        bytes.extend_from_slice(data);
        bytes
    };
    let icmp = |kind: u8| [kind, 0, 0, 0, 0, 0, 0, 0];
    let udp = |from: u16, to: u16| [from.to_be_bytes(), to.to_be_bytes(), [0; 2], [0; 2]].concat();
    for words in [1, 4, 7, 255] {
        for kind in 0..=u8::MAX {
            let passes = ![134, 136, 137].contains(&kind);
            let expected = if passes { Target::Return } else { DEFAULT_VERDICT };
            assert_eq!(fate(51, &header(58, words, &icmp(kind))), Some(expected), "ICMPv6 {kind}");
        }
        for (from, to) in [(546, 547), (547, 547), (547, 545), (53, 546), (0, 0), (65535, 65535)] {
            assert_eq!(fate(51, &header(17, words, &udp(from, to))), Some(Target::Return), "{from} → {to}");
        }
        assert_eq!(fate(51, &header(17, words, &udp(547, 546))), Some(DEFAULT_VERDICT));
        for next in (0..=u8::MAX).filter(|next| ![17, 58].contains(next)) {
            let expected = if [0, 43, 44, 51, 60].contains(&next) { DEFAULT_VERDICT } else { Target::Return };
            assert_eq!(fate(51, &header(next, words, &[0; 8])), Some(expected), "next header {next}");
        }
    }
    // With another header before it, where it stands is not known.
    assert_eq!(fate(60, &header(6, 4, &[0; 20])), Some(DEFAULT_VERDICT));
}
