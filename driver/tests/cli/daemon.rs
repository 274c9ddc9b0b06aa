//! A daemon without an engine, and the program that talks to it.

#[path = "../../api/tests/api/explained.rs"]
mod explained;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::control::{
    Control, ControlError, Explanation, Hook, HookHost, HookReport, HostState, HostStatus, Misfit,
    MisfitKind, Outcome, PortState, PortStatus, Question,
};
use api::{ApiState, Limits, Server, TcpListen, UnixListen, router};
use async_trait::async_trait;
use ruleset::ids::GroupId;
use serde_json::Value;
use store::{PortId, Store};
use tokio::sync::watch;

/// An engine that answers what it was told.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) hooks: Mutex<Vec<(Hook, Duration)>>,
    pub(crate) outcome: Mutex<Outcome>,
    pub(crate) hosts: Mutex<Vec<HostState>>,
    /// Ports that fit no VIF, by id.
    pub(crate) unbound: Mutex<Vec<String>>,
    pub(crate) trouble: Mutex<Vec<String>>,
    pub(crate) changes: watch::Sender<u64>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            hooks: Mutex::default(),
            outcome: Mutex::new(Outcome::Enforced),
            hosts: Mutex::default(),
            unbound: Mutex::default(),
            trouble: Mutex::default(),
            changes: watch::Sender::new(1),
        }
    }
}

fn locked<T: Clone>(value: &Mutex<T>) -> T {
    value.lock().expect("no panic").clone()
}

/// A host on which a generation is enforced.
pub(crate) fn host(name: &str, generation: u64) -> HostState {
    HostState {
        uuid: format!("uuid-of-{name}"),
        name: name.to_owned(),
        status: HostStatus::InSync,
        backend: Some("iptables".to_owned()),
        enforced_generation: Some(generation),
        wanted_generation: generation,
        ports: 2,
        quarantined: Vec::new(),
        complaints: Vec::new(),
        last_drift: None,
        last_success: Some("2026-11-21T03:00:00Z".to_owned()),
        last_error: None,
        next_attempt: None,
    }
}

#[async_trait]
impl Control for Fake {
    async fn hook(&self, hook: Hook, deadline: Duration) -> Result<HookReport, ControlError> {
        self.hooks.lock().expect("no panic").push((hook.clone(), deadline));
        if let Hook::Vm { vm, .. } = hook
            && vm == "nobody"
        {
            return Err(ControlError::UnknownVm(vm));
        }
        let outcome = locked(&self.outcome);
        let error = (outcome == Outcome::Failed).then(|| "dom0 said no".to_owned());
        let host = HookHost { host: "xen1".to_owned(), enforced: outcome == Outcome::Enforced, error };
        Ok(HookReport {
            outcome,
            generation: 3,
            hosts: vec![host],
            problems: vec!["a port elsewhere".to_owned()],
        })
    }

    async fn hosts(&self) -> Vec<HostState> {
        locked(&self.hosts)
    }

    async fn explain(&self, question: Question) -> Result<Explanation, ControlError> {
        explained::explained(question)
    }

    async fn misfits(&self) -> Vec<Misfit> {
        let message = "VM web-1 device 0: the pool has no VM of this name or uuid".to_owned();
        let misfit = |id| Misfit { kind: MisfitKind::Port, id, message: message.clone() };
        locked(&self.unbound).into_iter().map(misfit).collect()
    }

    async fn port_states(&self, ports: &[PortId]) -> Vec<PortState> {
        let unbound = locked(&self.unbound);
        let state = |port: &PortId| match unbound.contains(&port.to_string()) {
            true => PortState {
                status: PortStatus::Unbound,
                last_error: Some("the pool has no such VM".to_owned()),
                ..PortState::pending()
            },
            false => PortState {
                status: PortStatus::Enforced,
                enforced_generation: Some(1),
                ..PortState::pending()
            },
        };
        ports.iter().map(state).collect()
    }

    async fn refresh_rules(&self, _: &GroupId) -> Vec<String> {
        vec!["xen1".to_owned(), "xen2".to_owned()]
    }

    async fn refresh_members(&self, _: &GroupId) -> Vec<String> {
        Vec::new()
    }

    async fn insist(&self) {}

    async fn metrics(&self) -> String {
        String::new()
    }

    async fn ready(&self) -> Result<(), Vec<String>> {
        let trouble = locked(&self.trouble);
        if trouble.is_empty() { Ok(()) } else { Err(trouble) }
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A server on a unix socket in a folder of its own, and a configuration that names it.
pub(crate) struct Daemon {
    pub(crate) fake: Arc<Fake>,
    pub(crate) store: Store,
    pub(crate) tcp: Option<std::net::SocketAddr>,
    pub(crate) folder: tempfile::TempDir,
}

impl Daemon {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(tcp: Option<TcpListen>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite:{}/store.db", folder.path().display());
        let store = Store::open(&url).await.expect("a store");
        let fake = Arc::new(Fake::default());
        let state = ApiState { store: store.clone(), control: fake.clone() };
        let unix = UnixListen::new(folder.path().join("api.sock"));
        let server = Server::bind(router(state), Limits::default(), Some(unix), tcp).await.expect("a socket");
        let tcp = server.tcp_address();
        tokio::spawn(server.serve(std::future::pending()));
        let daemon = Self { fake, store, tcp, folder };
        let socket = daemon.path("api.sock");
        let store = format!("[store]\nurl = {url:?}\n[api]\nsocket = {:?}\n", socket.display().to_string());
        daemon.write("driver.toml", &configuration(&store));
        daemon
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the daemon's folder; its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the folder can be written");
        path.display().to_string()
    }

    /// The program with this daemon's configuration.
    pub(crate) fn run(&self, line: &str) -> Run {
        self.run_words(&shell_words::split(line).expect("a line"))
    }

    pub(crate) fn run_words(&self, words: &[String]) -> Run {
        let config = self.path("driver.toml").display().to_string();
        drawbridge(&[&["--config".to_owned(), config], words].concat())
    }

    /// Its JSON; it must succeed.
    pub(crate) fn json(&self, line: &str) -> Value {
        self.run(&format!("--json {line}")).success().json()
    }

    /// The program, left running, with its stdout in a file.
    pub(crate) fn spawn(&self, line: &str, stdout: &Path) -> Child {
        let file = std::fs::File::create(stdout).expect("a file");
        let config = self.path("driver.toml").display().to_string();
        let mut command = program();
        command.args(["--config", &config]).args(shell_words::split(line).expect("a line"));
        command.stdin(Stdio::null()).stdout(file).spawn().expect("the program starts")
    }
}

/// A configuration file; nothing it names need exist.
pub(crate) fn configuration(more: &str) -> String {
    "[xapi]\nurl = \"https://xen1.invalid\"\nusername = \"u\"\npassword_file = \"/nonexistent\"\n\
     fingerprints = []\n[dom0]\nkey_file = \"/nonexistent\"\n"
        .to_owned()
        + more
}

#[expect(clippy::disallowed_methods, reason = "the program under test")]
fn program() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_drawbridge"));
    for variable in ["DRAWBRIDGE_API", "DRAWBRIDGE_TOKEN_FILE", "DRAWBRIDGE_CA_FILE"] {
        command.env_remove(variable);
    }
    command
}

/// The program, to its end.
pub(crate) fn drawbridge(words: &[String]) -> Run {
    let output = program().args(words).stdin(Stdio::null()).output().expect("the program starts");
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// How the program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert!(self.code == Some(0) && self.stderr.is_empty(), "{self:#?}");
        self
    }

    /// It must have ended so, and said this.
    #[track_caller]
    pub(crate) fn says(self, code: i32, words: &str) -> Self {
        let said = format!("{}{}", self.stdout, self.stderr);
        assert!(self.code == Some(code) && said.contains(words), "{words}\n{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
