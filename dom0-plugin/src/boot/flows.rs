//! Closed flows: what `boot` puts on guarded networks of an Open vSwitch that has none of the driver's.
//!
//! What dom0 and the wire say to each other on a guarded network is copied from one to the other, and comes by no guest;
//! what a guest there says is dropped. Where every network of a bridge is guarded, whoever is not known says nothing.
//! The flows stand below all that the driver writes, who removes them with its first write: their cookie is not its.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use drawbridge_wire::{Family, Function, flow};

use crate::authorise::{Plan, authorise, look_at_switch, write_own};
use crate::guarded::flows::lifelines::Lifeline;
use crate::guarded::flows::{Network, markers, names};
use crate::guarded::{Bridges, is_named};
use crate::perform::Performer;
use crate::switch::{Kind, Port, Switch, Tag};
use crate::{Code, Result, lock};

/// Of closed flows. The driver's have another lower half.
const COOKIE: u64 = flow::COOKIE;

/// Whatever the bridge speaks.
const VERSIONS: &str = "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14";

/// A frame without a VLAN header.
const UNTAGGED: &str = "vlan_tci=0x0000/0x1fff";

/// To many.
const MANY: &str = "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00";

/// Between two attempts at a switch that is about to start.
const STEP: Duration = Duration::from_millis(2);

/// Priorities in table 0, below all of the driver's but its last, which is the same.
mod priority {
    /// Between XAPI and the driver's own VM.
    pub(super) const LIFELINE: u16 = 45_040;
    /// Between dom0 and the wire, on a guarded network.
    pub(super) const WIRE: u16 = 45_030;
    /// With a guarded VLAN's header, from anybody else.
    pub(super) const TAGGED: u16 = 45_020;
    /// From a guest on a guarded network.
    pub(super) const GUEST: u16 = 45_010;
    /// Where every network is guarded: between dom0 and the wire, with a header of no network.
    pub(super) const OTHER: u16 = 45_005;
    /// There: from anybody else.
    pub(super) const STRANGER: u16 = 45_000;
}

/// Whether to wait for a switch that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// There may be none on this host.
    None,
    /// Something of it has just changed.
    Some,
}

/// The guarded networks, by their two kinds of records.
pub(super) struct Guarded {
    /// What passes there all the same.
    pub(super) lifelines: BTreeSet<Lifeline>,
    /// By flows.
    pub(super) networks: BTreeSet<Network>,
    /// By chains.
    pub(super) bridges: Bridges,
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// XAPI's names of all networks that the switch has.
    pub(super) present: Bridges,
    /// The networks that were closed: `xenbr0`, `xenbr0/100`.
    pub(super) closed: Bridges,
}

/// Closes what is guarded and has no flows of the driver's. Whatever changes meanwhile is seen.
///
/// # Errors
/// A bridge of the switch could not be closed within the time that a program may run.
pub(super) fn close(guarded: &Guarded, patience: Patience, run: &Performer<'_>) -> Result<Closed> {
    let deadline = Instant::now() + run.config.program;
    let mut before = None;
    loop {
        let mut done = Closed::default();
        let switch = look(run)?;
        let mut failure = None;
        for (bridge, tags) in switch.iter().flat_map(|switch| guarded.on(switch)) {
            let lifelines = guarded.lifelines.iter().filter(|line| line.bridge == bridge).collect();
            match Bridge::new(bridge, &tags, lifelines, switch.as_ref()).close(run) {
                Ok(true) => done.closed.extend(tags.iter().map(|tag| place(bridge, *tag))),
                Ok(false) => {}
                Err(refusal) => failure = Some(refusal),
            }
        }
        let late = Instant::now() >= deadline;
        match (switch, failure) {
            (None, _) if patience == Patience::None || late => return Ok(done),
            (_, Some(refusal)) if late => return Err(refusal),
            (Some(switch), None) => {
                done.present = switch.networks.keys().cloned().collect();
                if late || before.as_ref() == Some(&switch) {
                    return Ok(done);
                }
                before = Some(switch);
            }
            _ => thread::sleep(STEP),
        }
    }
}

/// The switch as it is; `None` if none answers, or there is none on this host.
pub(super) fn look(run: &Performer<'_>) -> Result<Option<Switch>> {
    match run.run(&look_at_switch()) {
        Ok(said) if said.exit_code == 0 => Switch::parse(&said.stdout).map(Some),
        Ok(_) => Ok(None),
        Err(refusal) if refusal.code == Code::ProgramMissing => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn place(bridge: &str, tag: Tag) -> String {
    tag.map_or_else(|| bridge.to_owned(), |tag| format!("{bridge}/{tag}"))
}

impl Guarded {
    /// XAPI's names for them, as a host with Linux bridges knows them.
    pub(super) fn names(&self) -> Bridges {
        self.bridges.union(&names(&self.networks)).cloned().collect()
    }

    /// The guarded networks of each bridge that has some.
    fn on<'a>(&self, switch: &'a Switch) -> BTreeMap<&'a str, BTreeSet<Tag>> {
        let mut found: BTreeMap<&str, BTreeSet<Tag>> = BTreeMap::new();
        for bridge in switch.bridges.keys() {
            let by_flows = self.networks.iter().filter(|network| network.bridge == *bridge);
            let by_flows = by_flows.map(|network| network.tag);
            let by_name = switch
                .networks_of(bridge)
                .filter(|(name, _)| self.names().iter().any(|pattern| is_named(name, pattern)));
            let tags: BTreeSet<Tag> = by_flows.chain(by_name.map(|(_, tag)| tag)).collect();
            if !tags.is_empty() {
                found.insert(bridge, tags);
            }
        }
        found
    }
}

/// A bridge that is to be closed.
struct Bridge<'a> {
    name: &'a str,
    guarded: &'a BTreeSet<Tag>,
    lifelines: Vec<&'a Lifeline>,
    /// Every network of it is guarded.
    all: bool,
    ports: &'a [Port],
    /// Its wires share a port: only the switch itself can choose one.
    bonded: bool,
}

impl<'a> Bridge<'a> {
    fn new(
        name: &'a str,
        guarded: &'a BTreeSet<Tag>,
        lifelines: Vec<&'a Lifeline>,
        switch: Option<&'a Switch>,
    ) -> Self {
        let ports = switch.and_then(|switch| switch.bridges.get(name)).map_or(&[][..], Vec::as_slice);
        let all =
            switch.is_some_and(|switch| switch.networks_of(name).all(|(_, tag)| guarded.contains(&tag)));
        let bonded = ports.iter().any(|port| port.kind == Kind::Wire { bonded: true });
        Self { name, guarded, lifelines, all, ports, bonded }
    }

    /// Whether anything was to be closed. If the driver has been here since the switch started, nothing is.
    fn close(&self, run: &Performer<'_>) -> Result<bool> {
        // Not while the driver writes; and let go of whenever there is something to wait for.
        let lock = lock::acquire(&run.paths.in_state("lock"), run.config.lock)?;
        let run = &Performer { lock: Some(&lock), ..*run };
        let any = format!("cookie={COOKIE:#x}/{:#x},table={}", flow::COOKIE_MASK, flow::GUARDED);
        let ours = format!("cookie={COOKIE:#x},");
        if markers(&self.dump(&any, run)?).any(|line| !line.starts_with(&ours)) {
            return Ok(false);
        }
        let add = |flows: &[String]| flows.iter().map(|flow| format!("add {flow}\n")).collect();
        let mut flows = self.flows();
        if let Err(refusal) = self.change(add(&flows), run) {
            if self.lifelines.is_empty() {
                return Err(refusal);
            }
            // A switch that does not understand the exceptions is closed without them.
            flows = Self { lifelines: Vec::new(), ..*self }.flows();
            self.change(add(&flows), run)?;
        }
        // Those of an earlier run: ports may have gone, networks come.
        let standing = self.dump(&format!("cookie={COOKIE:#x}/-1"), run)?;
        let stale = |key: &String| {
            !flows.iter().any(|flow| *flow.split(",actions=").next().unwrap_or_default() == **key)
        };
        let text: String = standing
            .lines()
            .filter_map(key)
            .filter(stale)
            .map(|key| format!("delete_strict {}\n", key.replacen(',', "/-1,", 1)))
            .collect();
        if !text.is_empty() {
            self.change(text, run)?;
        }
        Ok(true)
    }

    fn dump(&self, filter: &str, run: &Performer<'_>) -> Result<String> {
        let args = ["-O", VERSIONS, "dump-flows", self.name, filter].map(str::to_owned);
        match authorise(Function::OvsOfctl, Family::Ipv4, &args, None)? {
            Plan::DumpFlows(plan) => run.success(plan.run()),
            _ => Err(Code::Internal.into()),
        }
    }

    fn change(&self, text: String, run: &Performer<'_>) -> Result<()> {
        run.success(&write_own(VERSIONS, self.name, text)?).map(drop)
    }

    /// What may speak comes first, so that dom0 is never cut off.
    fn flows(&self) -> Vec<String> {
        let mut flows = Vec::new();
        let mut add = |table: u8, priority: u16, matches: &str, actions: &str| {
            flows.push(format!(
                "cookie={COOKIE:#x},table={table},priority={priority}{matches},actions={actions}"
            ));
        };
        let trunks = self.trunks();
        for tag in self.guarded {
            let access = self.access(*tag);
            let push = tag.map(|tag| format!("push_vlan:0x8100,set_field:{}->vlan_vid", 0x1000 | tag));
            for port in &access {
                let actions = self.to(port, &access, push.as_deref(), &trunks);
                add(0, priority::WIRE, &format!(",in_port={port},{UNTAGGED}"), &actions);
            }
            let headers = match tag {
                Some(tag) => vec![(format!("dl_vlan={tag}"), Some("pop_vlan"))],
                None => vec![(UNTAGGED.to_owned(), None), ("dl_vlan=0".to_owned(), Some("pop_vlan"))],
            };
            for trunk in &trunks {
                for (header, pop) in &headers {
                    let actions = self.to(trunk, &trunks, *pop, &access);
                    add(0, priority::WIRE, &format!(",in_port={trunk},{header}"), &actions);
                }
            }
        }
        if self.all {
            let others = [trunks, self.access(None)].concat();
            for port in &others {
                add(0, priority::OTHER, &format!(",in_port={port}"), &self.to(port, &others, None, &[]));
            }
        }
        for tag in self.guarded {
            if let Some(tag) = tag {
                add(0, priority::TAGGED, &format!(",dl_vlan={tag}"), "drop");
            }
            for guest in self.ports.iter().filter(|port| port.kind == Kind::Guest && port.tag == *tag) {
                add(0, priority::GUEST, &format!(",in_port={}", guest.ofport), "drop");
            }
        }
        if self.all {
            add(0, priority::STRANGER, "", "drop");
        }
        for tag in self.guarded {
            let header = tag.map_or_else(|| UNTAGGED.to_owned(), |tag| format!("dl_vlan={tag}"));
            add(flow::GUARDED, 1, &format!(",{header}"), "drop");
        }
        for passes in self.lifelines.iter().flat_map(|line| self.lifeline(line)).collect::<BTreeSet<_>>() {
            add(0, priority::LIFELINE, &passes, "NORMAL");
        }
        flows
    }

    /// What passes between the driver's own VM and XAPI, as the switch shows it: calls, answers (they acknowledge something), and
    /// what it needs for that. The driver's flows do the same (`ruleset`, `ovs/compile/lifeline.rs`).
    fn lifeline(&self, line: &Lifeline) -> Vec<String> {
        let Lifeline { tag, mac, host, .. } = line;
        if !self.guarded.contains(tag) {
            return Vec::new();
        }
        let (from, to) = (format!("dl_src={mac}"), format!("dl_dst={mac}"));
        let header = tag.map_or_else(|| UNTAGGED.to_owned(), |tag| format!("dl_vlan={tag}"));
        let access = self.access(*tag).into_iter().map(|port| format!("in_port={port},{UNTAGGED}"));
        let trunks = self.trunks().into_iter().map(|port| format!("in_port={port},{header}"));
        let known: Vec<String> = access.chain(trunks).collect();
        // Where others than guarded networks are, whoever is not known may speak anyway.
        let guests = self.ports.iter().filter(|port| port.kind == Kind::Guest && port.tag == *tag);
        let guests = guests.map(|port| format!("in_port={},{UNTAGGED}", port.ofport));
        let speakers = if self.all { vec![UNTAGGED.to_owned()] } else { guests.collect() };
        // The protocol stands first, and the VLAN header after the port.
        let mut passes = Vec::new();
        for speaker in speakers {
            match host {
                IpAddr::V4(_) => passes.extend([
                    format!("arp,{speaker},{from},arp_sha={mac}"),
                    format!("udp,{speaker},{from},tp_src=68,tp_dst=67"),
                    format!("tcp,{speaker},{from},nw_dst={host},tp_dst=443"),
                ]),
                IpAddr::V6(_) => {
                    let needs = [131, 132, 133, 135, 136, 143];
                    passes.extend(needs.map(|kind| format!("icmp6,{speaker},{from},icmp_type={kind}")));
                    passes.push(format!("udp6,{speaker},{from},tp_src=546,tp_dst=547"));
                    passes.push(format!("tcp6,{speaker},{from},ipv6_dst={host},tp_dst=443"));
                }
            }
        }
        for known in known {
            match host {
                IpAddr::V4(_) => passes.extend([
                    format!("arp,{known},{to}"),
                    format!("arp,{known},{MANY}"),
                    format!("udp,{known},{to},tp_src=67,tp_dst=68"),
                    format!("tcp,{known},{to},nw_src={host},tp_src=443,tcp_flags=+ack"),
                ]),
                IpAddr::V6(_) => {
                    for to in [to.as_str(), MANY] {
                        passes.extend(
                            [130, 134].map(|kind| {
                                format!("icmp6,{known},{to},ipv6_src=fe80::/10,icmp_type={kind}")
                            }),
                        );
                        passes.extend([135, 136].map(|kind| format!("icmp6,{known},{to},icmp_type={kind}")));
                    }
                    passes.push(format!("udp6,{known},{to},ipv6_src=fe80::/10,tp_src=547,tp_dst=546"));
                    passes.push(format!("tcp6,{known},{to},ipv6_src={host},tp_src=443,tcp_flags=+ack"));
                }
            }
        }
        passes.into_iter().map(|matched| format!(",{matched}")).collect()
    }

    /// Actions that copy what one port says to the others of its kind and then, with another header, to those of the
    /// other kind.
    fn to(&self, from: &str, alike: &[&str], header: Option<&str>, unlike: &[&str]) -> String {
        if self.bonded {
            return "NORMAL".to_owned();
        }
        let copy = |port: &&str| match *port {
            "LOCAL" => "LOCAL".to_owned(),
            port => format!("output:{port}"),
        };
        let mut actions: Vec<String> = alike.iter().filter(|port| **port != from).map(copy).collect();
        if !unlike.is_empty() {
            actions.extend(header.map(str::to_owned));
            actions.extend(unlike.iter().map(copy));
        }
        if actions.is_empty() { "drop".to_owned() } else { actions.join(",") }
    }

    /// Wires that carry the headers of VLANs.
    fn trunks(&self) -> Vec<&'a str> {
        self.others().filter(|port| is_trunk(port)).map(|port| port.ofport.as_str()).collect()
    }

    /// Ports of one network on which its packets have no header.
    fn access(&self, tag: Tag) -> Vec<&'a str> {
        self.others()
            .filter(|port| port.tag == tag && !is_trunk(port))
            .map(|port| port.ofport.as_str())
            .collect()
    }

    fn others(&self) -> impl Iterator<Item = &'a Port> {
        self.ports.iter().filter(|port| port.kind != Kind::Guest)
    }
}

/// What a line of a dump is called in input: `cookie=…,table=…,priority=…`. `None` for lines that are no flow.
fn key(line: &str) -> Option<String> {
    let (flow, _) = line.trim_ascii().split_once(" actions=")?;
    let mut words = flow.split(' ');
    let cookie = words.next()?;
    let table = words.find(|word| word.starts_with("table="))?;
    // OpenFlow 1.0 shows its own wildcards.
    let matches =
        words.next_back()?.replace("vlan_tci=0x0000", UNTAGGED).replace("/0x1fff/0x1fff", "/0x1fff");
    Some(format!("{cookie}{table}{matches}"))
}

fn is_trunk(port: &Port) -> bool {
    matches!(port.kind, Kind::Wire { .. }) && port.tag.is_none()
}

#[cfg(test)]
mod tests;
