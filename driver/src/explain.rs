//! `explain`: whether a packet passes, by which rule, or why not; by the policy, and by what the hosts have installed.

mod endpoint;
mod live;
mod question;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::control::{Explanation, FamilyAnswer, Side};
use ruleset::ids::Mac;
use ruleset::model::{Direction, Family};
use ruleset::packet::Packet;
use ruleset::verdict::{self, Connection, Passage, verdict};
use xenapi::{Host, Ref};

use crate::desired::HostDesired;
use crate::intake::inventory::Inventory;
use crate::run::Pool;
pub use endpoint::EndpointError;
use endpoint::{Endpoint, Place};
pub use live::LiveError;
pub use question::{InvalidQuestion, Probe};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ExplainError {
    #[error("--from {0:?}")]
    From(String, #[source] EndpointError),
    #[error("--to {0:?}")]
    To(String, #[source] EndpointError),
    #[error("neither end is a VM of the pool: Drawbridge does not see such packets")]
    Elsewhere,
    #[error("the two ends have no address family in common that {0} can be sent in")]
    NoFamily(String),
    #[error("asking host {host}")]
    Live { host: String, source: LiveError },
}

/// What every host should hold.
pub type Wanted = BTreeMap<Ref<Host>, Arc<HostDesired>>;

/// What is asked, the packet understood.
#[derive(Clone, Debug)]
pub struct Question {
    /// A VM (name or uuid, `#device` for another VIF than the first), or an address.
    pub from: String,
    /// The same for the receiver.
    pub to: String,
    /// What the packet is.
    pub probe: Probe,
    /// Whether the hosts' installed rules are asked, too.
    pub live: bool,
}

/// Answers.
///
/// # Errors
/// [`ExplainError`]
pub async fn explain(
    pool: &Pool,
    wanted: &Wanted,
    inventory: &Inventory,
    question: &Question,
) -> Result<Explanation, ExplainError> {
    let Question { from, to, probe, live } = question;
    let sender = Endpoint::find(from, wanted, inventory).map_err(|e| ExplainError::From(from.clone(), e))?;
    let receiver = Endpoint::find(to, wanted, inventory).map_err(|e| ExplainError::To(to.clone(), e))?;
    if sender.place.is_none() && receiver.place.is_none() {
        return Err(ExplainError::Elsewhere);
    }
    let mut answers = Vec::new();
    for family in Family::ALL {
        let (Some(source), Some(destination)) = (sender.address(family), receiver.address(family)) else {
            continue;
        };
        let Some(packet) = packet(&sender, &receiver, (source, destination), probe, family) else { continue };
        let hops = hops(&sender, &receiver);
        let sides = judge(&hops, wanted, &packet);
        let mut on_hosts = Vec::new();
        if *live {
            for hop in &hops {
                let found = live::ask(pool, wanted, inventory, hop, &packet, family).await;
                on_hosts.push(
                    found.map_err(|source| ExplainError::Live { host: hop.host_name(inventory), source })?,
                );
            }
        }
        let allowed = sides.iter().all(|side| side.passes);
        answers.push(FamilyAnswer { family: family.into(), allowed, sides, live: on_hosts });
    }
    if answers.is_empty() {
        return Err(ExplainError::NoFamily(probe.to_string()));
    }
    Ok(Explanation { from: sender.label, to: receiver.label, packet: probe.to_string(), answers })
}

/// One way through a host: both ends on one bridge of it, or one end and the wire.
struct Hop<'a> {
    from: Option<&'a Place>,
    to: Option<&'a Place>,
}

impl Hop<'_> {
    /// The host; one of the ends is there.
    fn place(&self) -> Option<&Place> {
        self.from.or(self.to)
    }

    fn host_name(&self, inventory: &Inventory) -> String {
        let host = self.place().and_then(|place| inventory.hosts.get(&place.host));
        host.map(|host| host.name_label.clone()).unwrap_or_default()
    }
}

/// Two ends on one bridge of one host meet in one hop, others in one each.
fn hops<'a>(sender: &'a Endpoint, receiver: &'a Endpoint) -> Vec<Hop<'a>> {
    match (&sender.place, &receiver.place) {
        (Some(a), Some(b)) if a.host == b.host && a.bridge == b.bridge => {
            vec![Hop { from: Some(a), to: Some(b) }]
        }
        (a, b) => {
            let leaving = a.as_ref().map(|a| Hop { from: Some(a), to: None });
            let arriving = b.as_ref().map(|b| Hop { from: None, to: Some(b) });
            leaving.into_iter().chain(arriving).collect()
        }
    }
}

/// The verdict of each hop, until one stops the packet.
fn judge(hops: &[Hop<'_>], wanted: &Wanted, packet: &Packet) -> Vec<Side> {
    let mut sides = Vec::new();
    for hop in hops {
        let Some(place) = hop.place() else { continue };
        let Some(host) = wanted.get(&place.host) else { continue };
        let end = |place: Option<&'_ Place>| match place {
            None => verdict::Endpoint::Elsewhere,
            Some(place) => {
                let port = host.policy.attachments.iter().find(|a| a.port.vif == place.vif);
                port.map_or(verdict::Endpoint::OtherVif, |a| verdict::Endpoint::Port(&a.port))
            }
        };
        let way = verdict::Hop { from: end(hop.from), to: end(hop.to), bridge: place.bridge.as_str() };
        match verdict(&host.policy, &way, packet, Connection::New) {
            Passage::Passes { egress, ingress } => {
                for (direction, pass, place) in
                    [(Direction::Egress, egress, hop.from), (Direction::Ingress, ingress, hop.to)]
                {
                    if place.is_some() {
                        sides.push(words::pass(direction, &pass));
                    }
                }
            }
            Passage::Stops { side, reason } => {
                sides.push(words::stop(side, &reason));
                return sides;
            }
        }
    }
    sides
}

/// The first packet of the connection; `None` if the probe cannot be sent in this family.
fn packet(
    sender: &Endpoint,
    receiver: &Endpoint,
    addresses: (IpAddr, IpAddr),
    probe: &Probe,
    family: Family,
) -> Option<Packet> {
    // Whoever is not known has some address of its own: a router's, for all we can say.
    const SOMEBODY: Mac = Mac([0x02, 0, 0, 0, 0, 1]);
    let mac = |end: &Endpoint| end.place.as_ref().map_or(SOMEBODY, |place| place.mac);
    Packet::ip((mac(sender), mac(receiver)), addresses, probe.transport(family)?)
}

#[cfg(test)]
mod tests;
