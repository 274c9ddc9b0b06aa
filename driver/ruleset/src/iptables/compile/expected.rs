//! Who sends and who receives where no interface of a port is named: VIFs without rules, the wire, dom0; and guests that are
//! about to arrive by interfaces whose names nobody knows yet.
//!
//! On a network that is not guarded such a guest is known by its MAC when it sends and by its addresses when it receives. On a
//! guarded one a stranger could have itself taken for it, so it stays closed until its interface is known.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::{GroupChains, digest};
use super::{DEFAULT_VERDICT, Kind, Names, base, lifeline, local};
use crate::ids::{ChainName, GroupId, InvalidId, Mac};
use crate::iptables::Chains;
use crate::iptables::rule::{Match, Rule, Target};
use crate::model::{Direction, Family, Port, PortSecurity};
use crate::resolve::{Expected, HostPolicy};

/// The filtered ports that are about to arrive on networks that are not guarded.
pub(super) fn open(host: &HostPolicy) -> impl Iterator<Item = &Expected> {
    let filtered = host.expected.iter().filter(|e| e.port.security == PortSecurity::On);
    filtered.filter(|e| !host.guarded.contains(&e.bridge))
}

/// What the chains of a port are named after whose interface has no name yet.
fn name(port: &Port) -> String {
    digest(&["expected", port.vif.as_str()])
}

/// The port's MAC and those of its pairs.
fn macs(port: &Port) -> BTreeSet<Mac> {
    port.pairs.iter().filter_map(|pair| pair.mac).chain([port.mac]).collect()
}

/// Writes `dwb-unknown-from`, `dwb-other-from`, `dwb-other-to`, and the chains of the ports they lead to.
pub(super) fn write(
    host: &HostPolicy,
    family: Family,
    names: &Names,
    groups: &BTreeMap<&GroupId, GroupChains>,
    chains: &mut Chains,
) -> Result<(), InvalidId> {
    let guarded = host.guarded.iter().map(|b| Rule::new([Match::InBridge(b.clone())], DEFAULT_VERDICT));
    let mut sources = lifeline::rules(host, Direction::Egress, family)?;
    sources.extend(guarded);
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for Expected { port, bridge } in open(host) {
        let name = name(port);
        base::port_chains(port, &name, family, names, groups, chains)?;
        let chain = |label| Ok::<_, InvalidId>(Target::Goto(ChainName::ours(&format!("{label}-{name}"))?));
        let (source, egress, ingress) = (chain("s")?, chain("o")?, chain("i")?);
        for mac in macs(port) {
            let sends = [Match::InBridge(bridge.clone()), Match::MacSource(mac)];
            sources.push(Rule::new(sends.clone(), source.clone()));
            for kind in Kind::ALL {
                let by = [Match::PhysdevIn(kind.pattern()?)];
                from.push(Rule::new(sends.clone().into_iter().chain(by), egress.clone()));
            }
        }
        for address in local::addresses(port, family) {
            for kind in Kind::ALL {
                let by = Match::PhysdevOut(kind.pattern()?);
                let receives = [Match::OutBridge(bridge.clone()), Match::Destination(address), by];
                to.push(Rule::new(receives, ingress.clone()));
            }
        }
    }
    from.push(super::unopposed());
    to.push(Rule::always(Target::Goto(names.open(host).clone())));
    chains.insert(names.unknown_from.clone(), sources);
    chains.insert(names.other_from.clone(), from);
    chains.insert(names.other_to.clone(), to);
    Ok(())
}
