//! What a client is made from.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

use super::{Fingerprint, is_loopback};

/// What a [`Client`](super::Client) is made from.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `https://<host>`, of any host of the pool; a port may follow, nothing else.
    pub url: String,
    /// The account's name.
    pub username: String,
    /// Its password.
    pub password: SecretString,
    /// How the hosts prove who they are.
    pub tls: Tls,
    /// Longest time for a connection, TLS handshake included.
    pub connect_timeout: Duration,
    /// Longest time for a call, connection and answer included.
    pub call_timeout: Duration,
    /// Largest answer read, in bytes.
    pub max_answer: usize,
    /// Who we are among XAPI's sessions: it evicts the oldest of one originator first.
    pub originator: String,
    /// `User-Agent`: XAPI's rate limiter tells clients apart by it.
    pub user_agent: String,
}

impl ClientConfig {
    /// A configuration with limits that suit a pool of some thousand VMs: 10 s to connect, 60 s a call,
    /// 128 MiB an answer.
    #[must_use]
    pub fn new(
        url: impl Into<String>,
        username: impl Into<String>,
        password: SecretString,
        tls: Tls,
    ) -> Self {
        Self {
            url: url.into(),
            username: username.into(),
            password,
            tls,
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(60),
            max_answer: 128 << 20,
            originator: "drawbridge".to_owned(),
            user_agent: concat!("drawbridge/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// How the hosts of the pool prove who they are. There is no way to accept any certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// The SHA-256 of the host's certificate is one of these: one for each host that can become master. Names
    /// and dates in it do not matter, since XAPI's own certificates are self-signed and often name no host.
    PinnedSha256(Vec<Fingerprint>),
    /// The certificate is valid for the host's name and signed by an authority in this PEM file.
    CaFile(PathBuf),
    /// No TLS: `http://` to an address of this machine, for a mock or a tunnel. Nothing else is connected to.
    PlainLoopback,
}

/// Why no client can be made from a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a URL.
    #[error("{url:?} is not a URL like https://xen1.example.org")]
    Url {
        /// What was given.
        url: String,
    },
    /// A URL with more than scheme, host and port. It is not repeated: it may hold a password.
    #[error("the URL may have a host and a port, but no user, path, query or fragment")]
    UrlTooLong,
    /// Neither `https` nor, where allowed, `http`.
    #[error("{scheme}:// is not accepted here; use https://")]
    Scheme {
        /// What was given.
        scheme: String,
    },
    /// [`Tls::PlainLoopback`] with another URL than `http://` to a loopback address.
    #[error("without TLS only http://127.0.0.1 or http://[::1] is accepted, not {host}")]
    NotLoopback {
        /// Scheme and host given.
        host: String,
    },
    /// [`Tls::PinnedSha256`] without a fingerprint.
    #[error("no certificate fingerprint is configured")]
    NoFingerprint,
    /// The CA file cannot be read or is not PEM.
    #[error("cannot read certificates from {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The CA file has no certificate that could be used.
    #[error("{} holds no usable certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The HTTP client cannot be set up, for instance for a `User-Agent` that is no header's value.
    #[error("cannot set up the HTTP client")]
    Http(#[from] reqwest::Error),
}

/// The host where logging in starts, and where it may lead.
pub(super) struct Endpoint {
    url: Url,
    loopback_only: bool,
}

impl Endpoint {
    pub(super) fn new(url: &str, tls: &Tls) -> Result<Self, ConfigError> {
        let parsed = Url::parse(url).ok().filter(Url::has_host).ok_or_else(|| {
            // What does not parse could hold a password as well.
            ConfigError::Url { url: if url.contains('@') { "…@…".to_owned() } else { url.to_owned() } }
        })?;
        let bare = parsed.username().is_empty()
            && parsed.password().is_none()
            && parsed.path() == "/"
            && parsed.query().is_none()
            && parsed.fragment().is_none();
        if !bare {
            return Err(ConfigError::UrlTooLong);
        }
        let loopback_only = *tls == Tls::PlainLoopback;
        match parsed.scheme() {
            "http" if loopback_only && is_loopback(&parsed) => {}
            "https" if !loopback_only => {}
            _ if loopback_only => {
                let host = parsed.origin().ascii_serialization();
                return Err(ConfigError::NotLoopback { host });
            }
            scheme => return Err(ConfigError::Scheme { scheme: scheme.to_owned() }),
        }
        Ok(Self { url: parsed, loopback_only })
    }

    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    /// The same scheme and port at `address`; nothing if that is no host we may talk to.
    pub(super) fn at(&self, address: &str) -> Option<Url> {
        let mut url = self.url.clone();
        match address.parse::<IpAddr>() {
            Ok(ip) => url.set_ip_host(ip).ok()?,
            Err(_) => {
                let is_name = address.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
                if address.is_empty() || !is_name {
                    return None;
                }
                url.set_host(Some(address)).ok()?;
            }
        }
        (!self.loopback_only || is_loopback(&url)).then_some(url)
    }
}
