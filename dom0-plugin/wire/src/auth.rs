//! Proof that the caller holds an authorised key: `v1 <key id> <unix seconds> <nonce> <signature>`.
//!
//! The signature is Ed25519 over the SHA-256 of a canonical text, every part of which is either of a fixed form or
//! preceded by its length, so that no two calls share one text:
//!
//! ```text
//! drawbridge-call v1\n
//! host <uuid>\n
//! function <name>\n
//! time <unix seconds>\n
//! nonce <32 hex digits>\n
//! <key> <length in bytes>\n<value>\n      for every other argument, by ascending key
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::call::Function;
use crate::hex;
use crate::key::{KeyId, PublicKey};

/// 16 random bytes that make a call unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; 16]);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// The argument `auth`, read but not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Which key claims to have signed.
    pub key_id: KeyId,
    /// When, by the caller's clock, in seconds since 1970.
    pub unix_seconds: u64,
    /// Which call.
    pub nonce: Nonce,
    signature: ed25519_compact::Signature,
}

/// The argument `auth` has not the form `v1 <key id> <unix seconds> <nonce> <signature>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedAuth;

impl fmt::Display for MalformedAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected `v1 <key id> <unix seconds> <nonce> <signature>`")
    }
}

impl std::error::Error for MalformedAuth {}

impl FromStr for Auth {
    type Err = MalformedAuth;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split(' ').collect();
        let ["v1", key_id, seconds, nonce, signature] = words[..] else { return Err(MalformedAuth) };
        let signature = STANDARD.decode(signature).map_err(|_| MalformedAuth)?;
        Ok(Self {
            key_id: key_id.parse().map_err(|_| MalformedAuth)?,
            unix_seconds: crate::call::decimal(seconds).ok_or(MalformedAuth)?,
            nonce: Nonce(hex::decode(nonce).ok_or(MalformedAuth)?),
            signature: ed25519_compact::Signature::from_slice(&signature).map_err(|_| MalformedAuth)?,
        })
    }
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = STANDARD.encode(self.signature.as_ref());
        write!(f, "v1 {} {} {} {signature}", self.key_id, self.unix_seconds, self.nonce)
    }
}

/// What is signed, `auth` itself left out: the call on its host.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The host the call is meant for, as `INSTALLATION_UUID` and XAPI's `host.uuid` have it.
    pub host_uuid: &'a str,
    /// The function.
    pub function: Function,
    /// The arguments; `auth` among them is skipped, the order does not matter.
    pub arguments: &'a [(&'a str, &'a str)],
}

impl Signed<'_> {
    fn digest(&self, unix_seconds: u64, nonce: &Nonce) -> [u8; 32] {
        let mut hash = hmac_sha256::Hash::new();
        let Self { host_uuid, function, arguments } = self;
        hash.update(format!(
            "drawbridge-call v1\nhost {host_uuid}\nfunction {function}\ntime {unix_seconds}\nnonce {nonce}\n"
        ));
        let mut sorted: Vec<_> = arguments.iter().filter(|(key, _)| *key != crate::call::AUTH).collect();
        sorted.sort_unstable();
        for (key, value) in sorted {
            hash.update(format!("{key} {}\n", value.len()));
            hash.update(value);
            hash.update("\n");
        }
        hash.finalize()
    }

    /// Whether `auth` was made for exactly this by the holder of `key`.
    #[must_use]
    pub fn verify(&self, auth: &Auth, key: &PublicKey) -> bool {
        key.0.verify(self.digest(auth.unix_seconds, &auth.nonce), &auth.signature).is_ok()
    }

    /// Signs. Deterministic: equal input, equal signature.
    #[cfg(feature = "client")]
    pub(crate) fn sign(&self, key: &ed25519_compact::KeyPair, unix_seconds: u64, nonce: Nonce) -> Auth {
        let signature = key.sk.sign(self.digest(unix_seconds, &nonce), None);
        Auth { key_id: PublicKey(key.pk).id(), unix_seconds, nonce, signature }
    }
}
