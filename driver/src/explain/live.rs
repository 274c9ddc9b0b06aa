//! What a host's installed rules do with a packet, read back and walked.

mod chains;
mod flows;

use std::fmt;

use ruleset::ids::Interface;
use ruleset::model::Family;
use ruleset::packet::Packet;
use ruleset::{iptables, ovs};
use serde::Serialize;
use xenapi::Backend;

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
    /// Whether its rules let the packet pass.
    pub allowed: bool,
    /// Whether that is what the policy says.
    pub agrees: bool,
    /// The rules that matched, in order; the last decided.
    pub steps: Vec<String>,
}

/// Why a host's rules give no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum LiveError {
    #[error("it is not in the pool any more, or does not say which network back end it has")]
    NoHost,
    #[error("reading its rules")]
    Read(#[from] Dom0Error),
    #[error("its chains cannot be followed")]
    Chains(#[from] iptables::interpret::InterpretError),
    #[error("its flows cannot be followed")]
    Flows(#[from] ovs::interpret::InterpretError),
    #[error("its switch has no bridge {0}")]
    NoBridge(Interface),
    #[error("its switch has no port {0}")]
    NoPort(String),
}

/// What a host's rules do with a packet.
struct Fate {
    allowed: bool,
    steps: Vec<String>,
}

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
    let backend = desired.hosts.get(&place.host).ok_or(LiveError::NoHost)?.backend;
    let dom0 =
        Dom0 { client: &pool.client, signer: &pool.signer, host: &place.host, uuid: host.uuid.to_string() };
    let Fate { allowed, steps } = match backend {
        Backend::Bridge => chains::walk(&dom0, place, hop, packet, family).await?,
        Backend::OpenVSwitch => flows::walk(&dom0, place, hop, packet).await?,
    };
    let wanted = judge(std::slice::from_ref(hop), desired, packet).iter().all(|side| side.passes);
    Ok(LiveAnswer { host: host.name_label.clone(), allowed, agrees: allowed == wanted, steps })
}

impl fmt::Display for LiveAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, allowed, agrees, steps } = self;
        let word = if *allowed { "allowed" } else { "refused" };
        let agreement =
            if *agrees { "as the policy says" } else { "THE POLICY SAYS OTHERWISE: run `drawbridge plan`" };
        writeln!(f, "  {host}, installed rules: {word}, {agreement}")?;
        steps.iter().try_for_each(|step| writeln!(f, "    {step}"))
    }
}
