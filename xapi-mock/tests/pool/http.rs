use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use drawbridge_wire::xmlrpc::{MethodCall, encode_call};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, SignatureScheme, StreamOwned,
};

use super::client::{address, connect, pool, post, read_reply};

fn list_methods() -> String {
    encode_call(&MethodCall { name: "system.listMethods".to_owned(), params: vec![] })
}

fn request(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// Sends bytes on a new connection: the status, and whether the server then closed.
fn send(address: &str, bytes: &[u8]) -> (u16, bool) {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    let (status, _) = read_reply(&mut stream).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    // Still open: nothing to read within that time.
    let closed =
        !matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    (status, closed)
}

#[tokio::test]
async fn a_connection_serves_one_call_after_another() {
    let mock = pool().await;
    let mut stream = connect(&address(&mock, 0));
    for path in ["/", "/RPC2", "/anything"] {
        let body = list_methods();
        write!(stream, "POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let (status, body) = read_reply(&mut stream).unwrap();
        assert_eq!(status, 200);
        assert!(body.contains("VM.start"));
    }
    // Two at once, the second cut in the middle.
    let two = request("", &list_methods()).repeat(2);
    let (first, second) = two.split_at(two.len() - 20);
    stream.write_all(first.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream).unwrap().0, 200);
    stream.write_all(second.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream).unwrap().0, 200);
}

#[tokio::test]
async fn close_is_honoured_and_http_1_0_closes() {
    let mock = pool().await;
    let at = address(&mock, 0);
    assert_eq!(send(&at, request("", &list_methods()).as_bytes()), (200, false));
    assert_eq!(send(&at, request("Connection: close\r\n", &list_methods()).as_bytes()), (200, true));
    assert_eq!(
        send(&at, request("", &list_methods()).replace("HTTP/1.1", "HTTP/1.0").as_bytes()),
        (200, true)
    );
}

#[tokio::test]
async fn what_xapi_refuses_is_refused_and_the_connection_closed() {
    let mock = pool().await;
    let at = address(&mock, 0);
    let long = format!("POST / HTTP/1.1\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(1100));
    let endless = format!("POST / HTTP/1.1\r\nx: {}", "y".repeat(1100));
    for (bytes, status) in [
        ("POST / HTTP/1.1\r\nhost: x\r\n\r\n", 500),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 500),
        ("POST / HTTP/1.1\r\ncontent-length: 307201\r\n\r\n", 500),
        (request("", "<methodCall>").as_str(), 500),
        (request("", "").as_str(), 500),
        ("GET /unknown HTTP/1.1\r\n\r\n", 403),
        ("BREW / HTTP/1.1\r\n\r\n", 501),
        (long.as_str(), 431),
        (endless.as_str(), 431),
        ("nonsense\r\n\r\n", 400),
    ] {
        assert_eq!(send(&at, bytes.as_bytes()), (status, true), "{}", &bytes[..bytes.len().min(60)]);
    }
}

#[tokio::test]
async fn a_body_of_300_kib_passes_and_one_byte_more_does_not() {
    let mock = pool().await;
    let at = address(&mock, 0);
    let mut body = list_methods();
    body.push_str(&" ".repeat(300 * 1024 - body.len()));
    assert_eq!(post(&at, "/", body.as_bytes()).unwrap().0, 200);
    body.push(' ');
    assert_eq!(post(&at, "/", body.as_bytes()).map(|(status, _)| status), Some(500));
}

/// Takes any certificate and remembers it: what it is, is what the test looks at.
#[derive(Debug)]
struct Remember(Arc<Mutex<Vec<u8>>>);

impl ServerCertVerifier for Remember {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = certificate.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("XAPI speaks no TLS 1.3".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn tls_is_1_2_with_a_self_signed_certificate_of_its_own_per_host() {
    let mock = pool().await;
    for (number, host) in mock.hosts().iter().enumerate() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Remember(Arc::clone(&seen))))
            .with_no_client_auth();
        let name = ServerName::try_from("anything.example").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(tls, connect(&address(&mock, number)));
        stream.write_all(request("connection: close\r\n", &list_methods()).as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert_eq!(stream.conn.protocol_version(), Some(ProtocolVersion::TLSv1_2));
        let certificate = seen.lock().unwrap().clone();
        let digest: String =
            hmac_sha256::Hash::hash(&certificate).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, host.fingerprint);
        let subject_alternative_name = [0x06, 0x03, 0x55, 0x1d, 0x11];
        assert!(!certificate.windows(5).any(|window| window == subject_alternative_name));
        assert!(certificate.windows(host.name.len()).any(|window| window == host.name.as_bytes()));
    }
    assert_ne!(mock.hosts()[0].fingerprint, mock.hosts()[1].fingerprint);
    assert_eq!(mock.fingerprint(), mock.hosts()[0].fingerprint);
}
