//! Addresses and rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ruleset::ids::Mac;
use ruleset::model::{Direction, Family, PortRange, Protocol, Remote, Rule, Service};

use super::{ICMP, PORTS, PROTOCOLS, Random};

pub(super) fn mac(n: u8) -> Mac {
    Mac([0, 0x16, 0x3e, 0, 0, n])
}

pub(super) fn v4(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, n).into()
}

pub(super) fn v6(n: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into()
}

/// An address that a rule or another packet may speak of too.
pub(super) fn address(r: &mut Random, family: Family) -> IpAddr {
    let n = 1 + r.byte() % 14;
    match (family, r.below(10)) {
        (Family::Ipv4, 0) => Ipv4Addr::new(192, 0, 2, n).into(),
        (Family::Ipv4, 1) => {
            r.pick(&[[0, 0, 0, 0], [255; 4], [224, 0, 0, 251], [10, 0, 0, 255], [127, 0, 0, 1]]).into()
        }
        (Family::Ipv4, 2) => v4(41 + r.byte() % 12),
        (Family::Ipv4, _) => v4(n),
        (Family::Ipv6, 0) => Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, n.into()).into(),
        (Family::Ipv6, 1) => r
            .pick(&["::", "ff02::1", "ff02::1:2", "ff02::1:ff00:1", "fe80::1", "febf::1", "fec0::1", "::1"])
            .parse()
            .unwrap(),
        (Family::Ipv6, 2) => mac(if r.percent(70) { n } else { 200 + r.byte() % 3 }).link_local().into(),
        (Family::Ipv6, _) => v6(n),
    }
}

pub(super) fn prefix(r: &mut Random, family: Option<Family>) -> IpNet {
    let family = family.unwrap_or_else(|| r.pick(&Family::ALL));
    match address(r, family) {
        IpAddr::V4(a) => Ipv4Net::new(a, r.pick(&[0, 8, 24, 28, 29, 30, 31, 32, 32, 32])).unwrap().into(),
        IpAddr::V6(a) => {
            Ipv6Net::new(a, r.pick(&[0, 10, 32, 64, 119, 124, 126, 127, 128, 128])).unwrap().into()
        }
    }
}

pub(crate) fn rule(r: &mut Random, id: &str) -> Rule {
    let family = r.pick(&Family::ALL);
    let remote = match r.below(6) {
        0 | 1 => Remote::Any,
        2 => Remote::Prefix(prefix(r, Some(family))),
        3 | 4 => Remote::Group(r.pick(&["a", "b", "c", "d", "nobody"]).parse().unwrap()),
        _ => Remote::Set(r.pick(&["s", "t"]).parse().unwrap()),
    };
    let direction = r.pick(&[Direction::Egress, Direction::Ingress]);
    Rule {
        id: id.parse().unwrap(),
        direction,
        family,
        service: service(r, family),
        remote,
        description: String::new(),
    }
}

fn service(r: &mut Random, family: Family) -> Service {
    let icmp = if family == Family::Ipv4 { Protocol::ICMP } else { Protocol::ICMPV6 };
    let made = match r.below(8) {
        0 => Ok(Service::Any),
        1 => Service::new(family, Some(Protocol(r.pick(&PROTOCOLS))), None, None, None),
        2 | 3 => {
            let code = r.percent(40).then(|| r.byte() % 3);
            Service::new(family, Some(icmp), None, Some(r.pick(&ICMP)), code)
        }
        _ => {
            let (a, b) = (r.pick(&PORTS), r.pick(&PORTS));
            let range = if r.percent(60) { PortRange::new(a, a) } else { PortRange::new(a.min(b), a.max(b)) };
            let protocol = Protocol(r.pick(&[6, 6, 17, 17, 33, 132, 136]));
            Service::new(family, Some(protocol), range.ok(), None, None)
        }
    };
    made.unwrap_or(Service::Any)
}
