//! E1: is the sender who it says it is?

use ipnet::IpNet;

use super::site::{Net, Site, macs};
use super::{Builder, of_ether};
use crate::ids::Mac;
use crate::model::{Family, Protocol};
use crate::ovs::flow::{Action, Ether, Masked, Match};
use crate::ovs::table;
use crate::packet::{ICMP_REDIRECT, icmpv6};

/// All zero: the option is not in the packet.
const NO_OPTION: Mac = Mac([0; 6]);

pub(super) fn icmp6(kind: u8) -> Match {
    Match { nw_proto: Some(Protocol::ICMPV6.0), icmp_type: Some(kind), ..of_ether(Ether::Ipv6) }
}

pub(super) fn udp(ether: Ether, source: u16, destination: u16) -> Match {
    Match {
        nw_proto: Some(Protocol::UDP.0),
        tp_src: Some(Masked::exactly(source)),
        tp_dst: Some(Masked::exactly(destination)),
        ..of_ether(ether)
    }
}

/// What one port's guest may say who it is.
pub(super) fn of_port(site: &Site<'_>, out: &mut Builder) {
    let mut say = |priority, mac: Mac, matches: Match, next| {
        let matches = Match { dl_src: Some(mac), ..matches }.register(table::FROM, site.id);
        out.add(table::SOURCE, priority, matches, [Action::Resubmit(next)]);
    };
    for (mac, net) in site.port.sources(Family::Ipv4) {
        let source = Match::net(net);
        // E1.2
        let arp = Match { source, arp_sha: Some(mac), ..of_ether(Ether::Arp) };
        say(50, mac, arp, table::DELIVER);
        // E1.3
        say(50, mac, Match { source, ..of_ether(Ether::Ipv4) }, table::TRACK_FROM);
    }
    // A DHCP client that has no address yet.
    let discover = Match {
        source: Some(IpNet::from(std::net::IpAddr::from([0, 0, 0, 0]))),
        destination: Some(IpNet::from(std::net::IpAddr::from([255; 4]))),
        ..udp(Ether::Ipv4, 68, 67)
    };
    say(60, site.port.mac, discover, table::TRACK_FROM);

    let sources = site.port.sources(Family::Ipv6);
    for (mac, net) in &sources {
        // E1.4
        say(50, *mac, Match { source: Match::net(*net), ..of_ether(Ether::Ipv6) }, table::TRACK_FROM);
    }
    // What configures an address is sent before there is one (RFC 4862).
    for mac in macs(site.port) {
        for kind in [
            icmpv6::NEIGHBOR_SOLICITATION,
            icmpv6::ROUTER_SOLICITATION,
            icmpv6::MLD_REPORT,
            icmpv6::MLDV2_REPORT,
        ] {
            say(60, mac, Match { source: Some(unspecified()), ..icmp6(kind) }, table::TRACK_FROM);
        }
    }
    nd_claims(site, &sources, out);
}

/// E1.5: the addresses it may claim, and the MACs it may announce them with.
fn nd_claims(site: &Site<'_>, sources: &[(Mac, IpNet)], out: &mut Builder) {
    for (_, net) in sources {
        let IpNet::V6(net) = net else { continue };
        let nd_target = (net.prefix_len() > 0).then(|| net.trunc());
        let advertises = Match { nd_target, ..icmp6(icmpv6::NEIGHBOR_ADVERTISEMENT) };
        let probes = Match { source: Some(unspecified()), nd_target, ..icmp6(icmpv6::NEIGHBOR_SOLICITATION) };
        for claim in [advertises, probes] {
            let claim = claim.register(table::FROM, site.id);
            out.add(table::GUARD, 90, claim, [Action::Resubmit(table::ND_LINK)]);
        }
    }
    for mac in macs(site.port) {
        let asks = Match { nd_sll: Some(mac), ..icmp6(icmpv6::NEIGHBOR_SOLICITATION) };
        let tells = Match { nd_tll: Some(mac), ..icmp6(icmpv6::NEIGHBOR_ADVERTISEMENT) };
        for link in [asks, tells] {
            let link = link.register(table::FROM, site.id);
            out.add(table::ND_LINK, 50, link, [Action::Resubmit(table::EGRESS)]);
        }
    }
}

fn unspecified() -> IpNet {
    IpNet::from(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED))
}

/// What holds for every filtered guest.
pub(super) fn shared(nets: &[Net], out: &mut Builder) {
    out.otherwise(table::SOURCE, super::default_verdict());
    track(table::TRACK_FROM, table::GUARD, nets, out);
    out.otherwise(table::TRACK_FROM, super::default_verdict());
    track(table::TRACK_TO, table::DELIVER, nets, out);
    out.otherwise(table::TRACK_TO, [Action::Resubmit(table::DELIVER)]);

    // E1.6
    let redirect =
        Match { nw_proto: Some(Protocol::ICMP.0), icmp_type: Some(ICMP_REDIRECT), ..of_ether(Ether::Ipv4) };
    for forbidden in [
        udp(Ether::Ipv4, 67, 68),
        udp(Ether::Ipv6, 547, 546),
        redirect,
        icmp6(icmpv6::ROUTER_ADVERTISEMENT),
        icmp6(icmpv6::REDIRECT),
    ] {
        out.add(table::GUARD, 100, forbidden, []);
    }
    // E1.5
    out.add(table::GUARD, 80, icmp6(icmpv6::NEIGHBOR_ADVERTISEMENT), []);
    let probe = Match { source: Some(unspecified()), ..icmp6(icmpv6::NEIGHBOR_SOLICITATION) };
    out.add(table::GUARD, 80, probe, []);
    let solicit = icmp6(icmpv6::NEIGHBOR_SOLICITATION);
    out.add(table::GUARD, 70, solicit.clone(), [Action::Resubmit(table::ND_LINK)]);
    out.otherwise(table::GUARD, [Action::Resubmit(table::EGRESS)]);
    let asks = Match { nd_sll: Some(NO_OPTION), ..solicit };
    let tells = Match { nd_tll: Some(NO_OPTION), ..icmp6(icmpv6::NEIGHBOR_ADVERTISEMENT) };
    for link in [asks, tells] {
        out.add(table::ND_LINK, 50, link, [Action::Resubmit(table::EGRESS)]);
    }
    out.otherwise(table::ND_LINK, super::default_verdict());
}

/// Through connection tracking, each network in its zone; but for what the kernel does not track
/// (`nf_conntrack_proto_icmpv6.c`): neighbour discovery and MLD, which it would call invalid.
fn track(table: u8, next: u8, nets: &[Net], out: &mut Builder) {
    for kind in (icmpv6::MLD_QUERY..=icmpv6::REDIRECT).chain([icmpv6::MLDV2_REPORT]) {
        out.add(table, 10, icmp6(kind), [Action::Resubmit(next)]);
    }
    for ether in [Ether::Ipv4, Ether::Ipv6] {
        for net in nets {
            let here = of_ether(ether).register(table::NETWORK, net.number());
            out.add(table, 5, here, [Action::Track { zone: net.zone(), next }]);
        }
        // Nothing goes past it, not even while networks come and go one flow at a time.
        out.add(table, 1, of_ether(ether), super::default_verdict());
    }
}
