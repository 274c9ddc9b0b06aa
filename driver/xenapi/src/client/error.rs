//! How a call fails.

use std::time::Duration;

use super::{AnswerError, Fingerprint};
use crate::error::ApiError;
use crate::fields::RecordError;

/// How a call fails.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection: nothing was sent.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host and port.
        host: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The host shows another certificate than the pinned ones: nothing was sent.
    #[error(
        "the certificate of {host} has the SHA-256 fingerprint {seen}, which is not pinned (pinned: {}). If the \
         host's certificate was renewed, or another host is master now, compare with what that host itself says \
         (in its dom0: openssl x509 -noout -fingerprint -sha256 -in /etc/xensource/xapi-ssl.pem) and pin that; if \
         it says something else, somebody stands in between",
        List(expected)
    )]
    CertificateMismatch {
        /// Host and port.
        host: String,
        /// The fingerprints configured.
        expected: Vec<Fingerprint>,
        /// That of the certificate shown.
        seen: Fingerprint,
    },
    /// The host's certificate is not accepted for another reason: nothing was sent.
    #[error(
        "the certificate of {host} is not accepted: {problem}. XAPI's own certificates are self-signed: pin \
         the fingerprint, or give the host a certificate of your CA that names it"
    )]
    CertificateRefused {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        problem: rustls::Error,
    },
    /// User name or password are wrong, or the account has no role.
    #[error("{host} refuses {username}")]
    Authentication {
        /// Host and port.
        host: String,
        /// The account.
        username: String,
        /// XAPI's words.
        source: ApiError,
    },
    /// A host said that it is not the master and named one we do not talk to.
    #[error("{host} is not the pool's master and names {address:?}, which is no address to connect to")]
    BadMaster {
        /// Host and port.
        host: String,
        /// What it named.
        address: String,
    },
    /// XAPI, or the plugin, answered with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The answer is none that XAPI gives.
    #[error("the answer to {method} cannot be understood")]
    Decode {
        /// The method called.
        method: String,
        /// What is wrong with it.
        source: AnswerError,
    },
    /// XAPI answers 500 to what it cannot parse, 403 and 301 where its port is closed to us.
    #[error("{host} answered {method} with HTTP status {status}")]
    Http {
        /// Host and port.
        host: String,
        /// The method called.
        method: String,
        /// The status.
        status: u16,
    },
    /// No answer in time. What was asked may still happen.
    #[error("{host} did not answer {method} within {} s", after.as_secs_f64())]
    Timeout {
        /// Host and port.
        host: String,
        /// The method called.
        method: String,
        /// The limit.
        after: Duration,
    },
    /// The connection broke before the answer was complete. What was asked may have happened.
    #[error("the connection to {host} broke during {method}")]
    Interrupted {
        /// Host and port.
        host: String,
        /// The method called.
        method: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer is larger than the limit; it was not read.
    #[error("{host} answers {method} with more than {limit} bytes")]
    TooLarge {
        /// Host and port.
        host: String,
        /// The method called.
        method: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The call is larger than XAPI takes: nothing was sent.
    #[error("{method} would take {size} bytes; XAPI takes {limit}")]
    CallTooLarge {
        /// The method.
        method: String,
        /// Its size, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl CallError {
    pub(super) fn decode(method: &str, source: AnswerError) -> Self {
        Self::Decode { method: method.to_owned(), source }
    }

    pub(super) fn record(method: &str, source: RecordError) -> Self {
        Self::decode(method, AnswerError::Record(source))
    }

    /// The error without `secret`, which XAPI repeats in some (`SESSION_INVALID`).
    pub(super) fn without(mut self, secret: &str) -> Self {
        if let Self::Api(ApiError { params, .. }) = &mut self
            && !secret.is_empty()
        {
            for param in params.iter_mut().filter(|param| param.contains(secret)) {
                *param = param.replace(secret, "[redacted]");
            }
        }
        self
    }
}

struct List<'a>(&'a [Fingerprint]);

impl std::fmt::Display for List<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, fingerprint) in self.0.iter().enumerate() {
            write!(f, "{}{fingerprint}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
