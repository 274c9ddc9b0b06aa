//! The flows that stand on a bridge, and what becomes of them line by line of an input.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use drawbridge_wire::{flow, limits};

use super::actions::{self, Action};
use super::bridge::{Bridge, Role, STRANGER, UNSEEN};
use super::line::{Deletion, Flow, Which};
use super::matches::{Header, Match, Name, To};
use super::pipeline::{
    DELIVER, FROM_WIRE, HOOK, MANY, NETWORK, OUTPUT, REST, REST_OUTPUT, TO, TRACK_TO, WIRE,
};

/// What a switch says of a flow besides the flow: counters with a value, flags without.
const STATISTICS: [&str; 8] = [
    "duration",
    "n_packets",
    "n_bytes",
    "idle_age",
    "hard_age",
    "idle_timeout",
    "hard_timeout",
    "importance",
];
const FLAGS: [&str; 5] =
    ["send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts"];

/// What a line of a dump has more than the line of input, when a flow's counters have grown.
const STATISTICS_BYTES: usize = 72;

/// Flows by place. A place is known by its digest: what a policy of thousands of ports needs is 16 times as much.
pub(super) struct Standing {
    digest: RandomState,
    places: HashMap<u64, Owner>,
    ours: usize,
    bytes: usize,
    covers: Covers,
}

/// Whose a flow is.
enum Owner {
    Other,
    Ours { cookie: u64, table: u8, bytes: usize, parts: Box<[Part]> },
}

/// A flow that only others make harmless, or one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    /// Drops what comes from ports that nobody knows.
    Stranger,
    /// Says what becomes of what a port says.
    Known(u16),
    /// Drops what comes from a MAC.
    Unseen(u64),
    /// Says what becomes of it at one port.
    Elsewhere(u16, u64),
    /// A port, under the number of a receiver.
    Receiver(u16, u32),
    /// Leads what is for many.
    Leads(Lead),
}

/// A step on the way of what dom0 and the wire say, where our flows lead it: each that begins it stands only with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lead {
    /// What is for many on a network, which gets a number.
    ToMany { tag: Option<u16>, number: u32 },
    /// What comes from a wire with this header, for one MAC.
    FromWire(u16, Option<Header>),
    /// What comes from there for many.
    ManyFromWire(u16, Option<Header>),
    /// From there, with this header, to a MAC.
    WireTo(Option<Header>, u64),
    /// A table in which what no other flow speaks of goes on.
    Otherwise(u8),
    /// Connections of a network are tracked: of this ethertype.
    Tracks(u32, u16),
    /// What is for many on a network goes to its receivers.
    Many(u32),
    /// And to what is not filtered.
    Buckets(u32),
    /// A copy for each of the wires, and of dom0's ports on the network.
    Copies { tag: Option<u16>, number: u32 },
}

/// How many there are of each part, and which have changed since they were last looked at.
#[derive(Default)]
struct Covers {
    parts: HashMap<Part, usize>,
    /// Receivers' numbers that a port has.
    numbers: HashMap<u16, usize>,
    changed: Vec<Part>,
    /// Whether some of those that lead have.
    leads: bool,
}

impl Standing {
    /// Reads a dump of all flows. Whose line cannot be read as one of ours is somebody else's in another place: ours are of
    /// fewer kinds.
    pub(super) fn read(dump: &str, bridge: &Bridge) -> Self {
        let mut standing = Self {
            digest: RandomState::new(),
            places: HashMap::new(),
            ours: 0,
            bytes: 0,
            covers: Covers::default(),
        };
        for line in dump.lines() {
            if let Some((flow, bytes)) = dumped(line) {
                standing.put(&flow, bytes, bridge);
            }
        }
        standing.covers.changed.clear();
        standing.covers.leads = false;
        standing
    }

    /// A flow comes.
    ///
    /// # Errors
    /// Somebody else's stands in its place.
    pub(super) fn add(&mut self, flow: &Flow, bytes: usize, bridge: &Bridge) -> Result<(), String> {
        let place = self.place(flow.table, flow.priority, &flow.matches);
        match self.places.get(&place) {
            Some(Owner::Other) => Err("a flow that is not ours stands in its place".to_owned()),
            _ => {
                self.put(flow, bytes + STATISTICS_BYTES, bridge);
                Ok(())
            }
        }
    }

    fn put(&mut self, flow: &Flow, bytes: usize, bridge: &Bridge) {
        let place = self.place(flow.table, flow.priority, &flow.matches);
        if flow.cookie & flow::COOKIE_MASK != flow::COOKIE {
            self.places.insert(place, Owner::Other);
            return;
        }
        let parts = parts(flow, bridge);
        self.ours += 1;
        self.bytes += bytes;
        parts.iter().for_each(|part| self.covers.count(*part, true));
        let owner = Owner::Ours { cookie: flow.cookie, table: flow.table, bytes, parts: parts.into() };
        if let Some(before) = self.places.insert(place, owner) {
            self.gone(&before);
        }
    }

    fn gone(&mut self, owner: &Owner) {
        if let Owner::Ours { bytes, parts, .. } = owner {
            self.ours -= 1;
            self.bytes -= bytes;
            parts.iter().for_each(|part| self.covers.count(*part, false));
        }
    }

    /// Flows go.
    pub(super) fn delete(&mut self, deletion: &Deletion) {
        let Deletion { cookie, mask, which } = deletion;
        let its =
            |owner: &Owner| matches!(owner, Owner::Ours { cookie: its, .. } if its & mask == cookie & mask);
        match which {
            Which::One { table, priority, matches } => {
                let place = self.place(*table, *priority, matches);
                if self.places.get(&place).is_some_and(its)
                    && let Some(owner) = self.places.remove(&place)
                {
                    self.gone(&owner);
                }
            }
            Which::Table(_) | Which::All => {
                let of = |owner: &Owner| match (owner, which) {
                    (Owner::Ours { table, .. }, Which::Table(wanted)) => table == wanted,
                    _ => true,
                };
                let gone = self.places.iter().filter(|(_, owner)| its(owner) && of(owner));
                let gone: Vec<u64> = gone.map(|(place, _)| *place).collect();
                for place in gone {
                    if let Some(owner) = self.places.remove(&place) {
                        self.gone(&owner);
                    }
                }
            }
        }
    }

    /// Whether they are not too many.
    ///
    /// # Errors
    /// Which bound they exceed.
    pub(super) fn fit(&self) -> Result<(), String> {
        if self.ours > limits::FLOWS {
            return Err(format!("more than {} flows of ours on a bridge", limits::FLOWS));
        }
        if self.bytes > limits::DUMPED_FLOW_BYTES {
            return Err(format!("more flows than could be read back in {} bytes", limits::DUMPED_FLOW_BYTES));
        }
        Ok(())
    }

    /// What may not be at any moment that packets see, of what has changed since the last.
    ///
    /// # Errors
    /// What is amiss.
    pub(super) fn check(&mut self, bridge: &Bridge) -> Result<(), String> {
        let changed = std::mem::take(&mut self.covers.changed);
        match changed.iter().find_map(|part| self.covers.problem(*part, bridge)) {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    /// What may not be when all is done: that dom0 is not heard, or does not hear, where our flows lead what it says.
    ///
    /// # Errors
    /// What is amiss.
    pub(super) fn check_leads(&self, bridge: &Bridge) -> Result<(), String> {
        let leads = self.covers.parts.keys().filter_map(|part| match part {
            Part::Leads(lead) if self.covers.leads => Some(*lead),
            _ => None,
        });
        let has = |lead| self.covers.has(Part::Leads(lead));
        for lead in leads {
            let needed: Vec<Lead> = match lead {
                Lead::ToMany { tag, number } => vec![
                    Lead::Otherwise(TRACK_TO),
                    Lead::Tracks(number, 0x0800),
                    Lead::Tracks(number, 0x86dd),
                    Lead::Many(number),
                    Lead::Buckets(number),
                    Lead::Otherwise(REST),
                    Lead::Copies { tag, number },
                ],
                Lead::FromWire(wire, header) => {
                    let tag = match header {
                        Some(Header::Id(id)) if id != 0 => Some(id),
                        _ => None,
                    };
                    let dom0s = bridge.dom0s(tag).filter_map(|(_, mac)| Some(Lead::WireTo(header, mac?)));
                    dom0s.chain([Lead::ManyFromWire(wire, header)]).collect()
                }
                _ => continue,
            };
            if let Some(missing) = needed.into_iter().find(|needed| !has(*needed)) {
                return Err(format!(
                    "would lead what dom0 says or hears astray: {lead:?} without {missing:?}"
                ));
            }
        }
        Ok(())
    }

    fn place(&self, table: u8, priority: u16, matches: &Match) -> u64 {
        self.digest.hash_one((table, priority, matches))
    }
}

impl Covers {
    fn has(&self, part: Part) -> bool {
        self.parts.contains_key(&part)
    }

    fn count(&mut self, part: Part, comes: bool) {
        let count = self.parts.entry(part).or_default();
        let had = *count > 0;
        *count = if comes { *count + 1 } else { count.saturating_sub(1) };
        let has = *count > 0;
        if !has {
            self.parts.remove(&part);
        }
        if had != has {
            match part {
                Part::Leads(_) => self.leads = true,
                part => self.changed.push(part),
            }
            if let Part::Receiver(port, _) = part {
                let numbers = self.numbers.entry(port).or_default();
                *numbers = if has { *numbers + 1 } else { numbers.saturating_sub(1) };
            }
        }
    }

    fn problem(&self, part: Part, bridge: &Bridge) -> Option<String> {
        let uncovered = |drops: Part, cover: &dyn Fn(u16) -> Part| {
            let port = bridge.others().find(|port| !self.has(cover(*port))).filter(|_| self.has(drops))?;
            Some(format!("would drop what port {port} says, which is no guest's"))
        };
        match part {
            Part::Stranger | Part::Known(_) => uncovered(Part::Stranger, &Part::Known),
            Part::Unseen(mac) | Part::Elsewhere(_, mac) => {
                uncovered(Part::Unseen(mac), &|port| Part::Elsewhere(port, mac))
            }
            Part::Leads(_) => None,
            Part::Receiver(port, _) => (self.numbers.get(&port).is_some_and(|numbers| *numbers > 1))
                .then(|| format!("copies to port {port} under two numbers")),
        }
    }
}

/// What a flow is to others; a receiver has one part for each of its ports.
fn parts(flow: &Flow, bridge: &Bridge) -> Vec<Part> {
    let Flow { table, priority, matches, actions, .. } = flow;
    let names: Vec<Name> = matches.fields().iter().map(|field| field.name).collect();
    let priority = u64::from(*priority);
    let port = matches.in_port();
    let part = match (*table, names.as_slice()) {
        (HOOK, []) if priority == STRANGER && actions.is_empty() => Some(Part::Stranger),
        (HOOK, [Name::InPort]) if priority > STRANGER => port.map(Part::Known),
        (HOOK, [Name::From]) if priority == UNSEEN && actions.is_empty() => matches.from().map(Part::Unseen),
        (HOOK, [Name::InPort, Name::From]) if priority > UNSEEN => {
            port.zip(matches.from()).map(|(port, mac)| Part::Elsewhere(port, mac))
        }
        (OUTPUT, _) => {
            let number = matches.register(TO).unwrap_or_default();
            let ports = actions.iter().filter_map(|action| match action {
                Action::Output(port) => Some(Part::Receiver(*port, number)),
                _ => None,
            });
            return ports.collect();
        }
        (HOOK, [Name::InPort, Name::Vlan, Name::To]) => {
            let lead = lead(flow, &names, bridge);
            let above = priority > u64::from(FROM_WIRE);
            let from_wire = port.filter(|_| lead.is_some() && above);
            let from_wire = from_wire.map(|port| Lead::ManyFromWire(port, matches.header()));
            return lead.into_iter().chain(from_wire).map(Part::Leads).collect();
        }
        _ => lead(flow, &names, bridge).map(Part::Leads),
    };
    part.into_iter().collect()
}

/// The step of a way that a flow is.
fn lead(flow: &Flow, names: &[Name], bridge: &Bridge) -> Option<Lead> {
    let Flow { table, matches, actions, .. } = flow;
    let header = matches.header();
    let number = matches.register(NETWORK);
    let many = matches.to() == Some(To::Many);
    let last = actions.last();
    match (*table, names) {
        (HOOK, [Name::InPort, Name::Vlan, Name::To]) if many => {
            let port = matches.in_port()?;
            let tag = match bridge.ports.get(&port)? {
                Role::Guest => return None,
                Role::Wire { trunk: true } => match header {
                    Some(Header::Id(id)) if id != 0 => Some(id),
                    _ => None,
                },
                Role::Own(_) | Role::Wire { .. } => bridge.access.get(&port).copied(),
            };
            let number = actions.iter().find_map(|action| match action {
                Action::Load(NETWORK, number) => Some(*number),
                _ => None,
            })?;
            Some(Lead::ToMany { tag: tag.filter(|_| bridge.trunks().next().is_some()), number })
        }
        (HOOK, [Name::InPort, Name::Vlan]) if *actions == [Action::Resubmit(WIRE)] => {
            Some(Lead::FromWire(matches.in_port()?, header))
        }
        (WIRE, [Name::Vlan, Name::To]) if *actions == [Action::Normal] => match matches.to()? {
            To::One(mac) => Some(Lead::WireTo(header, mac)),
            To::Many => None,
        },
        (TRACK_TO, []) => (*actions == [Action::Resubmit(DELIVER)]).then_some(Lead::Otherwise(TRACK_TO)),
        (REST, []) => (*actions == [Action::Resubmit(REST_OUTPUT)]).then_some(Lead::Otherwise(REST)),
        (TRACK_TO, [Name::Register(_), Name::Ether]) => match last? {
            Action::Track { .. } => Some(Lead::Tracks(number?, matches.ether()?)),
            _ => None,
        },
        (DELIVER, _) if many && *actions == [Action::Resubmit(MANY)] => number.map(Lead::Many),
        (MANY, _) if last == Some(&Action::Resubmit(REST)) => number.map(Lead::Buckets),
        (REST_OUTPUT, _) if many => {
            let tag = actions.iter().find_map(|action| match action {
                Action::Push(id) => Some(*id),
                _ => None,
            });
            let trunks: Vec<u16> = bridge.trunks().collect();
            // Without a wire nothing tells which network it is.
            let dom0s = bridge.dom0s(tag).map(|(port, _)| port).filter(|_| !trunks.is_empty());
            let heard = |port| actions.contains(&Action::Output(port));
            trunks.iter().copied().chain(dom0s).all(heard).then_some(Lead::Copies { tag, number: number? })
        }
        _ => None,
    }
}

/// A line of a dump: a flow, and its bytes. `None`: it is none, or of a form that none of ours has.
fn dumped(line: &str) -> Option<(Flow, usize)> {
    let (head, does) = line.split_once("actions=")?;
    let (mut cookie, mut table, mut priority) = (0, 0, 32_768);
    let mut matched = Vec::new();
    for field in head.split([',', ' ']).filter(|field| !field.is_empty()) {
        match field.split_once('=') {
            Some(("cookie", text)) => cookie = u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()?,
            Some(("table", text)) => table = text.parse().ok()?,
            Some(("priority", text)) => priority = text.parse().ok()?,
            Some((statistic, _)) if STATISTICS.contains(&statistic) => {}
            None if FLAGS.contains(&field) => {}
            _ => matched.push(field),
        }
    }
    let matches = Match::parse(matched.into_iter()).ok()?;
    // What an older layout's flows do need not be known.
    let actions = match table {
        HOOK | OUTPUT | TRACK_TO | DELIVER | MANY | REST | REST_OUTPUT | WIRE => {
            actions::parse(does.trim_ascii()).unwrap_or_else(|_| vec![Action::Normal])
        }
        _ => Vec::new(),
    };
    Some((Flow { table, priority, matches, actions, cookie }, line.len() + 1))
}
