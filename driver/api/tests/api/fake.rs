//! A daemon that answers what it was told, and a server before it.

#[path = "explained.rs"]
mod explained;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::control::{
    Control, ControlError, Explanation, Hook, HookHost, HookReport, HostState, HostStatus, Misfit,
    MisfitKind, Outcome, PortState, PortStatus, Question,
};
use api::{ApiClient, ApiState, Limits, Server, TcpListen, UnixListen, router};
use async_trait::async_trait;
use ruleset::ids::GroupId;
use store::{PortId, Store};
use tokio::sync::{oneshot, watch};

#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) hooks: Mutex<Vec<(Hook, Duration)>>,
    pub(crate) insisted: Mutex<u32>,
    pub(crate) outcome: Mutex<Outcome>,
    pub(crate) trouble: Mutex<Vec<String>>,
    pub(crate) changes: watch::Sender<u64>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            hooks: Mutex::default(),
            insisted: Mutex::default(),
            outcome: Mutex::new(Outcome::Enforced),
            trouble: Mutex::default(),
            changes: watch::Sender::new(7),
        }
    }
}

#[async_trait]
impl Control for Fake {
    async fn hook(&self, hook: Hook, deadline: Duration) -> Result<HookReport, ControlError> {
        self.hooks.lock().expect("no panic").push((hook.clone(), deadline));
        match hook {
            Hook::Vm { vm, .. } if vm == "nobody" => return Err(ControlError::UnknownVm(vm)),
            Hook::Vm { vm, .. } if vm == "panic" => panic!("a fault of the daemon"),
            Hook::Vm { .. } | Hook::Host { .. } => {}
        }
        let outcome = *self.outcome.lock().expect("no panic");
        let error = (outcome == Outcome::Failed).then(|| "dom0 said no".to_owned());
        let host = HookHost { host: "xen1".to_owned(), enforced: outcome == Outcome::Enforced, error };
        Ok(HookReport { outcome, generation: 3, hosts: vec![host], problems: Vec::new() })
    }

    async fn hosts(&self) -> Vec<HostState> {
        vec![HostState {
            uuid: "u1".to_owned(),
            name: "xen1".to_owned(),
            status: HostStatus::InSync,
            backend: Some("iptables".to_owned()),
            enforced_generation: Some(1),
            wanted_generation: 1,
            ports: 2,
            quarantined: Vec::new(),
            complaints: Vec::new(),
            last_drift: None,
            last_success: None,
            last_error: None,
            next_attempt: None,
        }]
    }

    async fn explain(&self, question: Question) -> Result<Explanation, ControlError> {
        explained::explained(question)
    }

    async fn misfits(&self) -> Vec<Misfit> {
        let message = "the pool has no network of this name or uuid".to_owned();
        vec![Misfit { kind: MisfitKind::GuardedNetwork, id: "tenants".to_owned(), message }]
    }

    /// Enforced, but for those whose id says otherwise.
    async fn port_states(&self, ports: &[PortId]) -> Vec<PortState> {
        let enforced =
            PortState { status: PortStatus::Enforced, enforced_generation: Some(1), ..PortState::pending() };
        let state = |port: &PortId| match port.as_str().ends_with("-pending") {
            true => PortState::pending(),
            false => enforced.clone(),
        };
        ports.iter().map(state).collect()
    }

    async fn refresh_rules(&self, group: &GroupId) -> Vec<String> {
        vec![format!("rules of {group}")]
    }

    async fn refresh_members(&self, group: &GroupId) -> Vec<String> {
        vec![format!("members of {group}")]
    }

    async fn insist(&self) {
        *self.insisted.lock().expect("no panic") += 1;
    }

    async fn metrics(&self) -> String {
        "drawbridge_fake 1".to_owned()
    }

    async fn ready(&self) -> Result<(), Vec<String>> {
        let trouble = self.trouble.lock().expect("no panic").clone();
        if trouble.is_empty() { Ok(()) } else { Err(trouble) }
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A server on a unix socket in a folder of its own.
pub(crate) struct Daemon {
    pub(crate) fake: Arc<Fake>,
    pub(crate) store: Store,
    pub(crate) client: ApiClient,
    pub(crate) socket: PathBuf,
    pub(crate) tcp: Option<std::net::SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
    folder: tempfile::TempDir,
}

impl Daemon {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default(), None).await
    }

    pub(crate) async fn start_with(limits: Limits, tcp: Option<TcpListen>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("api.sock");
        let store =
            Store::open(&format!("sqlite:{}/store.db", folder.path().display())).await.expect("a store");
        let fake = Arc::new(Fake::default());
        let state = ApiState { store: store.clone(), control: fake.clone() };
        let unix = UnixListen::new(&socket);
        let server = Server::bind(router(state), limits, Some(unix), tcp).await.expect("a socket");
        let tcp = server.tcp_address();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.serve(async {
            stopped.await.ok();
        }));
        let client = ApiClient::unix(&socket).expect("a client");
        Self { fake, store, client, socket, tcp, stop: Some(stop), served: Some(served), folder }
    }

    /// Stops the server and waits for the requests that are under way.
    pub(crate) async fn stop(mut self) -> tempfile::TempDir {
        self.stop.take().expect("not stopped before").send(()).expect("it serves");
        self.served.take().expect("not stopped before").await.expect("no panic");
        self.store.close().await;
        self.folder
    }
}

/// A request word by word, for what the client would not send: the status and the body.
pub(crate) async fn raw(socket: &std::path::Path, request: &str) -> (u16, serde_json::Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(socket).await.expect("the socket answers");
    // A server that has heard enough answers before all is written.
    stream.write_all(request.as_bytes()).await.ok();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the server answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// A request with a JSON body, on a connection of its own.
pub(crate) fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
