//! Why a call was refused: one code per cause, each documented here and in `docs/plugin.md`.

use std::fmt;
use std::str::FromStr;

macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident = $text:literal,)+) => {
        /// The first string of XAPI's `ErrorDescription` when the plugin refuses or fails.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])+ $name,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The text on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

codes! {
    /// The function is none of the four. XAPI's own code for it. Detail: the name.
    UnknownFunction = "UNKNOWN_XENAPI_PLUGIN_FUNCTION",
    /// `argv[1]` is missing, not UTF-8, or not one XML-RPC call of (session, struct of strings). Detail: where.
    MalformedCall = "DRAWBRIDGE_MALFORMED_CALL",
    /// `argv[1]` is longer than the limit. Detail: bytes, limit.
    CallTooLarge = "DRAWBRIDGE_CALL_TOO_LARGE",
    /// An argument key nobody knows, or one that has no meaning for this call. Detail: the key, why.
    UnknownKey = "DRAWBRIDGE_UNKNOWN_KEY",
    /// An argument key stands twice. Detail: the key.
    DuplicateKey = "DRAWBRIDGE_DUPLICATE_KEY",
    /// A key this call needs is not there. Detail: the key.
    MissingKey = "DRAWBRIDGE_MISSING_KEY",
    /// A key's value has the wrong form. Detail: the key, what was expected.
    BadValue = "DRAWBRIDGE_BAD_VALUE",

    /// The call is not signed.
    Unsigned = "DRAWBRIDGE_UNSIGNED",
    /// `authorized_keys` names no key at all: nobody may call.
    NoAuthorizedKey = "DRAWBRIDGE_NO_AUTHORIZED_KEY",
    /// The call is signed by a key that is not in `authorized_keys`. Detail: the key's id.
    UnknownSigner = "DRAWBRIDGE_UNKNOWN_SIGNER",
    /// The signature does not fit this host, function, time, nonce and arguments.
    BadSignature = "DRAWBRIDGE_BAD_SIGNATURE",
    /// The call's time lies outside the window. Detail: skew in seconds (positive: the caller's clock is ahead), window.
    ClockSkew = "DRAWBRIDGE_CLOCK_SKEW",
    /// The nonce was seen before.
    Replayed = "DRAWBRIDGE_REPLAYED",
    /// The call was signed before dom0 booted, or before times that were already forgotten. Detail: seconds too old.
    SignedTooEarly = "DRAWBRIDGE_SIGNED_TOO_EARLY",
    /// More calls inside one time window than are remembered. Detail: the limit.
    TooManyCalls = "DRAWBRIDGE_TOO_MANY_CALLS",

    /// `dom0.toml` cannot be read. Detail: file, line, problem.
    BadConfig = "DRAWBRIDGE_BAD_CONFIG",
    /// `authorized_keys` cannot be read. Detail: file, line, problem.
    BadKeysFile = "DRAWBRIDGE_BAD_KEYS_FILE",
    /// A file the plugin trusts could be written by others than root. Detail: file, problem.
    UnsafeFile = "DRAWBRIDGE_UNSAFE_FILE",
    /// This host's uuid is not known: `/etc/xensource-inventory` has no `INSTALLATION_UUID`. Detail: file, problem.
    NoHostUuid = "DRAWBRIDGE_NO_HOST_UUID",
    /// The state directory is not a root-owned directory of mode 0700. Detail: path, problem.
    UnsafeState = "DRAWBRIDGE_UNSAFE_STATE",
    /// The state directory could not be read or written. Detail: path, error.
    StateIo = "DRAWBRIDGE_STATE_IO",

    /// The input is not base64.
    BadBase64 = "DRAWBRIDGE_BAD_BASE64",
    /// The input is not a zlib stream, or a cut one.
    BadCompression = "DRAWBRIDGE_BAD_COMPRESSION",
    /// The input is larger than the limit, decoded or staged. Detail: limit in bytes.
    InputTooLarge = "DRAWBRIDGE_INPUT_TOO_LARGE",
    /// The joined parts do not have the announced SHA-256.
    BadHash = "DRAWBRIDGE_BAD_HASH",
    /// A part came before the ones in front of it (or they were already forgotten). Detail: the part that is missing.
    PartMissing = "DRAWBRIDGE_PART_MISSING",
    /// The upload took too long. Detail: seconds since its first part, limit.
    UploadExpired = "DRAWBRIDGE_UPLOAD_EXPIRED",
    /// The upload, or this part of it, was already there.
    UploadReused = "DRAWBRIDGE_UPLOAD_REUSED",
    /// This part belongs to a call that differs from the first part's.
    UploadMismatch = "DRAWBRIDGE_UPLOAD_MISMATCH",

    /// The program's arguments are not in its grammar. Detail: program, the argument's position from 1, problem.
    ArgumentRefused = "DRAWBRIDGE_ARGUMENT_REFUSED",
    /// The input holds a line that is not allowed. Detail: line number from 1, problem.
    InputRefused = "DRAWBRIDGE_INPUT_REFUSED",
    /// What would stand then costs too much: see [`Code::InputRefused`] for what is wrong in itself. Detail: what, and the bound.
    TooCostly = "DRAWBRIDGE_TOO_COSTLY",
    /// A flow carries, or a deletion may reach, a cookie that is not ours. Detail: line number from 1, problem.
    ForeignCookie = "DRAWBRIDGE_FOREIGN_COOKIE",
    /// A flow decides about something of the switch, as it is now, that is no guest's: a port, a MAC of dom0's, a VLAN that is no
    /// network, a place where somebody else's flow stands. Detail: line number from 1, problem.
    SwitchMismatch = "DRAWBRIDGE_SWITCH_MISMATCH",
    /// The bridge does not exist on this host. Detail: its name.
    NoSuchBridge = "DRAWBRIDGE_NO_SUCH_BRIDGE",
    /// A write, or a read in order to write, with an older generation than one already seen. Detail: the call's, the one seen.
    StaleGeneration = "DRAWBRIDGE_STALE_GENERATION",

    /// Another write, or another program with the xtables lock, took too long. Detail: seconds waited; or
    /// the program, what it said.
    Busy = "DRAWBRIDGE_BUSY",
    /// The program is not installed. Detail: its name.
    ProgramMissing = "DRAWBRIDGE_PROGRAM_MISSING",
    /// The program could not be started or fed. Detail: its name, error.
    ProgramFailed = "DRAWBRIDGE_PROGRAM_FAILED",
    /// The program could not be kept from what it does not need, and was not started. Detail: its name, the step, error.
    NotConfined = "DRAWBRIDGE_NOT_CONFINED",
    /// The program ran longer than the limit and was killed. Detail: its name, seconds.
    ProgramTimeout = "DRAWBRIDGE_PROGRAM_TIMEOUT",
    /// The program was ended by a signal. Detail: its name, the signal's number.
    ProgramKilled = "DRAWBRIDGE_PROGRAM_KILLED",
    /// The program wrote more than the limit and was killed. Detail: its name, which stream, limit in bytes.
    OutputTooLarge = "DRAWBRIDGE_OUTPUT_TOO_LARGE",
    /// The program's output is not what it should be, so nothing of it is passed on. Detail: program, line, problem.
    OutputUnparsable = "DRAWBRIDGE_OUTPUT_UNPARSABLE",
    /// The rules stand, but bridged packets could not be sent through them. Detail: file, error.
    BridgeNetfilter = "DRAWBRIDGE_BRIDGE_NETFILTER",
    /// The rules stand, but what keeps bridged packets out of dom0's own connection tracking does not, and could not be put
    /// right. Detail: the family, how it stands.
    Boundary = "DRAWBRIDGE_BOUNDARY",
    /// The rules stand, but which bridges are guarded could not be remembered for dom0's next boot. Detail: file, problem.
    GuardedRecord = "DRAWBRIDGE_GUARDED_RECORD",
    /// A fault of the plugin's own. Detail: where.
    Internal = "DRAWBRIDGE_INTERNAL",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no [`Code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode;

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a code of the drawbridge plugin")
    }
}

impl std::error::Error for UnknownCode {}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(UnknownCode)
    }
}

/// Longest detail that leaves the plugin: a refusal must not carry the refused input back.
const DETAIL_CHARS: usize = 200;

/// A refusal: XAPI's `ErrorDescription`, `[code, detail…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The cause.
    pub code: Code,
    /// What and where, in the order [`Code`] documents. Never a session, a key or the input.
    pub details: Vec<String>,
}

impl Refusal {
    /// A refusal without details.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self { code, details: Vec::new() }
    }

    /// Adds a detail: control characters become `?`, anything long is cut.
    #[must_use]
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        let text = detail.to_string();
        let clean = text.chars().take(DETAIL_CHARS).map(|c| if c.is_control() { '?' } else { c });
        self.details.push(clean.collect());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        for detail in &self.details {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}
