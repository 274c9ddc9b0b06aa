//! Every bound the two ends share, with its reason.

/// Longest `argv[1]` the kernel hands to a program: `MAX_ARG_STRLEN` (32 pages) less the terminating NUL. XAPI passes
/// the whole methodCall as that one argument and does not check (facts: execve fails with E2BIG, the caller sees
/// `XENAPI_PLUGIN_FAILURE ["non-zero exit", "", ""]`).
pub const ARGV_BYTES: usize = 131_071;

/// Largest RPC body XAPI reads: `Constants.http_limit_max_rpc_size`.
pub const RPC_BODY_BYTES: usize = 300 * 1024;

/// Bytes assumed for the session reference when a call is measured. `OpaqueRef:` and a uuid are 46.
pub const SESSION_BYTES: usize = 64;

/// Largest input for a program, decoded. 500 VIFs with 100 rules of their own each are about 6 MB.
pub const INPUT_BYTES: usize = 16 * 1024 * 1024;

/// Most lines of an input. Honest ones have 60 bytes and more, so that an input of the largest size has no more than this.
pub const INPUT_LINES: usize = 262_144;

/// Most calls with input that are decoded, checked or carried out at a time. The next waits.
pub const WRITERS_AT_ONCE: usize = 4;

/// Most calls without input that are carried out at a time, for their output is in memory. The next waits.
pub const READERS_AT_ONCE: usize = 8;

/// Most parts of one upload.
pub const UPLOAD_PARTS: u32 = 64;

/// Largest upload, encoded (the parts' `stdin` joined).
pub const UPLOAD_BYTES: usize = UPLOAD_PARTS as usize * ARGV_BYTES;

/// Seconds from an upload's first part to its last.
pub const UPLOAD_SECONDS: u64 = 120;

/// Most keys that may call one host: what is kept for each is bounded, and so all of it is.
pub const KEYS: usize = 16;

/// Most uploads of one key staged at a time on one host, finished ones that are still remembered included. The next takes the place of one.
pub const UPLOADS: usize = 32;

/// Most bytes of one key staged at a time on one host, all its uploads together: the largest, and one more.
pub const STAGED_BYTES: u64 = 2 * UPLOAD_BYTES as u64;

/// Seconds a finished or expired upload's id is remembered, so that its reuse can be named.
pub const UPLOAD_MEMORY_SECONDS: u64 = 600;

/// Largest standard output of a program that is passed on. More is refused, never cut. Twice what rules of ours may take there:
/// dom0's own are in it, too.
pub const OUTPUT_BYTES: usize = 32 * 1024 * 1024;

/// Largest standard error of a program that is passed on. More is refused, never cut.
pub const ERROR_OUTPUT_BYTES: usize = 64 * 1024;

/// Output shorter than this is not worth compressing.
pub const COMPRESS_FROM_BYTES: usize = 1024;

/// Seconds a call's time may differ from dom0's clock, unless `dom0.toml` says otherwise.
pub const TIME_WINDOW_SECONDS: u64 = 120;

/// Most nonces of one key remembered at a time: a bound on the state directory, far above any real rate of calls.
pub const NONCES: usize = 20_000;

/// Longest line of flows: a bucket of a broadcast's receivers, or a port's groups.
pub const FLOW_LINE_BYTES: usize = 8192;

/// Most flows of ours that may stand on a bridge: 4,800 ports are some 150,000. They must be readable, too, in
/// [`OUTPUT_BYTES`].
pub const FLOWS: usize = 200_000;

/// Most lines of one input of flows. A switch without bundles may need two for each that comes and one for each that goes.
pub const FLOW_LINES: usize = 3 * FLOWS;

/// Most times that one flow leads to a table: a bucket has 150 receivers, and no more groups than this fit into a line.
pub const FLOW_RESUBMITS: usize = 200;

/// Most rules of ours that one packet may meet in `filter`, by the longest way: some milliseconds of dom0's time at the worst.
/// A port in twenty groups of 250 rules is at some 5,000, one in a group of 12,000 at some 24,000.
pub const WALK_RULES: u64 = 32_768;

/// Most chains that one walk may lead through. nf_tables takes 16, iptables-legacy any number.
pub const WALK_CHAINS: usize = 64;

/// Most rules in `dwb-raw`, one a bridge: every packet of a guest meets all of them.
pub const ZONE_RULES: u64 = 2_048;

/// Most rules of ours that may stand in one family.
pub const RULES: u64 = 500_000;

/// Most bytes that our rules may take in a dump, where dom0's own stand, too: what cannot be read back can never be mended.
pub const DUMPED_RULE_BYTES: u64 = OUTPUT_BYTES as u64 / 2;

/// Most bytes that our flows on a bridge may take in a dump. Others' stand there, too, and counters grow.
pub const DUMPED_FLOW_BYTES: usize = OUTPUT_BYTES / 4 * 3;

/// Most deletions of a whole table in one input of flows: each is looked for among all that stands.
pub const FLOW_SWEEPS: usize = 64;
