//! An Open vSwitch host.

use ruleset::ovs::interpret::{Arrival, Tables};
use ruleset::ovs::{CtState, OfPort, PortKind, SwitchPort};
use ruleset::packet::Packet;

use super::super::{Hop, Place};
use super::{Fate, LiveError};
use crate::dom0::{Dom0, Dom0Error};

pub(super) async fn walk(
    dom0: &Dom0<'_>,
    place: &Place,
    hop: &Hop<'_>,
    packet: &Packet,
) -> Result<Fate, LiveError> {
    let (switch, version) = dom0.switch().await?;
    let no_bridge = || LiveError::NoBridge(place.bridge.clone());
    let network = switch.host.networks.get(&place.bridge).ok_or_else(no_bridge)?;
    let ports = switch.host.ports.get(&network.parent).ok_or_else(no_bridge)?;
    let dialect = switch.dialect(&network.parent, version).map_err(Dom0Error::from)?;
    let observed = dom0.flows(&network.parent, dialect, None).await?;

    let wires: Vec<OfPort> = numbers(ports, |port| matches!(port.kind, PortKind::Wire { .. }));
    let (in_port, vlan) = match (hop.from, wires.first()) {
        (Some(from), _) => {
            let own = numbers(ports, |port| is_of(port, from));
            (*own.first().ok_or_else(|| LiveError::NoPort(from.interface.clone()))?, None)
        }
        (None, Some(wire)) => (*wire, network.tag),
        (None, None) => (OfPort::Local, None),
    };
    let arrival = Arrival { packet, in_port, vlan, state: CtState::NEW, mark: 0 };
    let (outcome, flows) = Tables::new(&observed).trace(arrival)?;
    let goals = match hop.to {
        Some(to) => numbers(ports, |port| is_of(port, to)),
        None if wires.is_empty() => numbers(ports, |port| matches!(port.kind, PortKind::Internal { .. })),
        None => wires,
    };
    let allowed = outcome.normal || outcome.outputs.iter().any(|(port, _)| goals.contains(port));
    Ok(Fate { allowed, steps: flows.iter().map(ToString::to_string).collect() })
}

fn numbers(ports: &[SwitchPort], which: impl Fn(&SwitchPort) -> bool) -> Vec<OfPort> {
    ports.iter().filter(|port| which(port)).map(|port| port.ofport).collect()
}

/// By uuid where the switch knows it, else by name. (A guest has a `tap`, too, while it uses the emulated card.)
fn is_of(port: &SwitchPort, place: &Place) -> bool {
    match &port.kind {
        PortKind::Guest { vif: Some(vif), .. } => *vif == place.vif,
        PortKind::Guest { vif: None, .. } => port.name == place.interface,
        PortKind::Internal { .. } | PortKind::Wire { .. } => false,
    }
}
