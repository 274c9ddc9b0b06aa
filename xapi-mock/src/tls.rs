//! Certificates as XAPI makes them by default: self-signed, a common name and no alternative names.

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No key or certificate can be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// rustls does not take it.
    #[error("cannot use the certificate")]
    Config(#[from] rustls::Error),
}

/// A host's certificate, in use.
pub(crate) struct HostTls {
    pub(crate) acceptor: TlsAcceptor,
    /// SHA-256 of the certificate in lower-case hexadecimal digits.
    pub(crate) fingerprint: String,
}

/// A new certificate for this name. TLS 1.2 alone, as XAPI's stunnel speaks it.
pub(crate) fn host_tls(common_name: &str) -> Result<HostTls, TlsError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let certificate = params.self_signed(&key)?.der().clone();
    let fingerprint =
        hmac_sha256::Hash::hash(&certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(HostTls { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint })
}
