//! What enforces agrees: random policies applied to real hosts, random frames sent by guests and by stations outside, and
//! what arrives compared with the reference verdict (`ruleset::verdict`).
//!
//! Of what docs/security.md says a back end cannot hold, nothing is asked.

mod place;
mod policy;
mod random;
mod traffic;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drawbridge::desired::desired;
use drawbridge::intake::inventory::Inventory;
use drawbridge::intake::policy_file::PolicyFile;
use drawbridge::run::Pool;
use e2e::frame::{arp_request, ether_type};
use e2e::lab::{Backend, Lab, ipv4};
use ruleset::model::{Direction, Family, Protocol};
use ruleset::packet::{Packet, Payload, Transport};
use ruleset::resolve::HostPolicy;
use ruleset::verdict::{Connection, Passage};

use crate::on_each;
use place::{Site, Step};
use random::Random;
use traffic::{Draft, first};
use wire::Shape;

/// Each makes a policy and the packets sent under it.
const SEEDS: std::ops::Range<u64> = 0..if cfg!(feature = "soak") { 150 } else { 16 };
/// Packets that begin something, by policy.
const PACKETS: usize = 260;
/// So many are sent before what arrived is taken off the links.
const AT_ONCE: usize = 20;
/// How long a frame that should arrive may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long one that should not is waited for.
const SILENCE: Duration = Duration::from_millis(60);

/// What every back end must have seen, or the packets are not what they were made to be.
const REASONS: [&str; 19] = [
    "deny H1",
    "deny E1.1",
    "deny E1.2",
    "deny E1.3",
    "deny E1.4",
    "deny E1.5",
    "deny E1.6",
    "deny E3",
    "deny E5",
    "deny E7",
    "deny I2",
    "deny I4",
    "deny I6",
    "allow H2",
    "allow E2",
    "allow E4",
    "allow E6",
    "allow I1",
    "allow I5",
];

on_each! {
    /// Spoofed and honest; ARP, ND, RA, DHCP, fragments, damaged and odd protocols; first packets, replies and errors.
    fn the_kernel_agrees_with_the_verdict(backend) {
        let lab = place::pool(backend).start()?;
        let places = place::places(&lab)?;
        let mut tally = Tally::default();
        let mut used = HashSet::new();
        let mut base = 0;
        for seed in SEEDS {
            let mut r = Random(seed);
            let text = policy::text(&mut r);
            let hosts = apply(&lab, backend, &text).with_context(|| format!("policy of seed {seed}:\n{text}"))?;
            let site = Site { backend, places: &places, hosts: &hosts };
            let mut replay = Replay { site, tally: &mut tally, sent: Vec::new(), seen: HashSet::new(), base };
            replay.learn()?;
            replay.batch(&mut r, &mut used)?;
            replay.judge(seed, &text);
            base += replay.sent.len();
        }
        tally.check();
    }
}

/// Writes the policy to the hosts, and answers what each of them is to enforce.
fn apply(lab: &Lab, backend: Backend, text: &str) -> Result<BTreeMap<String, HostPolicy>> {
    lab.set_policy(text)?;
    lab.apply()?.success()?;
    if backend == Backend::OpenVSwitch {
        ["host1", "host2"].into_iter().try_for_each(|host| lab.forget_cached_flows(host))?;
    }
    let file = PolicyFile::parse(Path::new("policy.toml"), text)?;
    let pool = Pool::open(&lab.config_path())?;
    let inventory = lab.block_on(Inventory::read(&pool.client))?;
    lab.block_on(pool.close());
    let wanted = desired(&file, &inventory, &BTreeSet::new())?;
    ensure!(wanted.problems.is_empty(), "{:?}", wanted.problems);
    let named = wanted.hosts.into_iter().map(|(reference, share)| {
        let host = inventory.hosts.get(&reference).context("a host that XAPI does not know")?;
        Ok((host.name_label.clone(), share.policy))
    });
    named.collect()
}

/// A packet that was sent, and who should see it.
struct Sent {
    draft: Draft,
    frames: Vec<Vec<u8>>,
    /// By index of the place: whether it should arrive, and why.
    expected: BTreeMap<usize, (bool, String)>,
}

/// The packets under one policy.
struct Replay<'a> {
    /// The first packet's number. No two of the run are the same: hosts keep a lone fragment for half a minute, and
    /// would take one of a later packet for its other half.
    base: usize,
    site: Site<'a>,
    tally: &'a mut Tally,
    sent: Vec<Sent>,
    /// Packet and place.
    seen: HashSet<(usize, usize)>,
}

/// All policies together.
#[derive(Default)]
struct Tally {
    passed: usize,
    stopped: usize,
    reasons: BTreeMap<String, usize>,
}

/// What connection tracking knows a flow by, and on which network.
type Tuple = (u8, IpAddr, IpAddr, u8, u16, u16);

impl Replay<'_> {
    /// Every bridge learns where everybody lives: until it has, it floods.
    fn learn(&self) -> Result<()> {
        let places = self.site.places;
        let deadline = Instant::now() + PATIENCE;
        let mut missing: BTreeSet<(usize, usize)> = (0..places.len())
            .flat_map(|from| self.site.others(from).map(move |(to, _)| (from, to)))
            .filter(|(from, to)| ![from, to].into_iter().any(|at| self.site.is_off(&places[*at])))
            .collect();
        while !missing.is_empty() {
            ensure!(Instant::now() < deadline, "the bridges do not carry ARP: {missing:?}");
            for place in places {
                let own = (e2e::frame::Mac(place.mac().0), ipv4(place.network, place.number));
                place.tap.send(&arp_request(own, own.1))?;
            }
            std::thread::sleep(Duration::from_millis(10));
            for (to, place) in places.iter().enumerate() {
                for frame in place.tap.drain()? {
                    let from = e2e::frame::source(&frame.bytes)
                        .and_then(|mac| places.iter().position(|place| place.mac().0 == mac.0));
                    missing.remove(&(from.unwrap_or(to), to));
                }
            }
        }
        Ok(())
    }

    /// First packets, then answers to those that could be answered.
    fn batch(&mut self, r: &mut Random, used: &mut HashSet<Tuple>) -> Result<()> {
        let mut answerable = Vec::new();
        while self.sent.len() < PACKETS {
            let source_port = u16::try_from(20_000 + used.len())?;
            let draft = traffic::draft(r, &self.site, source_port);
            let network = self.site.places[draft.from].network;
            if let Some(tuple) = self.tuple(network, &draft.packet) {
                let (network, source, destination, protocol, from, to) = tuple;
                // It would answer an earlier packet of other ports than these, or belong to it.
                let again = used.contains(&tuple) && (from, to) == (0, 0);
                let answers = used.contains(&(network, destination, source, protocol, to, from));
                if source == destination || answers || again {
                    continue;
                }
                used.insert(tuple);
            }
            let state = first(&draft.packet, draft.shape, self.site.backend);
            if let Some(passed) = self.plan(draft, None, |_| state)? {
                answerable.push((self.sent.len() - 1, passed));
            }
        }
        self.send(0)?;
        let first_answer = self.sent.len();
        for (index, passed) in answerable {
            self.answer(r, index, &passed)?;
        }
        self.send(first_answer)
    }

    /// What connection tracking makes of a packet whose flow others may share; ICMP has numbers of its own.
    fn tuple(&self, network: u8, packet: &Packet) -> Option<Tuple> {
        let (source, destination) = packet.addresses()?;
        // Kernels that do not know DCCP's ports know it as a protocol without; a switch in user space all but these.
        let has_ports = |protocol| match self.site.backend {
            Backend::Nft | Backend::Legacy => protocol != Protocol::DCCP,
            Backend::OpenVSwitch => [Protocol::TCP, Protocol::UDP].contains(&protocol),
        };
        let (from, to) = match *packet.transport()? {
            Transport::Ports { protocol, source, destination } if has_ports(protocol) => {
                (source, destination)
            }
            Transport::Icmp { .. } | Transport::Fragment(_) => return None,
            Transport::Ports { .. } | Transport::Other(_) => (0, 0),
        };
        Some((network, source, destination, packet.protocol()?.0, from, to))
    }

    /// Takes a packet into the batch. Answers the hosts that let it pass, if it is for one receiver alone.
    fn plan(
        &mut self,
        draft: Draft,
        about: Option<&[u8]>,
        tracked: impl Fn(&str) -> Connection,
    ) -> Result<Option<(usize, BTreeSet<&'static str>)>> {
        let number = u32::try_from(self.base + self.sent.len())?;
        let frames = wire::frames(&draft.packet, number, draft.shape, about);
        let sender = &self.site.places[draft.from];
        let mut expected = BTreeMap::new();
        let receivers = self.site.receivers(draft.from, &draft.packet);
        let mut passed = BTreeSet::new();
        for (to, receiver) in &receivers {
            let steps = self.site.way(sender, receiver, &draft.packet, &tracked);
            if !self.site.is_enforceable(sender, receiver, &draft, &steps) {
                continue;
            }
            passed.extend(steps.iter().filter(|step| step.passage.passes()).map(|step| step.host));
            self.tally.count(&steps);
            let arrives = steps.iter().all(|step| step.passage.passes());
            expected.insert(*to, (arrives, words(&steps)));
        }
        let only = if let [(to, _)] = receivers[..] { Some(to) } else { None };
        self.sent.push(Sent { draft, frames, expected });
        Ok(only.map(|to| (to, passed)))
    }

    /// From the receiver of a datagram or an echo request: the reply, or an ICMP error about it. A host that let the
    /// first packet pass knows the connection, another does not.
    fn answer(
        &mut self,
        r: &mut Random,
        index: usize,
        (from, passed): &(usize, BTreeSet<&'static str>),
    ) -> Result<()> {
        let Sent { draft, frames, .. } = &self.sent[index];
        let (packet, known) = (&draft.packet, |host: &str| passed.contains(host));
        let (Some((source, destination)), Some(transport)) = (packet.addresses(), packet.transport()) else {
            return Ok(());
        };
        let family = if source.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let plain = draft.shape == Shape::Whole
            // What is sent to a liar's MAC goes to where bridges saw it last.
            && packet.source == self.site.places[draft.from].mac()
            && !source.is_unspecified()
            && !matches!(&packet.payload, Payload::Ipv6(ip) if !ip.extensions.is_empty());
        let reply = match *transport {
            Transport::Ports { protocol: Protocol::UDP, source, destination } if source >= 20_000 => {
                Transport::udp(destination, source)
            }
            Transport::Icmp { kind: 8, .. } if family == Family::Ipv4 => Transport::icmp(0, 0),
            Transport::Icmp { kind: 128, .. } if family == Family::Ipv6 => Transport::icmp(129, 0),
            _ => return Ok(()),
        };
        // An echo reply belongs to the request of its number, and its number is its own.
        let error = !matches!(reply, Transport::Ports { .. }) || r.percent(40);
        if !plain {
            return Ok(());
        }
        let macs = (self.site.places[*from].mac(), packet.source);
        let kind = if family == Family::Ipv4 { Transport::icmp(3, 1) } else { Transport::icmp(1, 0) };
        let transport = if error { kind } else { reply };
        let packet = Packet::ip(macs, (destination, source), transport).context("one family")?;
        let header = if family == Family::Ipv4 { 20 } else { 40 };
        let about = frames.first().and_then(|frame| frame.get(14..14 + header + 8)).map(<[u8]>::to_vec);
        let draft = Draft { from: *from, packet, shape: Shape::Whole };
        let state = |host: &str| match (error, known(host)) {
            (true, true) => Connection::Related { cut: false },
            (true, false) => Connection::Invalid,
            (false, true) => Connection::Reply { cut: false },
            (false, false) => Connection::New,
        };
        let about = if error { about } else { None };
        self.plan(draft, about.as_deref(), state)?;
        Ok(())
    }

    /// Sends what was planned from `begin` on, and waits for it.
    fn send(&mut self, begin: usize) -> Result<()> {
        let places = self.site.places;
        for chunk in (begin..self.sent.len()).collect::<Vec<_>>().chunks(AT_ONCE) {
            for &index in chunk {
                let Sent { draft, frames, .. } = &self.sent[index];
                for frame in frames {
                    places[draft.from].tap.send(frame)?;
                }
            }
            self.collect()?;
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.complete() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            self.collect()?;
        }
        std::thread::sleep(SILENCE);
        self.collect()
    }

    fn complete(&self) -> bool {
        let wanted = |(index, sent): (usize, &Sent)| {
            sent.expected.iter().all(|(to, (arrives, _))| !arrives || self.seen.contains(&(index, *to)))
        };
        self.sent.iter().enumerate().all(wanted)
    }

    /// Takes off the links what arrived.
    fn collect(&mut self) -> Result<()> {
        for (to, place) in self.site.places.iter().enumerate() {
            for captured in place.tap.drain()? {
                if captured.outgoing {
                    continue;
                }
                let Some(number) = wire::number(&captured.bytes) else { continue };
                let index = usize::try_from(number)?.wrapping_sub(self.base);
                let Some(sent) = self.sent.get(index) else { continue };
                if is_of(&captured.bytes, sent) {
                    self.seen.insert((index, to));
                }
            }
        }
        Ok(())
    }

    /// Compares.
    fn judge(&self, seed: u64, policy: &str) {
        let name = |at: usize| &self.site.places[at].name;
        let mut wrong = Vec::new();
        for (index, sent) in self.sent.iter().enumerate() {
            for (to, (arrives, why)) in &sent.expected {
                let seen = self.seen.contains(&(index, *to));
                if seen != *arrives {
                    let Draft { from, packet, shape } = &sent.draft;
                    let arrived = if seen { "arrived" } else { "did not arrive" };
                    wrong.push(format!(
                        "packet {index}: {} → {}: {arrived}; {why}\n    {shape:?} {packet:?}",
                        name(*from),
                        name(*to)
                    ));
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "seed {seed}: {} decisions differ from the verdict\n  {}\n\nunder the policy\n{policy}",
            wrong.len(),
            wrong[..wrong.len().min(20)].join("\n  ")
        );
    }
}

/// Whether a frame with a packet's mark is that packet, and not somebody's error about it. Fragments may arrive put
/// together, and a VLAN tag does not reach the socket.
fn is_of(bytes: &[u8], sent: &Sent) -> bool {
    let exact = sent.draft.shape != Shape::Fragmented && ether_type(&sent.frames[0]) != Some(0x8100);
    if exact { bytes == sent.frames[0] } else { bytes[..12] == sent.frames[0][..12] }
}

/// The steps' numbers in docs/security.md, and in words.
fn words(steps: &[Step<'_>]) -> String {
    let mut text = String::from("the verdict:");
    for Step { host, passage } in steps {
        let _ = match passage {
            Passage::Passes { egress, ingress } => write!(text, " {host} passes it: {egress}; {ingress}."),
            Passage::Stops { side, reason } => {
                write!(text, " {host} drops it on {side:?} ({}): {reason}.", reason.number(*side))
            }
        };
    }
    text
}

impl Tally {
    fn count(&mut self, steps: &[Step<'_>]) {
        if steps.iter().all(|step| step.passage.passes()) {
            self.passed += 1;
        } else {
            self.stopped += 1;
        }
        for Step { passage, .. } in steps {
            let reasons = match passage {
                Passage::Passes { egress, ingress } => vec![
                    format!("allow {}", egress.number(Direction::Egress)),
                    format!("allow {}", ingress.number(Direction::Ingress)),
                ],
                Passage::Stops { side, reason } => vec![format!("deny {}", reason.number(*side))],
            };
            for reason in reasons {
                *self.reasons.entry(reason).or_default() += 1;
            }
        }
    }

    #[expect(clippy::print_stderr, reason = "shown with --nocapture, and when the test fails")]
    fn check(&self) {
        eprintln!("{} passed, {} stopped, seeds {SEEDS:?}: {:?}", self.passed, self.stopped, self.reasons);
        assert!(self.passed + self.stopped >= 2000 && self.passed >= 500, "too few decisions");
        let missing: Vec<_> = REASONS.iter().filter(|reason| !self.reasons.contains_key(**reason)).collect();
        assert!(missing.is_empty(), "no packet was decided by {missing:?}");
    }
}
