//! What a host's installed chains do with a packet, read back and walked.

use std::fmt;

use ruleset::iptables::interpret::{Conntrack, Fate, InterpretError, Transit, traverse};
use ruleset::iptables::{CtDirection, CtStates, Table};
use ruleset::model::Family;
use ruleset::packet::Packet;
use serde::Serialize;

use super::{Hop, judge};
use crate::desired::Desired;
use crate::dom0::{Dom0, Dom0Error};
use crate::intake::inventory::Inventory;
use crate::run::Pool;

/// What one host does.
#[derive(Debug, Serialize)]
pub struct LiveAnswer {
    /// The host.
    pub host: String,
    /// Whether its chains let the packet pass.
    pub allowed: bool,
    /// Whether that is what the policy says.
    pub agrees: bool,
    /// The rules that matched, in order; the last decided.
    pub steps: Vec<String>,
}

/// Why a host's chains give no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum LiveError {
    #[error("it is not in the pool any more, or not filtered by this version")]
    NoHost,
    #[error("reading its chains")]
    Read(#[from] Dom0Error),
    #[error("its chains cannot be followed")]
    Interpret(#[from] InterpretError),
}

/// A port of a bridge that is no guest's.
const UPLINK: &str = "uplink";

pub(super) async fn ask(
    pool: &Pool,
    desired: &Desired,
    inventory: &Inventory,
    hop: &Hop<'_>,
    packet: &Packet,
    family: Family,
) -> Result<LiveAnswer, LiveError> {
    let place = hop.place().ok_or(LiveError::NoHost)?;
    let host = inventory.hosts.get(&place.host).ok_or(LiveError::NoHost)?;
    let dom0 =
        Dom0 { client: &pool.client, signer: &pool.signer, host: &place.host, uuid: host.uuid.to_string() };
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
        Fate::Accepted => true,
        // Our chains decide about every bridged packet once they stand. Where they do not stand we are not in its way.
        Fate::NotDecided => observed.is_empty(),
        Fate::Dropped => false,
    };
    let wanted = judge(std::slice::from_ref(hop), desired, packet).iter().all(|side| side.passes);
    let step = |step: &ruleset::iptables::interpret::Step<'_>| {
        format!("{}: {}", step.chain.map_or("FORWARD", |chain| chain.as_str()), step.rule)
    };
    let steps = outcome.steps.iter().map(step).collect();
    Ok(LiveAnswer { host: host.name_label.clone(), allowed, agrees: allowed == wanted, steps })
}

impl fmt::Display for LiveAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, allowed, agrees, steps } = self;
        let word = if *allowed { "allowed" } else { "refused" };
        let agreement =
            if *agrees { "as the policy says" } else { "THE POLICY SAYS OTHERWISE: run `drawbridge plan`" };
        writeln!(f, "  {host}, installed chains: {word}, {agreement}")?;
        steps.iter().try_for_each(|step| writeln!(f, "    {step}"))
    }
}
