//! A Linux bridge host.

use ruleset::iptables::interpret::{Conntrack, Fate as Verdict, Step, Transit, traverse};
use ruleset::iptables::{CtDirection, CtStates, Table};
use ruleset::model::Family;
use ruleset::packet::Packet;

use super::super::{Hop, Place};
use super::{Fate, LiveError};
use crate::dom0::Dom0;

/// A port of a bridge that is no guest's.
const UPLINK: &str = "uplink";

pub(super) async fn walk(
    dom0: &Dom0<'_>,
    place: &Place,
    hop: &Hop<'_>,
    packet: &Packet,
    family: Family,
) -> Result<Fate, LiveError> {
    let observed = dom0.observe(family).await?;
    let transit = Transit {
        packet,
        bridge: place.bridge.as_str(),
        input: hop.from.map_or(UPLINK, |place| &place.interface),
        output: Some(hop.to.map_or(UPLINK, |place| &place.interface)),
        for_dom0: false,
        conntrack: Conntrack::Some { state: CtStates::NEW, direction: CtDirection::Original, mark: 0 },
    };
    let outcome = traverse(&observed, Table::Filter, &transit)?;
    let allowed = match outcome.fate {
        Verdict::Accepted => true,
        // Our chains decide about every bridged packet once they stand. Where they do not stand we are not in its way.
        Verdict::NotDecided => observed.is_empty(),
        Verdict::Dropped => false,
    };
    let step =
        |step: &Step<'_>| format!("{}: {}", step.chain.map_or("FORWARD", |chain| chain.as_str()), step.rule);
    Ok(Fate { allowed, steps: outcome.steps.iter().map(step).collect() })
}
