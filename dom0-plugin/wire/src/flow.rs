//! The part of Open vSwitch's flow tables that is ours: what the plugin lets through and the compiler stays within.

/// Our cookies: these upper 32 bits (`DWBr`), anything below.
pub const COOKIE: u64 = 0x4457_4272_0000_0000;

/// The mask under which a cookie is ours.
pub const COOKIE_MASK: u64 = 0xffff_ffff_0000_0000;

/// Our own tables. XAPI's PVS proxy uses 101 and 102, everything else lives in 0.
pub const TABLES: std::ops::RangeInclusive<u64> = 60..=99;

/// Priorities of our flows in table 0: above XAPI's VIF locking (4000 to 8000) and the default of 32768. Adding a flow
/// replaces one with the same match and priority whatever its cookie, so nobody else's priorities may be used.
pub const HOOK_PRIORITIES: std::ops::RangeInclusive<u64> = 45_000..=45_999;

/// Where flows say which networks of a bridge are guarded; no packet comes there.
pub const GUARDED: u8 = 87;

/// Where flows say which VM reaches XAPI from which of them all the same; no packet comes there either.
pub const LIFELINES: u8 = 88;

/// Where no packet comes by: for flows that the switch is only to read.
pub const TRIAL: u8 = 99;

/// Receivers of a broadcast stand in this many buckets, by their number.
pub const BUCKETS: u32 = 32;
