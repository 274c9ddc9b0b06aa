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
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use drawbridge_wire::Signer;
use secrecy::SecretString;
use serde::Deserialize;
use xenapi::{Client, ClientConfig, Fingerprint, Tls};

/// The file, as written. Unknown fields are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[xapi]`
    pub xapi: Xapi,
    /// `[dom0]`
    pub dom0: Dom0,
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
    #[error("{path} is empty: its first line is the password")]
    NoPassword { path: PathBuf },
    #[error("{path} can be read by others (mode {mode:o}): chmod 600 it")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{path} is no private key of `drawbridge keygen`: {source}")]
    Key { path: PathBuf, source: drawbridge_wire::key::InvalidKey },
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
        let password = read_secret(password_file)?;
        let password = password.lines().next().filter(|line| !line.is_empty());
        let password = password.ok_or_else(|| ConfigError::NoPassword { path: password_file.clone() })?;
        let tls = match (fingerprints.as_slice(), ca_file) {
            ([], Some(ca)) => Tls::CaFile(ca.clone()),
            ([_, ..], None) => Tls::PinnedSha256(pins(path, fingerprints)?),
            _ => return Err(ConfigError::NoTrust { path: path.to_owned() }),
        };
        let mut config = ClientConfig::new(url, username, SecretString::from(password.to_owned()), tls);
        config.connect_timeout = Duration::from_secs(*connect_timeout);
        config.call_timeout = Duration::from_secs(*call_timeout);
        Ok(Client::new(config)?)
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
