//! The caller's side: an invocation becomes one or several signed argument maps.

use std::collections::BTreeMap;
use std::fmt;

use crate::auth::{Nonce, Signed};
use crate::call::{self, Family, Function};
use crate::key::{self, InvalidKey, PrivateKeyText, PublicKey, PublicKeyLine};
use crate::payload::{self, Encoding};
use crate::stage::UploadId;
use crate::xmlrpc::{MethodCall, Value, encode_call};
use crate::{hex, limits};

/// One run of a program in dom0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The program.
    pub function: Function,
    /// Its arguments (without its own name).
    pub args: Vec<String>,
    /// The address family; not sent for functions that have none.
    pub family: Family,
    /// Its standard input.
    pub stdin: Option<Vec<u8>>,
    /// A number that never falls: for writes, and for reads (`iptables-save`, `dump-flows`) that prepare one.
    pub generation: Option<u64>,
}

/// Signs calls with a private key.
pub struct Signer(ed25519_compact::KeyPair);

impl Signer {
    /// From the text of a private key file.
    ///
    /// # Errors
    /// [`InvalidKey`]; it never shows the text.
    pub fn from_private_key(text: &str) -> Result<Self, InvalidKey> {
        key::parse_private(text).map(Self)
    }

    /// The public half, which dom0 must list.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.pk)
    }

    /// Adds `auth` to `arguments`, with a nonce of the caller's choice. [`signed_calls`] is what callers want;
    /// this is for tests that need a call to be wrong in one place.
    pub fn sign(
        &self,
        host_uuid: &str,
        function: Function,
        arguments: &mut BTreeMap<String, String>,
        unix_seconds: u64,
        nonce: Nonce,
    ) {
        let pairs: Vec<(&str, &str)> = arguments.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let auth = Signed { host_uuid, function, arguments: &pairs }.sign(&self.0, unix_seconds, nonce);
        arguments.insert(call::AUTH.to_owned(), auth.to_string());
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public_key().id())
    }
}

/// Why an invocation could not be put into calls.
#[derive(Debug)]
#[non_exhaustive]
pub enum EncodeError {
    /// An argument holds a control character, which XAPI would drop or change. Its position, from 1.
    ControlCharacter(usize),
    /// The input is longer than this many bytes.
    InputTooLarge(usize),
    /// The arguments alone do not fit into one call.
    ArgumentsTooLarge,
    /// The system gave no random bytes.
    Random(getrandom::Error),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlCharacter(at) => write!(f, "argument {at} holds a control character"),
            Self::InputTooLarge(limit) => write!(f, "the input is larger than {limit} bytes"),
            Self::ArgumentsTooLarge => f.write_str("the arguments do not fit into one call"),
            Self::Random(_) => f.write_str("no random bytes"),
        }
    }
}

impl std::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Random(source) => Some(source),
            Self::ControlCharacter(_) | Self::InputTooLarge(_) | Self::ArgumentsTooLarge => None,
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], EncodeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(EncodeError::Random)?;
    Ok(bytes)
}

/// A fresh key pair: the private key's file, and the line for dom0's `authorized_keys`.
///
/// # Errors
/// [`EncodeError::Random`] if the system has no random bytes.
pub fn generate_keypair() -> Result<(PrivateKeyText, PublicKeyLine), EncodeError> {
    let seed = random::<32>()?;
    let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new(seed));
    let line = PublicKeyLine { key: PublicKey(pair.pk), comment: "drawbridge".to_owned() };
    Ok((PrivateKeyText::from_seed(&seed), line))
}

/// One or several signed argument maps, to be sent in order; the last one runs the program.
///
/// The input is compressed when that helps, and staged in parts when a call would not fit into one `argv` entry
/// ([`limits::ARGV_BYTES`], which is always reached before [`limits::RPC_BODY_BYTES`]).
///
/// # Errors
/// [`EncodeError`].
pub fn signed_calls(
    invocation: &Invocation,
    signer: &Signer,
    host_uuid: &str,
    unix_seconds: u64,
) -> Result<Vec<BTreeMap<String, String>>, EncodeError> {
    let Invocation { function, args, family, stdin, generation } = invocation;
    if let Some(at) = args.iter().position(|arg| arg.chars().any(char::is_control)) {
        return Err(EncodeError::ControlCharacter(at + 1));
    }
    let mut base = BTreeMap::new();
    base.insert(call::ARGS.to_owned(), shell_words::join(args));
    base.insert(call::ACCEPT.to_owned(), Encoding::ZlibBase64.to_string());
    if function.has_family() {
        base.insert(call::FAMILY.to_owned(), family.to_string());
    }
    if let Some(generation) = generation {
        base.insert(call::GENERATION.to_owned(), generation.to_string());
    }
    let mut calls = with_input(*function, base, stdin.as_deref())?;
    for arguments in &mut calls {
        signer.sign(host_uuid, *function, arguments, unix_seconds, Nonce(random()?));
        if argv_bytes(*function, arguments) > limits::ARGV_BYTES {
            return Err(EncodeError::ArgumentsTooLarge);
        }
    }
    Ok(calls)
}

/// `base` with the input added: as one call if it fits, else in parts. Unsigned.
fn with_input(
    function: Function,
    base: BTreeMap<String, String>,
    stdin: Option<&[u8]>,
) -> Result<Vec<BTreeMap<String, String>>, EncodeError> {
    let Some(bytes) = stdin else { return Ok(vec![base]) };
    if bytes.len() > limits::INPUT_BYTES {
        return Err(EncodeError::InputTooLarge(limits::INPUT_BYTES));
    }
    let compressed = payload::compress(bytes);
    let (text, encoding) = match plain(bytes) {
        Some(text) if escaped_bytes(text) <= compressed.len() => (text, Encoding::Plain),
        _ => (compressed.as_str(), Encoding::ZlibBase64),
    };
    let room = room(function, &base);
    let carry = |text: &str, encoding: Encoding| {
        let mut arguments = base.clone();
        arguments.insert(call::STDIN.to_owned(), text.to_owned());
        arguments.insert(call::STDIN_ENCODING.to_owned(), encoding.to_string());
        arguments
    };
    if escaped_bytes(text) <= room {
        return Ok(vec![carry(text, encoding)]);
    }
    // Base64 may be cut anywhere and needs no escapes.
    let parts = compressed.len().div_ceil(room.max(1));
    if room == 0 || parts > limits::UPLOAD_PARTS as usize {
        return Err(EncodeError::InputTooLarge(room * limits::UPLOAD_PARTS as usize));
    }
    let upload = UploadId(random()?).to_string();
    let sha256 = hex::encode(&hmac_sha256::Hash::hash(compressed.as_bytes()));
    let cut = |at: usize| &compressed[at * room..compressed.len().min((at + 1) * room)];
    Ok((0..parts.max(2))
        .map(|at| {
            let mut arguments = carry(if at < parts { cut(at) } else { "" }, Encoding::ZlibBase64);
            arguments.insert(call::UPLOAD.to_owned(), upload.clone());
            arguments.insert(call::PART.to_owned(), (at + 1).to_string());
            arguments.insert(call::PARTS.to_owned(), parts.max(2).to_string());
            arguments.insert(call::SHA256.to_owned(), sha256.clone());
            arguments
        })
        .collect())
}

/// `bytes` as text that survives XAPI unchanged: it turns CR into LF, drops other control characters, and trims
/// white space in places, so only text without either goes plain.
fn plain(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let safe =
        |c: char| (!c.is_control() || matches!(c, '\n' | '\t')) && !matches!(c, '\u{FFFE}' | '\u{FFFF}');
    (text.chars().all(safe) && text.trim() == text).then_some(text)
}

/// Bytes left for `stdin` in one call that also carries a part's keys and a signature.
fn room(function: Function, base: &BTreeMap<String, String>) -> usize {
    let mut widest = base.clone();
    let filler = |bytes: usize| "0".repeat(bytes);
    widest.insert(call::STDIN.to_owned(), "x".to_owned());
    widest.insert(call::STDIN_ENCODING.to_owned(), Encoding::ZlibBase64.to_string());
    widest.insert(call::UPLOAD.to_owned(), filler(32));
    widest.insert(call::PART.to_owned(), filler(3));
    widest.insert(call::PARTS.to_owned(), filler(3));
    widest.insert(call::SHA256.to_owned(), filler(64));
    // "v1", key id, seconds (20 digits at most), nonce, signature.
    widest.insert(call::AUTH.to_owned(), filler(2 + 1 + 16 + 1 + 20 + 1 + 32 + 1 + 88));
    (limits::ARGV_BYTES + 1).saturating_sub(argv_bytes(function, &widest))
}

/// Bytes of `argv[1]` as XAPI writes it, session included.
fn argv_bytes(function: Function, arguments: &BTreeMap<String, String>) -> usize {
    let members = arguments.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
    let session = Value::String("x".repeat(limits::SESSION_BYTES));
    encode_call(&MethodCall { name: function.to_string(), params: vec![session, Value::Struct(members)] })
        .len()
}

/// Bytes of `text` after XAPI's escaping.
fn escaped_bytes(text: &str) -> usize {
    let extra = |b: u8| match b {
        b'<' | b'>' => 3,
        b'&' => 4,
        b'"' => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(extra).sum::<usize>()
}

#[cfg(test)]
mod tests;
