//! A PostgreSQL server of a test's own, which can be ended at any moment, that of a commit among them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process;

/// Followed by the process id and a number. A short path: a socket's may have 107 characters.
const FOLDER: &str = "/tmp/drawbridge-pg-";
const SETPRIV: &str = "/usr/bin/setpriv";
const PATIENCE: Duration = Duration::from_secs(30);

/// A server. It ends with this value, and its data with it.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    server: Option<Child>,
}

impl Postgres {
    /// Makes one and starts it.
    ///
    /// # Errors
    /// Not root, or PostgreSQL is not installed.
    pub fn start() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        forget_the_dead()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut this =
            Self { folder: format!("{FOLDER}{}-{number}", std::process::id()).into(), server: None };
        let (folder, data, initdb) = (text(&this.folder)?, this.data(), program("initdb")?);
        run("/usr/bin/install", &["-d", "-o", "postgres", "-g", "postgres", "-m", "700", folder])?;
        let initdb = [text(&initdb)?, "-D", text(&data)?, "-A", "trust", "-E", "UTF8", "--no-sync"];
        run(SETPRIV, &[&AS_POSTGRES[..], &initdb].concat())?;
        this.resume()?;
        Ok(this)
    }

    /// Its one database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.folder.display().to_string().replace('/', "%2F"))
    }

    /// Starts it once it has ended; waits until it takes connections.
    ///
    /// # Errors
    /// It does not start; with its log.
    pub fn resume(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "PostgreSQL runs already");
        self.set_commits_wait(false)?;
        let (data, postgres, log) = (self.data(), program("postgres")?, self.folder.join("log"));
        let sockets = format!("unix_socket_directories={}", self.folder.display());
        let args = [&AS_POSTGRES[..], &["--pdeathsig", "INT"], &[text(&postgres)?, "-D", text(&data)?]];
        let settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", &sockets];
        let args: Vec<&OsStr> = args.concat().into_iter().chain(settings).map(OsStr::new).collect();
        let out = std::fs::File::options().create(true).append(true).open(&log)?;
        self.server = Some(process::spawn(Path::new(SETPRIV), &args, &Default::default(), out)?);
        let started = Instant::now();
        // Its last line says so.
        while !std::fs::read_to_string(data.join("postmaster.pid"))
            .is_ok_and(|state| state.lines().nth(7).is_some_and(|state| state.trim() == "ready"))
        {
            if started.elapsed() > PATIENCE {
                bail!("PostgreSQL does not start: {}", std::fs::read_to_string(&log)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether a commit, once it is on the disk, waits for a second server that never comes.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn set_commits_wait(&self, wait: bool) -> Result<()> {
        let standby = if wait { "nobody" } else { "" };
        let settings = format!("synchronous_standby_names = '{standby}'\n");
        std::fs::write(self.data().join("postgresql.auto.conf"), settings)?;
        self.signal(Signal::SIGHUP)
    }

    /// Ends it at once, without a word to anybody.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGQUIT)?;
        self.server.take().context("PostgreSQL does not run")?.wait()?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        Ok(kill(Pid::from_raw(server.id().try_into()?), signal)?)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// It refuses to be run by root.
const AS_POSTGRES: [&str; 5] = ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"];

/// Removes what processes that were killed have left.
fn forget_the_dead() -> Result<()> {
    for entry in std::fs::read_dir("/tmp")? {
        let path = entry?.path();
        let process = text(&path)?.strip_prefix(FOLDER).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another test program may be at it, too.
            let _ = std::fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

/// A program of the newest PostgreSQL that is installed.
fn program(name: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.path().join("bin").join(name))
        .chain([Path::new("/usr/bin").join(name)])
        .filter(|path| path.exists())
        .collect();
    // Where they all are in /usr/bin there is one.
    found.sort();
    found.pop().with_context(|| format!("{name} is missing: apt-get install postgresql"))
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = process::run(Path::new(program), args, b"")?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}
