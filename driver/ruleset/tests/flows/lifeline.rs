//! What flows may do, and must, with packets of the driver's own MACs on guarded networks. They are looser than the verdict where
//! they cannot help it (docs/security.md): its calls and XAPI's answers are the switch's to deliver wherever its VM is known, and
//! an answer is what acknowledges something. They are stricter towards strangers with other MACs.

use ruleset::iptables::{Epoch, MARK_MASK};
use ruleset::model::{PortSecurity, Protocol};
use ruleset::ovs::CtState;
use ruleset::packet::{Packet, Payload, Transport};
use ruleset::resolve::{HostPolicy, XAPI};
use ruleset::verdict::{Connection, Endpoint, Hop, Passage, Reason};

use crate::agree::Case;

#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) may: bool,
    pub(crate) must: bool,
}

fn is_filtered(end: Endpoint<'_>) -> bool {
    matches!(end, Endpoint::Port(port) if port.security == PortSecurity::On)
}

/// Whether the driver's own VM calls XAPI by its known port: the flows leave that to the switch, too, which learns by it
/// where the VM is.
pub(crate) fn is_call(host: &HostPolicy, case: &Case<'_>) -> bool {
    let Case { hop, packet, .. } = case;
    let (Endpoint::Port(port), Some((_, to))) = (hop.from, packet.addresses()) else { return false };
    let https = matches!(
        packet.transport(),
        Some(Transport::Ports { protocol: Protocol::TCP, destination: XAPI, .. })
    );
    let has_mac =
        port.pairs.iter().filter_map(|pair| pair.mac).chain([port.mac]).any(|mac| mac == packet.source);
    let mut lines = host.lifelines_on(hop.bridge);
    let calls = lines.any(|line| line.mac == packet.source && line.hosts.contains(&to));
    https && has_mac && calls && !packet.is_for_many()
}

/// What passes to every guest, and connection tracking does not see.
fn is_neighbourly(packet: &Packet) -> bool {
    matches!(packet.payload, Payload::Arp(_))
        || matches!(packet.transport(), Some(Transport::Icmp { kind: 130 | 134..=136, .. }))
}

/// `None`: it is no packet of the driver's VM, nor one that may be for it.
pub(crate) fn verdict(
    host: &HostPolicy,
    case: &Case<'_>,
    (state, connection, mark): (CtState, Connection, u32),
    epoch: Epoch,
) -> Option<Expected> {
    let Case { hop, packet, .. } = case;
    let own = |mac| host.lifelines_on(hop.bridge).any(|line| line.mac == mac);
    let (from_own, to_own) = (own(packet.source), own(packet.destination));
    let for_all = packet.is_for_many() && is_neighbourly(packet);
    let to_stranger = matches!(hop.to, Endpoint::OtherVif);
    if host.lifelines_on(hop.bridge).next().is_none() || !(from_own || to_own || for_all || to_stranger) {
        return None;
    }
    let judged = connection == Connection::Original && mark & MARK_MASK == epoch.mark().value();
    let passes = |hop: &Hop<'_>, connection| {
        let nobody_asks = !(is_filtered(hop.from) || is_filtered(hop.to));
        let connection = match (hop.to, hop.from) {
            (Endpoint::OtherVif, _) if state == CtState::default() => Connection::Untracked,
            (Endpoint::OtherVif, _) if state.0 & CtState::NEW.0 != 0 => Connection::New,
            (Endpoint::OtherVif, _) => Connection::Reply { cut: false },
            _ if nobody_asks => Connection::Untracked,
            _ => connection,
        };
        let verdict = ruleset::verdict::verdict(host, hop, packet, connection);
        let by_rules =
            matches!(verdict, Passage::Stops { reason: Reason::Default | Reason::Provider(_), .. });
        verdict.passes() || judged && by_rules && packet.family().is_some()
    };
    let stranger = Hop {
        from: if from_own && is_filtered(hop.from) { Endpoint::OtherVif } else { hop.from },
        to: if to_own && is_filtered(hop.to) { Endpoint::OtherVif } else { hop.to },
        bridge: hop.bridge,
    };
    let contract = passes(hop, connection);
    let may = contract || passes(&stranger, connection);
    let reachable = match hop.to {
        Endpoint::OtherVif => matches!(hop.from, Endpoint::Elsewhere) && (to_own || for_all),
        _ => true,
    };
    Some(Expected { may, must: contract && reachable })
}
