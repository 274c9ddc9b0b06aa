//! Whatever stands in a store, its policy file says the same.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::super::syntax;
use super::*;

/// What the store lets stand in a text: anything but control characters, though lines and tabs.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z '\"\\\\#=\\[\\]\n\té語\u{2028}]{0,12}", "'{0,4}\"{0,4}"]
}

fn id(prefix: &'static str) -> impl Strategy<Value = String> {
    "[A-Za-z0-9_.:-]{1,6}".prop_map(move |tail| format!("{prefix}{tail}"))
}

fn direction() -> impl Strategy<Value = wire::Direction> {
    prop_oneof![Just(wire::Direction::Ingress), Just(wire::Direction::Egress)]
}

/// Protocol, ports and ICMP type; prefix and group.
type Matching = (Option<String>, Option<String>, Option<u8>, Option<String>, Option<String>);

fn matching() -> impl Strategy<Value = Matching> {
    let service = prop_oneof![
        Just((None, None, None)),
        Just((Some("tcp".to_owned()), Some("80-81".to_owned()), None)),
        Just((Some("udp".to_owned()), Some("53".to_owned()), None)),
        (0..=255_u8).prop_map(|kind| (Some("icmp".to_owned()), None, Some(kind))),
        Just((Some("47".to_owned()), None, None)),
    ];
    let remote = prop_oneof![
        Just((None, None)),
        Just((Some("10.0.0.0/8".to_owned()), None)),
        Just((None, Some("g-known".to_owned()))),
    ];
    (service, remote)
        .prop_map(|((protocol, ports, kind), (cidr, group))| (protocol, ports, kind, cidr, group))
}

fn rule() -> impl Strategy<Value = wire::Rule> {
    (id("r-"), direction(), matching(), text()).prop_map(
        |(id, direction, (protocol, ports, icmp_type, remote_cidr, remote_group), description)| wire::Rule {
            id,
            group: "g-known".to_owned(),
            direction,
            ethertype: wire::Ethertype::Ipv4,
            protocol,
            ports,
            icmp_type,
            icmp_code: None,
            remote_cidr,
            remote_group,
            remote_set: None,
            description,
            revision: 1,
        },
    )
}

fn provider_rule() -> impl Strategy<Value = wire::ProviderRule> {
    (rule(), any::<u32>(), any::<bool>()).prop_map(|(rule, position, allow)| wire::ProviderRule {
        id: rule.id,
        position,
        action: if allow { wire::Action::Allow } else { wire::Action::Deny },
        direction: rule.direction,
        ethertype: rule.ethertype,
        protocol: rule.protocol,
        ports: rule.ports,
        icmp_type: rule.icmp_type,
        icmp_code: rule.icmp_code,
        remote_cidr: rule.remote_cidr,
        remote_group: rule.remote_group,
        remote_set: rule.remote_set,
        description: rule.description,
        revision: 1,
    })
}

fn port() -> impl Strategy<Value = wire::Port> {
    (id("p-"), text(), 0..8_u32, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(id, vm, device, by_vif, member, port_security)| wire::Port {
            project: None,
            vm: (!by_vif).then(|| format!("vm {id} {vm}")),
            device: (!by_vif).then_some(device),
            vif: by_vif.then(|| "5b7ddf0b-7d2b-4c7c-9a5a-7a3c5d4f0c11".to_owned()),
            addresses: vec!["10.0.0.1".to_owned(), "2001:db8::1".to_owned()],
            address_pairs: vec![wire::AddressPair {
                mac: member.then(|| "00:16:3e:00:00:01".to_owned()),
                address: "10.0.0.9/32".to_owned(),
            }],
            groups: if member { vec!["g-known".to_owned()] } else { Vec::new() },
            port_security,
            id,
            revision: 1,
            state: None,
        },
    )
}

prop_compose! {
    fn rows()(
        project in (id("t-"), text(), text()),
        set in (id("s-"), text(), text(), any::<bool>()),
        group in (text(), text(), any::<bool>()),
        rules in prop::collection::vec(rule(), 0..6),
        ports in prop::collection::vec(port(), 0..4),
        provider_rules in prop::collection::vec(provider_rule(), 0..4),
        networks in prop::collection::vec(text(), 0..3),
    ) -> Rows {
        let (name, description, keeps) = group;
        let on_rule_removal = if keeps { wire::OnRuleRemoval::Keep } else { wire::OnRuleRemoval::Cut };
        // As in a store, no id stands twice.
        let rules: BTreeMap<_, _> = rules.into_iter().map(|rule| (rule.id.clone(), rule)).collect();
        let provider_rules: BTreeMap<_, _> =
            provider_rules.into_iter().map(|rule| (rule.id.clone(), rule)).collect();
        // Nor does a VIF.
        let ports: BTreeMap<_, _> =
            ports.into_iter().map(|port| ((port.vm.clone(), port.device), port)).collect();
        Rows {
            projects: vec![wire::Project {
                id: project.0.clone(), name: project.1, description: project.2,
                default_group: "g-default".to_owned(), revision: 1,
            }],
            sets: vec![wire::AddressSet {
                id: set.0, project: set.3.then(|| project.0.clone()), name: set.1, description: set.2,
                addresses: vec!["192.0.2.0/28".to_owned()], revision: 1,
            }],
            groups: vec![wire::Group {
                id: "g-known".to_owned(), project: Some(project.0), name, description, on_rule_removal, revision: 1,
            }],
            rules: rules.into_values().collect(),
            ports: ports.into_values().collect(),
            provider_rules: provider_rules.into_values().collect(),
            guarded_networks: networks.into_iter().map(|name| wire::GuardedNetwork { name, revision: 1 }).collect(),
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_in_the_file(rows in rows()) {
        let path = Path::new("exported.toml");
        let toml = rows.clone().to_toml().unwrap();
        let read = syntax(path, &toml).map_err(|e| TestCaseError::fail(format!("{e}\n{toml}")))?;
        prop_assert_eq!(read, rows.document());
    }
}
