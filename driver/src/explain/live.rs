//! What a host's installed rules do with a packet, read back and walked.

mod chains;
mod flows;

use api::control::LiveAnswer;
use ruleset::ids::Interface;
use ruleset::model::Family;
use ruleset::packet::Packet;
use ruleset::{iptables, ovs};
use xenapi::Backend;

use super::{Hop, Wanted, judge};
use crate::dom0::{Dom0, Dom0Error};
use crate::intake::inventory::Inventory;
use crate::run::Pool;

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
    wanted: &Wanted,
    inventory: &Inventory,
    hop: &Hop<'_>,
    packet: &Packet,
    family: Family,
) -> Result<LiveAnswer, LiveError> {
    let place = hop.place().ok_or(LiveError::NoHost)?;
    let host = inventory.hosts.get(&place.host).ok_or(LiveError::NoHost)?;
    let backend = wanted.get(&place.host).ok_or(LiveError::NoHost)?.backend;
    let dom0 =
        Dom0 { client: &pool.client, signer: &pool.signer, host: &place.host, uuid: host.uuid.to_string() };
    let Fate { allowed, steps } = match backend {
        Backend::Bridge => chains::walk(&dom0, place, hop, packet, family).await?,
        Backend::OpenVSwitch => flows::walk(&dom0, place, hop, packet).await?,
    };
    let expected = judge(std::slice::from_ref(hop), wanted, packet).iter().all(|side| side.passes);
    Ok(LiveAnswer { host: host.name_label.clone(), allowed, agrees: allowed == expected, steps })
}
