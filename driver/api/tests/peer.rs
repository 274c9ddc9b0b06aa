//! Over the socket the kernel says who it is. A program of its own, since it changes the whole process's user.
#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::sync::Arc;

use api::{ApiClient, ApiState, ClientError, Code, Limits, Server, UnixListen, router};
use store::Store;
use tokio::net::UnixStream;

#[path = "api/fake.rs"]
#[expect(dead_code, reason = "another program uses the rest")]
mod fake;

/// Debian's nobody and nogroup.
const NOBODY: u32 = 65534;

/// Few enough that strangers could take them all.
const CONNECTIONS: usize = 4;

async fn serve(folder: &Path, name: &str, uid: Option<u32>, gid: Option<u32>) -> ApiClient {
    let socket = folder.join(name);
    let store = Store::open(&format!("sqlite:{}/{name}.db", folder.display())).await.expect("a store");
    let mut unix = UnixListen::new(&socket);
    unix.uids.extend(uid);
    unix.gids.extend(gid);
    let state = ApiState { store, control: Arc::new(fake::Fake::default()) };
    let limits = Limits { connections: CONNECTIONS, ..Limits::default() };
    let server = Server::bind(router(state), limits, Some(unix), None).await.expect("a socket");
    tokio::spawn(server.serve(std::future::pending()));
    ApiClient::unix(&socket).expect("a client")
}

#[tokio::test]
async fn root_the_daemon_and_those_named_may_and_nobody_else() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user: run it as root");
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::os::unix::fs::chown(folder.path(), Some(NOBODY), None).expect("a folder of nobody's");
    let default = serve(folder.path(), "default", None, None).await;
    let by_user = serve(folder.path(), "user", Some(NOBODY), None).await;
    // nobody's group by /etc/passwd, while the process keeps root's.
    let by_group = serve(folder.path(), "group", None, Some(NOBODY)).await;
    let other_group = serve(folder.path(), "other", None, Some(1)).await;
    assert!(default.status().await.is_ok());

    nix::unistd::seteuid(NOBODY.into()).expect("another user");
    // A new client: the old one has a connection that root opened.
    let again = |name: &str| ApiClient::unix(&folder.path().join(name)).expect("a client");
    let (user, group) = (again("user").status().await, again("group").status().await);
    let silent = async || UnixStream::connect(folder.path().join("default")).await.expect("a socket of all");
    let mut strangers = Vec::new();
    for _ in 0..=CONNECTIONS {
        strangers.push(silent().await);
    }
    let refused = [again("default").status().await, again("other").status().await];
    nix::unistd::seteuid(0.into()).expect("root again");

    assert!(user.is_ok() && group.is_ok(), "{user:?} {group:?}");
    for answer in refused {
        match answer {
            Err(ClientError::Problem(problem)) => assert_eq!(problem.code, Code::NotAllowed),
            other => panic!("{other:?}"),
        }
    }
    assert!(again("default").status().await.is_ok());
    // Nobody had to wait for the strangers to be sent away.
    for stranger in strangers {
        let read = stranger.into_std().expect("a stream").read(&mut [0]);
        assert!(read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{read:?}");
    }
    drop((by_user, by_group, other_group));
}
