//! A XAPI of a few lines: answers calls from a script, over TLS as a host does it or in plain text.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drawbridge_wire::xmlrpc::{MethodCall, Response, Value, decode_call, encode_response};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::{ServerConfig, sign::CertifiedKey, version};

/// What a call is answered with.
pub(crate) enum Reply {
    /// `Status` = `Success`.
    Value(Value),
    /// `Status` = `Failure`: code and parameters.
    Failure(Vec<String>),
    /// This body, as it is.
    Body(Vec<u8>),
    /// The whole HTTP answer, as it is.
    Raw(Vec<u8>),
    /// This beginning of an HTTP answer, then the connection is closed.
    Cut(Vec<u8>),
    /// No answer.
    Never,
    /// A header, then a byte every 20 ms.
    Trickle,
}

impl Reply {
    pub(crate) fn ok() -> Self {
        Self::Value(Value::from(""))
    }

    pub(crate) fn failure(description: &[&str]) -> Self {
        Self::Failure(description.iter().map(|&text| text.to_owned()).collect())
    }
}

type Script = dyn FnMut(&MethodCall) -> Reply + Send;

/// A running server; gone when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<MethodCall>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Plain text on 127.0.0.1.
    pub(crate) async fn plain(script: impl FnMut(&MethodCall) -> Reply + Send + 'static) -> Self {
        Self::start(bind(Ipv4Addr::LOCALHOST, 0).await, None, script)
    }

    /// TLS on 127.0.0.1.
    pub(crate) async fn tls(
        identity: &Identity,
        script: impl FnMut(&MethodCall) -> Reply + Send + 'static,
    ) -> Self {
        Self::start(bind(Ipv4Addr::LOCALHOST, 0).await, Some(identity), script)
    }

    pub(crate) fn start(
        listener: TcpListener,
        identity: Option<&Identity>,
        script: impl FnMut(&MethodCall) -> Reply + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let calls = Arc::default();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let acceptor = identity.map(Identity::acceptor);
        let task = tokio::spawn(accept(listener, acceptor, script, Arc::clone(&calls)));
        Self { address, calls, task }
    }

    /// The calls that arrived, in order.
    pub(crate) fn calls(&self) -> Vec<MethodCall> {
        self.calls.lock().unwrap().clone()
    }

    /// Their methods.
    pub(crate) fn methods(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.name).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn bind(address: Ipv4Addr, port: u16) -> TcpListener {
    TcpListener::bind((address, port)).await.unwrap()
}

/// Two listeners on one port, as two hosts have them: 127.0.0.1 and 127.0.0.2.
pub(crate) async fn bind_two_hosts() -> (TcpListener, TcpListener) {
    for _ in 0..50 {
        let first = bind(Ipv4Addr::LOCALHOST, 0).await;
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).await {
            return (first, second);
        }
    }
    panic!("no port is free on both 127.0.0.1 and 127.0.0.2");
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    script: Arc<Mutex<Script>>,
    calls: Arc<Mutex<Vec<MethodCall>>>,
) {
    // Dropped with the task: a server that is gone answers on no connection.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, script, calls) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&calls));
        connections.spawn(async move {
            match acceptor {
                None => serve(stream, &script, &calls).await,
                // A client that does not like the certificate hangs up.
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &script, &calls).await;
                    }
                }
            }
        });
    }
}

/// Answers the calls of one connection until the client closes it.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &Mutex<Script>,
    calls: &Mutex<Vec<MethodCall>>,
) {
    while let Some(body) = read_request(&mut stream).await {
        let call = decode_call(&body).unwrap();
        calls.lock().unwrap().push(call.clone());
        let reply = (script.lock().unwrap())(&call);
        let bytes = match reply {
            Reply::Value(value) => with_length(&envelope("Success", "Value", value)),
            Reply::Failure(description) => {
                with_length(&envelope("Failure", "ErrorDescription", description.into_iter().collect()))
            }
            Reply::Body(body) => with_length(&body),
            Reply::Raw(bytes) => bytes,
            Reply::Cut(part) => {
                stream.write_all(&part).await.unwrap();
                return;
            }
            Reply::Never => std::future::pending().await,
            Reply::Trickle => {
                let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
                while stream.write_all(&bytes).await.is_ok() {
                    bytes = b" ".to_vec();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                return;
            }
        };
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn envelope(status: &str, name: &str, value: Value) -> Vec<u8> {
    let members = vec![("Status".to_owned(), status.into()), (name.to_owned(), value)];
    encode_response(&Response::Value(Value::Struct(members))).into_bytes()
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The body of the next request, checked for what XAPI's HTTP server needs of one.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    assert!(head.len() <= 1024, "XAPI takes 1024 bytes of header");
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post / http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nuser-agent: drawbridge/"), "{head}");
    assert!(!head.contains("transfer-encoding"), "XAPI does not take chunks: {head}");
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(String::from_utf8(body).unwrap())
}

/// A certificate and the key the server signs with.
pub(crate) struct Identity {
    pub(crate) certificate: Certificate,
    key: KeyPair,
}

impl Identity {
    /// As XAPI makes its own: self-signed, a CN and no name besides.
    pub(crate) fn of_xapi() -> Self {
        Self::self_signed(&named("xen1", &[]))
    }

    /// Self-signed and a CA at the same time, as some tools make them.
    pub(crate) fn of_a_ca() -> Self {
        let mut params = named("xen1", &["127.0.0.1"]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self::self_signed(&params)
    }

    /// Signed by `ca`, for `names`.
    pub(crate) fn signed_by(ca: &Authority, names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { certificate: named("xen1", names).signed_by(&key, ca).unwrap(), key }
    }

    /// This certificate with the key of another.
    pub(crate) fn with_a_stolen_certificate(mut self) -> Self {
        self.key = KeyPair::generate().unwrap();
        self
    }

    fn self_signed(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    /// As XAPI's stunnel: TLS 1.2 and secp384r1, nothing else.
    fn acceptor(&self) -> TlsAcceptor {
        let mut provider = ring::default_provider();
        provider.kx_groups = vec![ring::kx_group::SECP384R1];
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let key = provider.key_provider.load_private_key(key).unwrap();
        // Put together by hand: with_single_cert would refuse a key that is not the certificate's.
        let certified = CertifiedKey::new(vec![self.certificate.der().clone()], key);
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Always(Arc::new(certified))));
        TlsAcceptor::from(Arc::new(config))
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A certificate authority.
pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = named("a CA", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn named(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
