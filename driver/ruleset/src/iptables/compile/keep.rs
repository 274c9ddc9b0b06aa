//! Groups that keep connections when their rule goes (`on_rule_removal = "keep"`, what AWS does).
//!
//! A connection is kept if every group that allowed it says so. The two sides meet in the connection's mark: the
//! sender's leaves a note in it, the receiver's turns the note into [`Mark::KEPT`], which passes in every epoch. None of
//! these chains exists on a host without such a group.

use super::Names;
use crate::ids::ChainName;
use crate::iptables::Chains;
use crate::iptables::mark::{Epoch, Mark};
use crate::iptables::rule::{Match, Rule, Target};

fn marked(mark: Mark, target: Target) -> Rule {
    Rule::new([Match::ConnMark { negated: false, mark }], target)
}

/// `dwb-keep-to`, `dwb-keep-from`: leaves the note and goes on to the receivers.
///
/// What another port has judged already, since the bridge floods one packet to several, is left as it is.
pub(super) fn towards(epoch: Epoch, note: Mark, receivers: &ChainName) -> Vec<Rule> {
    let on = Target::Goto(receivers.clone());
    vec![
        marked(epoch.mark(), on.clone()),
        marked(Mark::KEPT, on.clone()),
        // A note must not take its place: replies would pass again.
        marked(Mark::REVOKED, on.clone()),
        Rule::always(Target::SetMark(note)),
        Rule::always(on),
    ]
}

/// `dwb-keep-accept`: a receiver's group keeps. `dwb-open-accept`: the receiver is not filtered.
pub(super) fn write(names: &Names, chains: &mut Chains) {
    let kept = Target::SetMark(Mark::KEPT);
    let end = [marked(Mark::KEPT, Target::Accept), Rule::always(Target::Goto(names.accept.clone()))];
    let mut by_group = vec![marked(Mark::KEEPING, kept.clone()), marked(Mark::UNOPPOSED, kept.clone())];
    by_group.extend(end.iter().cloned());
    let mut by_sender = vec![marked(Mark::KEEPING, kept)];
    by_sender.extend(end);
    chains.insert(names.keep_accept.clone(), by_group);
    chains.insert(names.open_accept.clone(), by_sender);
}
