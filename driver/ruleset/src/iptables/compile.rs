//! From a host's policy to its chains. The layout is drawn in docs/architecture.md; the security contract it
//! carries out is design §3, whose steps the comments number.

mod base;
mod expected;
mod groups;
mod keep;
mod lifeline;
mod local;

use std::collections::{BTreeMap, BTreeSet};

use self::groups::GroupChains;
use super::mark::{Epoch, Mark, PacketMark};
use super::rule::{CtDirection, CtStates, IfPattern, Match, Rule, Target};
use super::tree::NameTree;
use super::{Chains, Ruleset, Table};
use crate::ids::{ChainName, GroupId, Interface, InvalidId};
use crate::model::{Action, Direction, Family, PortSecurity};
use crate::resolve::{Attachment, HostPolicy};

/// The crate's default verdict as a target.
pub(super) const DEFAULT_VERDICT: Target = match crate::DEFAULT_VERDICT {
    Action::Allow => Target::Accept,
    Action::Deny => Target::Drop,
};

/// The chain that stores the epoch and accepts.
pub(super) const ACCEPT: &str = "dwb-accept";

/// A policy that has no chains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum CompileError {
    #[error("a name does not fit into a chain: {0}")]
    Name(#[from] InvalidId),
    #[error("{first} and {second} would share chain {chain}: rename one")]
    Collision { first: String, second: String, chain: ChainName },
}

/// The chains of fixed name.
struct Names {
    forward: ChainName,
    guard: ChainName,
    from: ChainName,
    pass: ChainName,
    keep_pass: ChainName,
    local: ChainName,
    to: ChainName,
    accept: ChainName,
    keep_accept: ChainName,
    open_accept: ChainName,
    deny: ChainName,
    untracked: ChainName,
    unknown_from: ChainName,
    unknown_to: ChainName,
    other_from: ChainName,
    unopposed: ChainName,
    other_to: ChainName,
    provider_egress: ChainName,
    provider_ingress: ChainName,
    raw: ChainName,
}

impl Names {
    fn new() -> Result<Self, InvalidId> {
        Ok(Self {
            forward: ChainName::ours("forward")?,
            guard: ChainName::ours("guard")?,
            from: ChainName::ours("from")?,
            pass: ChainName::ours("pass")?,
            keep_pass: ChainName::ours("keep-pass")?,
            local: ChainName::ours("local")?,
            to: ChainName::ours("to")?,
            accept: ACCEPT.parse()?,
            keep_accept: ChainName::ours("keep-accept")?,
            open_accept: ChainName::ours("open-accept")?,
            deny: ChainName::ours("deny")?,
            untracked: ChainName::ours("untracked")?,
            unknown_from: ChainName::ours("unknown-from")?,
            unknown_to: ChainName::ours("unknown-to")?,
            other_from: ChainName::ours("other-from")?,
            unopposed: ChainName::ours("unopposed")?,
            other_to: ChainName::ours("other-to")?,
            provider_egress: ChainName::ours("po")?,
            provider_ingress: ChainName::ours("pi")?,
            raw: ChainName::ours("raw")?,
        })
    }

    /// How a packet is accepted whose receiver is not filtered.
    fn open(&self, host: &HostPolicy) -> &ChainName {
        if host.keep.is_empty() { &self.accept } else { &self.open_accept }
    }
}

/// A kind of guests' interfaces: how their names in dom0 begin (xenopsd). An emulated card is seldom spoken through, so
/// that its names have trees of their own and nobody else's packet is compared with them.
#[derive(Clone, Copy)]
struct Kind(&'static str);

impl Kind {
    const ALL: [Self; 2] = [Self("vif"), Self("tap")];

    /// Every interface of the kind.
    fn pattern(self) -> Result<IfPattern, InvalidId> {
        Ok(IfPattern::Prefix(self.0.parse::<Interface>()?))
    }

    /// The source checks.
    fn source(self) -> Result<ChainName, InvalidId> {
        ChainName::ours(&format!("source-{}", self.0))
    }

    /// The receivers known on guarded bridges.
    fn receiver(self) -> Result<ChainName, InvalidId> {
        ChainName::ours(&format!("receiver-{}", self.0))
    }
}

/// The rule by which packets come from the built-in chain to ours. In `raw` the plugin's own boundary leads to `dwb-raw`.
///
/// # Errors
/// None in practice: the names are constants.
pub(super) fn hook(table: Table) -> Result<Option<Rule>, InvalidId> {
    let names = Names::new()?;
    Ok(match table {
        Table::Filter => Some(Rule::new([Match::IsBridged], Target::Jump(names.forward))),
        Table::Raw => None,
    })
}

/// The rule by which packets came to `dwb-raw` before version 0.2: it is to go.
///
/// # Errors
/// None in practice: the names are constants.
pub(super) fn former_hook(table: Table) -> Result<Option<Rule>, InvalidId> {
    let names = Names::new()?;
    Ok((table == Table::Raw).then(|| Rule::new([Match::NotForDom0], Target::Jump(names.raw))))
}

/// The chains of one host and family, with connections judged in `epoch`.
///
/// # Errors
/// [`CompileError`]; design §3's "one bad rule" is the caller's to contain.
pub fn compile(host: &HostPolicy, family: Family, epoch: Epoch) -> Result<Ruleset, CompileError> {
    compile_but(host, family, epoch, &BTreeSet::new())
}

/// The same, but of the groups in `settled` only the rules that refer to members of groups and sets. Where the rest of them is
/// the same before and after, a comparison does not need it, and it is most of what there is.
pub(super) fn compile_but(
    host: &HostPolicy,
    family: Family,
    epoch: Epoch,
    settled: &BTreeSet<&GroupId>,
) -> Result<Ruleset, CompileError> {
    let names = Names::new()?;
    let mut filter = Chains::new();
    filter.insert(names.guard.clone(), base::guard(family)?);
    if family == Family::Ipv6 {
        filter.insert(names.untracked.clone(), base::untracked());
    }
    filter.insert(names.pass.clone(), vec![Rule::always(Target::SetPacketMark(PacketMark::PASSED))]);
    if !host.keep.is_empty() {
        let keeping = Target::SetPacketMark(PacketMark::KEEPING);
        filter.insert(names.keep_pass.clone(), vec![Rule::always(keeping)]);
    }
    dispatch(host, family, &names, &mut filter)?;
    local::write(host, family, &names, &mut filter)?;
    set_epoch(&mut filter, epoch)?;
    let groups: BTreeMap<_, _> =
        host.groups.keys().map(|id| Ok((id, GroupChains::of(id)?))).collect::<Result<_, InvalidId>>()?;
    for attachment in host.attachments.iter().filter(|a| a.port.security == PortSecurity::On) {
        let [vif, _] = attachment.interfaces();
        base::port_chains(&attachment.port, &vif, family, &names, &groups, &mut filter)?;
    }
    expected::write(host, family, &names, &groups, &mut filter)?;
    groups::write(host, family, &names, &groups, settled, &mut filter)?;
    let raw = Chains::from([(names.raw.clone(), zones(host))]);
    Ok(Ruleset { family, filter, raw })
}

/// Writes the chains that name the epoch, and says which they are.
pub(super) fn set_epoch(filter: &mut Chains, epoch: Epoch) -> Result<Vec<ChainName>, InvalidId> {
    let names = Names::new()?;
    let guarded = filter.contains_key(&names.unknown_to);
    let keeping = filter.contains_key(&names.keep_pass);
    let mut written = vec![
        (names.forward.clone(), forward(&names, epoch, guarded, keeping)?),
        (names.accept, accept(epoch)),
        (names.deny, deny(epoch, keeping)),
    ];
    if keeping {
        let by_group = &[PacketMark::KEEPING, PacketMark::UNOPPOSED];
        written.push((names.keep_accept, keep::accept(epoch, by_group)));
        written.push((names.open_accept, keep::accept(epoch, &[PacketMark::KEEPING])));
    }
    let chains = written.iter().map(|(chain, _)| chain.clone()).collect();
    filter.extend(written);
    Ok(chains)
}

/// Whether a chain is a list of permissions, to which a rule that leads on only adds: a port's list of groups, a
/// group's rules, a peer set's members.
pub(super) fn is_permission_list(chain: &ChainName) -> bool {
    is_unordered(chain) || has_label(chain, &["i-", "o-"])
}

/// Whether a chain has nothing but permissions, so that their order means nothing: a group's rules, a peer set's members.
pub(super) fn is_unordered(chain: &ChainName) -> bool {
    has_label(chain, &["gi-", "go-", "ms-", "md-", "ks-", "kd-"])
}

fn has_label(chain: &ChainName, labels: &[&str]) -> bool {
    let rest = chain.as_str().strip_prefix(ChainName::PREFIX);
    rest.is_some_and(|rest| labels.iter().any(|label| rest.starts_with(label)))
}

fn packet_is(mark: PacketMark, target: Target) -> Rule {
    Rule::new([Match::PacketMark { negated: false, mark }], target)
}

/// The sender is not filtered.
fn unopposed() -> Rule {
    Rule::always(Target::SetPacketMark(PacketMark::UNOPPOSED))
}

/// `dwb-accept`: the connection is marked, so that what belongs to it takes the fast path.
///
/// Not by a packet that goes out to somebody else than it is for: the mark belongs to the connection, and whose rules were asked
/// depends on the MAC address that the sender chose.
fn accept(epoch: Epoch) -> Vec<Rule> {
    vec![
        packet_is(PacketMark::STRAY, Target::Accept),
        Rule::always(Target::SetMark(epoch.mark())),
        Rule::always(Target::Accept),
    ]
}

/// `dwb-deny`: the connection is marked, so that its replies stop too, and the packet goes.
///
/// Not if it was judged well in this epoch: the bridge floods one packet to several ports, and the port that refuses its copy
/// must not undo what the port it was meant for allowed. Nor by somebody it is not for.
fn deny(epoch: Epoch, keeping: bool) -> Vec<Rule> {
    let judged_before = Match::ConnMark { negated: true, mark: epoch.mark() };
    let kept = Match::ConnMark { negated: false, mark: Mark::KEPT };
    let mut rules = vec![packet_is(PacketMark::STRAY, DEFAULT_VERDICT)];
    if keeping {
        rules.push(Rule::new([kept], DEFAULT_VERDICT));
    }
    rules.push(Rule::new([judged_before], Target::SetMark(Mark::REVOKED)));
    rules.push(Rule::always(DEFAULT_VERDICT));
    rules
}

/// How every per-VIF chain ends. The last rule stands by itself: a hand that empties `dwb-deny` opens nothing.
fn denial(names: &Names) -> [Rule; 2] {
    [Rule::always(Target::Jump(names.deny.clone())), Rule::always(DEFAULT_VERDICT)]
}

fn forward(names: &Names, epoch: Epoch, guarded: bool, keeping: bool) -> Result<Vec<Rule>, InvalidId> {
    let (related, established) = (CtStates::RELATED, CtStates::ESTABLISHED);
    let reply = Some(CtDirection::Reply);
    let not_revoked = Match::ConnMark { negated: true, mark: Mark::REVOKED };
    let mut rules = Vec::new();
    for kind in Kind::ALL {
        // §3 egress 1, before anything else: an address that is not the guest's must not ride on a tracked connection.
        rules.push(Rule::new([Match::PhysdevIn(kind.pattern()?)], Target::Jump(kind.source()?)));
        if guarded {
            // Nor must a packet of one reach a VIF that has no rules.
            rules.push(Rule::new([Match::PhysdevOut(kind.pattern()?)], Target::Jump(kind.receiver()?)));
        }
    }
    // §3 egress 4, ingress 3. The fast path: judged in this epoch, either direction.
    let current = Match::ConnMark { negated: false, mark: epoch.mark() };
    rules.push(Rule::new([Match::Conntrack(related.and(established), None), current], Target::Accept));
    if keeping {
        let kept = Match::ConnMark { negated: false, mark: Mark::KEPT };
        rules.push(Rule::new([Match::Conntrack(related.and(established), None), kept], Target::Accept));
    }
    rules.push(Rule::new([Match::Conntrack(established, reply), not_revoked.clone()], Target::Accept));
    rules.push(Rule::new([Match::Conntrack(related, None), not_revoked], Target::Accept));
    // Only what belongs to a revoked connection comes here; the rules are not for it to walk. An error that
    // walked them could have the connection marked as allowed again.
    rules.push(Rule::new([Match::Conntrack(established, reply)], DEFAULT_VERDICT));
    rules.push(Rule::new([Match::Conntrack(related, None)], DEFAULT_VERDICT));
    // The sender's side comes back with its answer in the packet's mark, where nobody else's must be taken for it.
    rules.push(Rule::always(Target::SetPacketMark(PacketMark::CLEAR)));
    rules.push(Rule::always(Target::Jump(names.from.clone())));
    rules.push(packet_is(PacketMark::UNJUDGED, DEFAULT_VERDICT));
    rules.push(Rule::always(Target::Jump(names.local.clone())));
    rules.push(Rule::always(Target::Goto(names.to.clone())));
    Ok(rules)
}

/// The trees over interface names.
fn dispatch(host: &HostPolicy, family: Family, names: &Names, chains: &mut Chains) -> Result<(), InvalidId> {
    // The names of some ports. Both of a port's lead to the same.
    let leaves = |chosen: fn(&Attachment) -> bool, target: &dyn Fn(&str) -> Result<Target, InvalidId>| {
        let mut leaves = Vec::new();
        for attachment in host.attachments.iter().filter(|a| chosen(a)) {
            let [vif, tap] = attachment.interfaces();
            let target = target(&vif)?;
            leaves.push((vif, target.clone()));
            leaves.push((tap, target));
        }
        Ok::<Vec<(String, Target)>, InvalidId>(leaves)
    };
    // Filtered ports have a chain each; what is known not to be filtered must not be taken for one that is about to arrive.
    let all = |label: &str, unfiltered: &Target| {
        let own = |vif: &str| Ok(Target::Goto(ChainName::ours(&format!("{label}-{vif}"))?));
        let mut all = leaves(|a| a.port.security == PortSecurity::On, &own)?;
        all.extend(leaves(|a| a.port.security == PortSecurity::Off, &|_| Ok(unfiltered.clone()))?);
        all.sort_unstable();
        Ok::<_, InvalidId>(all)
    };
    let guarded = !host.guarded.is_empty();

    let sources = all("s", &Target::Return)?;
    let otherwise = [Rule::always(Target::Goto(names.unknown_from.clone()))];
    by_kind(&sources, |kind, sources| {
        let tree =
            NameTree { root: kind.source()?, label: "x", condition: Match::PhysdevIn, otherwise: &otherwise };
        tree.write(sources, chains)
    })?;

    let senders = all("o", &Target::Goto(names.unopposed.clone()))?;
    if host.attachments.iter().any(|a| a.port.security == PortSecurity::Off) {
        chains.insert(names.unopposed.clone(), vec![unopposed()]);
    }
    let otherwise = [Rule::always(Target::Goto(names.other_from.clone()))];
    let tree =
        NameTree { root: names.from.clone(), label: "f", condition: Match::PhysdevIn, otherwise: &otherwise };
    tree.write(&senders, chains)?;

    let receivers = all("i", &Target::Goto(names.open(host).clone()))?;
    let otherwise = [Rule::always(Target::Goto(names.other_to.clone()))];
    let tree =
        NameTree { root: names.to.clone(), label: "t", condition: Match::PhysdevOut, otherwise: &otherwise };
    tree.write(&receivers, chains)?;

    if guarded {
        let guarded = host.guarded.iter().map(|b| Rule::new([Match::OutBridge(b.clone())], DEFAULT_VERDICT));
        let mut to = lifeline::rules(host, Direction::Ingress, family)?;
        to.extend(guarded);
        chains.insert(names.unknown_to.clone(), to);
        let mut known = leaves(|_| true, &|_| Ok(Target::Return))?;
        known.sort_unstable();
        let otherwise = [Rule::always(Target::Goto(names.unknown_to.clone()))];
        by_kind(&known, |kind, known| {
            let root = kind.receiver()?;
            NameTree { root, label: "r", condition: Match::PhysdevOut, otherwise: &otherwise }
                .write(known, chains)
        })?;
    }
    Ok(())
}

/// Does something with each kind's part of the leaves (sorted by name).
fn by_kind(
    leaves: &[(String, Target)],
    mut write: impl FnMut(Kind, &[(String, Target)]) -> Result<(), InvalidId>,
) -> Result<(), InvalidId> {
    for kind in Kind::ALL {
        let start = leaves.partition_point(|(name, _)| name.as_str() < kind.0);
        let (_, rest) = leaves.split_at(start);
        let length = rest.partition_point(|(name, _)| name.starts_with(kind.0));
        write(kind, &rest[..length])?;
    }
    Ok(())
}

/// Zones are 1 to this. 0 is dom0's, 65535 the plugin's.
const ZONES: u16 = u16::MAX - 1;

/// A conntrack zone for every bridge with a port of ours: equal addresses on two networks do not mix.
///
/// The number is taken from the bridge's name, so that it stays the same whatever else is on the host; two names that
/// want the same number are told apart by their order.
fn zones(host: &HostPolicy) -> Vec<Rule> {
    let ports = host.attachments.iter().map(|a| &a.bridge).chain(host.expected.iter().map(|e| &e.bridge));
    let mut bridges: Vec<&Interface> = ports.chain(&host.guarded).collect();
    bridges.sort_unstable();
    bridges.dedup();
    let mut taken = BTreeSet::new();
    let mut rules = Vec::new();
    for bridge in bridges {
        let digest = hmac_sha256::Hash::hash(bridge.as_str().as_bytes());
        let mut zone = u16::from_be_bytes([digest[0], digest[1]]).clamp(1, ZONES);
        while !taken.insert(zone) {
            zone = zone % ZONES + 1;
        }
        rules.push(Rule::new([Match::InBridge(bridge.clone())], Target::Zone(zone)));
    }
    rules
}

#[cfg(test)]
mod tests;
