//! Who may use the API, and how much of it at a time.

use std::sync::Arc;
use std::time::Duration;

use api::wire::Status;
use api::{ApiClient, ClientError, Code, Limits, ListenError, Server, TcpListen, UnixListen};
use secrecy::SecretString;

use crate::fake::{Daemon, raw, request};

struct Tls {
    server: Arc<rustls::ServerConfig>,
    client: rustls::ClientConfig,
}

fn tls() -> Tls {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Tls { server: Arc::new(server), client }
}

#[tokio::test]
async fn over_tcp_the_token_is_needed() {
    let tls = tls();
    let listen = TcpListen {
        address: ([127, 0, 0, 1], 0).into(),
        tls: tls.server.clone(),
        token: SecretString::from("right".to_owned()),
    };
    let daemon = Daemon::start_with(Limits::default(), Some(listen)).await;
    let url = format!("https://localhost:{}", daemon.tcp.unwrap().port());
    let client = |token: &str| {
        ApiClient::https(&url, tls.client.clone(), SecretString::from(token.to_owned())).unwrap()
    };
    assert!(!client("right").status().await.unwrap().adopted);
    for wrong in ["", "wrong", "righ", "rightt"] {
        match client(wrong).status().await {
            Err(ClientError::Problem(problem)) => assert_eq!(problem.code, Code::NotAuthenticated),
            other => panic!("{other:?}"),
        }
        assert_eq!(client(wrong).text("/healthz").await.unwrap(), "ok\n");
        assert!(client(wrong).text("/metrics").await.is_err());
    }
    client("right").adopt().await.unwrap();
    let audit = client("right").audit(0, 1).await.unwrap();
    assert!(audit[0].actor == "token" && audit[0].origin.starts_with("127.0.0.1:"));
    // Somebody who does not speak TLS is in nobody's way.
    let _silent = tokio::net::TcpStream::connect(daemon.tcp.unwrap()).await.unwrap();
    assert!(client("right").status().await.is_ok());
}

/// Without a token, strangers took the places of those who come over the socket.
#[tokio::test]
async fn connections_over_tcp_take_no_place_of_the_sockets() {
    use std::io::{ErrorKind, Read as _};
    let listen = TcpListen {
        address: ([127, 0, 0, 1], 0).into(),
        tls: tls().server,
        token: SecretString::from("right".to_owned()),
    };
    let limits = Limits { connections: 2, ..Limits::default() };
    let daemon = Daemon::start_with(limits, Some(listen)).await;
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.push(tokio::net::TcpStream::connect(daemon.tcp.unwrap()).await.unwrap());
    }
    for _ in 0..4 {
        assert_eq!(raw(&daemon.socket, &request("GET", "/v1/status", "")).await.0, 200);
    }
    // Nobody had to wait for them to be sent away.
    for stranger in strangers {
        let read = stranger.into_std().unwrap().read(&mut [0]);
        assert!(read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{read:?}");
    }
}

#[tokio::test]
async fn too_many_requests_are_refused_and_slow_ones_ended() {
    let limits = Limits { requests: 1, time: Duration::from_secs(1), ..Limits::default() };
    let daemon = Daemon::start_with(limits, None).await;
    // One that waits takes the only place.
    let client = daemon.client.clone();
    let first = client.watch(None).await.unwrap();
    let waiting = tokio::spawn(async move { client.watch(Some(&first)).await });
    let busy = loop {
        match daemon.client.get::<Status>("/v1/status").await {
            Err(ClientError::Problem(problem)) => break problem.code,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(busy, Code::Busy);
    daemon.fake.changes.send_replace(8);
    waiting.await.unwrap().unwrap();
    // A body that does not come.
    let slow = request("POST", "/v1/groups", "{}").replace("Length: 2", "Length: 3");
    let (status, problem) = raw(&daemon.socket, &slow).await;
    assert_eq!((status, problem["code"].as_str()), (504, Some("deadline")));
}

#[tokio::test]
async fn a_stale_socket_is_taken_over_a_living_one_and_a_file_are_not() {
    let daemon = Daemon::start().await;
    let socket = daemon.socket.clone();
    let state = || api::ApiState { store: daemon.store.clone(), control: daemon.fake.clone() };
    let bind = async || {
        Server::bind(api::router(state()), Limits::default(), Some(UnixListen::new(&socket)), None)
            .await
            .map(drop)
    };
    assert!(matches!(bind().await, Err(ListenError::InUse { .. })));
    let file = daemon.socket.with_file_name("file");
    std::fs::write(&file, "precious").unwrap();
    let listen = UnixListen::new(&file);
    let refused = Server::bind(api::router(state()), Limits::default(), Some(listen), None).await;
    assert!(matches!(refused, Err(ListenError::NotASocket { .. })));
    let dead = daemon.socket.with_file_name("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let listen = UnixListen::new(&dead);
    assert!(Server::bind(api::router(state()), Limits::default(), Some(listen), None).await.is_ok());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_ends() {
    let daemon = Daemon::start().await;
    let client = daemon.client.clone();
    let first = client.watch(None).await.unwrap();
    let waiting = tokio::spawn(async move { client.watch(Some(&first)).await });
    // The watch is there when the fake has a listener.
    while daemon.fake.changes.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    let fake = daemon.fake.clone();
    let (client, stopped) = (daemon.client.clone(), tokio::spawn(daemon.stop()));
    while client.text("/healthz").await.is_ok() {
        tokio::task::yield_now().await;
    }
    fake.changes.send_replace(8);
    assert_eq!(waiting.await.unwrap().unwrap().engine, 8);
    stopped.await.unwrap();
    assert!(matches!(client.status().await, Err(ClientError::Unreachable { .. })));
}

#[tokio::test]
async fn who_is_refused_for_the_head_may_go_on_with_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let daemon = Daemon::start().await;
    let mut stream = tokio::net::UnixStream::connect(&daemon.socket).await.unwrap();
    let refused = request("PUT", "/v1/groups/a", "{}").replace("Connection: close", "If-Match: 7");
    let (head, body) = refused.split_at(refused.len() - 1);
    let mut answer = [0; 4096];
    for _ in 0..20 {
        // The body's end comes later than its head.
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer[..read]));
    }
}
