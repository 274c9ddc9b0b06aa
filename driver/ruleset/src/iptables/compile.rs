//! From a host's policy to its chains. The layout is drawn in docs/architecture.md; the security contract it
//! carries out is design §3, whose steps the comments number.

mod base;
mod groups;
mod keep;

use super::mark::{Epoch, Mark};
use super::rule::{CtDirection, CtStates, IfPattern, Match, Rule, Target};
use super::tree::NameTree;
use super::{Chains, Ruleset, Table};
use crate::ids::{ChainName, Interface, InvalidId};
use crate::model::{Action, Family, PortSecurity};
use crate::resolve::HostPolicy;

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
    source: ChainName,
    receiver: ChainName,
    guard: ChainName,
    from: ChainName,
    to: ChainName,
    accept: ChainName,
    deny: ChainName,
    keep_to: ChainName,
    keep_from: ChainName,
    keep_accept: ChainName,
    open_accept: ChainName,
    unknown_from: ChainName,
    unknown_to: ChainName,
    provider_egress: ChainName,
    provider_ingress: ChainName,
    raw: ChainName,
}

impl Names {
    fn new() -> Result<Self, InvalidId> {
        Ok(Self {
            forward: ChainName::ours("forward")?,
            source: ChainName::ours("source")?,
            receiver: ChainName::ours("receiver")?,
            guard: ChainName::ours("guard")?,
            from: ChainName::ours("from")?,
            to: ChainName::ours("to")?,
            accept: ACCEPT.parse()?,
            deny: ChainName::ours("deny")?,
            keep_to: ChainName::ours("keep-to")?,
            keep_from: ChainName::ours("keep-from")?,
            keep_accept: ChainName::ours("keep-accept")?,
            open_accept: ChainName::ours("open-accept")?,
            unknown_from: ChainName::ours("unknown-from")?,
            unknown_to: ChainName::ours("unknown-to")?,
            provider_egress: ChainName::ours("po")?,
            provider_ingress: ChainName::ours("pi")?,
            raw: ChainName::ours("raw")?,
        })
    }
}

/// The rule by which packets come from the built-in chain to ours.
///
/// # Errors
/// None in practice: the names are constants.
pub(super) fn hook(table: Table) -> Result<Rule, InvalidId> {
    let names = Names::new()?;
    Ok(match table {
        Table::Filter => Rule::new([Match::IsBridged], Target::Jump(names.forward)),
        Table::Raw => Rule::new([Match::NotForDom0], Target::Jump(names.raw)),
    })
}

/// The chains of one host and family, with connections judged in `epoch`.
///
/// # Errors
/// [`CompileError`]; design §3's "one bad rule" is the caller's to contain.
pub fn compile(host: &HostPolicy, family: Family, epoch: Epoch) -> Result<Ruleset, CompileError> {
    let names = Names::new()?;
    let mut filter = Chains::new();
    filter.insert(names.guard.clone(), base::guard(family)?);
    dispatch(host, &names, &mut filter)?;
    set_epoch(&mut filter, epoch)?;
    for attachment in host.attachments.iter().filter(|a| a.port.security == PortSecurity::On) {
        base::port_chains(attachment, family, &names, &mut filter)?;
    }
    groups::write(host, family, &names, &mut filter)?;
    let raw = Chains::from([(names.raw.clone(), zones(host))]);
    Ok(Ruleset { family, filter, raw })
}

/// Writes the chains that name the epoch.
pub(super) fn set_epoch(filter: &mut Chains, epoch: Epoch) -> Result<(), InvalidId> {
    let names = Names::new()?;
    let accept = vec![Rule::always(Target::SetMark(epoch.mark())), Rule::always(Target::Accept)];
    filter.insert(names.accept.clone(), accept);
    let guarded = filter.contains_key(&names.receiver);
    let keeping = filter.contains_key(&names.open_accept);
    filter.insert(names.deny.clone(), deny(epoch, keeping));
    filter.insert(names.forward.clone(), forward(&names, epoch, guarded, keeping)?);
    if keeping {
        filter.insert(names.keep_to.clone(), keep::towards(epoch, Mark::KEEPING, &names.to));
        filter.insert(names.keep_from.clone(), keep::towards(epoch, Mark::UNOPPOSED, &names.to));
    }
    Ok(())
}

/// Whether a chain is a list of permissions, to which a rule that leads on only adds: a port's list of groups, a
/// group's rules, a peer set's members.
pub(super) fn is_permission_list(chain: &ChainName) -> bool {
    ["i-", "o-", "gi-", "go-", "ms-", "md-", "ks-", "kd-"].iter().any(|label| {
        chain.as_str().strip_prefix(ChainName::PREFIX).is_some_and(|rest| rest.starts_with(label))
    })
}

/// `dwb-deny`: the connection is marked, so that its replies stop too, and the packet goes.
///
/// Not if it was judged well in this epoch: the bridge floods one packet to several ports, and the port that refuses its copy
/// must not undo what the port it was meant for allowed.
fn deny(epoch: Epoch, keeping: bool) -> Vec<Rule> {
    let judged_before = Match::ConnMark { negated: true, mark: epoch.mark() };
    let kept = Match::ConnMark { negated: false, mark: Mark::KEPT };
    let mut rules = if keeping { vec![Rule::new([kept], DEFAULT_VERDICT)] } else { Vec::new() };
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
    for kind in GUEST_INTERFACES {
        let names_of_kind = IfPattern::Prefix(kind.parse::<Interface>()?);
        // §3 egress 1, before anything else: an address that is not the guest's must not ride on a tracked connection.
        rules.push(Rule::new([Match::PhysdevIn(names_of_kind.clone())], Target::Jump(names.source.clone())));
        if guarded {
            // Nor must a packet of one reach a VIF that has no rules.
            rules.push(Rule::new([Match::PhysdevOut(names_of_kind)], Target::Jump(names.receiver.clone())));
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
    rules.push(Rule::always(Target::Jump(names.from.clone())));
    rules.push(Rule::always(Target::Goto(names.to.clone())));
    Ok(rules)
}

/// Names of guests' interfaces in dom0 begin so (xenopsd).
const GUEST_INTERFACES: [&str; 2] = ["vif", "tap"];

/// The trees over interface names.
fn dispatch(host: &HostPolicy, names: &Names, chains: &mut Chains) -> Result<(), InvalidId> {
    type Leaf = fn(&str) -> Result<Target, InvalidId>;
    let leaves = |filtered: Leaf, open: &Target| -> Result<Vec<(String, Target)>, InvalidId> {
        let mut leaves = Vec::new();
        for attachment in &host.attachments {
            let [vif, tap] = attachment.interfaces();
            // Both names lead to the chains named after the vif: they are one port.
            let target =
                if attachment.port.security == PortSecurity::On { filtered(&vif)? } else { open.clone() };
            leaves.push((vif, target.clone()));
            leaves.push((tap, target));
        }
        leaves.sort_unstable();
        Ok(leaves)
    };
    let guarded = !host.guarded.is_empty();
    let keeping = !host.keep.is_empty();
    if keeping {
        keep::write(names, chains);
    }

    let sources = leaves(|vif| Ok(Target::Goto(ChainName::ours(&format!("s-{vif}"))?)), &Target::Return)?;
    let otherwise: &[Rule] =
        if guarded { &[Rule::always(Target::Goto(names.unknown_from.clone()))] } else { &[] };
    let tree = NameTree { root: names.source.clone(), label: "x", condition: Match::PhysdevIn, otherwise };
    tree.write(&sources, chains)?;

    // Who is not filtered goes on at once; a group that keeps connections wants to know of it.
    let open = Target::Goto(if keeping { names.keep_from.clone() } else { names.to.clone() });
    let senders = leaves(|vif| Ok(Target::Goto(ChainName::ours(&format!("o-{vif}"))?)), &open)?;
    let otherwise = [Rule::always(open)];
    let tree =
        NameTree { root: names.from.clone(), label: "f", condition: Match::PhysdevIn, otherwise: &otherwise };
    tree.write(&senders, chains)?;

    let open = Target::Goto(if keeping { names.open_accept.clone() } else { names.accept.clone() });
    let receivers = leaves(|vif| Ok(Target::Goto(ChainName::ours(&format!("i-{vif}"))?)), &open)?;
    let otherwise = [Rule::always(open)];
    let tree =
        NameTree { root: names.to.clone(), label: "t", condition: Match::PhysdevOut, otherwise: &otherwise };
    tree.write(&receivers, chains)?;

    if guarded {
        let from = host.guarded.iter().map(|b| Rule::new([Match::InBridge(b.clone())], DEFAULT_VERDICT));
        chains.insert(names.unknown_from.clone(), from.collect());
        let to = host.guarded.iter().map(|b| Rule::new([Match::OutBridge(b.clone())], DEFAULT_VERDICT));
        chains.insert(names.unknown_to.clone(), to.collect());
        let known = leaves(|_| Ok(Target::Return), &Target::Return)?;
        let otherwise = [Rule::always(Target::Goto(names.unknown_to.clone()))];
        let root = names.receiver.clone();
        NameTree { root, label: "r", condition: Match::PhysdevOut, otherwise: &otherwise }
            .write(&known, chains)?;
    }
    Ok(())
}

/// A conntrack zone for every bridge with a port of ours: equal addresses on two networks do not mix.
///
/// The number is taken from the bridge's name, so that it stays the same whatever else is on the host; two names that
/// want the same number are told apart by their order.
fn zones(host: &HostPolicy) -> Vec<Rule> {
    let mut bridges: Vec<&Interface> =
        host.attachments.iter().map(|a| &a.bridge).chain(&host.guarded).collect();
    bridges.sort_unstable();
    bridges.dedup();
    let mut taken = std::collections::BTreeSet::new();
    let mut rules = Vec::new();
    for bridge in bridges {
        let digest = hmac_sha256::Hash::hash(bridge.as_str().as_bytes());
        let mut zone = u16::from_be_bytes([digest[0], digest[1]]).max(1);
        while !taken.insert(zone) {
            zone = zone.checked_add(1).unwrap_or(1);
        }
        rules.push(Rule::new([Match::InBridge(bridge.clone())], Target::Zone(zone)));
    }
    rules
}

#[cfg(test)]
mod tests;
