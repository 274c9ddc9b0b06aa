//! How a daemon is made.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result};
use api::ApiClient;
use api::wire::DocumentInput;

use super::Daemon;
use crate::lab::Lab;
use crate::lab::builder::{USER, built};
use crate::lab::driver::{PASSWORD_FILE, PRIVATE_KEY};
use crate::process;

/// Longest time to wait for what should come soon: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a daemon is to be like.
#[derive(Clone, Debug)]
pub struct DaemonBuilder<'lab> {
    lab: &'lab Lab,
    name: String,
    store: PathBuf,
    /// Instead of the file.
    store_url: Option<String>,
    url: String,
    /// Settings of `[xapi]` and `[reconcile]`, seconds.
    xapi: Settings,
    reconcile: Settings,
    api: String,
    patience: Duration,
    environment: BTreeMap<String, String>,
}

type Settings = BTreeMap<&'static str, u32>;

impl Lab {
    /// A daemon of this name, told from others by it. It looks after its hosts every other second, gives a host 20 s and
    /// XAPI 10, and tries again after at most 2.
    ///
    /// # Errors
    /// No folder can be made for it.
    pub fn daemon(&self, name: &str) -> Result<DaemonBuilder<'_>> {
        let folder = self.scratch.path(name);
        std::fs::create_dir_all(&folder)?;
        Ok(DaemonBuilder {
            lab: self,
            name: name.to_owned(),
            store: folder.join("store.db"),
            store_url: None,
            url: self.mock()?.master_url(),
            xapi: [("connect_timeout", 5), ("call_timeout", 10)].into(),
            reconcile: [("look_after", 2), ("deadline", 20), ("longest_pause", 2)].into(),
            api: String::new(),
            patience: PATIENCE,
            environment: BTreeMap::new(),
        })
    }
}

impl<'lab> DaemonBuilder<'lab> {
    /// Seconds between two looks at a host where nothing has changed.
    #[must_use]
    pub fn look_after(mut self, seconds: u32) -> Self {
        self.reconcile.insert("look_after", seconds);
        self
    }

    /// Seconds that XAPI may take for a call.
    #[must_use]
    pub fn call_timeout(mut self, seconds: u32) -> Self {
        self.xapi.insert("call_timeout", seconds);
        self
    }

    /// Seconds that a host may take.
    #[must_use]
    pub fn deadline(mut self, seconds: u32) -> Self {
        self.reconcile.insert("deadline", seconds);
        self
    }

    /// Longest time, seconds, before a host that fails is tried again.
    #[must_use]
    pub fn longest_pause(mut self, seconds: u32) -> Self {
        self.reconcile.insert("longest_pause", seconds);
        self
    }

    /// Who waits for it gives up after this long, a minute unless more is asked for.
    #[must_use]
    pub const fn patient_for(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Talks to this host of the pool first.
    ///
    /// # Errors
    /// No such host.
    pub fn talk_to(mut self, host: &str) -> Result<Self> {
        self.url = self.lab.mock()?.host_url(host).with_context(|| format!("no host {host}"))?;
        Ok(self)
    }

    /// Keeps its store in this file.
    #[must_use]
    pub fn store_in(mut self, path: PathBuf) -> Self {
        self.store = path;
        self
    }

    /// As patient as it is unless it is told otherwise.
    #[must_use]
    pub fn as_shipped(mut self) -> Self {
        (self.xapi, self.reconcile) = Default::default();
        self
    }

    /// Keeps its store in the database of this URL.
    #[must_use]
    pub fn store_at(mut self, url: String) -> Self {
        self.store_url = Some(url);
        self
    }

    /// With these further lines of `[api]`.
    #[must_use]
    pub fn api(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.api);
        self
    }

    /// With this environment variable, beside `PATH`.
    #[must_use]
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Not started yet.
    ///
    /// # Errors
    /// The client of its API cannot be made.
    pub fn prepare(self) -> Result<Daemon<'lab>> {
        let api = self.lab.block_on(async { ApiClient::unix(&self.socket()) })?;
        Ok(Daemon { lab: self.lab, api, builder: self, process: None })
    }

    /// Starts it; waits until its socket answers.
    ///
    /// # Errors
    /// It ended at once; with its log.
    pub fn start(self) -> Result<Daemon<'lab>> {
        let mut daemon = self.prepare()?;
        daemon.start()?;
        Ok(daemon)
    }

    /// The usual: started, its store holds the Lab's policy and is adopted, every host is as it says.
    ///
    /// # Errors
    /// As [`start`](Self::start), [`Daemon::set_policy`] and [`Daemon::settle`].
    pub fn start_with(self, policy: &str) -> Result<Daemon<'lab>> {
        let daemon = self.start()?;
        daemon.set_policy(policy)?;
        daemon.adopt()?;
        daemon.settle()?;
        Ok(daemon)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.lab.scratch.path(&self.name).join(file)
    }

    pub(super) fn store(&self) -> PathBuf {
        self.store.clone()
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("log")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path("api.sock")
    }

    /// Starts the process. It ends with the thread that starts it.
    pub(super) fn spawn(&self) -> Result<Child> {
        let config = format!("{}/daemon.toml", self.name);
        self.lab.scratch.write(&config, 0o600, &self.config()?)?;
        let config = self.lab.scratch.path(&config);
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let program = built("drawbridge")?;
        let args =
            ["--config".as_ref(), config.as_os_str(), "--log".as_ref(), "info".as_ref(), "serve".as_ref()];
        Ok(process::spawn(&program, &args, &self.environment, log)?)
    }

    fn config(&self) -> Result<String> {
        let (password, key) = (self.lab.scratch.path(PASSWORD_FILE), self.lab.scratch.path(PRIVATE_KEY));
        let store = self.store_url.clone().unwrap_or_else(|| format!("sqlite:{}", self.store.display()));
        let lines = |settings: &Settings| -> String {
            settings.iter().map(|(key, seconds)| format!("{key} = {seconds}\n")).collect()
        };
        let (xapi, reconcile) = (lines(&self.xapi), lines(&self.reconcile));
        Ok(format!(
            "[xapi]\nurl = {:?}\nusername = {USER:?}\npassword_file = {password:?}\nfingerprints = {:?}\n{xapi}\n\
             [dom0]\nkey_file = {key:?}\n\n[store]\nurl = {store:?}\n\n[api]\nsocket = {:?}\n{}\n[reconcile]\n{reconcile}",
            self.url,
            self.lab.fingerprints()?,
            self.socket(),
            self.api,
        ))
    }
}

/// A policy file as the API takes it: the same words, lists in the plural, ports with ids made of their VIFs.
pub(super) fn document(policy: &str) -> Result<DocumentInput> {
    let mut file: serde_json::Value = toml::from_str(policy)?;
    plural(&mut file, &["group", "set", "port", "provider_rule"]);
    for group in file.get_mut("groups").and_then(|groups| groups.as_array_mut()).into_iter().flatten() {
        plural(group, &["rule"]);
    }
    Ok(serde_json::from_value(file)?)
}

fn plural(table: &mut serde_json::Value, names: &[&str]) {
    let Some(table) = table.as_object_mut() else { return };
    for name in names {
        if let Some(list) = table.remove(*name) {
            table.insert(format!("{name}s"), list);
        }
    }
}
