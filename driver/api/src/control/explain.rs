//! What becomes of a packet.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::{Direction, Ethertype};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The sender: a VM (name or uuid, `#device` for another VIF than the first), or an address.
    pub from: String,
    /// The same for the receiver.
    pub to: String,
    /// `tcp/22`, `udp/53`, `icmp`, `icmp/3/4`, `gre`, `47`.
    pub packet: String,
    /// Whether the hosts' installed rules are asked, too.
    pub live: bool,
}

/// Whether a packet passes, and why: an answer for each family that both ends have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// The packet's sender, as understood.
    pub from: String,
    /// Its receiver.
    pub to: String,
    /// What it is.
    pub packet: String,
    /// By family.
    pub answers: Vec<FamilyAnswer>,
}

/// Whether the first packet of a connection of one family passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FamilyAnswer {
    /// IPv4 or IPv6.
    pub family: Ethertype,
    /// By the policy.
    pub allowed: bool,
    /// What decides, side by side: the sender's, then, if it passes that, the receiver's.
    pub sides: Vec<Side>,
    /// What the hosts' rules say; absent if they were not asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<LiveAnswer>,
}

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// Egress or ingress.
    pub direction: Direction,
    /// Whether the packet passes it.
    pub passes: bool,
    /// The step of docs/security.md that decides, in words.
    pub because: String,
    /// The group whose rule decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The rule that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// What one host does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
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

impl Explanation {
    /// Whether the hosts that were asked do what the policy says.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.answers.iter().flat_map(|answer| &answer.live).all(|live| live.agrees)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, packet, answers } = self;
        writeln!(f, "{packet} from {from} to {to}")?;
        answers.iter().try_for_each(|answer| write!(f, "{answer}"))
    }
}

impl fmt::Display for FamilyAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, allowed, sides, live } = self;
        let family = if *family == Ethertype::Ipv4 { "ipv4" } else { "ipv6" };
        writeln!(f, "{family}: {}", if *allowed { "allowed" } else { "refused" })?;
        for Side { direction, passes, because, group: _, rule: _ } in sides {
            let direction = if *direction == Direction::Egress { "egress" } else { "ingress" };
            writeln!(f, "  {direction}: {}: {because}", if *passes { "passes" } else { "stops" })?;
        }
        live.iter().try_for_each(|answer| write!(f, "{answer}"))
    }
}

impl fmt::Display for LiveAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, allowed, agrees, steps } = self;
        let word = if *allowed { "allowed" } else { "refused" };
        let agreement = if *agrees { "as the policy says" } else { "THE POLICY SAYS OTHERWISE" };
        writeln!(f, "  {host}, installed rules: {word}, {agreement}")?;
        steps.iter().try_for_each(|step| writeln!(f, "    {step}"))
    }
}
