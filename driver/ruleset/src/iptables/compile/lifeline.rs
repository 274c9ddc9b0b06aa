//! The driver's own VM reaches XAPI from a guarded bridge, whether its interface is known or not.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::base::{essentials, port_range};
use crate::ids::InvalidId;
use crate::iptables::rule::{CtDirection, CtStates, Match, Rule, Target};
use crate::model::{Direction, Family, Protocol};
use crate::resolve::{HostPolicy, Lifeline, XAPI};

/// What passes a VIF without rules on guarded bridges. From there on it is what any unfiltered VIF says or is told.
///
/// The receiver's MAC is nothing that iptables sees: replies of XAPI, which belong to somebody's connection, may come to any
/// VIF without rules to which the bridge delivers them.
pub(super) fn rules(host: &HostPolicy, direction: Direction, family: Family) -> Result<Vec<Rule>, InvalidId> {
    let mut rules = BTreeSet::new();
    for line in host.lifelines.iter().filter(|line| line.speaks(family)) {
        let Lifeline { bridge, mac, hosts } = line;
        let here = match direction {
            Direction::Egress => vec![Match::InBridge(bridge.clone()), Match::MacSource(*mac)],
            Direction::Ingress => vec![Match::OutBridge(bridge.clone())],
        };
        let hosts = hosts.iter().map(|host| IpNet::from(*host)).filter(|host| Family::of(host) == family);
        let xapi = hosts.map(|host| xapi(host, direction)).collect::<Result<Vec<_>, _>>()?;
        for matches in essentials(direction, family)?.into_iter().chain(xapi) {
            rules.insert(Rule::new(here.iter().cloned().chain(matches), Target::Return));
        }
    }
    Ok(rules.into_iter().collect())
}

fn xapi(host: IpNet, direction: Direction) -> Result<Vec<Match>, InvalidId> {
    let (tcp, port) = (Protocol::TCP, port_range(XAPI)?);
    Ok(match direction {
        Direction::Egress => {
            vec![Match::Destination(host), Match::Protocol(tcp), Match::DestinationPorts(tcp, port)]
        }
        Direction::Ingress => vec![
            Match::Source(host),
            Match::Protocol(tcp),
            Match::SourcePorts(tcp, port),
            Match::Conntrack(CtStates::ESTABLISHED, Some(CtDirection::Reply)),
        ],
    })
}
