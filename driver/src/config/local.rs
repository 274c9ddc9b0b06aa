//! `[api]`: where the daemon listens, and who may ask.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::{TcpListen, UnixListen};
use nix::unistd::{Group, User};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use serde::Deserialize;

use super::{ConfigError, first_line, read, read_secret};

/// `[api]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// The unix socket.
    pub socket: PathBuf,
    /// Names of users who may use it, beside root and the daemon's own.
    pub users: Vec<String>,
    /// Names of groups whose members may use it.
    pub groups: Vec<String>,
    /// `[api.tcp]`: also over the network.
    pub tcp: Option<Tcp>,
}

impl Default for Api {
    fn default() -> Self {
        let socket = PathBuf::from("/run/drawbridge/api.sock");
        Self { socket, users: Vec::new(), groups: Vec::new(), tcp: None }
    }
}

/// `[api.tcp]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// Address and port.
    pub address: SocketAddr,
    /// The server's certificate, and those up to the authority, PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// File whose first line every caller has to show (`Authorization: Bearer`).
    pub token_file: PathBuf,
}

impl Api {
    /// The socket and who may use it. `path` is the configuration's, for errors.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn unix(&self, path: &Path) -> Result<UnixListen, ConfigError> {
        let unknown =
            |kind, name: &String| ConfigError::Unknown { path: path.to_owned(), kind, name: name.clone() };
        let mut listen = UnixListen::new(&self.socket);
        for name in &self.users {
            let user = User::from_name(name).ok().flatten().ok_or_else(|| unknown("user", name))?;
            listen.uids.insert(user.uid.as_raw());
        }
        for name in &self.groups {
            let group = Group::from_name(name).ok().flatten().ok_or_else(|| unknown("group", name))?;
            listen.gids.insert(group.gid.as_raw());
        }
        Ok(listen)
    }
}

impl Tcp {
    /// The port with its TLS and its token.
    ///
    /// # Errors
    /// [`ConfigError`]; it never shows key or token.
    pub fn listen(&self) -> Result<TcpListen, ConfigError> {
        let Self { address, certificate_file, key_file, token_file } = self;
        let bad = |path: &Path, message: String| ConfigError::Tls { path: path.to_owned(), message };
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(read(certificate_file)?.as_bytes()).collect();
        let chain = chain.map_err(|error| bad(certificate_file, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(read_secret(key_file)?.as_bytes());
        let key = key.map_err(|_| bad(key_file, "no private key in PEM".to_owned()))?;
        let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let tls = tls.map_err(|error| bad(certificate_file, error.to_string()))?;
        let token = SecretString::from(first_line(token_file)?);
        Ok(TcpListen { address: *address, tls: Arc::new(tls), token })
    }
}
