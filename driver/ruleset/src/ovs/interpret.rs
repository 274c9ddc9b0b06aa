//! What the flows that were read back do with a packet, by Open vSwitch's own semantics.
//!
//! This works on [`Observed`], that is on text from `dump-flows`, and knows nothing of how flows are compiled.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::flow::{Action, CtState, Destination, Ether, Flow, Match, OfPort, Register, Vlan, Zone};
use super::parse::Observed;
use super::table;
use crate::ids::Mac;
use crate::iptables::MARK_MASK;
use crate::packet::{Packet, Payload, Transport, icmpv6};

/// A packet as the switch receives it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The packet.
    pub packet: &'a Packet,
    /// Where it comes in.
    pub in_port: OfPort,
    /// Its VLAN header.
    pub vlan: Option<u16>,
    /// What connection tracking will say of it.
    pub state: CtState,
    /// Its connection's mark.
    pub mark: u32,
}

/// Where a packet went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The copies sent: port and VLAN header.
    pub outputs: Vec<(OfPort, Option<u16>)>,
    /// Whether it was left to the switch's own way: by no flow of ours, or by `NORMAL`.
    pub normal: bool,
    /// The mark its connection has now, if one was remembered.
    pub commit: Option<u32>,
    /// The conntrack zone it was looked up in.
    pub zone: Option<u32>,
}

/// Why no answer can be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum InterpretError {
    #[error("more than {0} resubmits: the switch would drop the packet")]
    Resubmits(usize),
    #[error("resubmits more than {0} deep: the switch would drop the packet")]
    Depth(usize),
}

/// `MAX_RESUBMITS` of ofproto-dpif-xlate.c.
const MOST_RESUBMITS: usize = 4096;

/// `MAX_RESUBMIT_RECURSION` of OVS 2.5 to 3.x.
const MOST_DEPTH: usize = 64;

/// The flows of a bridge, by table and falling priority.
#[derive(Debug)]
pub struct Tables<'a>(BTreeMap<u8, Vec<&'a Flow>>);

impl<'a> Tables<'a> {
    /// Sorts them.
    #[must_use]
    pub fn new(observed: &'a Observed) -> Self {
        let mut tables: BTreeMap<u8, Vec<&Flow>> = BTreeMap::new();
        for observed in &observed.flows {
            tables.entry(observed.flow.key.table).or_default().push(&observed.flow);
        }
        for flows in tables.values_mut() {
            flows.sort_by_key(|flow| std::cmp::Reverse(flow.key.priority));
        }
        Self(tables)
    }

    /// A packet's way from table 0.
    ///
    /// # Errors
    /// [`InterpretError`]
    pub fn send(&self, arrival: Arrival<'_>) -> Result<Outcome, InterpretError> {
        self.trace(arrival).map(|(outcome, _)| outcome)
    }

    /// The same, with the flows that matched, in order.
    ///
    /// # Errors
    /// [`InterpretError`]
    pub fn trace(&self, arrival: Arrival<'_>) -> Result<(Outcome, Vec<&'a Flow>), InterpretError> {
        let mut walk = Walk {
            tables: self,
            arrival,
            vlan: arrival.vlan,
            registers: [0; 16],
            tracked: None,
            outcome: Outcome::default(),
            steps: Vec::new(),
            resubmits: 0,
            depth: 0,
        };
        if !walk.table(table::HOOK)? {
            walk.outcome.normal = true;
        }
        Ok((walk.outcome, walk.steps))
    }
}

struct Walk<'a, 't, 'p> {
    tables: &'t Tables<'a>,
    arrival: Arrival<'p>,
    vlan: Option<u16>,
    registers: [u32; 16],
    /// State and mark, after connection tracking.
    tracked: Option<(CtState, u32)>,
    outcome: Outcome,
    steps: Vec<&'a Flow>,
    resubmits: usize,
    depth: usize,
}

impl<'a> Walk<'a, '_, '_> {
    /// Whether a flow matched.
    fn table(&mut self, table: u8) -> Result<bool, InterpretError> {
        self.resubmits += 1;
        if self.resubmits > MOST_RESUBMITS {
            return Err(InterpretError::Resubmits(MOST_RESUBMITS));
        }
        let Some(flow) = self.lookup(table) else { return Ok(false) };
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(InterpretError::Depth(MOST_DEPTH));
        }
        self.steps.push(flow);
        for action in &flow.actions {
            self.act(action)?;
        }
        self.depth -= 1;
        Ok(true)
    }

    fn act(&mut self, action: &Action) -> Result<(), InterpretError> {
        match action {
            Action::Output(port) if *port == self.arrival.in_port => {}
            Action::Output(port) => self.outcome.outputs.push((*port, self.vlan)),
            Action::Normal => self.outcome.normal = true,
            Action::Resubmit(table) => {
                self.table(*table)?;
            }
            Action::Load(register, value) => self.registers[usize::from(*register)] = *value,
            Action::Track { zone, next } => {
                // The table gets a copy that is tracked; the rest of the list goes on with the packet, untracked.
                let before = (self.registers, None, self.vlan);
                self.outcome.zone = Some(match zone {
                    Zone::Is(number) => number.get().into(),
                    Zone::InRegister => self.register(table::NETWORK) & 0xffff,
                });
                let state = CtState::TRK.and(self.arrival.state);
                self.tracked = Some((state, self.arrival.mark));
                self.table(*next)?;
                (self.registers, self.tracked, self.vlan) = before;
            }
            Action::Commit { mark, .. } => {
                self.outcome.commit = Some((self.arrival.mark & !MARK_MASK) | mark);
                // As of OVS 2.8; before, the state stayed.
                self.tracked = None;
            }
            Action::Conjunction { .. } => {}
            Action::PopVlan => self.vlan = None,
            Action::PushVlan(id) => self.vlan = Some(*id),
        }
        Ok(())
    }

    fn register(&self, register: Register) -> u32 {
        self.registers[usize::from(register)]
    }

    /// The classifier (lib/classifier.c): a conjunction above the best ordinary flow, whose dimensions are all met, looks
    /// the packet up again with its id.
    fn lookup(&self, table: u8) -> Option<&'a Flow> {
        let flows = self.tables.0.get(&table)?;
        let hard = self.ordinary(flows, None);
        let floor = hard.map(|flow| flow.key.priority);
        let mut met: BTreeMap<(std::cmp::Reverse<u16>, u32), u8> = BTreeMap::new();
        for flow in flows.iter().take_while(|flow| floor.is_none_or(|floor| flow.key.priority > floor)) {
            if is_soft(flow) && self.matches(&flow.key.matches, None) {
                // One flow counts for one dimension of a conjunction.
                let ids: BTreeMap<u32, u8> = flow.actions.iter().filter_map(dimension).collect();
                for (id, dimension) in ids {
                    *met.entry((std::cmp::Reverse(flow.key.priority), id)).or_default() |= dimension;
                }
            }
        }
        let complete = met.into_iter().filter(|(_, dimensions)| *dimensions == 3);
        complete.map(|((_, id), _)| id).find_map(|id| self.ordinary(flows, Some(id))).or(hard)
    }

    fn ordinary(&self, flows: &[&'a Flow], conj_id: Option<u32>) -> Option<&'a Flow> {
        flows.iter().find(|flow| !is_soft(flow) && self.matches(&flow.key.matches, conj_id)).copied()
    }

    fn matches(&self, wanted: &Match, conj_id: Option<u32>) -> bool {
        let packet = self.arrival.packet;
        let headers = Headers::of(packet);
        let (state, mark) = self.tracked.unwrap_or_default();
        let is = |wanted: Option<u8>, found: Option<u8>| wanted.is_none() || wanted == found;
        let inside = |wanted: Option<IpNet>, found: Option<IpAddr>| {
            wanted.is_none_or(|net| found.is_some_and(|address| net.contains(&address)))
        };
        let linked = |wanted: Option<Mac>, kind: u8| {
            // The packets of this crate carry no ND options.
            wanted.is_none_or(|mac| headers.icmp.is_some_and(|(k, _)| k == kind) && mac == Mac([0; 6]))
        };
        wanted.in_port.is_none_or(|port| port == self.arrival.in_port)
            && wanted.vlan.is_none_or(|vlan| match vlan {
                Vlan::None => self.vlan.is_none(),
                Vlan::Id(id) => self.vlan == Some(id),
            })
            && wanted.registers.iter().all(|(register, value)| self.register(*register) == *value)
            && wanted.conj_id.is_none_or(|id| conj_id == Some(id))
            && state.0 & wanted.ct_state.set.0 == wanted.ct_state.set.0
            && state.0 & wanted.ct_state.clear.0 == 0
            && wanted.ct_mark.is_none_or(|(value, mask)| mark & mask == value)
            && wanted.dl_src.is_none_or(|mac| mac == packet.source)
            && wanted.dl_dst.is_none_or(|destination| match destination {
                Destination::Exactly(mac) => mac == packet.destination,
                Destination::Many => packet.is_for_many(),
            })
            && wanted.ether.is_none_or(|ether| headers.ether == Some(ether))
            && is(wanted.nw_proto, headers.protocol)
            && inside(wanted.source, headers.source)
            && inside(wanted.destination, headers.destination)
            && (!wanted.later_fragment || headers.later_fragment)
            && wanted.tp_src.is_none_or(|m| headers.ports.is_some_and(|(source, _)| m.contains(source)))
            && wanted.tp_dst.is_none_or(|m| headers.ports.is_some_and(|(_, dest)| m.contains(dest)))
            // The packets of this crate carry no flags; what begins a connection has none of this kind.
            && (!wanted.tcp_ack || self.arrival.state.0 & CtState::NEW.0 == 0)
            && is(wanted.icmp_type, headers.icmp.map(|(kind, _)| kind))
            && is(wanted.icmp_code, headers.icmp.map(|(_, code)| code))
            && wanted.arp_sha.is_none_or(|mac| headers.arp_sha == Some(mac))
            && wanted.nd_target.is_none_or(|net| headers.target.is_some_and(|t| net.contains(&t)))
            && linked(wanted.nd_sll, icmpv6::NEIGHBOR_SOLICITATION)
            && linked(wanted.nd_tll, icmpv6::NEIGHBOR_ADVERTISEMENT)
    }
}

fn dimension(action: &Action) -> Option<(u32, u8)> {
    match action {
        Action::Conjunction { id, dimension } => Some((*id, *dimension)),
        _ => None,
    }
}

fn is_soft(flow: &Flow) -> bool {
    matches!(flow.actions.first(), Some(Action::Conjunction { .. }))
}

/// What a flow can see of a packet.
#[derive(Default)]
struct Headers {
    ether: Option<Ether>,
    protocol: Option<u8>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    later_fragment: bool,
    ports: Option<(u16, u16)>,
    icmp: Option<(u8, u8)>,
    arp_sha: Option<Mac>,
    target: Option<Ipv6Addr>,
}

impl Headers {
    fn of(packet: &Packet) -> Self {
        let mut headers = Self::default();
        let (ether, transport) = match &packet.payload {
            Payload::Arp(arp) => {
                headers.source = Some(arp.sender.into());
                headers.destination = Some(arp.target.into());
                headers.arp_sha = Some(arp.sender_mac);
                (Ether::Arp, None)
            }
            Payload::Ipv4(ip) => (Ether::Ipv4, Some(&ip.transport)),
            Payload::Ipv6(ip) => (Ether::Ipv6, Some(&ip.transport)),
            Payload::Other(_) => return headers,
        };
        headers.ether = Some(ether);
        if let Some((source, destination)) = packet.addresses() {
            headers.source = Some(source);
            headers.destination = Some(destination);
        }
        headers.protocol = packet.protocol().map(|protocol| protocol.0);
        match transport {
            // OpenFlow has the ports of these only.
            Some(Transport::Ports { protocol, source, destination })
                if matches!(protocol.0, 6 | 17 | 132) =>
            {
                headers.ports = Some((*source, *destination));
            }
            Some(Transport::Icmp { kind, code, target }) => {
                headers.icmp = Some((*kind, *code));
                // lib/flow.c looks for it only where the code is 0.
                headers.target = target.filter(|_| *code == 0);
            }
            Some(Transport::Fragment(_)) => {
                headers.later_fragment = true;
            }
            Some(Transport::Ports { .. } | Transport::Other(_)) | None => {}
        }
        headers
    }
}

#[cfg(test)]
mod tests;
