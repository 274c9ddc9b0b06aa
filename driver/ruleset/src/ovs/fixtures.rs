//! A host for this module's tests.

use super::{Network, OfPort, OvsHost, PortKind, SwitchPort};
use crate::ids::Interface;
use crate::model::{
    Action, Direction, Family, Group, Policy, Port, PortRange, PortSecurity, Protocol, ProviderRule, Remote,
    Rule, Service,
};
use crate::resolve::{Attachment, HostPolicy, resolve};

pub(crate) fn rule(id: &str, direction: Direction, service: Service, remote: Remote) -> Rule {
    let (family, description) = (Family::Ipv4, String::new());
    Rule { id: id.parse().unwrap(), direction, family, service, remote, description }
}

fn ports(first: u16, last: u16) -> Service {
    Service::Ports(Protocol::TCP, PortRange::new(first, last).unwrap())
}

/// Two guests on VLAN 5 in group `web`, which admits tcp 80 to 83 from all and 22 from itself; mail is denied to them.
pub(crate) fn host() -> HostPolicy {
    let mut policy = Policy::default();
    let web = Remote::Group("web".parse().unwrap());
    let group = Group {
        id: "web".parse().unwrap(),
        rules: vec![
            rule("out", Direction::Egress, Service::Any, Remote::Any),
            rule("http", Direction::Ingress, ports(80, 83), Remote::Any),
            rule("ssh", Direction::Ingress, ports(22, 22), web),
        ],
    };
    policy.groups.insert(group.id.clone(), group);
    let smtp = rule("no-smtp", Direction::Egress, ports(25, 25), Remote::Any);
    policy.provider.push(ProviderRule { action: Action::Deny, rule: smtp });
    let attachments: Vec<Attachment> = (1..=2)
        .map(|n| Attachment {
            port: Port {
                vif: format!("vif-{n}").parse().unwrap(),
                mac: format!("00:16:3e:00:00:0{n}").parse().unwrap(),
                addresses: vec![format!("10.0.0.{}", 2 * n).parse().unwrap()],
                pairs: Vec::new(),
                groups: vec!["web".parse().unwrap()],
                security: PortSecurity::On,
            },
            domid: n,
            device: 0,
            bridge: "xapi5".parse().unwrap(),
        })
        .collect();
    let live: Vec<Port> = attachments.iter().map(|a| a.port.clone()).collect();
    resolve(&policy, &live, attachments, std::collections::BTreeSet::new()).unwrap()
}

pub(crate) fn bridge() -> Interface {
    "xenbr0".parse().unwrap()
}

/// A card, dom0's two interfaces, the two VIFs and one that is nobody's.
pub(crate) fn switch() -> OvsHost {
    let guest = |vif: &str| PortKind::Guest {
        vif: Some(vif.parse().unwrap()),
        mac: Some("00:16:3e:00:00:99".parse().unwrap()),
        locked: false,
    };
    let internal = PortKind::Internal { mac: Some("02:00:00:00:00:01".parse().unwrap()) };
    let port = |name: &str, ofport, tag, kind| SwitchPort { name: name.to_owned(), ofport, tag, kind };
    let ports = vec![
        port("eth0", OfPort::Number(1), None, PortKind::Wire { bonded: false }),
        port("vif1.0", OfPort::Number(3), Some(5), guest("vif-1")),
        port("vif2.0", OfPort::Number(4), Some(5), guest("vif-2")),
        port("vif9.0", OfPort::Number(5), Some(5), guest("unknown")),
        port("xapi5", OfPort::Number(2), Some(5), internal.clone()),
        port("xenbr0", OfPort::Local, None, internal),
    ];
    let network = |tag| Network { parent: bridge(), tag };
    OvsHost {
        networks: [(bridge(), network(None)), ("xapi5".parse().unwrap(), network(Some(5)))].into(),
        ports: [(bridge(), ports)].into(),
    }
}
