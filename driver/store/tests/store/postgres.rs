//! A private PostgreSQL server, started once for all tests of this program; each test gets a database of its own.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::Connection;
use tokio::sync::OnceCell;

/// Followed by the process id. A short path: a socket's may have 107 characters.
const FOLDER: &str = "/tmp/drawbridge-postgres-";

struct Server {
    /// Where its socket is.
    directory: PathBuf,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The server's socket in its folder, as PostgreSQL names it.
pub(crate) const SOCKET: &str = ".s.PGSQL.5432";

/// The same database by way of a socket in that folder, which is to lead to the server's own: the other answer.
pub(crate) async fn through(folder: &Path, url: &str) -> (String, PathBuf) {
    let server = SERVER.get_or_init(start).await;
    (url.replace(&encoded(&server.directory), &encoded(folder)), server.directory.join(SOCKET))
}

/// Ends the connections to a database, but for those that hold one of `pg_advisory_lock`'s locks.
pub(crate) async fn cut(url: &str) {
    let mut other = sqlx::PgConnection::connect(url).await.expect("PostgreSQL answers");
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid() \
               AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid IS NOT NULL)";
    sqlx::query(cut).execute(&mut other).await.expect("they end");
}

/// Sends a statement by a connection of its own.
pub(crate) async fn execute(url: &str, statement: &'static str) {
    let mut other = sqlx::PgConnection::connect(url).await.expect("PostgreSQL answers");
    sqlx::raw_sql(statement).execute(&mut other).await.expect(statement);
}

fn encoded(folder: &Path) -> String {
    text(folder).replace('/', "%2F")
}

/// The URL of a new, empty database.
pub(crate) async fn database() -> String {
    let server = SERVER.get_or_init(start).await;
    let name = format!("test{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let mut connection =
        sqlx::PgConnection::connect(&server.url("postgres")).await.expect("PostgreSQL answers");
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .expect("a new database");
    server.url(&name)
}

impl Server {
    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", encoded(&self.directory))
    }
}

async fn start() -> Server {
    let initdb = program("initdb");
    let postgres = program("postgres");
    forget_the_dead();
    let directory = PathBuf::from(format!("{FOLDER}{}", std::process::id()));
    run("install", &["-d", "-o", "postgres", "-g", "postgres", "-m", "700", text(&directory)]).await;
    let data = directory.join("data");
    let user = ["-u", "postgres", "--"];
    run(
        "runuser",
        &[&user[..], &[text(&initdb), "-D", text(&data), "-A", "trust", "-E", "UTF8", "--no-sync"]].concat(),
    )
    .await;
    let mut server = command("setpriv");
    server
        .args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--pdeathsig", "INT", "--"])
        .args([text(&postgres), "-D", text(&data), "-c", "listen_addresses=", "-c", "fsync=off", "-c"])
        .arg(format!("unix_socket_directories={}", text(&directory)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(directory.join("log")).expect("a log file"));
    // Its parent's death, on which it ends, is the death of the thread that started it: one that lives to the end.
    std::thread::spawn(move || {
        let started = server.as_std_mut().spawn();
        started.expect("setpriv, from the package util-linux").wait().expect("its end");
    });
    let server = Server { directory };
    for _ in 0..600 {
        if sqlx::PgConnection::connect(&server.url("postgres")).await.is_ok() {
            return server;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("PostgreSQL does not start: see {}/log", server.directory.display());
}

/// Removes what former runs have left: nothing of ours runs when the process ends.
fn forget_the_dead() {
    for entry in std::fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let path = entry.path();
        let process = text(&path).strip_prefix(FOLDER).and_then(|pid| pid.parse::<u32>().ok());
        if process.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another test program may be at it, too.
            std::fs::remove_dir_all(&path).ok();
        }
    }
}

/// A program of the newest PostgreSQL that is installed.
fn program(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name)))
        .chain([PathBuf::from("/usr/bin").join(name)])
        .filter(|path| path.exists())
        .collect();
    // The newest comes last; where they all are in /usr/bin there is one.
    versions.sort();
    versions.pop().unwrap_or_else(|| panic!("{name} is missing: apt-get install postgresql"))
}

async fn run(program: &str, arguments: &[&str]) {
    let Output { status, stderr, .. } =
        command(program).args(arguments).output().await.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(status.success(), "{program}: {} (are you root?)", String::from_utf8_lossy(&stderr));
}

#[expect(clippy::disallowed_methods, reason = "the one place where the store's tests start programs")]
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> tokio::process::Command {
    tokio::process::Command::new(program)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
