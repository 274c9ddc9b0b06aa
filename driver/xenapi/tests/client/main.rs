//! The client against a server that does what XAPI does, and what it should not.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod answers;
mod calls;
mod events;
mod server;
mod sessions;
mod tls;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use drawbridge_wire::xmlrpc::{MethodCall, Value};
use server::{Reply, Server};
use xenapi::client::AnswerError;
use xenapi::{
    ApiError, CallError, Client, ClientConfig, ConfigError, DefaultLockingMode, Fingerprint, Host, Kind,
    LockingMode, Pool, Ref, Tls, Vif, Vm,
};

const PASSWORD: &str = "correct horse";
const SESSION: &str = "OpaqueRef:5e551011";
const UUID: &str = "5ad4f3a0-72e0-4b1c-9ac0-5a3c9c1d0e11";

fn config(url: String, tls: Tls) -> ClientConfig {
    ClientConfig {
        connect_timeout: Duration::from_secs(5),
        call_timeout: Duration::from_secs(5),
        ..ClientConfig::new(url, "root", PASSWORD.into(), tls)
    }
}

fn plain(server: &Server) -> Client {
    Client::new(config(format!("http://{}", server.address), Tls::PlainLoopback)).unwrap()
}

/// Logs everyone in and answers the rest with `script`.
async fn answering(mut script: impl FnMut(&MethodCall) -> Reply + Send + 'static) -> Server {
    Server::plain(move |call| if is_login(call) { session() } else { script(call) }).await
}

fn is_login(call: &MethodCall) -> bool {
    call.name == "session.login_with_password"
}

fn session() -> Reply {
    Reply::Value(SESSION.into())
}

/// The whole of an error: its words, its causes', and what `{:?}` shows.
fn everything(error: &CallError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(" / {error}"));
        cause = error.source();
    }
    text
}

fn api(error: &CallError) -> &ApiError {
    match error {
        CallError::Api(error) => error,
        other => panic!("not an answer of XAPI: {other:?}"),
    }
}

#[test]
fn urls_accept_and_reject() {
    let pins = || Tls::PinnedSha256(vec![Fingerprint::of(b"")]);
    let make = |url: &str, tls| Client::new(config(url.to_owned(), tls));
    for url in
        ["https://xen1", "https://xen1.example.org/", "https://192.0.2.1:8443", "https://[2001:db8::1]"]
    {
        assert!(make(url, pins()).is_ok(), "{url}");
    }
    for url in ["http://127.0.0.1", "http://127.0.0.3:8080/", "http://[::1]:80"] {
        assert!(make(url, Tls::PlainLoopback).is_ok(), "{url}");
        assert!(matches!(make(url, pins()), Err(ConfigError::Scheme { .. })), "{url}");
    }
    for url in [
        "http://192.0.2.1",
        "http://localhost",
        "https://127.0.0.1",
        "http://127.0.0.1.example.org",
        "http://[::]",
    ] {
        let error = make(url, Tls::PlainLoopback).unwrap_err();
        assert!(matches!(error, ConfigError::NotLoopback { .. }), "{url}: {error:?}");
    }
    for url in ["", "xen1", "https://", "https:///x y", "root:secret@xen1", "https://root:secret@x y"] {
        let error = make(url, pins()).unwrap_err();
        assert!(matches!(error, ConfigError::Url { .. } | ConfigError::Scheme { .. }), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
    for url in
        ["https://root:secret@xen1", "https://xen1/jsonrpc", "https://xen1?secret", "https://xen1#secret"]
    {
        let error = make(url, pins()).unwrap_err();
        assert!(matches!(error, ConfigError::UrlTooLong), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
    assert!(matches!(make("ftp://xen1", pins()), Err(ConfigError::Scheme { .. })));
    assert!(matches!(make("https://xen1", Tls::PinnedSha256(vec![])), Err(ConfigError::NoFingerprint)));
    let config = ClientConfig { user_agent: "a\nb".to_owned(), ..config("https://xen1".to_owned(), pins()) };
    assert!(matches!(Client::new(config), Err(ConfigError::Http(_))));
}
