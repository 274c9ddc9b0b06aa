//! The functions, and their arguments from the map of strings that XAPI hands over.

use std::fmt;
use std::str::FromStr;

use crate::auth::Auth;
use crate::code::{Code, Refusal};
use crate::payload::Encoding;
use crate::stage::{Part, UploadId};
use crate::{generation, hex, limits};

/// Argument key: the program's arguments as one string, quoted as `shell-words` reads it.
pub const ARGS: &str = "args";
/// Argument key: `ipv4` (default) or `ipv6`; iptables functions only.
pub const FAMILY: &str = "family";
/// Argument key: input for the program, or one part of it.
pub const STDIN: &str = "stdin";
/// Argument key: how `stdin` is encoded.
pub const STDIN_ENCODING: &str = "stdin_encoding";
/// Argument key: the upload this part belongs to.
pub const UPLOAD: &str = "upload";
/// Argument key: this part's number, from 1.
pub const PART: &str = "part";
/// Argument key: how many parts there are, at least 2.
pub const PARTS: &str = "parts";
/// Argument key: SHA-256 of all parts' `stdin` joined, still encoded, in hex.
pub const SHA256: &str = "sha256";
/// Argument key: `zlib+base64` if the caller takes compressed output.
pub const ACCEPT: &str = "accept";
/// Argument key: for writes, a number that never falls.
pub const GENERATION: &str = "generation";
/// Argument key: the signature, see [`crate::auth`].
pub const AUTH: &str = "auth";

const KEYS: [&str; 11] =
    [ARGS, FAMILY, STDIN, STDIN_ENCODING, UPLOAD, PART, PARTS, SHA256, ACCEPT, GENERATION, AUTH];

/// The plugin's functions, each named after the program it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// Reads our chains and the jumps to them.
    IptablesSave,
    /// Writes our chains.
    IptablesRestore,
    /// Reads and writes our flows.
    OvsOfctl,
    /// Reads bridges, ports and interfaces.
    OvsVsctl,
}

impl Function {
    /// All four.
    pub const ALL: [Self; 4] = [Self::IptablesSave, Self::IptablesRestore, Self::OvsOfctl, Self::OvsVsctl];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IptablesSave => "iptables-save",
            Self::IptablesRestore => "iptables-restore",
            Self::OvsOfctl => "ovs-ofctl",
            Self::OvsVsctl => "ovs-vsctl",
        }
    }

    /// Whether `family` has a meaning for it.
    #[must_use]
    pub fn has_family(self) -> bool {
        matches!(self, Self::IptablesSave | Self::IptablesRestore)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Function {
    type Err = Refusal;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|function| function.as_str() == name)
            .ok_or_else(|| Refusal::new(Code::UnknownFunction).detail(name))
    }
}

/// The address family of an iptables call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// `iptables-*`
    #[default]
    Ipv4,
    /// `ip6tables-*`
    Ipv6,
}

impl Family {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The arguments of a call, of the right form but not yet believed: the input is still encoded.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The program's arguments, not yet split.
    pub args: String,
    /// The address family; [`Family::Ipv4`] where it has no meaning.
    pub family: Family,
    /// Input for the program, or a part of it.
    pub input: Option<Input>,
    /// The caller takes compressed output.
    pub accepts_compressed: bool,
    /// The write's generation.
    pub generation: Option<u64>,
    /// The signature.
    pub auth: Auth,
}

/// Encoded input.
#[derive(Clone, Debug)]
pub struct Input {
    /// The text of `stdin`.
    pub text: String,
    /// Its encoding.
    pub encoding: Encoding,
    /// Set if this is a part of a staged input.
    pub part: Option<Part>,
}

impl Arguments {
    /// Reads the map.
    ///
    /// # Errors
    /// A [`Refusal`] for an unknown, duplicate or missing key, or a value of the wrong form.
    pub fn read(function: Function, members: &[(&str, &str)]) -> Result<Self, Refusal> {
        for (at, (key, _)) in members.iter().enumerate() {
            if !KEYS.contains(key) {
                return Err(Refusal::new(Code::UnknownKey).detail(key));
            }
            if members[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(Refusal::new(Code::DuplicateKey).detail(key));
            }
        }
        let get = |key: &str| members.iter().find(|(k, _)| *k == key).map(|(_, value)| *value);
        let need = |key: &str| get(key).ok_or_else(|| Refusal::new(Code::MissingKey).detail(key));

        let auth = get(AUTH).ok_or(Code::Unsigned)?;
        let auth = auth.parse().map_err(|e| bad_value(AUTH, e))?;
        let family = match get(FAMILY) {
            Some(_) if !function.has_family() => {
                return Err(Refusal::new(Code::UnknownKey)
                    .detail(FAMILY)
                    .detail(format!("not for {function}")));
            }
            None | Some("ipv4") => Family::Ipv4,
            Some("ipv6") => Family::Ipv6,
            Some(_) => return Err(bad_value(FAMILY, "expected ipv4 or ipv6")),
        };
        let accepts_compressed = match get(ACCEPT) {
            None => false,
            Some("zlib+base64") => true,
            Some(_) => return Err(bad_value(ACCEPT, "expected zlib+base64")),
        };
        let number = get(GENERATION)
            .map(|text| {
                let number = decimal(text).filter(|number| *number <= generation::HIGHEST);
                number.ok_or_else(|| bad_value(GENERATION, "expected a number up to 2^63"))
            })
            .transpose()?;
        let input = match get(STDIN) {
            Some(text) => {
                let encoding = need(STDIN_ENCODING)?.parse().map_err(|e| bad_value(STDIN_ENCODING, e))?;
                let staged = [UPLOAD, PART, PARTS, SHA256].iter().any(|key| get(key).is_some());
                let part = if staged {
                    Some(read_part(need(UPLOAD)?, need(PART)?, need(PARTS)?, need(SHA256)?)?)
                } else {
                    None
                };
                Some(Input { text: text.to_owned(), encoding, part })
            }
            None => {
                for key in [STDIN_ENCODING, UPLOAD, PART, PARTS, SHA256] {
                    if get(key).is_some() {
                        return Err(Refusal::new(Code::MissingKey).detail(STDIN));
                    }
                }
                None
            }
        };
        Ok(Self { args: need(ARGS)?.to_owned(), family, input, accepts_compressed, generation: number, auth })
    }
}

fn read_part(upload: &str, part: &str, parts: &str, sha256: &str) -> Result<Part, Refusal> {
    let number = |key, text| {
        decimal(text)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (1..=limits::UPLOAD_PARTS).contains(n))
            .ok_or_else(|| bad_value(key, format!("expected a number from 1 to {}", limits::UPLOAD_PARTS)))
    };
    let (part, parts) = (number(PART, part)?, number(PARTS, parts)?);
    if parts < 2 || part > parts {
        return Err(bad_value(PART, "expected part <= parts, and at least two parts"));
    }
    Ok(Part {
        upload: UploadId(
            hex::decode(upload).ok_or_else(|| bad_value(UPLOAD, "expected 32 lower-case hex digits"))?,
        ),
        part,
        parts,
        sha256: hex::decode(sha256).ok_or_else(|| bad_value(SHA256, "expected 64 lower-case hex digits"))?,
    })
}

fn bad_value(key: &str, problem: impl fmt::Display) -> Refusal {
    Refusal::new(Code::BadValue).detail(key).detail(problem)
}

/// A decimal number in its only spelling: digits, no sign, no leading zero.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (text.starts_with(|c: char| c.is_ascii_digit()) && !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
