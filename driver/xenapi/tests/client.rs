//! The client against a server that does what XAPI does, and what it should not.
#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod server;

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

mod tls {
    use super::*;
    use server::{Identity, authority, bind_two_hosts};
    use std::path::PathBuf;

    fn pinned(server: &Server, pins: Vec<Fingerprint>) -> Client {
        Client::new(config(format!("https://{}", server.address), Tls::PinnedSha256(pins))).unwrap()
    }

    fn fingerprint(identity: &Identity) -> Fingerprint {
        Fingerprint::of(identity.certificate.der())
    }

    /// A file of this test process, gone when dropped.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, content: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xenapi-{}-{name}.pem", std::process::id()));
            std::fs::write(&path, content).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn by_ca(server: &Server, host: &str, file: &File) -> Client {
        let url = format!("https://{host}:{}", server.address.port());
        Client::new(config(url, Tls::CaFile(file.0.clone()))).unwrap()
    }

    #[tokio::test]
    async fn a_pinned_certificate_is_accepted_whatever_it_says() {
        for identity in
            [Identity::of_xapi(), Identity::of_a_ca(), Identity::signed_by(&authority(), &["other"])]
        {
            let server = Server::tls(&identity, |_| session()).await;
            let other = Fingerprint::of(b"another host of the pool");
            let answer = pinned(&server, vec![other, fingerprint(&identity)]).call("x.y", vec![]).await;
            assert_eq!(answer.unwrap(), Value::from(SESSION));
            assert_eq!(server.methods(), ["session.login_with_password", "x.y"]);
        }
    }

    #[tokio::test]
    async fn another_certificate_is_refused_before_anything_is_sent() {
        let (identity, pin) = (Identity::of_xapi(), Fingerprint::of(b"what was pinned"));
        let server = Server::tls(&identity, |_| session()).await;
        let error = pinned(&server, vec![pin]).call("x.y", vec![]).await.unwrap_err();
        let CallError::CertificateMismatch { host, expected, seen } = &error else { panic!("{error:?}") };
        assert_eq!(*host, server.address.to_string());
        assert_eq!((expected.as_slice(), *seen), ([pin].as_slice(), fingerprint(&identity)));
        let text = error.to_string();
        assert!(text.contains(&pin.to_string()) && text.contains(&seen.to_string()), "{text}");
        assert!(text.contains("openssl x509"), "what to do: {text}");
        assert_eq!(server.methods(), [""; 0]);
    }

    #[tokio::test]
    async fn the_pinned_certificate_without_its_key_is_refused() {
        let identity = Identity::of_xapi();
        let pin = fingerprint(&identity);
        let server = Server::tls(&identity.with_a_stolen_certificate(), |_| session()).await;
        let error = pinned(&server, vec![pin]).call("x.y", vec![]).await.unwrap_err();
        let CallError::CertificateRefused { problem, .. } = &error else { panic!("{error:?}") };
        assert!(problem.to_string().contains("BadSignature"), "{problem}");
        assert_eq!(server.methods(), [""; 0]);
    }

    #[tokio::test]
    async fn a_ca_vouches_for_the_names_it_signed() {
        let ca = authority();
        let file = File::new("ca", &ca.pem());
        let server = Server::tls(&Identity::signed_by(&ca, &["127.0.0.1"]), |_| session()).await;
        assert!(by_ca(&server, "127.0.0.1", &file).call("x.y", vec![]).await.is_ok());
    }

    #[tokio::test]
    async fn what_no_ca_vouches_for_is_refused_before_anything_is_sent() {
        let (ca, other) = (authority(), authority());
        let file = File::new("refusing-ca", &ca.pem());
        for (what, identity) in [
            ("another CA's", Identity::signed_by(&other, &["127.0.0.1"])),
            ("another host's", Identity::signed_by(&ca, &["127.0.0.9"])),
            ("XAPI's own", Identity::of_xapi()),
        ] {
            let server = Server::tls(&identity, |_| session()).await;
            let error = by_ca(&server, "127.0.0.1", &file).call("x.y", vec![]).await.unwrap_err();
            assert!(matches!(error, CallError::CertificateRefused { .. }), "{what}: {error:?}");
            assert!(error.to_string().contains("pin the fingerprint"), "{what}: {error}");
            assert_eq!(server.methods(), [""; 0], "{what}");
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_no_configuration() {
        let missing = PathBuf::from("/nonexistent/ca.pem");
        let error = Client::new(config("https://h".to_owned(), Tls::CaFile(missing))).unwrap_err();
        assert!(matches!(error, ConfigError::CaFile { .. }), "{error:?}");
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
        for (name, content) in [("empty", ""), ("text", "no certificate\n")] {
            let file = File::new(name, content);
            let error = Client::new(config("https://h".to_owned(), Tls::CaFile(file.0.clone()))).unwrap_err();
            assert!(matches!(error, ConfigError::NoCertificate { .. }), "{error:?}");
        }
        let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        let file = File::new("broken", broken);
        let error = Client::new(config("https://h".to_owned(), Tls::CaFile(file.0.clone()))).unwrap_err();
        assert!(matches!(error, ConfigError::CaFile { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn the_master_is_followed_and_must_be_pinned_too() {
        let (slave_id, master_id) = (Identity::of_xapi(), Identity::of_xapi());
        let (first, second) = bind_two_hosts().await;
        let slave =
            Server::start(first, Some(&slave_id), |_| Reply::failure(&["HOST_IS_SLAVE", "127.0.0.2"]));
        let master = Server::start(second, Some(&master_id), |_| session());

        let both = vec![fingerprint(&slave_id), fingerprint(&master_id)];
        pinned(&slave, both).call("x.y", vec![]).await.unwrap();
        assert_eq!(slave.methods(), ["session.login_with_password"]);
        assert_eq!(master.methods(), ["session.login_with_password", "x.y"]);

        let error = pinned(&slave, vec![fingerprint(&slave_id)]).call("x.y", vec![]).await.unwrap_err();
        let CallError::CertificateMismatch { host, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*host, master.address.to_string());
        assert_eq!(master.methods().len(), 2, "nothing more was sent");
    }

    #[tokio::test]
    async fn a_host_that_does_not_shake_hands_is_not_waited_for() {
        let listener = server::bind(std::net::Ipv4Addr::LOCALHOST, 0).await;
        let url = format!("https://{}", listener.local_addr().unwrap());
        let tls = Tls::PinnedSha256(vec![Fingerprint::of(b"")]);
        let config = ClientConfig { connect_timeout: Duration::from_millis(100), ..config(url, tls) };
        let start = Instant::now();
        let error = Client::new(config).unwrap().call("x.y", vec![]).await.unwrap_err();
        assert!(matches!(error, CallError::Connect { .. }), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }

    #[test]
    fn fingerprints_accept_and_reject() {
        let plain = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let colons = Fingerprint::of(b"").to_string();
        assert!(colons.starts_with("E3:B0:C4:42:98:FC:") && colons.len() == 95, "{colons}");
        for text in [plain, &plain.to_uppercase(), &colons, &colons.to_lowercase()] {
            assert_eq!(text.parse(), Ok(Fingerprint::of(b"")), "{text}");
        }
        for text in
            ["", &plain[1..], &format!("{plain}0"), &colons.replace(':', " "), &plain.replace('e', "g")]
        {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
        assert!(format!("{}é", &plain[..62]).parse::<Fingerprint>().is_err());
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

mod sessions {
    use super::*;
    use server::bind_two_hosts;

    #[tokio::test]
    async fn the_first_call_logs_in_and_the_session_stands_before_its_parameters() {
        let server = answering(|_| Reply::Value(Value::Int(7))).await;
        let client = plain(&server);
        assert_eq!(server.methods(), [""; 0]);
        assert_eq!(client.call("a.b", vec!["p".into(), true.into()]).await.unwrap(), Value::Int(7));
        client.call("a.c", vec![]).await.unwrap();
        let strings = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect::<Vec<Value>>();
        let calls = server.calls();
        assert_eq!(calls[0].params, strings(&["root", PASSWORD, "1.0", "drawbridge"]));
        assert_eq!(
            (calls[1].name.as_str(), &calls[1].params),
            ("a.b", &vec![SESSION.into(), "p".into(), true.into()])
        );
        assert_eq!((calls[2].name.as_str(), &calls[2].params), ("a.c", &strings(&[SESSION])));
        assert_eq!(calls.len(), 3);
    }

    /// Sessions are numbered; all up to `over` are invalid.
    async fn numbering(over: usize) -> Server {
        let mut logins = 0;
        Server::plain(move |call| {
            if is_login(call) {
                logins += 1;
                return Reply::Value(format!("{SESSION}-{logins}").into());
            }
            let session = call.params[0].as_str().unwrap();
            let number: usize = session.rsplit('-').next().unwrap().parse().unwrap();
            if number <= over { Reply::failure(&["SESSION_INVALID", session]) } else { Reply::ok() }
        })
        .await
    }

    #[tokio::test]
    async fn a_forgotten_session_is_replaced_and_the_call_sent_once_more() {
        let server = numbering(1).await;
        plain(&server).call("a.b", vec!["p".into()]).await.unwrap();
        let login = "session.login_with_password";
        assert_eq!(server.methods(), [login, "a.b", login, "a.b"]);
        assert_eq!(server.calls()[3].params[1], Value::from("p"));
    }

    #[tokio::test]
    async fn a_session_forgotten_again_is_an_error_that_does_not_show_it() {
        let server = numbering(usize::MAX).await;
        let client = plain(&server);
        let error = client.call("a.b", vec![]).await.unwrap_err();
        assert_eq!(api(&error).kind(), Kind::SessionInvalid);
        assert!(!everything(&error).contains(SESSION), "{}", everything(&error));
        assert_eq!(server.methods().len(), 4);
    }

    #[tokio::test]
    async fn many_callers_share_one_login_and_one_login_anew() {
        let server = numbering(1).await;
        let client = plain(&server);
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.call("a.b", vec![]).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(server.calls().iter().filter(|call| is_login(call)).count(), 2);
    }

    #[tokio::test]
    async fn a_wrong_password_is_its_own_error_and_is_not_shown() {
        for description in [
            ["SESSION_AUTHENTICATION_FAILED", "root", PASSWORD],
            ["RBAC_PERMISSION_DENIED", "session.login_with_password", "no roles"],
        ] {
            let server = Server::plain(move |_| Reply::failure(&description)).await;
            let client = plain(&server);
            let error = client.call("a.b", vec![]).await.unwrap_err();
            let CallError::Authentication { username, source, .. } = &error else { panic!("{error:?}") };
            assert_eq!((username.as_str(), source.code.as_str()), ("root", description[0]));
            assert!(!everything(&error).contains(PASSWORD), "{}", everything(&error));
            assert!(!format!("{client:?}").contains(PASSWORD), "{client:?}");
            assert_eq!(server.methods().len(), 1, "not tried again");
        }
    }

    #[tokio::test]
    async fn a_login_that_gives_no_session_is_an_error() {
        for value in [Value::from(""), Value::Nil, Value::Int(5)] {
            let server = Server::plain(move |_| Reply::Value(value.clone())).await;
            let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
            assert!(matches!(error, CallError::Decode { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn logging_out_closes_the_session_and_the_next_call_opens_another() {
        let server = numbering(0).await;
        let client = plain(&server);
        client.logout().await.unwrap();
        assert_eq!(server.methods(), [""; 0], "there was none");
        client.call("a.b", vec![]).await.unwrap();
        client.logout().await.unwrap();
        client.logout().await.unwrap();
        client.call("a.c", vec![]).await.unwrap();
        let login = "session.login_with_password";
        assert_eq!(server.methods(), [login, "a.b", "session.logout", login, "a.c"]);
    }

    #[tokio::test]
    async fn logging_out_of_a_forgotten_session_is_fine() {
        let server = answering(|call| match call.name.as_str() {
            "session.logout" => Reply::failure(&["SESSION_INVALID", SESSION]),
            _ => Reply::ok(),
        })
        .await;
        let client = plain(&server);
        client.call("a.b", vec![]).await.unwrap();
        client.logout().await.unwrap();
    }

    #[tokio::test]
    async fn a_slave_that_names_a_slave_is_not_followed_further() {
        let (first, second) = bind_two_hosts().await;
        let one = Server::start(first, None, |_| Reply::failure(&["HOST_IS_SLAVE", "127.0.0.2"]));
        let two = Server::start(second, None, |_| Reply::failure(&["HOST_IS_SLAVE", "127.0.0.1"]));
        let error = plain(&one).call("a.b", vec![]).await.unwrap_err();
        assert_eq!(api(&error).kind(), Kind::HostIsSlave { master: "127.0.0.1" });
        assert_eq!((one.methods().len(), two.methods().len()), (1, 1));
    }

    #[tokio::test]
    async fn a_master_that_is_no_address_or_not_ours_to_talk_to_is_refused() {
        for address in
            ["", "192.0.2.1", "localhost", "127.0.0.1:80", "127.0.0.1/x", "user@127.0.0.1", "a b", "[::1]"]
        {
            let server = Server::plain(move |_| Reply::failure(&["HOST_IS_SLAVE", address])).await;
            let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
            let CallError::BadMaster { address: named, .. } = &error else { panic!("{address}: {error:?}") };
            assert_eq!(named, address);
        }
    }

    #[tokio::test]
    async fn a_change_of_the_master_is_followed() {
        let (first, second) = bind_two_hosts().await;
        let mut calls = 0;
        let old = Server::start(first, None, move |_| {
            calls += 1;
            if calls <= 2 { session() } else { Reply::failure(&["HOST_IS_SLAVE", "127.0.0.2"]) }
        });
        let new = Server::start(second, None, |_| session());
        let client = plain(&old);
        client.call("a.b", vec![]).await.unwrap();
        client.call("a.c", vec![]).await.unwrap();
        client.call("a.d", vec![]).await.unwrap();
        let login = "session.login_with_password";
        assert_eq!(old.methods(), [login, "a.b", "a.c", login]);
        assert_eq!(new.methods(), [login, "a.c", "a.d"]);
    }

    #[tokio::test]
    async fn when_the_master_is_gone_the_configured_host_is_asked_again() {
        let (first, second) = bind_two_hosts().await;
        let mut asked = 0;
        let configured = Server::start(first, None, move |_| {
            asked += 1;
            if asked == 1 { Reply::failure(&["HOST_IS_SLAVE", "127.0.0.2"]) } else { session() }
        });
        let master = Server::start(second, None, |_| session());
        let client = plain(&configured);
        client.call("a.b", vec![]).await.unwrap();
        drop(master);
        // Until the server's task is gone a call may still reach it, or be cut.
        let deadline = Instant::now() + Duration::from_secs(5);
        while client.call("a.c", vec![]).await.is_err() || configured.methods().len() < 3 {
            assert!(Instant::now() < deadline, "{:?}", configured.methods());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let login = "session.login_with_password";
        assert_eq!(configured.methods(), [login, login, "a.c"]);
    }
}

mod answers {
    use super::*;

    #[tokio::test]
    async fn what_is_no_answer_of_xapi_is_an_error() {
        let bodies: &[&[u8]] = &[
            b"",
            b"<html>Not found</html>",
            b"<methodResponse><params><param><value>x</value></param></params></methodResponse>",
            b"<methodResponse><params><param><value><struct></struct></value></param></params></methodResponse>",
            b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value>\
              </member></struct></value></param></params></methodResponse>",
            b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Failure</value>\
              </member></struct></value></param></params></methodResponse>",
            b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Perhaps</value>\
              </member><member><name>Value</name><value/></member></struct></value></param></params></methodResponse>",
            b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Failure</value></member>\
              <member><name>ErrorDescription</name><value><array><data></data></array></value></member></struct></value>\
              </param></params></methodResponse>",
            b"<!DOCTYPE x [<!ENTITY a 'b'>]><methodResponse/>",
            b"\xff\xfe\x00",
        ];
        for &body in bodies {
            let server = answering(move |_| Reply::Body(body.to_vec())).await;
            let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
            let CallError::Decode { method, .. } = &error else { panic!("{error:?}") };
            assert_eq!(method, "a.b");
        }
    }

    #[tokio::test]
    async fn a_fault_is_an_error_with_its_code() {
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>-3</int></value></member>\
             <member><name>faultString</name><value>broken</value></member></struct></value></fault></methodResponse>";
        let server = answering(|_| Reply::Body(fault.into())).await;
        let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
        assert_eq!(api(&error).to_string(), "Fault: -3, broken");
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_not_read() {
        let chunked = |size: usize| {
            let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n");
            [head.as_bytes(), &vec![b' '; size], b"\r\n0\r\n\r\n"].concat()
        };
        // Announced: the body itself never comes, so whoever waits for it times out.
        let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n".to_vec();
        let large = |size: usize| [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b' '; size]].concat();
        for (raw, too_large) in
            [(announced, true), (chunked(1001), true), (chunked(1000), false), (large(100_000), true)]
        {
            let server = answering(move |_| Reply::Raw(raw.clone())).await;
            let url = format!("http://{}", server.address);
            let config = ClientConfig { max_answer: 1000, ..config(url, Tls::PlainLoopback) };
            let error = Client::new(config).unwrap().call("a.b", vec![]).await.unwrap_err();
            match &error {
                CallError::TooLarge { limit, .. } => assert!(too_large && *limit == 1000, "{error:?}"),
                CallError::Decode { .. } => assert!(!too_large, "{error:?}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_slow_answer_is_not_waited_for() {
        for (what, slow) in
            [("silence", (|| Reply::Never) as fn() -> Reply), ("a trickle", || Reply::Trickle)]
        {
            let server = answering(move |_| slow()).await;
            let client = plain(&server);
            client.logout().await.unwrap();
            let start = Instant::now();
            let limit = Duration::from_millis(200);
            let error = client.with_call_timeout(limit).call("a.b", vec![]).await.unwrap_err();
            let CallError::Timeout { method, after, .. } = &error else { panic!("{what}: {error:?}") };
            assert_eq!((method.as_str(), *after), ("a.b", limit), "{what}");
            assert!(start.elapsed() < Duration::from_secs(4), "{what}: {:?}", start.elapsed());
            assert_eq!(server.methods().len(), 2, "{what}: not sent again");
        }
    }

    #[tokio::test]
    async fn a_cut_connection_is_an_error_and_the_call_is_not_sent_again() {
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab".to_vec();
        for part in [vec![], half] {
            let mut cut = false;
            let server = answering(move |_| {
                // Whoever asks again is answered.
                if std::mem::replace(&mut cut, true) { Reply::ok() } else { Reply::Cut(part.clone()) }
            })
            .await;
            let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
            assert!(matches!(error, CallError::Interrupted { .. }), "{error:?}");
            assert_eq!(server.methods(), ["session.login_with_password", "a.b"]);
        }
    }

    #[tokio::test]
    async fn a_status_other_than_200_is_an_error_and_no_redirect_is_followed() {
        let elsewhere = answering(|_| Reply::ok()).await;
        for status in [301, 307, 403, 500] {
            let location = format!("http://{}/", elsewhere.address);
            let raw = format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            let server = answering(move |_| Reply::Raw(raw.clone().into_bytes())).await;
            let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
            let CallError::Http { status: seen, .. } = &error else { panic!("{error:?}") };
            assert_eq!(*seen, status);
        }
        assert_eq!(elsewhere.methods(), [""; 0]);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_that_names_the_host_and_the_cause() {
        let server = answering(|_| Reply::ok()).await;
        let address = server.address;
        let client = plain(&server);
        drop(server);
        tokio::task::yield_now().await;
        let error = client.call("a.b", vec![]).await.unwrap_err();
        let CallError::Connect { host, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*host, address.to_string());
        assert!(everything(&error).contains("refused"), "{}", everything(&error));
    }

    #[tokio::test]
    async fn a_call_larger_than_xapi_takes_is_not_sent() {
        let server = answering(|_| Reply::ok()).await;
        let client = plain(&server);
        client.call("a.b", vec!["x".repeat(290 << 10).into()]).await.unwrap();
        let error = client.call("a.b", vec!["x".repeat(300 << 10).into()]).await.unwrap_err();
        assert!(matches!(error, CallError::CallTooLarge { .. }), "{error:?}");
        assert_eq!(server.methods().len(), 2);
    }
}

mod calls {
    use super::*;

    fn pool() -> Value {
        Value::Struct(vec![("uuid".to_owned(), UUID.into()), ("master".to_owned(), "OpaqueRef:h".into())])
    }

    #[tokio::test]
    async fn objects_are_read() {
        let server = answering(|call| {
            Reply::Value(match call.name.as_str() {
                "pool.get_all_records" => Value::Struct(vec![("OpaqueRef:p".to_owned(), pool())]),
                "pool.get_record" => pool(),
                "pool.get_by_uuid" => "OpaqueRef:p".into(),
                _ => Value::Struct(vec![]),
            })
        })
        .await;
        let client = plain(&server);
        let expected = Pool { uuid: UUID.parse().unwrap(), master: Ref::new("OpaqueRef:h") };
        let reference = client.by_uuid(expected.uuid).await.unwrap();
        assert_eq!(reference, Ref::new("OpaqueRef:p"));
        assert_eq!(client.record(&reference).await.unwrap(), expected);
        assert_eq!(client.pools().await.unwrap(), [(reference, expected)].into());
        assert!(client.vms().await.unwrap().is_empty() && client.vifs().await.unwrap().is_empty());
        assert!(client.hosts().await.unwrap().is_empty() && client.networks().await.unwrap().is_empty());
        assert!(client.pifs().await.unwrap().is_empty());
        let methods = server.methods();
        let all =
            ["pool", "VM", "VIF", "host", "network", "PIF"].map(|class| format!("{class}.get_all_records"));
        assert_eq!(methods[3..], all);
        let calls = server.calls();
        assert_eq!(calls[1].params[1], Value::from(UUID));
        assert_eq!(calls[2].params[1], Value::from("OpaqueRef:p"));
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_an_error_that_names_it() {
        let server = answering(|call| {
            let record = Value::Struct(vec![]);
            let map = Value::Struct(vec![("OpaqueRef:1".to_owned(), record.clone())]);
            Reply::Value(if call.name == "VM.get_record" { record } else { map })
        })
        .await;
        let client = plain(&server);
        let one = client.record(&Ref::<Vm>::new("OpaqueRef:1")).await.unwrap_err();
        let all = client.vms().await.unwrap_err();
        for error in [one, all] {
            let CallError::Decode { source: AnswerError::Record(record), .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(record.to_string(), "VM OpaqueRef:1, field uuid: missing");
        }
    }

    #[tokio::test]
    async fn a_plugin_is_called_and_its_errors_come_through() {
        let server = answering(|call| match call.params[3].as_str() {
            Some("fails") => Reply::failure(&["XENAPI_PLUGIN_FAILURE", "non-zero exit", "", "no"]),
            Some("refuses") => Reply::failure(&["DRAWBRIDGE_UNSIGNED", "no auth"]),
            Some("odd") => Reply::Value(Value::Int(1)),
            _ => Reply::Value("out".into()),
        })
        .await;
        let (client, host) = (plain(&server), Ref::<Host>::new("OpaqueRef:h"));
        let args: BTreeMap<_, _> =
            [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "<1>".to_owned())].into();
        let call = async |function| client.call_plugin(&host, "drawbridge", function, &args).await;
        assert_eq!(call("iptables-save").await.unwrap(), "out");
        let sent = Value::Struct(vec![("a".to_owned(), "<1>".into()), ("b".to_owned(), "2".into())]);
        let expected =
            [SESSION.into(), "OpaqueRef:h".into(), "drawbridge".into(), "iptables-save".into(), sent];
        assert_eq!(
            (server.calls()[1].name.as_str(), &server.calls()[1].params[..]),
            ("host.call_plugin", &expected[..])
        );

        let failed = call("fails").await.unwrap_err();
        assert!(matches!(api(&failed).kind(), Kind::PluginFailure { stderr: "no", .. }), "{failed:?}");
        let refused = call("refuses").await.unwrap_err();
        assert!(
            matches!(api(&refused).kind(), Kind::Drawbridge { code: "DRAWBRIDGE_UNSIGNED", .. }),
            "{refused:?}"
        );
        let odd = call("odd").await.unwrap_err();
        assert!(matches!(odd, CallError::Decode { .. }), "{odd:?}");
    }

    #[tokio::test]
    async fn commands_are_sent_as_xapi_names_them() {
        let server = answering(|_| Reply::ok()).await;
        let client = plain(&server);
        let (vm, vif, host) = (Ref::<Vm>::new("vm"), Ref::<Vif>::new("vif"), Ref::<Host>::new("host"));
        let addresses = ["10.0.0.1".to_owned()];
        client.start(&vm, true).await.unwrap();
        client.start_on(&vm, &host, false).await.unwrap();
        client.unpause(&vm).await.unwrap();
        client.clean_reboot(&vm).await.unwrap();
        client.hard_reboot(&vm).await.unwrap();
        client.suspend(&vm).await.unwrap();
        client.resume(&vm, true).await.unwrap();
        client.hard_shutdown(&vm).await.unwrap();
        client.destroy(&vm).await.unwrap();
        client.set_locking_mode(&vif, LockingMode::Locked).await.unwrap();
        client.set_ipv4_allowed(&vif, &addresses).await.unwrap();
        client.set_ipv6_allowed(&vif, &[]).await.unwrap();
        client.set_default_locking_mode(&Ref::new("net"), DefaultLockingMode::Disabled).await.unwrap();

        let s = |text: &str| Value::from(text);
        let (yes, no) = (Value::Bool(true), Value::Bool(false));
        let expected = [
            ("VM.start", vec![s("vm"), yes.clone(), no.clone()]),
            ("VM.start_on", vec![s("vm"), s("host"), no.clone(), no.clone()]),
            ("VM.unpause", vec![s("vm")]),
            ("VM.clean_reboot", vec![s("vm")]),
            ("VM.hard_reboot", vec![s("vm")]),
            ("VM.suspend", vec![s("vm")]),
            ("VM.resume", vec![s("vm"), yes, no]),
            ("VM.hard_shutdown", vec![s("vm")]),
            ("VM.destroy", vec![s("vm")]),
            ("VIF.set_locking_mode", vec![s("vif"), s("locked")]),
            ("VIF.set_ipv4_allowed", vec![s("vif"), Value::Array(vec![s("10.0.0.1")])]),
            ("VIF.set_ipv6_allowed", vec![s("vif"), Value::Array(vec![])]),
            ("network.set_default_locking_mode", vec![s("net"), s("disabled")]),
        ];
        let calls = server.calls();
        assert_eq!(calls.len(), 1 + expected.len());
        for (call, (method, params)) in calls[1..].iter().zip(expected) {
            assert_eq!((call.name.as_str(), &call.params[1..]), (method, &params[..]));
        }
    }

    #[tokio::test]
    async fn a_command_that_answers_something_is_an_error() {
        let server = answering(|_| Reply::Value("OpaqueRef:task".into())).await;
        let error = plain(&server).unpause(&Ref::new("vm")).await.unwrap_err();
        assert!(matches!(error, CallError::Decode { .. }), "{error:?}");
    }
}
