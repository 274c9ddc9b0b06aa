//! Who receives, and how the last step remembers the connection.

use std::collections::{BTreeMap, BTreeSet};

use super::site::{Layout, Net, Other};
use super::state::{mark, tracked};
use super::{Builder, CompileError, of_ether};
use crate::iptables::{Epoch, Mark};
use crate::ovs::flow::{Action, CtMatch, CtState, Destination, Ether, Match};
use crate::ovs::table;

/// Receivers of a broadcast are asked bucket by bucket, so that one more changes one short flow.
const BUCKETS: u32 = 32;

/// Receivers in a bucket: a line of `ovs-ofctl` input stays below 8,000 bytes.
const BUCKET_SIZE: usize = 150;

pub(super) fn write(layout: &Layout<'_>, epoch: Epoch, out: &mut Builder) -> Result<(), CompileError> {
    let arriving: BTreeSet<u32> =
        layout.ports.iter().filter(|site| site.arriving).map(|site| site.id).collect();
    for ((network, mac), ids) in layout.receivers() {
        let matches = Match { dl_dst: Some(Destination::Exactly(mac)), ..Match::default() };
        let mut actions: Vec<Action> = ids.iter().flat_map(|id| receive(*id)).collect();
        let is_others = |net: &Net| net.access.iter().any(|other| other.macs.contains(&mac));
        let others = layout.net(network).is_some_and(is_others);
        if ids.len() > 1 || (others && !ids.is_empty()) {
            actions.insert(0, Action::Load(table::SHARED, table::shared::ASKED));
        }
        if others {
            actions.push(Action::Resubmit(table::REST));
        } else if ids.len() > 1 {
            actions.push(Action::Resubmit(table::SETTLE));
        }
        // A guest that still runs elsewhere is reached as before, too. What its port here says of the connection stands.
        if !others && ids.iter().any(|id| arriving.contains(id)) {
            actions.push(Action::Resubmit(table::REST_OUTPUT));
        }
        out.add(table::DELIVER, 100, matches.register(table::NETWORK, network), actions);
    }
    out.otherwise(table::DELIVER, [Action::Resubmit(table::REST)]);
    for site in &layout.ports {
        let outputs = site.ofports.iter().map(|ofport| Action::Output(*ofport));
        out.add(table::OUTPUT, 50, Match::default().register(table::TO, site.id), outputs);
        if site.ofports.len() > 1 {
            // A broadcast does not come back to its sender by the guest's other interface.
            let own = Match::default().register(table::FROM, site.id).register(table::TO, site.id);
            out.add(table::OUTPUT, 60, own, []);
        }
    }
    out.otherwise(table::OUTPUT, super::default_verdict());
    for net in &layout.nets {
        if net.explicit {
            many(layout, net, out)?;
        }
        rest(layout, net, out);
    }
    out.otherwise(table::REST_OUTPUT, super::default_verdict());
    remember(&layout.nets, epoch, out);
    Ok(())
}

fn receive(id: u32) -> [Action; 2] {
    [Action::Load(table::TO, id), Action::Resubmit(table::INGRESS)]
}

/// Broadcast and multicast: each filtered port by its own rules, then the rest.
fn many(layout: &Layout<'_>, net: &Net, out: &mut Builder) -> Result<(), CompileError> {
    let mut buckets: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for site in layout.ports.iter().filter(|site| site.network == net.number()) {
        buckets.entry(site.id % BUCKETS).or_default().push(site.id);
    }
    let mut actions = Vec::new();
    for (bucket, mut ids) in buckets {
        if ids.len() > BUCKET_SIZE {
            let most = BUCKET_SIZE * BUCKETS as usize;
            return Err(CompileError::Receivers { network: net.name.clone(), most });
        }
        ids.sort_unstable();
        let matches =
            Match::default().register(table::NETWORK, net.number()).register(table::BUCKET_NUMBER, bucket);
        out.add(table::BUCKET, 50, matches, ids.into_iter().flat_map(receive));
        actions.extend([Action::Load(table::BUCKET_NUMBER, bucket), Action::Resubmit(table::BUCKET)]);
    }
    actions.push(Action::Resubmit(table::REST));
    let network = Match::default().register(table::NETWORK, net.number());
    out.add(table::MANY, 50, network.clone(), actions);
    let many = Match { dl_dst: Some(Destination::Many), ..network };
    out.add(table::DELIVER, 90, many, [Action::Resubmit(table::MANY)]);
    Ok(())
}

/// What is not filtered on this network.
fn rest(layout: &Layout<'_>, net: &Net, out: &mut Builder) {
    let network = Match::default().register(table::NETWORK, net.number());
    if !net.explicit {
        out.add(table::REST_OUTPUT, 50, network, [Action::Normal]);
        return;
    }
    let mut known: BTreeMap<_, Vec<Action>> = BTreeMap::new();
    for other in &net.access {
        for mac in &other.macs {
            known.entry(*mac).or_default().push(Action::Output(other.ofport));
        }
    }
    for (mac, outputs) in known {
        let matches = Match { dl_dst: Some(Destination::Exactly(mac)), ..network.clone() };
        out.add(table::REST_OUTPUT, 100, matches, outputs);
    }
    let many = Match { dl_dst: Some(Destination::Many), ..network.clone() };
    out.add(table::REST_OUTPUT, 90, many, copies(layout, net, |_| true));
    // To a MAC we do not know: out by the wires, and to those behind which it may be. Without a wire, to everybody.
    let no_wire = layout.trunks.is_empty();
    out.add(table::REST_OUTPUT, 50, network, copies(layout, net, |other| other.nested || no_wire));
}

/// One copy for each, the ones with a VLAN header last.
pub(super) fn copies(layout: &Layout<'_>, net: &Net, to: impl Fn(&Other) -> bool) -> Vec<Action> {
    let access = net.access.iter().filter(|other| to(other));
    let mut copies: Vec<Action> = access.map(|other| Action::Output(other.ofport)).collect();
    if !layout.trunks.is_empty() {
        copies.extend(net.tag.map(Action::PushVlan));
        copies.extend(layout.trunks.iter().map(|trunk| Action::Output(*trunk)));
    }
    copies
}

/// What passed by a rule is remembered as judged well in this epoch; what no rule allowed is cut.
fn remember(nets: &[Net], epoch: Epoch, out: &mut Builder) {
    let trackable =
        |ether| Match { ct_state: CtMatch { set: CtState::TRK, clear: CtState::INV }, ..of_ether(ether) };
    for (net, ether) in nets.iter().flat_map(|net| [(net, Ether::Ipv4), (net, Ether::Ipv6)]) {
        let remembers = |mark: Mark| Action::Commit { zone: net.zone(), mark: mark.value() };
        let judged = trackable(ether).register(table::NETWORK, net.number());
        let well = remembers(epoch.mark());
        let accept = [well.clone(), Action::Load(table::ACCEPTED, 1), Action::Resubmit(table::OUTPUT)];
        out.add(table::ACCEPT, 50, judged.clone(), accept);
        let by_rules = judged.clone().register(table::WAY, table::way::RULES);
        out.add(table::REST, 50, by_rules, [well, Action::Resubmit(table::REST_OUTPUT)]);
        out.add(table::DENY, 80, judged, [remembers(Mark::REVOKED)]);
    }
    out.otherwise(table::ACCEPT, [Action::Resubmit(table::OUTPUT)]);
    out.otherwise(table::REST, [Action::Resubmit(table::REST_OUTPUT)]);
    // One who refuses his copy must not undo what another allowed: of a broadcast, or where two ports have one MAC.
    out.add(table::DENY, 100, Match { dl_dst: Some(Destination::Many), ..Match::default() }, []);
    let asked = Match::default().register(table::SHARED, table::shared::ASKED);
    out.add(table::DENY, 95, asked, [Action::Load(table::SHARED, table::shared::REFUSED)]);
    let refused = Match::default().register(table::SHARED, table::shared::REFUSED);
    out.add(table::DENY, 95, refused.clone(), []);
    let nobody = refused.register(table::ACCEPTED, 0);
    out.add(table::SETTLE, 50, nobody, [Action::Load(table::SHARED, 0), Action::Resubmit(table::DENY)]);
    out.add(table::DENY, 90, Match { ct_mark: mark(epoch.mark()), ..tracked(CtState::default()) }, []);
    // A connection that nobody remembers needs no cutting.
    let unknown = Some((0, crate::iptables::MARK_MASK));
    out.add(table::DENY, 85, Match { ct_mark: unknown, ..tracked(CtState::NEW) }, []);
    out.otherwise(table::DENY, super::default_verdict());
}
