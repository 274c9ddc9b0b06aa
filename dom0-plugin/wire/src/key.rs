//! Key pairs as text: one line of `authorized_keys`, one private key file.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hex;

/// First word of a public key line.
const PUBLIC_WORD: &str = "ed25519";

/// First word of a private key file.
#[cfg(feature = "client")]
const PRIVATE_WORD: &str = "drawbridge-ed25519-private-key";

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidKey(&'static str);

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidKey {}

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub(crate) ed25519_compact::PublicKey);

impl PublicKey {
    /// The key's id: the first 16 hex digits of the SHA-256 of its 32 bytes.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = hmac_sha256::Hash::hash(self.0.as_ref());
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        KeyId(first)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// Which key signed: 16 lower-case hex digits. Safe to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for KeyId {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex::decode(text).map(Self).ok_or(InvalidKey("a key id is 16 lower-case hex digits"))
    }
}

/// One line of `authorized_keys`: `ed25519 <base64 public key> <comment>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeyLine {
    /// The key.
    pub key: PublicKey,
    /// Whose it is; for people only. May be empty.
    pub comment: String,
}

impl fmt::Display for PublicKeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_WORD} {}", STANDARD.encode(self.key.0.as_ref()))?;
        if !self.comment.is_empty() {
            write!(f, " {}", self.comment)?;
        }
        Ok(())
    }
}

impl FromStr for PublicKeyLine {
    type Err = InvalidKey;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.trim_ascii().splitn(3, ' ');
        if words.next() != Some(PUBLIC_WORD) {
            return Err(InvalidKey("expected `ed25519 <base64 public key> <comment>`"));
        }
        let bytes = STANDARD
            .decode(words.next().unwrap_or_default())
            .map_err(|_| InvalidKey("the public key is not base64"))?;
        let key = ed25519_compact::PublicKey::from_slice(&bytes)
            .map_err(|_| InvalidKey("the public key is not 32 bytes long"))?;
        key.validate().map_err(|_| InvalidKey("the public key is a weak point of the curve"))?;
        Ok(Self { key: PublicKey(key), comment: words.next().unwrap_or_default().trim_ascii().to_owned() })
    }
}

/// A private key file's text. Write it with mode 0600; neither `Debug` nor `Display` show it.
#[cfg(feature = "client")]
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyText(String);

#[cfg(feature = "client")]
impl PrivateKeyText {
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        Self(format!("{PRIVATE_WORD} {}\n", STANDARD.encode(seed)))
    }

    /// The text, for the file and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(feature = "client")]
impl fmt::Debug for PrivateKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyText(hidden)")
    }
}

/// The key pair in a private key file. Blank lines and lines that start with `#` are skipped.
#[cfg(feature = "client")]
pub(crate) fn parse_private(text: &str) -> Result<ed25519_compact::KeyPair, InvalidKey> {
    let mut lines =
        text.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().ok_or(InvalidKey("the private key file is empty"))?;
    if lines.next().is_some() {
        return Err(InvalidKey("the private key file holds more than one line"));
    }
    let encoded = line
        .strip_prefix(PRIVATE_WORD)
        .and_then(|rest| rest.strip_prefix(' '))
        .ok_or(InvalidKey("expected `drawbridge-ed25519-private-key <base64>`"))?;
    let bytes = STANDARD.decode(encoded).map_err(|_| InvalidKey("the private key is not base64"))?;
    let seed = ed25519_compact::Seed::from_slice(&bytes)
        .map_err(|_| InvalidKey("the private key is not 32 bytes long"))?;
    ed25519_compact::KeyPair::try_from_seed(seed).map_err(|_| InvalidKey("the private key is unusable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_lines() {
        // The key pair of RFC 8032, section 7.1, test 1.
        let good = "ed25519 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo= nova on compute-3";
        let line: PublicKeyLine = good.parse().unwrap();
        assert_eq!(line.comment, "nova on compute-3");
        assert_eq!(line.to_string(), good);
        assert_eq!(line.key.id().to_string().len(), 16);

        for bad in [
            "",
            "ed25519",
            "ed25519 ",
            "ssh-ed25519 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            "ed25519 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHUR",
            "ed25519 AAAA x",
            "ed25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= the neutral point",
        ] {
            assert!(bad.parse::<PublicKeyLine>().is_err(), "{bad}");
        }
    }

    #[test]
    fn key_ids() {
        assert!("0123456789abcdef".parse::<KeyId>().is_ok());
        for bad in ["0123456789ABCDEF", "0123456789abcde", "0123456789abcdefg", "0123456789abcdé"] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad}");
        }
    }
}
