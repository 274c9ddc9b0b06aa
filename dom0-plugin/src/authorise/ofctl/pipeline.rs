//! The tables of the driver's flows, and what a flow of each may do. Nothing else is taken.
//!
//! Every flow leads to tables with higher numbers than its own, so no packet goes round in circles. It leads to a table more
//! than once only where receivers, or groups, are asked one after the other, each under a number of its own: so a packet is
//! never copied more often than there are receivers.

use drawbridge_wire::flow::{BUCKETS, GUARDED, LIFELINES, TRIAL};
use drawbridge_wire::limits::FLOW_RESUBMITS;

use super::actions::Action;
use super::line::Flow;
use super::matches::{Header, Match, Name, To};

/// Table 0, where every packet begins.
pub(crate) const HOOK: u8 = 0;
/// On which network is an untagged packet?
pub(crate) const UNTAGGED: u8 = 69;
/// Is the MAC asked for a guest's?
pub(crate) const OURS: u8 = 70;
/// Connection tracking for what comes from elsewhere.
pub(crate) const TRACK_TO: u8 = 71;
/// Who receives?
pub(crate) const DELIVER: u8 = 72;
/// Broadcast and multicast.
pub(crate) const MANY: u8 = 73;
/// One bucket of a broadcast's receivers.
const BUCKET: u8 = 74;
/// To a filtered guest.
pub(crate) const OUTPUT: u8 = 81;
/// To what is not filtered: the connection is remembered.
pub(crate) const REST: u8 = 82;
/// To what is not filtered.
pub(crate) const REST_OUTPUT: u8 = 83;
/// From the wire to nobody we know.
pub(crate) const WIRE: u8 = 86;

/// The first table of what a filtered guest says.
pub(crate) const SOURCE: u8 = 60;

/// The register with the number of the network, which is also its conntrack zone.
pub(crate) const NETWORK: u8 = 5;
/// The register with the sender.
const FROM: u8 = 6;
/// The register with the receiver.
pub(crate) const TO: u8 = 7;
/// The register with the bucket.
const BUCKET_NUMBER: u8 = 2;

/// Kinds of matches.
mod on {
    pub(super) const PORT: u8 = 1;
    pub(super) const VLAN: u8 = 2;
    pub(super) const TO: u8 = 4;
    pub(super) const REGISTERS: u8 = 8;
    pub(super) const STATE: u8 = 16;
    /// The rest of the packet, and conjunctions.
    pub(super) const PACKET: u8 = 32;
}

/// What else a flow of a table may do than load registers and lead on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Also {
    Nothing,
    Normal,
    Conjunctions,
    Track,
    Commit,
    /// To ports of guests.
    Guests,
    /// To ports that are not filtered, with another header in between, or `NORMAL`.
    Copies,
}

/// A table.
struct Shape {
    table: u8,
    /// What its flows match.
    on: u8,
    /// Registers they load.
    loads: &'static [u8],
    /// Tables they lead to.
    to: &'static [u8],
    /// The one of these that they may lead to more than once, each time with another number in this register.
    each: Option<(u8, u8)>,
    also: Also,
}

const fn shape(table: u8, on: u8, loads: &'static [u8], to: &'static [u8], also: Also) -> Shape {
    Shape { table, on, loads, to, each: None, also }
}

/// The whole way of a packet.
const PIPELINE: [Shape; 30] = {
    use Also::{Commit, Conjunctions, Copies, Guests, Normal, Nothing, Track};
    const ANY: u8 = on::PORT | on::VLAN | on::TO | on::PACKET;
    const JUDGE: u8 = on::REGISTERS | on::STATE | on::PACKET;
    const CHECK: u8 = on::REGISTERS | on::PACKET;
    [
        shape(HOOK, ANY, &[5, 6], &[60, 69, 70, 71, 86], Normal),
        shape(SOURCE, CHECK, &[], &[61, 72], Nothing),
        shape(61, CHECK, &[], &[62], Track),
        shape(62, CHECK, &[], &[63, 64], Nothing),
        shape(63, CHECK, &[], &[64], Nothing),
        shape(64, JUDGE, &[4], &[65, 72], Nothing),
        shape(65, JUDGE, &[4], &[66, 72, 85], Conjunctions),
        Shape { each: Some((67, 3)), ..shape(66, on::REGISTERS, &[2, 3], &[67, 68], Nothing) },
        shape(67, JUDGE, &[2], &[], Conjunctions),
        shape(68, on::REGISTERS, &[4], &[72, 85], Nothing),
        shape(UNTAGGED, on::PORT, &[5], &[70], Normal),
        shape(OURS, on::REGISTERS | on::TO, &[], &[71], Normal),
        shape(TRACK_TO, CHECK, &[], &[72], Track),
        Shape {
            each: Some((75, TO)),
            ..shape(72, on::REGISTERS | on::TO, &[0, TO], &[73, 75, 82, 83, 84], Nothing)
        },
        Shape {
            each: Some((BUCKET, BUCKET_NUMBER)),
            ..shape(73, on::REGISTERS, &[2], &[BUCKET, 82], Nothing)
        },
        Shape { each: Some((75, TO)), ..shape(BUCKET, on::REGISTERS, &[TO], &[75], Nothing) },
        shape(75, JUDGE, &[], &[76, 81], Nothing),
        shape(76, JUDGE, &[], &[77, 80, 85], Conjunctions),
        Shape { each: Some((78, 3)), ..shape(77, on::REGISTERS, &[2, 3], &[78, 79], Nothing) },
        shape(78, JUDGE, &[2], &[], Conjunctions),
        shape(79, on::REGISTERS, &[], &[80, 85], Nothing),
        shape(80, JUDGE, &[1], &[81], Commit),
        shape(OUTPUT, on::REGISTERS, &[], &[], Guests),
        shape(82, JUDGE, &[], &[83], Commit),
        shape(REST_OUTPUT, on::REGISTERS | on::TO, &[], &[], Copies),
        shape(84, on::REGISTERS, &[0], &[85], Nothing),
        shape(85, JUDGE | on::TO, &[0], &[], Commit),
        shape(WIRE, on::VLAN | on::TO, &[], &[], Copies),
        shape(GUARDED, on::VLAN, &[], &[], Nothing),
        shape(LIFELINES, on::VLAN | on::PACKET, &[], &[], Nothing),
    ]
};

/// Whether a flow has its table's shape.
///
/// # Errors
/// What is amiss.
pub(crate) fn check(flow: &Flow) -> Result<(), String> {
    headers(flow)?;
    let connections = |action: &Action| matches!(action, Action::Track { .. } | Action::Commit { .. });
    if flow.actions.iter().any(connections) && !flow.matches.is_ip() {
        return Err("connection tracking of what the flow does not match as IP".to_owned());
    }
    outputs_are_distinct(&flow.actions)?;
    if flow.actions.iter().filter(|action| matches!(action, Action::Resubmit(_))).count() > FLOW_RESUBMITS {
        return Err(format!("leads to tables more than {FLOW_RESUBMITS} times"));
    }
    let tracks = |action: &Action| matches!(action, Action::Track { .. });
    if flow.actions.iter().any(tracks) && flow.actions.len() > 1 {
        return Err("connection tracking that goes on in a table stands alone".to_owned());
    }
    // No packet comes there: whatever is to be read is read.
    if flow.table == TRIAL {
        return Ok(());
    }
    let Some(shape) = PIPELINE.iter().find(|shape| shape.table == flow.table) else {
        return Err(format!("table {} is none of ours", flow.table));
    };
    shape.matches(&flow.matches)?;
    stands(flow)?;
    shape.actions(flow)
}

/// The priority in table 0 of what the wire brings for somebody, below what it brings for many.
pub(super) const FROM_WIRE: u16 = 45_500;

/// Where what dom0 and the wire say comes by, what a flow matches says how high it stands: none hides another.
fn stands(flow: &Flow) -> Result<(), String> {
    let names: Vec<Name> = flow.matches.fields().iter().map(|field| field.name).collect();
    let network = Name::Register(NETWORK);
    let priority = match (flow.table, names.as_slice()) {
        (UNTAGGED | OURS | DELIVER | REST_OUTPUT, []) => 0,
        (UNTAGGED, [Name::InPort]) | (OURS, [_, Name::To]) | (WIRE, [Name::Vlan, Name::To]) => 100,
        (DELIVER | REST_OUTPUT, [register, Name::To]) if *register == network => match flow.matches.to() {
            Some(To::Many) => 90,
            _ => 100,
        },
        (MANY | REST_OUTPUT, [register]) if *register == network => 50,
        (WIRE, [Name::Vlan]) => 50,
        (HOOK, [Name::InPort, Name::Vlan]) if flow.actions == [Action::Resubmit(WIRE)] => FROM_WIRE,
        (TRACK_TO | REST, []) => 0,
        (TRACK_TO, _) if flow.actions.is_empty() && flow.matches.is_ip() => 1,
        (TRACK_TO, _) if matches!(flow.actions.as_slice(), [Action::Track { .. }]) => 5,
        (TRACK_TO, _) if flow.actions.is_empty() => return Err("drops what is not tracked".to_owned()),
        (UNTAGGED | OURS | DELIVER | MANY | REST_OUTPUT | WIRE, _) => {
            return Err(format!("flows of table {} do not match that", flow.table));
        }
        _ => return Ok(()),
    };
    match flow.priority == priority {
        true => Ok(()),
        false => Err(format!("such a flow of table {} has priority {priority}", flow.table)),
    }
}

/// A header is taken off only where the flow sees that there is one: a switch takes other flows in OpenFlow 1.0, and its start
/// script, which saves and loads flows in a newer one, could not load a single one of the bridge any more. (Connection tracking
/// without IP, above, is the same.)
fn headers(flow: &Flow) -> Result<(), String> {
    let is_tagged = matches!(flow.matches.header(), Some(Header::Id(_)));
    let mut rest = flow.actions.as_slice();
    if let [Action::Pop, more @ ..] = rest {
        if !is_tagged {
            return Err("a VLAN header is taken off that the flow does not match".to_owned());
        }
        rest = more;
    }
    if rest.contains(&Action::Pop) {
        return Err("a VLAN header is taken off first, and once".to_owned());
    }
    match rest.iter().filter(|action| matches!(action, Action::Push(_))).count() {
        0 | 1 => Ok(()),
        _ => Err("more than one VLAN header".to_owned()),
    }
}

fn outputs_are_distinct(actions: &[Action]) -> Result<(), String> {
    let mut ports: Vec<u16> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Output(port) => Some(*port),
            _ => None,
        })
        .collect();
    ports.sort_unstable();
    match ports.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err("two copies to one port".to_owned()),
        false => Ok(()),
    }
}

impl Shape {
    fn matches(&self, matches: &Match) -> Result<(), String> {
        let kind = |name| match name {
            Name::InPort => on::PORT,
            Name::Vlan => on::VLAN,
            Name::To => on::TO,
            Name::Register(_) => on::REGISTERS,
            Name::State | Name::Mark => on::STATE,
            _ => on::PACKET,
        };
        match matches.fields().iter().find(|field| self.on & kind(field.name) == 0) {
            Some(field) => Err(format!("flows of table {} do not match {:?}", self.table, field.name)),
            None => Ok(()),
        }
    }

    fn actions(&self, flow: &Flow) -> Result<(), String> {
        let refused = |what: &str| Err(format!("flows of table {} do not {what}", self.table));
        let actions = &flow.actions;
        let alone = actions.len() == 1;
        let (mut led, mut each, mut before) = (Vec::new(), Vec::new(), None);
        let mut commits = 0;
        for action in actions {
            match *action {
                Action::Load(register, _) if self.loads.contains(&register) => {}
                Action::Load(..) => return refused("load that register"),
                Action::Resubmit(next) if !self.to.contains(&next) => {
                    return refused(&format!("lead to table {next}"));
                }
                Action::Resubmit(next) => match (self.each, before) {
                    (Some((table, register)), Some(Action::Load(loaded, number)))
                        if table == next && register == loaded =>
                    {
                        each.push(number);
                    }
                    _ => led.push(next),
                },
                Action::Track { next, .. } if self.also == Also::Track && self.to.contains(&next) => {
                    self.zone(flow, action)?;
                }
                Action::Commit { .. } if self.also == Also::Commit => {
                    self.zone(flow, action)?;
                    commits += 1;
                }
                Action::Normal if alone && matches!(self.also, Also::Normal | Also::Copies) => {}
                Action::Conjunction(_) if self.also == Also::Conjunctions => {}
                Action::Output(_) if matches!(self.also, Also::Guests | Also::Copies) => {}
                Action::Push(_) if self.also == Also::Copies => {}
                Action::Pop if matches!(self.table, HOOK | WIRE) => {}
                other => return refused(&format!("do this, or not beside anything else: {other:?}")),
            }
            before = Some(*action);
        }
        let conjunctions = actions.iter().filter(|action| matches!(action, Action::Conjunction(_))).count();
        if conjunctions > 0 && conjunctions < actions.len() {
            return refused("do more than to be dimensions of conjunctions");
        }
        if commits > 1 || has_twice(&mut led) || has_twice(&mut each) {
            return refused("lead to a table, or remember a connection, twice in one way");
        }
        if self.table == BUCKET {
            let bucket = flow.matches.register(BUCKET_NUMBER);
            if !each.iter().all(|receiver| bucket == Some(receiver % BUCKETS)) {
                return refused("ask receivers of another bucket");
            }
        }
        if self.table == OUTPUT && !actions.is_empty() && flow.matches.register(TO).is_none() {
            return refused("deliver without a receiver");
        }
        match (self.table, actions.as_slice()) {
            (HOOK, rest) => hook(rest),
            _ => Ok(()),
        }
    }

    /// A connection is tracked in its network's zone, and the flow sees which that is: none is dom0's, or another's.
    fn zone(&self, flow: &Flow, action: &Action) -> Result<(), String> {
        let (Action::Track { zone, .. } | Action::Commit { zone }) = action else { return Ok(()) };
        match flow.matches.register(NETWORK) == Some(u32::from(zone.get())) {
            true => Ok(()),
            false => Err(format!("zone {zone} is not that of the network in register {NETWORK}")),
        }
    }
}

fn has_twice<T: Ord>(items: &mut [T]) -> bool {
    items.sort_unstable();
    items.windows(2).any(|pair| pair[0] == pair[1])
}

/// In table 0: drop, `NORMAL`, or on to one table, with the network known where that table asks for it.
fn hook(actions: &[Action]) -> Result<(), String> {
    let rest = match actions {
        [Action::Pop, rest @ ..] => rest,
        rest => rest,
    };
    match rest {
        [] if actions.is_empty() => Ok(()),
        [Action::Normal] if actions.len() == 1 => Ok(()),
        [Action::Load(NETWORK, _), Action::Load(FROM, _), Action::Resubmit(SOURCE)] if actions.len() == 3 => {
            Ok(())
        }
        [Action::Load(NETWORK, _), Action::Resubmit(OURS | TRACK_TO)] | [Action::Resubmit(UNTAGGED)] => {
            Ok(())
        }
        [Action::Resubmit(WIRE)] if actions.len() == 1 => Ok(()),
        _ => Err("not what a flow of table 0 does".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No packet comes back to where it was, and none to where flows are only read.
    #[test]
    fn all_ways_go_up() {
        for shape in &PIPELINE {
            assert!(shape.to.iter().all(|next| *next > shape.table), "{}", shape.table);
            assert!(
                !shape.to.iter().any(|next| [GUARDED, LIFELINES, TRIAL].contains(next)),
                "{}",
                shape.table
            );
            assert!(shape.each.is_none_or(|(table, register)| {
                shape.to.contains(&table) && shape.loads.contains(&register)
            }));
        }
        assert!(PIPELINE.windows(2).all(|pair| pair[0].table < pair[1].table));
    }
}
