//! Our tables and registers. XAPI's PVS proxy has tables 101 and 102; everybody else lives in table 0.
//!
//! Every flow leads to a table with a higher number than its own, so no packet goes round in circles: dom0's plugin takes no
//! other flow.

use super::flow::Register;

/// Table 0, at the priorities of [`super::HOOK_PRIORITIES`].
pub const HOOK: u8 = 0;
/// Is the sender who it says it is?
pub const SOURCE: u8 = 60;
/// Connection tracking for what a filtered guest sends.
pub const TRACK_FROM: u8 = 61;
/// What no guest may send; what a guest claims in neighbour discovery.
pub const GUARD: u8 = 62;
/// The link-layer addresses it announces there.
pub const ND_LINK: u8 = 63;
/// The sender's side: essentials, state.
pub const EGRESS: u8 = 64;
/// The operator's rules for senders.
pub const PROVIDER_EGRESS: u8 = 65;
/// Which groups does the sender have?
pub const GROUPS_EGRESS: u8 = 66;
/// The groups' rules, and the members they refer to.
pub const RULES_EGRESS: u8 = 67;
/// Did one of them pass?
pub const JUDGED_EGRESS: u8 = 68;
/// On which network is an untagged packet?
pub const UNTAGGED: u8 = 69;
/// Is the MAC asked for one of ours on this network?
pub const OURS: u8 = 70;
/// Connection tracking for what comes from elsewhere.
pub const TRACK_TO: u8 = 71;
/// Who receives?
pub const DELIVER: u8 = 72;
/// Broadcast and multicast: one bucket of receivers after the other, then the rest.
pub const MANY: u8 = 73;
/// One bucket of receivers.
pub const BUCKET: u8 = 74;
/// The receiver's side: essentials, state.
pub const INGRESS: u8 = 75;
/// The operator's rules for receivers.
pub const PROVIDER_INGRESS: u8 = 76;
/// Which groups does the receiver have?
pub const GROUPS_INGRESS: u8 = 77;
/// The groups' rules, and the members they refer to.
pub const RULES_INGRESS: u8 = 78;
/// Did one of them pass?
pub const JUDGED_INGRESS: u8 = 79;
/// The connection is remembered as judged well.
pub const ACCEPT: u8 = 80;
/// To the receiver's interfaces.
pub const OUTPUT: u8 = 81;
/// To what is not filtered: the connection is remembered if a rule passed it.
pub const REST: u8 = 82;
/// To what is not filtered.
pub const REST_OUTPUT: u8 = 83;
/// Has any of the ports that share a MAC accepted?
pub const SETTLE: u8 = 84;
/// The connection is revoked unless it was judged well in this epoch.
pub const DENY: u8 = 85;
/// From the wire to nobody we know.
pub const WIRE: u8 = 86;
/// Which networks of the bridge are guarded. No packet comes here: the plugin reads it, to close them after a restart.
pub const GUARDED: u8 = 87;
/// Which VM reaches XAPI from which of them all the same. No packet comes here either.
pub const LIFELINES: u8 = 88;

/// Where no packet comes by: for flows that the switch is only to read.
pub const TRIAL: u8 = 99;

/// How the packet passed the sender's side: see [`way`]. (All registers are below 8: Open vSwitch 2.5 has no more.)
pub const WAY: Register = 4;
/// The network. Its number is that of its conntrack zone, too.
pub const NETWORK: Register = 5;
/// The sending port.
pub const FROM: Register = 6;
/// The receiving port.
pub const TO: Register = 7;
/// The group whose rules are asked.
pub const GROUP: Register = 3;
/// 1 when a rule passed.
pub const PASSED: Register = 2;
/// The bucket of receivers; done with when rules are asked.
pub const BUCKET_NUMBER: Register = PASSED;
/// 1 when a receiver has accepted this packet.
pub const ACCEPTED: Register = 1;
/// Whether several ports share the destination MAC: see [`shared`].
pub const SHARED: Register = 0;

/// Values of [`WAY`]; 0 is "as an essential, or from where nothing is checked".
pub mod way {
    /// Its connection was allowed: the receiver's side is not asked.
    pub const CONNECTION: u32 = 1;
    /// The rules allowed it: the connection is to be remembered.
    pub const RULES: u32 = 2;
}

/// Values of [`SHARED`]; 0 is "one port at most".
pub mod shared {
    /// They are asked.
    pub const ASKED: u32 = 1;
    /// One of them has refused the packet.
    pub const REFUSED: u32 = 2;
}
