//! The database's machine is gone without a word: nothing comes any more, and nobody says that a connection has ended.

use std::path::PathBuf;
use std::time::Duration;

use store::{Kind, Store, StoreError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::postgres::{SOCKET, cut, database, through};
use crate::support::{create, group};

const COMMIT: &str = "COMMIT";

/// What the way to PostgreSQL lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Nothing; what was connected then never gets another word.
    Silent,
    /// All before a statement with this word.
    To(&'static str),
    /// That as well, but not what is said to it.
    Past(&'static str),
}

/// A way to a database of its own.
struct Proxy {
    url: String,
    /// Not by this way.
    direct: String,
    way: watch::Sender<Way>,
    _folder: tempfile::TempDir,
}

impl Proxy {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let direct = database().await;
        let (url, server) = through(folder.path(), &direct).await;
        let listener = UnixListener::bind(folder.path().join(SOCKET)).expect("a socket");
        let way = watch::Sender::new(Way::Open);
        tokio::spawn(accept(listener, server, way.clone()));
        Self { url, direct, way, _folder: folder }
    }
}

async fn accept(listener: UnixListener, server: PathBuf, way: watch::Sender<Way>) {
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        let server = UnixStream::connect(&server).await.expect("PostgreSQL answers");
        let way = way.clone();
        tokio::spawn(async move {
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pass(from_client, to_server, &way) => {}
                () = pass(from_server, to_client, &way) => {}
            }
        });
    }
}

/// Until one side ends; or, after a silence, until that is over, which is only for new connections.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, way: &watch::Sender<Way>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let some = &buffer[..read];
        let now = *way.borrow();
        let has = |word: &str| some.windows(word.len()).any(|part| part == word.as_bytes());
        let is_there = matches!(now, Way::To(word) | Way::Past(word) if has(word));
        if is_there {
            way.send_replace(Way::Silent);
        }
        let is_last = is_there && matches!(now, Way::Past(_));
        if *way.borrow() == Way::Silent && !is_last {
            way.subscribe().wait_for(|way| *way != Way::Silent).await.ok();
            return;
        }
        if read == 0 || to.write_all(some).await.is_err() {
            return;
        }
    }
}

/// Each would last for as long as TCP is patient.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(120), work).await.expect("it is not waited for ever")
}

/// Silence from a moment on: what an edit is answered then, and whether it was done.
async fn edit_into_silence(silence: Way) -> (StoreError, bool) {
    let proxy = Proxy::start().await;
    let store = Store::open(&proxy.url).await.expect("a store");
    create(&store, [group("before")]).await.expect("an answer");
    proxy.way.send_replace(silence);
    let refused = in_time(create(&store, [group("meanwhile")])).await.expect_err("nobody saves it");
    assert!(store.trouble().is_some());
    assert_eq!(store.state().count(Kind::Group), 1, "reads go on");
    proxy.way.send_replace(Way::Open);
    // A busy machine may not connect at the first attempt.
    let is_well = async {
        while store.trouble().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    in_time(is_well).await;
    in_time(create(&store, [group("after")])).await.expect("it is saved again");
    let state = store.state();
    let was_done = state.count(Kind::Group) == 3;
    assert_eq!(state.generation(), if was_done { 3 } else { 2 });
    (refused, was_done)
}

#[tokio::test]
async fn a_database_that_falls_silent_is_given_up() {
    let idle = async {
        let proxy = Proxy::start().await;
        let store = Store::open(&proxy.url).await.expect("a store");
        proxy.way.send_replace(Way::Silent);
        // Nobody edits: it is noticed all the same, and so `/readyz` says so.
        in_time(async {
            while store.trouble().is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        in_time(store.close()).await;
    };
    let closed = async {
        let proxy = Proxy::start().await;
        let store = Store::open(&proxy.url).await.expect("a store");
        proxy.way.send_replace(Way::Silent);
        in_time(store.close()).await;
    };
    let (before, in_commit, after_commit, (), ()) = tokio::join!(
        edit_into_silence(Way::Silent),
        edit_into_silence(Way::To(COMMIT)),
        edit_into_silence(Way::Past(COMMIT)),
        idle,
        closed
    );
    assert!(matches!(before, (StoreError::Database(_), false)), "{before:?}");
    assert!(matches!(in_commit, (StoreError::Unknown(_), false)), "{in_commit:?}");
    assert!(matches!(after_commit, (StoreError::Unknown(_), true)), "{after_commit:?}");
}

/// Its session stays at the server; what it holds must not keep others out for as long as TCP is patient.
#[tokio::test]
async fn a_start_that_died_over_its_tables_keeps_nobody_out() {
    let proxy = Proxy::start().await;
    let store = Store::open(&proxy.direct).await.expect("a store");
    proxy.way.send_replace(Way::To("_sqlx_migrations"));
    let url = proxy.url.clone();
    let start = tokio::spawn(async move { Store::open(&url).await });
    in_time(proxy.way.subscribe().wait_for(|way| *way == Way::Silent)).await.expect("it gets there");
    start.abort();
    cut(&proxy.direct).await;
    in_time(create(&store, [group("again")])).await.expect("who has lost a connection gets another");
    let other = in_time(Store::open(&proxy.direct)).await.expect("another start");
    assert_eq!(other.state().count(Kind::Group), 1);
}

/// The connection that was to tell what became of the commit is of no more use either, and `/readyz` says so.
#[tokio::test]
async fn silence_about_a_lost_commit_is_trouble() {
    let proxy = Proxy::start().await;
    let store = Store::open(&proxy.url).await.expect("a store");
    proxy.way.send_replace(Way::To(COMMIT));
    let lost_twice = async {
        proxy.way.subscribe().wait_for(|way| *way == Way::Silent).await.expect("the commit");
        proxy.way.send_replace(Way::To("FROM audit"));
        proxy.way.subscribe().wait_for(|way| *way == Way::Silent).await.expect("the question");
    };
    let edit = async {
        let refused = create(&store, [group("lost")]).await;
        (refused, store.trouble())
    };
    let ((), (refused, trouble)) = in_time(async { tokio::join!(lost_twice, edit) }).await;
    assert!(matches!(refused, Err(StoreError::Unknown(_))), "{refused:?}");
    assert!(trouble.is_some());
}
