//! Who is trusted, and that nothing is sent to anybody else.

use crate::server::{Identity, authority, bind_two_hosts};
use crate::*;
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
    for identity in [Identity::of_xapi(), Identity::of_a_ca(), Identity::signed_by(&authority(), &["other"])]
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
    let slave = Server::start(first, Some(&slave_id), |_| Reply::failure(&["HOST_IS_SLAVE", "127.0.0.2"]));
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
    for text in ["", &plain[1..], &format!("{plain}0"), &colons.replace(':', " "), &plain.replace('e', "g")] {
        assert!(text.parse::<Fingerprint>().is_err(), "{text}");
    }
    assert!(format!("{}é", &plain[..62]).parse::<Fingerprint>().is_err());
}
