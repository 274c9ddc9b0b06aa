//! The `drawbridge` program, run as its user runs it.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Lab;
use super::builder::{PASSWORD, USER, built};
use crate::process;

/// The configuration's file name in the Lab's folder.
pub(super) const CONFIG: &str = "drawbridge.toml";
/// The policy's.
pub(super) const POLICY: &str = "policy.toml";
/// The password's.
pub(super) const PASSWORD_FILE: &str = "password";
/// The private key's.
pub(super) const PRIVATE_KEY: &str = "key";

/// How a run of the program ended.
#[derive(Debug)]
pub struct Run {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output, whole.
    pub stdout: String,
    /// Standard error, whole.
    pub stderr: String,
}

impl Run {
    /// Its answer to `--json`.
    ///
    /// # Errors
    /// Standard output is not one JSON document.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("no JSON: {:?}; {}", self.stdout, self.stderr))
    }

    /// The hosts it changed (apply, hook) or would change (plan), by name.
    ///
    /// # Errors
    /// Its answer has no list of hosts.
    pub fn changed(&self) -> Result<Vec<String>> {
        self.hosts_that(&["changed", "planned"])
    }

    /// The hosts that are not as the policy wants them.
    ///
    /// # Errors
    /// Its answer has no list of hosts.
    pub fn failed(&self) -> Result<Vec<String>> {
        self.hosts_that(&["failed"])
    }

    fn hosts_that(&self, statuses: &[&str]) -> Result<Vec<String>> {
        let answer = self.json()?;
        let hosts = answer["hosts"].as_array().with_context(|| format!("no hosts in {answer}"))?;
        let with = |host: &&Value| host["status"].as_str().is_some_and(|status| statuses.contains(&status));
        Ok(hosts.iter().filter(with).map(|host| host["host"].as_str().unwrap_or("?").to_owned()).collect())
    }

    /// Fails unless it exited with 0.
    ///
    /// # Errors
    /// It did not; with everything it said.
    pub fn success(self) -> Result<Self> {
        ensure!(self.status.success(), "drawbridge: {}\n{}\n{}", self.status, self.stdout, self.stderr);
        Ok(self)
    }

    /// Fails if it exited with 0.
    ///
    /// # Errors
    /// It succeeded; with everything it said.
    pub fn failure(self) -> Result<Self> {
        ensure!(!self.status.success(), "drawbridge should have failed\n{}\n{}", self.stdout, self.stderr);
        Ok(self)
    }
}

/// The program.
///
/// # Errors
/// It is not built.
pub fn program() -> Result<PathBuf> {
    built("drawbridge")
}

impl Lab {
    /// Writes everything the program reads but the policy.
    pub(super) fn configure(&self) -> Result<()> {
        self.set_password(PASSWORD)?;
        self.write_config(&self.mock()?.master_url(), &self.fingerprints()?, 60)
    }

    pub(super) fn fingerprints(&self) -> Result<Vec<String>> {
        Ok(self.mock()?.hosts().iter().map(|host| host.fingerprint.clone()).collect())
    }

    fn write_config(&self, url: &str, fingerprints: &[String], call_timeout: u32) -> Result<()> {
        let (password, key) = (self.scratch.path(PASSWORD_FILE), self.scratch.path(PRIVATE_KEY));
        let text = format!(
            "[xapi]\nurl = {url:?}\nusername = {USER:?}\npassword_file = {password:?}\n\
             fingerprints = {fingerprints:?}\nconnect_timeout = 5\ncall_timeout = {call_timeout}\n\n\
             [dom0]\nkey_file = {key:?}\n"
        );
        self.scratch.write(CONFIG, 0o600, &text)?;
        Ok(())
    }

    /// Lets the program trust this certificate and no other.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn trust_only(&self, fingerprint: &str) -> Result<()> {
        self.write_config(&self.mock()?.master_url(), &[fingerprint.to_owned()], 60)
    }

    /// Lets the program wait this long for an answer, seconds.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_call_timeout(&self, seconds: u32) -> Result<()> {
        self.write_config(&self.mock()?.master_url(), &self.fingerprints()?, seconds)
    }

    /// Lets the program talk to this host of the pool first.
    ///
    /// # Errors
    /// No such host, or the file cannot be written.
    pub fn talk_to(&self, host: &str) -> Result<()> {
        let url = self.mock()?.host_url(host).with_context(|| format!("no host {host}"))?;
        self.write_config(&url, &self.fingerprints()?, 60)
    }

    /// The program's configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.scratch.path(CONFIG)
    }

    /// The key that the hosts' dom0 know.
    #[must_use]
    pub fn private_key(&self) -> PathBuf {
        self.scratch.path(PRIVATE_KEY)
    }

    /// A path of this name in the Lab's private folder.
    #[must_use]
    pub fn scratch_path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Runs to its end what talks to the mock from within this process.
    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// Replaces the password the program logs in with.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_password(&self, password: &str) -> Result<()> {
        self.scratch.write(PASSWORD_FILE, 0o600, &format!("{password}\n"))?;
        Ok(())
    }

    /// Replaces the policy file. Nothing happens until the program runs.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_policy(&self, text: &str) -> Result<()> {
        self.scratch.write(POLICY, 0o644, text)?;
        Ok(())
    }

    /// `drawbridge` with these arguments and the Lab's configuration.
    ///
    /// # Errors
    /// It could not be started. How it ended is the caller's to judge.
    pub fn drawbridge(&self, args: &[&str]) -> Result<Run> {
        let config = self.scratch.path(CONFIG);
        let config = config.to_str().context("the temporary folder's name is not UTF-8")?;
        let output = process::run(&built("drawbridge")?, &[&["--config", config], args].concat(), b"")?;
        Ok(Run {
            status: output.status,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// `drawbridge plan`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn plan(&self) -> Result<Run> {
        self.with_policy(&["plan"])
    }

    /// `drawbridge apply`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn apply(&self) -> Result<Run> {
        self.with_policy(&["apply"])
    }

    /// `drawbridge apply`, killed after so long if it has not ended by then.
    ///
    /// # Errors
    /// It could not be started.
    pub fn apply_and_kill(&self, after: Duration) -> Result<()> {
        let paths = [built("drawbridge")?, self.scratch.path(CONFIG), self.scratch.path(POLICY)];
        let [program, config, policy] =
            paths.each_ref().map(|path| path.to_str().context("a path is not UTF-8"));
        let after = after.as_secs_f32().to_string();
        let killer = ["--signal=KILL", &after, program?, "--config", config?, "apply", "--policy", policy?];
        process::run(Path::new("timeout"), &killer, b"")?;
        Ok(())
    }

    /// `drawbridge hook`, for a VM or (host-init) a host.
    ///
    /// # Errors
    /// It could not be started.
    pub fn hook(&self, event: &str, object: &str) -> Result<Run> {
        self.with_policy(&["hook", event, object])
    }

    /// `drawbridge hook pre-migrate`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn pre_migrate(&self, vm: &str, to: &str) -> Result<Run> {
        self.with_policy(&["hook", "pre-migrate", vm, to])
    }

    /// `drawbridge --log <level> <command>`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn drawbridge_with_log(&self, level: &str, command: &str) -> Result<Run> {
        self.with_policy(&["--log", level, command])
    }

    /// A command that takes a policy, without `--json`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn for_people(&self, command: &[&str]) -> Result<Run> {
        let policy = self.scratch.path(POLICY);
        let policy = policy.to_str().context("the temporary folder's name is not UTF-8")?;
        self.drawbridge(&[command, &["--policy", policy]].concat())
    }

    /// `drawbridge explain --live`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn explain(&self, from: &str, to: &str, packet: &str) -> Result<Run> {
        self.with_policy(&["explain", "--live", "--from", from, "--to", to, packet])
    }

    fn with_policy(&self, command: &[&str]) -> Result<Run> {
        self.for_people(&[command, &["--json"]].concat())
    }
}
