//! The driver's configuration file: how to reach XAPI, and with which key calls to dom0 are signed.
//!
//! ```toml
//! [xapi]
//! url = "https://xen1.example.org"
//! username = "root"
//! password_file = "/etc/drawbridge/xapi-password"
//! fingerprints = ["4f:…"]          # SHA-256 of the hosts' certificates; or: ca_file = "/etc/…/ca.pem"
//!
//! [dom0]
//! key_file = "/etc/drawbridge/driver.key"
//!
//! [store]                          # for the daemon; without it `plan`, `apply` and `hook` read a policy file
//! url = "sqlite:/var/lib/drawbridge/store.db"
//!
//! [api]                            # all of it optional
//! users = ["nova"]                 # may use the socket, beside root and the daemon's own user
//!
//! [reconcile]                      # all of it optional
//! look_after = 5                   # seconds, at least, between two looks at a host where nothing has changed
//! ```

mod local;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drawbridge_wire::Signer;
use secrecy::SecretString;
use serde::Deserialize;
use xenapi::{Client, ClientConfig, Fingerprint, Tls};

pub use local::{Api, Tcp};

/// The file, as written. Unknown fields are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[xapi]`
    pub xapi: Xapi,
    /// `[dom0]`
    pub dom0: Dom0,
    /// `[store]`: there is one where the daemon runs.
    pub store: Option<Store>,
    /// `[reconcile]`
    #[serde(default)]
    pub reconcile: Reconcile,
    /// `[api]`
    #[serde(default)]
    pub api: Api,
}

/// `[store]`: what the daemon keeps.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `sqlite:PATH`, or `postgres://…` without a password.
    pub url: Option<String>,
    /// Instead: file whose first line is the URL, password and all.
    pub url_file: Option<PathBuf>,
    /// What was edited longer ago than so many days is forgotten by the audit.
    #[serde(default = "a_year")]
    pub audit_days: u32,
}

/// `[reconcile]`: how hosts are kept as they should be.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reconcile {
    /// Seconds, at least, between two looks at a host where nothing has changed: what another hand changed stays for so long. Where
    /// looks take long, or hosts are many, it is up to a minute: all looks together are to take a tenth of the time.
    pub look_after: NonZeroU64,
    /// A host has to be done within so many seconds.
    pub deadline: NonZeroU64,
    /// Longest pause, in seconds, before a host that fails is tried again: whatever was broken, and for how long, the host is as
    /// it should be soon after it is whole again, though nobody says that it is.
    pub longest_pause: NonZeroU64,
    /// So many hosts are worked on at a time; a host that takes longer than a second gives its turn to the next.
    pub hosts_at_a_time: u16,
}

impl Default for Reconcile {
    fn default() -> Self {
        const fn seconds(n: u64) -> NonZeroU64 {
            match NonZeroU64::new(n) {
                Some(n) => n,
                None => NonZeroU64::MIN,
            }
        }
        Self {
            look_after: seconds(5),
            deadline: seconds(120),
            longest_pause: seconds(5),
            hosts_at_a_time: 16,
        }
    }
}

/// `[xapi]`: the pool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Xapi {
    /// `https://` and any host of the pool.
    pub url: String,
    /// An account with role pool-admin.
    pub username: String,
    /// File whose first line is the password.
    pub password_file: PathBuf,
    /// SHA-256 fingerprints of the certificates that hosts of the pool show.
    #[serde(default)]
    pub fingerprints: Vec<String>,
    /// Instead: the authority that signed them, PEM.
    pub ca_file: Option<PathBuf>,
    /// Longest time to connect, seconds.
    #[serde(default = "ten")]
    pub connect_timeout: u64,
    /// Longest time for a call, seconds.
    #[serde(default = "sixty")]
    pub call_timeout: u64,
}

/// `[dom0]`: the plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dom0 {
    /// The private key that `drawbridge keygen` wrote.
    pub key_file: PathBuf,
}

fn ten() -> u64 {
    10
}

fn a_year() -> u32 {
    366
}

fn sixty() -> u64 {
    60
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Syntax { path: PathBuf, message: String },
    #[error(
        "{path}: give either `fingerprints` or `ca_file` under [xapi]; there is no way to accept any certificate"
    )]
    NoTrust { path: PathBuf },
    #[error("{path}: {text:?} is no SHA-256 fingerprint")]
    Fingerprint { path: PathBuf, text: String },
    #[error("{path} is empty: its first line is what counts")]
    NoSecret { path: PathBuf },
    #[error(
        "{path} has no [store]: the daemon needs one; the policy file is for `plan`, `apply` and `hook` without a daemon"
    )]
    NoStore { path: PathBuf },
    #[error("{path}: give either `url` or `url_file` under [store]")]
    StoreUrl { path: PathBuf },
    #[error("{path} can be read by others (mode {mode:o}): chmod 600 it")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path} is no private key of `drawbridge keygen`: {source}")]
    Key { path: PathBuf, source: drawbridge_wire::key::InvalidKey },
    #[error("{path} names the {kind} {name:?} under [api], which this machine does not know")]
    Unknown { path: PathBuf, kind: &'static str, name: String },
    #[error("{path}: {message}")]
    Tls { path: PathBuf, message: String },
    #[error(transparent)]
    Client(#[from] xenapi::ConfigError),
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Reads a file that only its owner may read.
fn read_secret(path: &Path) -> Result<String, ConfigError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata =
        std::fs::metadata(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::Exposed { path: path.to_owned(), mode });
    }
    read(path)
}

/// The first line of a file that only its owner may read.
pub(crate) fn first_line(path: &Path) -> Result<String, ConfigError> {
    let text = read_secret(path)?;
    let line = text.lines().next().filter(|line| !line.is_empty());
    line.map(str::to_owned).ok_or_else(|| ConfigError::NoSecret { path: path.to_owned() })
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`], with line and column for a mistake in the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(&read(path)?)
            .map_err(|e| ConfigError::Syntax { path: path.to_owned(), message: e.to_string() })
    }

    /// A client of the pool. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn client(&self, path: &Path) -> Result<Client, ConfigError> {
        let Xapi { url, username, password_file, fingerprints, ca_file, connect_timeout, call_timeout } =
            &self.xapi;
        let password = first_line(password_file)?;
        let tls = match (fingerprints.as_slice(), ca_file) {
            ([], Some(ca)) => Tls::CaFile(ca.clone()),
            ([_, ..], None) => Tls::PinnedSha256(pins(path, fingerprints)?),
            _ => return Err(ConfigError::NoTrust { path: path.to_owned() }),
        };
        let mut config = ClientConfig::new(url, username, SecretString::from(password), tls);
        config.connect_timeout = Duration::from_secs(*connect_timeout);
        config.call_timeout = Duration::from_secs(*call_timeout);
        Ok(Client::new(config)?)
    }

    /// Where the daemon's store is. It may hold a password.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn store_url(&self, path: &Path) -> Result<SecretString, ConfigError> {
        let store = self.store.as_ref().ok_or_else(|| ConfigError::NoStore { path: path.to_owned() })?;
        match (&store.url, &store.url_file) {
            (Some(url), None) => Ok(SecretString::from(url.clone())),
            (None, Some(file)) => first_line(file).map(SecretString::from),
            _ => Err(ConfigError::StoreUrl { path: path.to_owned() }),
        }
    }

    /// The key that signs calls to dom0.
    ///
    /// # Errors
    /// [`ConfigError`]; it never shows the key.
    pub fn signer(&self) -> Result<Signer, ConfigError> {
        let path = &self.dom0.key_file;
        let text = read_secret(path)?;
        Signer::from_private_key(&text).map_err(|source| ConfigError::Key { path: path.clone(), source })
    }
}

fn pins(path: &Path, texts: &[String]) -> Result<Vec<Fingerprint>, ConfigError> {
    let parse = |text: &String| {
        text.parse().map_err(|_| ConfigError::Fingerprint { path: path.to_owned(), text: text.clone() })
    };
    texts.iter().map(parse).collect()
}
