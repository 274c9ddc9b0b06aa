//! Connection tracking, as much of it as the chains ask for: entries per zone, replies, errors about a connection, and a
//! mark that lives as long as its entry.

use std::collections::HashMap;
use std::net::IpAddr;

use ruleset::iptables::interpret::{Conntrack, Fate, Transit, traverse};
use ruleset::iptables::{CtDirection, CtStates, Observed, Table};
use ruleset::packet::{Packet, Transport};

use crate::generate::Way;

type Tuple = (IpAddr, IpAddr, u8, u16, u16);

#[derive(Clone, Copy, Default)]
struct Entry {
    mark: u32,
    answered: bool,
}

/// Every connection of one host, by zone and original direction.
#[derive(Default)]
pub(crate) struct Tracker {
    entries: HashMap<(u16, Tuple), Entry>,
}

fn tuple(packet: &Packet) -> Tuple {
    let (source, destination) = packet.addresses().unwrap();
    let (from, to) = match packet.transport() {
        Some(Transport::Ports { source, destination, .. }) => (*source, *destination),
        _ => (0, 0),
    };
    (source, destination, packet.protocol().unwrap().0, from, to)
}

fn reverse((source, destination, protocol, from, to): Tuple) -> Tuple {
    (destination, source, protocol, to, from)
}

impl Tracker {
    /// One packet through `PREROUTING` and `FORWARD`. An ICMP error comes with a packet of the connection it is
    /// about, in the direction in which that was sent.
    pub(crate) fn pass(
        &mut self,
        observed: &Observed,
        way: &Way,
        packet: &Packet,
        about: Option<&Packet>,
    ) -> bool {
        let none = Conntrack::None(CtStates::INVALID);
        let mut transit = Transit {
            packet,
            bridge: &way.bridge,
            input: &way.input,
            output: None,
            for_dom0: false,
            conntrack: none,
        };
        let zone = traverse(observed, Table::Raw, &transit).unwrap().zone.unwrap_or(0);
        transit.output = Some(&way.output);
        let (original, reply) = (tuple(about.unwrap_or(packet)), reverse(tuple(about.unwrap_or(packet))));
        let (key, direction) = if self.entries.contains_key(&(zone, reply)) {
            ((zone, reply), CtDirection::Reply)
        } else {
            ((zone, original), CtDirection::Original)
        };
        let known = self.entries.get(&key).copied();
        let mut entry = known.unwrap_or_default();
        let state = match (about, known, direction) {
            (Some(_), None, _) => return self.filter(observed, &transit, none).0,
            // An error travels against the packet it is about.
            (Some(_), Some(_), _) => CtStates::RELATED,
            (None, _, CtDirection::Reply) => {
                // Seen is seen, whatever the chains then say.
                entry.answered = true;
                self.entries.insert(key, entry);
                CtStates::ESTABLISHED
            }
            (None, _, CtDirection::Original) if entry.answered => CtStates::ESTABLISHED,
            (None, _, CtDirection::Original) => CtStates::NEW,
        };
        let direction = match (about, direction) {
            (Some(_), CtDirection::Original) => CtDirection::Reply,
            (Some(_), CtDirection::Reply) => CtDirection::Original,
            (None, direction) => direction,
        };
        let (passed, mark) =
            self.filter(observed, &transit, Conntrack::Some { state, direction, mark: entry.mark });
        entry.mark = mark.unwrap();
        // A connection whose first packet is dropped is forgotten.
        if known.is_some() || passed {
            self.entries.insert(key, entry);
        }
        passed
    }

    fn filter(
        &self,
        observed: &Observed,
        transit: &Transit<'_>,
        conntrack: Conntrack,
    ) -> (bool, Option<u32>) {
        let transit = Transit { conntrack, ..*transit };
        let outcome = traverse(observed, Table::Filter, &transit).unwrap();
        assert_ne!(outcome.fate, Fate::NotDecided, "dom0's own REJECT is asked about a guest's packet");
        (outcome.fate == Fate::Accepted, outcome.mark)
    }
}
