//! The way to the daemon, if there is one.

use std::path::{Path, PathBuf};

use api::ApiClient;
use clap::Args;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;

use super::args::EVERYWHERE;
use super::failure::Failure;
use crate::config::{Config, first_line};

/// A daemon elsewhere than the configuration says.
#[derive(Debug, Default, Args)]
pub(super) struct DaemonArguments {
    /// Where the daemon listens, if not at the socket that the configuration names: https://host:port, or a socket's path.
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "DRAWBRIDGE_API", value_name = "URL")]
    pub api: Option<String>,
    /// File whose first line is the token that an https daemon asks for; mode 0600.
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "DRAWBRIDGE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The authority that signed an https daemon's certificate, PEM.
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "DRAWBRIDGE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// Which way a command goes.
#[derive(Debug)]
pub(super) enum Way {
    /// Through the daemon.
    Daemon(ApiClient),
    /// By itself, with a policy file.
    Standalone,
}

/// The way, as arguments and configuration say.
pub(super) fn way(config: &Path, arguments: &DaemonArguments) -> Result<Way, Failure> {
    let DaemonArguments { api, token_file, ca_file } = arguments;
    let Some(api) = api else {
        let config = Config::load(config)?;
        return Ok(match config.store {
            Some(_) => Way::Daemon(ApiClient::unix(&config.api.socket)?),
            None => Way::Standalone,
        });
    };
    if api.starts_with('/') {
        return Ok(Way::Daemon(ApiClient::unix(Path::new(api))?));
    }
    if !api.starts_with("https://") {
        return Err(Failure::Usage(format!(
            "--api {api:?} is neither https://host:port nor a socket's path"
        )));
    }
    let (Some(token), Some(ca)) = (token_file, ca_file) else {
        return Err(Failure::Usage("--api https://… needs --token-file and --ca-file".to_owned()));
    };
    let token = SecretString::from(first_line(token)?);
    Ok(Way::Daemon(ApiClient::https(api, tls(ca)?, token)?))
}

/// The daemon, for commands that are nothing without one.
pub(super) fn daemon(config: &Path, arguments: &DaemonArguments) -> Result<ApiClient, Failure> {
    match way(config, arguments)? {
        Way::Daemon(client) => Ok(client),
        Way::Standalone => Err(Failure::NoDaemon { path: config.to_owned() }),
    }
}

fn tls(ca: &Path) -> Result<rustls::ClientConfig, Failure> {
    let bad = |message: String| Failure::Authority { path: ca.to_owned(), message };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| bad(error.to_string()))? {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
