//! Table 0: which packets are ours to judge, and of which network they are.

use super::Builder;
use super::site::{Layout, Net, Site};
use crate::ovs::flow::{Action, Destination, Match, OfPort, Vlan};
use crate::ovs::table;

/// Priorities in table 0, all within [`crate::ovs::HOOK_PRIORITIES`].
pub(super) mod priority {
    /// The driver's own VM to XAPI, for many; where its port was seen.
    pub(in super::super) const LIFELINE_MANY: u16 = 45_951;
    /// There: for one.
    pub(in super::super) const LIFELINE: u16 = 45_950;
    /// A filtered guest's frame without a VLAN header.
    pub(super) const FILTERED: u16 = 45_900;
    /// Any other frame of its.
    pub(super) const FILTERED_TAGGED: u16 = 45_899;
    /// A VIF without rules on a guarded network.
    pub(super) const UNKNOWN: u16 = 45_800;
    /// XAPI to the driver's own VM.
    pub(in super::super) const TO_LIFELINE: u16 = 45_750;
    /// For a filtered guest.
    pub(super) const TO_FILTERED: u16 = 45_700;
    /// For many, where the driver's own VM may be among them: what every guest needs and connection tracking does not see.
    pub(in super::super) const TO_LIFELINE_MANY: u16 = 45_650;
    /// For many.
    pub(super) const TO_MANY: u16 = 45_600;
    /// From the wire, for a MAC that may be nobody's.
    pub(super) const FROM_WIRE: u16 = 45_500;
    /// A MAC whose guest is about to arrive, where it may be seen before that.
    pub(super) const UNSEEN_ELSEWHERE: u16 = 45_051;
    /// Such a MAC on a port that nobody has seen yet.
    pub(super) const UNSEEN: u16 = 45_050;
    /// The driver's own VM to XAPI, by a port that nobody has seen.
    pub(in super::super) const LIFELINE_UNSEEN: u16 = 45_040;
    /// Where every network is guarded: from a port that may speak.
    pub(super) const KNOWN: u16 = 45_100;
    /// There: from any other port.
    pub(super) const STRANGER: u16 = 45_000;
}

pub(super) fn write(layout: &Layout<'_>, out: &mut Builder) {
    for site in &layout.ports {
        for ofport in &site.ofports {
            let from = Match { in_port: Some(*ofport), ..Match::default() };
            let untagged = Match { vlan: Some(Vlan::None), ..from.clone() };
            out.add(table::HOOK, priority::FILTERED, untagged, leave(site));
            out.add(table::HOOK, priority::FILTERED_TAGGED, from, []);
        }
    }
    // H1
    for (ofport, _) in &layout.unknown {
        out.add(table::HOOK, priority::UNKNOWN, Match { in_port: Some(*ofport), ..Match::default() }, []);
    }
    if layout.all_guarded {
        strangers(layout, out);
    }
    unseen(layout, out);
    to_filtered(layout, out);
    for net in layout.nets.iter().filter(|net| net.explicit) {
        to_many(layout, net, out);
        from_wire(layout, net, out);
    }
}

/// What a filtered guest says.
pub(super) fn leave(site: &Site<'_>) -> [Action; 3] {
    [
        Action::Load(table::NETWORK, site.network),
        Action::Load(table::FROM, site.id),
        Action::Resubmit(table::SOURCE),
    ]
}

/// H1 for a VIF that is plugged before anybody has looked: whoever is not known says nothing. Only where every network is
/// guarded, for the switch does not tell flows on which network a port is.
fn strangers(layout: &Layout<'_>, out: &mut Builder) {
    let access = layout.nets.iter().flat_map(|net| &net.access).map(|other| &other.ofport);
    for ofport in access.chain(&layout.no_guests) {
        let from = Match { in_port: Some(*ofport), ..Match::default() };
        out.add(table::HOOK, priority::KNOWN, from, [Action::Normal]);
    }
    out.add(table::HOOK, priority::STRANGER, Match::default(), super::default_verdict());
}

/// A guest that is about to arrive says nothing until its port is seen: the switch does not tell flows on which network a new
/// port is, so that its packets could not be judged.
fn unseen(layout: &Layout<'_>, out: &mut Builder) {
    for mac in &layout.unseen {
        let said = Match { dl_src: Some(*mac), ..Match::default() };
        for ofport in &layout.bystanders {
            let elsewhere = Match { in_port: Some(*ofport), ..said.clone() };
            out.add(table::HOOK, priority::UNSEEN_ELSEWHERE, elsewhere, [Action::Normal]);
        }
        out.add(table::HOOK, priority::UNSEEN, said, super::default_verdict());
    }
}

/// Says which networks are guarded, whoever is on them: what else stands does not tell.
pub(super) fn note_guarded(layout: &Layout<'_>, out: &mut Builder) {
    for net in layout.nets.iter().filter(|net| net.guarded) {
        let vlan = Some(net.tag.map_or(Vlan::None, Vlan::Id));
        out.add(table::GUARDED, 1, Match { vlan, ..Match::default() }, super::default_verdict());
    }
}

/// To one MAC of a filtered guest, from wherever.
fn to_filtered(layout: &Layout<'_>, out: &mut Builder) {
    let mut untagged = false;
    for (number, mac) in layout.receivers().into_keys() {
        let Some(net) = layout.net(number) else { continue };
        let matches = Match { dl_dst: Some(Destination::Exactly(mac)), ..Match::default() };
        if let Some(tag) = net.tag {
            let tagged = Match { vlan: Some(Vlan::Id(tag)), ..matches.clone() };
            out.add(table::HOOK, priority::TO_FILTERED, tagged, arrive(net, true, table::TRACK_TO));
        } else {
            let tagged = Match { vlan: Some(Vlan::Id(0)), ..matches.clone() };
            let actions = [Action::PopVlan, Action::Resubmit(table::UNTAGGED)];
            out.add(table::HOOK, priority::TO_FILTERED, tagged, actions);
        }
        // Access ports of every network, and the bridge's own network, come without a header.
        let plain = Match { vlan: Some(Vlan::None), ..matches.clone() };
        out.add(table::HOOK, priority::TO_FILTERED, plain, [Action::Resubmit(table::UNTAGGED)]);
        out.add(
            table::OURS,
            100,
            matches.register(table::NETWORK, number),
            [Action::Resubmit(table::TRACK_TO)],
        );
        untagged = true;
    }
    if !untagged {
        return;
    }
    out.otherwise(table::OURS, [Action::Normal]);
    for net in &layout.nets {
        let trunks = if net.tag.is_none() { layout.trunks.as_slice() } else { &[] };
        for ofport in net.access.iter().map(|other| &other.ofport).chain(trunks) {
            let matches = Match { in_port: Some(*ofport), ..Match::default() };
            out.add(table::UNTAGGED, 100, matches, arrive(net, false, table::OURS));
        }
    }
    let has_native = layout.nets.iter().any(|net| net.tag.is_none());
    let trunks = if has_native { &[] } else { layout.trunks.as_slice() };
    for ofport in layout.foreign.iter().chain(trunks) {
        out.add(table::UNTAGGED, 100, Match { in_port: Some(*ofport), ..Match::default() }, [Action::Normal]);
    }
    // A port that was not there when the flows were made: nobody knows on which network it is.
    out.otherwise(table::UNTAGGED, super::default_verdict());
}

/// Broadcast and multicast from a port that is not filtered.
fn to_many(layout: &Layout<'_>, net: &Net, out: &mut Builder) {
    for other in net.access.iter().filter(|other| !other.locked) {
        let matches = Match {
            in_port: Some(other.ofport),
            vlan: Some(Vlan::None),
            dl_dst: Some(Destination::Many),
            ..Match::default()
        };
        out.add(table::HOOK, priority::TO_MANY, matches, arrive(net, false, table::TRACK_TO));
    }
    for (ofport, vlan) in on_trunks(layout, net) {
        let many = Some(Destination::Many);
        let matches = Match { in_port: Some(ofport), vlan: Some(vlan), dl_dst: many, ..Match::default() };
        out.add(table::HOOK, priority::TO_MANY, matches, arrive(net, vlan != Vlan::None, table::TRACK_TO));
    }
}

/// Everything else from the wire: to a known MAC the switch delivers; copies for an unknown one go past filtered guests.
fn from_wire(layout: &Layout<'_>, net: &Net, out: &mut Builder) {
    for (ofport, vlan) in on_trunks(layout, net) {
        let matches = Match { in_port: Some(ofport), vlan: Some(vlan), ..Match::default() };
        out.add(table::HOOK, priority::FROM_WIRE, matches.clone(), [Action::Resubmit(table::WIRE)]);
        let on_wire = Match { in_port: None, ..matches };
        for mac in net.access.iter().flat_map(|other| &other.macs) {
            let known = Match { dl_dst: Some(Destination::Exactly(*mac)), ..on_wire.clone() };
            out.add(table::WIRE, 100, known, [Action::Normal]);
        }
        let mut actions = if vlan == Vlan::None { Vec::new() } else { vec![Action::PopVlan] };
        actions.extend(super::deliver::copies(layout, net, |_| true));
        out.add(table::WIRE, 50, on_wire, actions);
    }
}

/// The trunks with the headers under which this network's packets are on them.
pub(super) fn on_trunks(layout: &Layout<'_>, net: &Net) -> Vec<(OfPort, Vlan)> {
    let headers = match net.tag {
        Some(tag) => vec![Vlan::Id(tag)],
        None => vec![Vlan::None, Vlan::Id(0)],
    };
    let trunks = layout.trunks.iter();
    trunks.flat_map(|trunk| headers.iter().map(|header| (*trunk, *header))).collect()
}

pub(super) fn arrive(net: &Net, tagged: bool, next: u8) -> Vec<Action> {
    let mut actions = if tagged { vec![Action::PopVlan] } else { Vec::new() };
    actions.extend([Action::Load(table::NETWORK, net.number()), Action::Resubmit(next)]);
    actions
}
