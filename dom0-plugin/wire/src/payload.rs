//! Input and output on the wire: plain text, or zlib in base64.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

use crate::code::Code;

/// How a text is written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// A zlib stream in base64.
    ZlibBase64,
}

impl Encoding {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::ZlibBase64 => "zlib+base64",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`Encoding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownEncoding;

impl fmt::Display for UnknownEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected plain or zlib+base64")
    }
}

impl std::error::Error for UnknownEncoding {}

impl FromStr for Encoding {
    type Err = UnknownEncoding;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "plain" => Ok(Self::Plain),
            "zlib+base64" => Ok(Self::ZlibBase64),
            _ => Err(UnknownEncoding),
        }
    }
}

/// Why a payload could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// Not base64.
    Base64,
    /// Not a complete zlib stream.
    Compression,
    /// More than this many bytes.
    TooLarge(usize),
}

impl PayloadError {
    /// The plugin's code for it.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Base64 => Code::BadBase64,
            Self::Compression => Code::BadCompression,
            Self::TooLarge(_) => Code::InputTooLarge,
        }
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base64 => f.write_str("not base64"),
            Self::Compression => f.write_str("not a complete zlib stream"),
            Self::TooLarge(limit) => write!(f, "more than {limit} bytes"),
        }
    }
}

impl std::error::Error for PayloadError {}

/// Compresses to zlib, in base64.
#[must_use]
pub fn compress(bytes: &[u8]) -> String {
    // Level 1: rules are so repetitive that more effort gains little, and dom0 is what it would be taken from.
    STANDARD.encode(miniz_oxide::deflate::compress_to_vec_zlib(bytes, 1))
}

/// Decodes, refusing what would be longer than `limit` bytes before it is.
///
/// # Errors
/// [`PayloadError`].
pub fn decode(text: &str, encoding: Encoding, limit: usize) -> Result<Vec<u8>, PayloadError> {
    match encoding {
        Encoding::Plain if text.len() > limit => Err(PayloadError::TooLarge(limit)),
        Encoding::Plain => Ok(text.as_bytes().to_vec()),
        Encoding::ZlibBase64 => {
            let compressed = STANDARD.decode(text).map_err(|_| PayloadError::Base64)?;
            decompress_to_vec_zlib_with_limit(&compressed, limit).map_err(|e| match e.status {
                TINFLStatus::HasMoreOutput => PayloadError::TooLarge(limit),
                _ => PayloadError::Compression,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for bytes in [&b""[..], b"a", &[0, 255, 10, 13], &[7; 100_000]] {
            assert_eq!(decode(&compress(bytes), Encoding::ZlibBase64, 100_000).as_deref(), Ok(bytes));
        }
        assert_eq!(decode("a b", Encoding::Plain, 3).as_deref(), Ok(&b"a b"[..]));
    }

    #[test]
    fn refusals() {
        // As tight as an attacker would pack it.
        let bomb = STANDARD.encode(miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 4_000_000], 9));
        assert!(bomb.len() < 8_000);
        let cut = &compress(b"hello, hello, hello")[..12];
        for (text, encoding, error) in [
            (bomb.as_str(), Encoding::ZlibBase64, PayloadError::TooLarge(1000)),
            (&"x".repeat(1001), Encoding::Plain, PayloadError::TooLarge(1000)),
            ("***", Encoding::ZlibBase64, PayloadError::Base64),
            ("eJ", Encoding::ZlibBase64, PayloadError::Base64),
            ("", Encoding::ZlibBase64, PayloadError::Compression),
            ("AAAA", Encoding::ZlibBase64, PayloadError::Compression),
            (cut, Encoding::ZlibBase64, PayloadError::Compression),
        ] {
            assert_eq!(decode(text, encoding, 1000), Err(error), "{text:.40}");
        }
    }
}
