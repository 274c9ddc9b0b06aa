//! The Open vSwitch back end: compile a host's policy into flows of one bridge, read flows back from `dump-flows`, and
//! find the fewest changes that turn one into the other.
//!
//! A packet's way, by table ([`table`] has the whole list):
//!
//! ```text
//! 0 hook ─ from a filtered guest ─► 60 source ─► 61 ct ─► 62 guard ─► 64 egress ─► 65 provider ─► 66…68 groups ─┐
//!        ─ to one ─► 69, 70 ours? ─┐                                                                            │
//!        ─ to many ────────────────┴► 71 ct ────────────────────────────────────────────────► 72 deliver ◄──────┘
//!                        73, 74 each receiver of a broadcast ─► 75                                ◄─┤
//!                        75 ingress ─► 76 provider ─► 77…79 groups ─► 80 commit ─► 81 output      ◄─┤
//!                        82 commit ─► 83 to what is not filtered                                  ◄─┘
//! ```
//!
//! **Beside others.** XAPI's VIF locking (cookie 1, priorities 4000 to 8000) and whatever else lives in table 0 stands
//! below our hooks. A filtered guest's packet is taken over whole and never comes back to table 0: all that XAPI's locking
//! would check is checked here again, and more strictly. A packet between ports that are not filtered stays theirs, with two
//! exceptions on networks that have filtered ports: broadcast and multicast, and what comes from the wire for a MAC we do not
//! know. The switch's own flooding (`NORMAL`) cannot leave a port out, so these are copied port by port. What a VIF that
//! XAPI locks sends to many is left to XAPI.

mod compile;
mod dialect;
mod diff;
#[cfg(test)]
mod fixtures;
mod flow;
mod host;
pub mod interpret;
mod parse;
mod ports;
mod render;
mod snapshot;
pub mod table;

pub use compile::{CompileError, Compiled, compile};
pub use dialect::{Dialect, InvalidVersion, Lacks, Version};
pub use diff::{Change, FlowPlan, plan};
pub use flow::{
    Action, CtMatch, CtState, Destination, Ether, Flow, Key, Masked, Match, OfPort, Register, Vlan, Zone,
};
pub use host::{HostError, Network, OvsHost, PortKind, SwitchPort, parse_host};
pub use parse::{Observed, ObservedFlow, ParseError, parse_dump_flows};
pub use ports::masks;
pub use snapshot::Switch;

/// The upper half of our cookies, `DWBr`.
pub const COOKIE: u64 = 0x4457_4272_0000_0000;

/// The mask under which a cookie is ours.
pub const COOKIE_MASK: u64 = 0xffff_ffff_0000_0000;

/// The cookie of every flow compiled here; the lower half counts the layouts of [`table`].
pub const FLOW_COOKIE: u64 = COOKIE | 2;

/// The priorities of our flows in table 0.
pub const HOOK_PRIORITIES: std::ops::RangeInclusive<u16> = 45_000..=45_999;
