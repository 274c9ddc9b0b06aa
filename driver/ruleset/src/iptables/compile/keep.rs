//! Groups that keep connections when their rule goes (`on_rule_removal = "keep"`, what AWS does).
//!
//! A connection is kept if every group that allowed it says so. The two sides meet in the packet's mark: the sender's leaves a
//! note in it, for which the receiver's marks the connection with [`Mark::KEPT`], which passes in every epoch. None of
//! these chains exists on a host without such a group.

use super::packet_is;
use crate::iptables::mark::{Epoch, Mark, PacketMark};
use crate::iptables::rule::{Match, Rule, Target};

/// `dwb-keep-accept`: a receiver's group keeps. `dwb-open-accept`: the receiver is not filtered. Both keep what was noted as one
/// of `notes`, and are `dwb-accept` for the rest.
///
/// What another port has judged already, since the bridge floods one packet to several, is left as it is.
pub(super) fn accept(epoch: Epoch, notes: &[PacketMark]) -> Vec<Rule> {
    let marked = |mark, target| Rule::new([Match::ConnMark { negated: false, mark }], target);
    let mut rules = vec![packet_is(PacketMark::STRAY, Target::Accept), marked(epoch.mark(), Target::Accept)];
    rules.extend(notes.iter().map(|note| packet_is(*note, Target::SetMark(Mark::KEPT))));
    rules.push(marked(Mark::KEPT, Target::Accept));
    rules.push(Rule::always(Target::SetMark(epoch.mark())));
    rules.push(Rule::always(Target::Accept));
    rules
}
