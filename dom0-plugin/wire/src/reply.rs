//! What the plugin prints: XAPI's `Status` envelope around a JSON text, or around a refusal.

use std::fmt::Write as _;

use crate::code::Refusal;
use crate::limits;
use crate::payload::{self, Encoding};
use crate::xmlrpc::{Response, Value, encode_response};

/// What a program left behind, before it is written as a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The program's exit code.
    pub exit_code: i32,
    /// Its (filtered) standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// The JSON text of a reply: `{version, exit_code, stdout, stderr, encoding}`. `encoding` says how `stdout` is
/// written; `stderr` is always plain.
#[must_use]
pub fn encode_json(version: &str, outcome: &Outcome, accepts_compressed: bool) -> String {
    let Outcome { exit_code, stdout, stderr } = outcome;
    let compressed = (accepts_compressed && stdout.len() >= limits::COMPRESS_FROM_BYTES)
        .then(|| payload::compress(stdout.as_bytes()))
        .filter(|text| text.len() < stdout.len());
    let (text, encoding) = match &compressed {
        Some(text) => (text, Encoding::ZlibBase64),
        None => (stdout, Encoding::Plain),
    };
    let mut json = String::with_capacity(text.len() + stderr.len() + 100);
    json.push_str("{\"version\":");
    string(version, &mut json);
    // Writing to a String cannot fail.
    let _ = write!(json, ",\"exit_code\":{exit_code},\"stdout\":");
    string(text, &mut json);
    json.push_str(",\"stderr\":");
    string(stderr, &mut json);
    let _ = write!(json, ",\"encoding\":\"{encoding}\"}}");
    json
}

/// The document for a program that ran (or a part that was staged).
#[must_use]
pub fn encode_success(json: String) -> String {
    envelope("Success", "Value", Value::String(json))
}

/// The document for a refusal.
#[must_use]
pub fn encode_failure(refusal: &Refusal) -> String {
    let texts = std::iter::once(refusal.code.as_str()).chain(refusal.details.iter().map(String::as_str));
    envelope("Failure", "ErrorDescription", texts.collect())
}

fn envelope(status: &str, key: &str, value: Value) -> String {
    encode_response(&Response::Value(Value::Struct(vec![
        ("Status".to_owned(), status.into()),
        (key.to_owned(), value),
    ])))
}

/// A JSON string. Every control character is escaped: XML 1.0 could not carry it.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(feature = "client")]
pub use parse::{Reply, ReplyError};

#[cfg(feature = "client")]
mod parse {
    use std::fmt;

    use serde::Deserialize;

    use crate::limits;
    use crate::payload::{self, Encoding, PayloadError};

    /// The plugin's answer, as the caller reads it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Reply {
        /// The plugin's version.
        pub version: String,
        /// The program's exit code; 0 for a part that was only staged.
        pub exit_code: i32,
        /// Its standard output, decoded.
        pub stdout: String,
        /// Its standard error.
        pub stderr: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Json {
        version: String,
        exit_code: i32,
        stdout: String,
        stderr: String,
        encoding: String,
    }

    /// Why an answer could not be read.
    #[derive(Debug)]
    #[non_exhaustive]
    pub enum ReplyError {
        /// Not the JSON text the plugin writes.
        Json(serde_json::Error),
        /// An encoding nobody knows.
        Encoding(String),
        /// The output could not be decoded, or is too large.
        Payload(PayloadError),
        /// The decoded output is not UTF-8.
        Utf8,
    }

    impl fmt::Display for ReplyError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Json(_) => f.write_str("the plugin's answer is not its JSON"),
                Self::Encoding(name) => write!(f, "the plugin's answer has the unknown encoding {name:?}"),
                Self::Payload(_) => f.write_str("the plugin's output cannot be decoded"),
                Self::Utf8 => f.write_str("the plugin's output is not UTF-8"),
            }
        }
    }

    impl std::error::Error for ReplyError {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            match self {
                Self::Json(source) => Some(source),
                Self::Payload(source) => Some(source),
                Self::Encoding(_) | Self::Utf8 => None,
            }
        }
    }

    impl Reply {
        /// Reads the string that `host.call_plugin` returned. Output is decoded up to [`limits::OUTPUT_BYTES`].
        ///
        /// # Errors
        /// [`ReplyError`].
        pub fn parse(text: &str) -> Result<Self, ReplyError> {
            let Json { version, exit_code, stdout, stderr, encoding } =
                serde_json::from_str(text).map_err(ReplyError::Json)?;
            let parsed: Encoding = encoding.parse().map_err(|_| ReplyError::Encoding(encoding))?;
            let bytes =
                payload::decode(&stdout, parsed, limits::OUTPUT_BYTES).map_err(ReplyError::Payload)?;
            let stdout = String::from_utf8(bytes).map_err(|_| ReplyError::Utf8)?;
            Ok(Self { version, exit_code, stdout, stderr })
        }
    }
}

#[cfg(test)]
mod tests;
