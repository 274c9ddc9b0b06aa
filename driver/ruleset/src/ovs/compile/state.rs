//! E2 to E4 and I1 to I3: essentials, then what connection tracking knows.

use ipnet::{IpNet, Ipv6Net};

use super::source::{icmp6, udp};
use super::{Builder, of_ether};
use crate::iptables::{Epoch, MARK_MASK, Mark};
use crate::ovs::flow::{Action, CtMatch, CtState, Ether, Match};
use crate::ovs::table;
use crate::packet::icmpv6;

/// `ct_mark` under our mask.
pub(super) fn mark(mark: Mark) -> Option<(u32, u32)> {
    Some((mark.value(), MARK_MASK))
}

/// A tracked connection with these flags.
pub(super) fn tracked(flags: CtState) -> Match {
    let ct_state = CtMatch { set: flags.and(CtState::TRK), clear: CtState::default() };
    Match { ct_state, ..Match::default() }
}

pub(super) fn write(epoch: Epoch, out: &mut Builder) {
    let passed = [Action::Load(table::WAY, table::way::CONNECTION), Action::Resubmit(table::DELIVER)];
    one_side(epoch, table::EGRESS, &passed, table::PROVIDER_EGRESS, out);
    for essential in essentials_from_guest() {
        out.add(table::EGRESS, 90, essential, [Action::Resubmit(table::DELIVER)]);
    }
    let passed = [Action::Resubmit(table::OUTPUT)];
    one_side(epoch, table::INGRESS, &passed, table::PROVIDER_INGRESS, out);
    for essential in essentials_to_guest() {
        out.add(table::INGRESS, 90, essential, passed.clone());
    }
    // E4 stands for I3: the connection is the same.
    let judged = Match::default().register(table::WAY, table::way::CONNECTION);
    out.add(table::INGRESS, 110, judged, passed);
}

fn one_side(epoch: Epoch, table: u8, passed: &[Action], rules: u8, out: &mut Builder) {
    // What was cut stays cut, whatever it looks like.
    for about in [CtState::RPL, CtState::REL] {
        let cut = Match { ct_mark: mark(Mark::REVOKED), ..tracked(about) };
        out.add(table, 100, cut, []);
    }
    // E3, I2; what is still a fragment after connection tracking never becomes whole.
    for ether in [Ether::Ipv4, Ether::Ipv6] {
        out.add(table, 80, Match { later_fragment: true, ..of_ether(ether) }, []);
    }
    out.add(table, 80, tracked(CtState::INV), []);
    // E4, I3; and, in the direction in which it began, a connection that was judged well in this epoch.
    let current = Match { ct_mark: mark(epoch.mark()), ..tracked(CtState::EST) };
    for known in [current, tracked(CtState::RPL), tracked(CtState::REL)] {
        out.add(table, 70, known, passed.iter().cloned());
    }
    for ether in [Ether::Ipv4, Ether::Ipv6] {
        out.add(table, 10, of_ether(ether), [Action::Resubmit(rules)]);
    }
    out.otherwise(table, super::default_verdict());
}

/// E2
pub(super) fn essentials_from_guest() -> Vec<Match> {
    let mut passes = vec![udp(Ether::Ipv4, 68, 67), udp(Ether::Ipv6, 546, 547)];
    passes.extend(
        [
            icmpv6::ROUTER_SOLICITATION,
            icmpv6::NEIGHBOR_SOLICITATION,
            icmpv6::NEIGHBOR_ADVERTISEMENT,
            icmpv6::MLD_REPORT,
            icmpv6::MLD_DONE,
            icmpv6::MLDV2_REPORT,
        ]
        .map(icmp6),
    );
    passes
}

/// I1
pub(super) fn essentials_to_guest() -> Vec<Match> {
    let link_local = IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));
    let near = |matches: Match| Match { source: Some(link_local), ..matches };
    vec![
        of_ether(Ether::Arp),
        udp(Ether::Ipv4, 67, 68),
        icmp6(icmpv6::NEIGHBOR_SOLICITATION),
        icmp6(icmpv6::NEIGHBOR_ADVERTISEMENT),
        near(icmp6(icmpv6::ROUTER_ADVERTISEMENT)),
        near(icmp6(icmpv6::MLD_QUERY)),
        near(udp(Ether::Ipv6, 547, 546)),
    ]
}
