//! TLS to XAPI: by the certificate's fingerprint, or by a CA.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use super::config::{ConfigError, Tls};

/// The SHA-256 of a certificate (of its DER form).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of the certificate `der`.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(hmac_sha256::Hash::hash(der))
    }
}

/// Upper case with colons, as `openssl x509 -fingerprint` and XAPI's `Certificate.fingerprint` write it.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if n == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no SHA-256 fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 fingerprint: 32 pairs of hexadecimal digits, with colons between all or none of them")]
pub struct InvalidFingerprint;

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let width = match text.len() {
            64 => 2,
            95 => 3,
            _ => return Err(InvalidFingerprint),
        };
        let mut bytes = [0; 32];
        for (pair, byte) in text.as_bytes().chunks(width).zip(&mut bytes) {
            let digit = |n: usize| pair.get(n).and_then(|c| char::from(*c).to_digit(16));
            let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(InvalidFingerprint) };
            if pair.get(2).is_some_and(|c| *c != b':') {
                return Err(InvalidFingerprint);
            }
            *byte = u8::try_from(high << 4 | low).map_err(|_| InvalidFingerprint)?;
        }
        Ok(Self(bytes))
    }
}

/// The configuration for `tls`. Never one that accepts any certificate: without TLS, one that accepts none.
pub(super) fn configuration(tls: &Tls) -> Result<rustls::ClientConfig, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match tls {
        Tls::PinnedSha256(pins) if pins.is_empty() => return Err(ConfigError::NoFingerprint),
        Tls::PinnedSha256(pins) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinVerifier { pins: pins.clone(), algorithms })),
        Tls::CaFile(path) => {
            let unreadable = |source| ConfigError::CaFile { path: path.clone(), source };
            let certificates = CertificateDer::pem_file_iter(path)
                .map_err(unreadable)?
                .collect::<Result<Vec<_>, _>>()
                .map_err(unreadable)?;
            let mut roots = RootCertStore::empty();
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(ConfigError::NoCertificate { path: path.clone() });
            }
            builder.with_root_certificates(roots)
        }
        Tls::PlainLoopback => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}

/// The certificate shown is not one of the pinned ones.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is not pinned")]
pub(super) struct PinMismatch {
    pub(super) expected: Vec<Fingerprint>,
    pub(super) seen: Fingerprint,
}

/// Accepts a host that shows a pinned certificate and proves, by signing the handshake, that it holds its key.
#[derive(Debug)]
struct PinVerifier {
    pins: Vec<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Fingerprint::of(end_entity);
        if self.pins.contains(&seen) {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = PinMismatch { expected: self.pins.clone(), seen };
        Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
