//! Who may call: users and groups on the socket, the token over the network.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::lab::{Backend, Daemon, Run};
use e2e::scenario::pool;
use nix::unistd::{Gid, Group, Uid, User};

/// Lets every user of the machine come through these folders.
fn open_the_way(folders: &[&Path]) -> Result<()> {
    for folder in folders {
        let mut permissions = std::fs::metadata(folder)?.permissions();
        permissions.set_mode(permissions.mode() | 0o111);
        std::fs::set_permissions(folder, permissions)?;
    }
    Ok(())
}

/// The program, as another user calls it.
fn as_user(daemon: &Daemon<'_>, program: &Path, (uid, gid): (Uid, Gid)) -> Result<Run> {
    let (uid, gid, socket) = (uid.to_string(), gid.to_string(), daemon.socket());
    let [program, socket] = [program, &socket].map(|path| path.to_str().context("no UTF-8"));
    let args =
        ["--reuid", &uid, "--regid", &gid, "--clear-groups", program?, "--api", socket?, "group", "list"];
    let output = e2e::process::run(Path::new("setpriv"), &args, b"")?;
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    Ok(Run { status: output.status, stdout, stderr })
}

/// Root may, a user that is named, and one in a group that is named; nobody else, and he is told so.
#[test]
fn on_the_socket() -> Result<()> {
    let user = |name| -> Result<User> { User::from_name(name)?.with_context(|| format!("no user {name}")) };
    let (named, other) = (user("games")?, user("nobody")?);
    let group = Group::from_name("daemon")?.context("no group daemon")?;
    let lab = pool(Backend::Nft).start()?;
    let daemon = lab.daemon("a")?.api("users = [\"games\"]\ngroups = [\"daemon\"]").start()?;
    let program: PathBuf = lab.scratch_path("drawbridge-for-all");
    std::fs::copy(e2e::lab::program()?, &program)?;
    open_the_way(&[&lab.scratch_path(""), daemon.socket().parent().context("no folder")?])?;
    let refused = as_user(&daemon, &program, (other.uid, other.gid))?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(refused.stderr.contains(&format!("user {} may not use the API", other.uid)), "{refused:?}");
    for who in [(named.uid, other.gid), (other.uid, group.gid), (Uid::from_raw(0), other.gid)] {
        as_user(&daemon, &program, who)?.success()?;
    }
    Ok(())
}

/// The right token opens, a wrong one does not, nor does none; who speaks without TLS is not answered.
#[test]
fn over_the_network() -> Result<()> {
    let lab = pool(Backend::Nft).start()?;
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = lab.scratch_path(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        path.to_str().map(str::to_owned).context("no UTF-8")
    };
    let (certificate, key) =
        (write("api.pem", &signed.cert.pem())?, write("api.key", &signed.signing_key.serialize_pem())?);
    let (token, wrong) = (write("token", "sesame\n")?, write("wrong", "sesam\n")?);
    // Free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let daemon = lab.daemon("a")?.api(&format!(
        "[api.tcp]\naddress = \"127.0.0.1:{port}\"\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n\
         token_file = {token:?}"
    ));
    let daemon = daemon.start()?;
    let url = format!("https://localhost:{port}");
    let call = |token: &str| {
        lab.drawbridge(&["--api", &url, "--ca-file", &certificate, "--token-file", token, "group", "list"])
    };
    call(&token)?.success()?;
    let refused = call(&wrong)?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("Bearer"), "{refused:?}");

    // Whoever shows no token at all.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone())?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let tls = std::sync::Arc::new(tls);
    for (path, expected) in [("/v1/groups", "HTTP/1.1 401 "), ("/healthz", "HTTP/1.1 200 ")] {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        let mut session = rustls::ClientConnection::new(tls.clone(), "localhost".to_owned().try_into()?)?;
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        write!(tls, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 13];
        tls.read_exact(&mut answer)?;
        ensure!(answer == *expected.as_bytes(), "{path}: {}", String::from_utf8_lossy(&answer));
    }

    let mut plain = TcpStream::connect(("127.0.0.1", port))?;
    plain.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(plain, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    // It may close, or break off.
    let _ = plain.read_to_end(&mut answer);
    ensure!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
    drop(daemon);
    Ok(())
}
