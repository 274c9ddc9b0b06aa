//! `drawbridge serve`, run as systemd runs it: a process with a store, a socket and a log of its own.

mod start;

use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::control::{HookReport, HostState, HostStatus};
use api::wire::HookInput;
use api::{ApiClient, ClientError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Lab, Run};
use crate::usage::Usage;
use start::document;

pub use start::DaemonBuilder;

/// A host is as it should be so long after nothing is broken any more.
const CONVERGENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A daemon over a Lab's pool. It is killed when it goes out of scope.
pub struct Daemon<'lab> {
    lab: &'lab Lab,
    builder: DaemonBuilder<'lab>,
    api: ApiClient,
    process: Option<Child>,
}

impl std::fmt::Debug for Daemon<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Daemon<'_> {
    /// Its process id.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        self.process.as_ref().map(Child::id).context("the daemon does not run")
    }

    /// What it takes of the machine.
    ///
    /// # Errors
    /// It does not run.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid()?)
    }

    /// Starts it once it has ended; waits until its socket answers.
    ///
    /// # Errors
    /// It ended at once; with its log.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the daemon runs already");
        self.process = Some(self.builder.spawn()?);
        let started = Instant::now();
        while self.text("/healthz").is_err() {
            let ended = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
            ensure!(ended.is_none(), "the daemon ended: {ended:?}\n{}", self.log());
            ensure!(
                started.elapsed() < self.builder.patience(),
                "the socket does not answer\n{}",
                self.log()
            );
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Ends it as `kill -9` does.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait().map(drop)
    }

    /// Ends it as systemd does.
    ///
    /// # Errors
    /// It does not run, or does not end well.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait()?;
        ensure!(status.success(), "{status}\n{}", self.log());
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid()?.try_into()?), signal)?)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It does not run.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.process.take().context("the daemon does not run")?.wait()?)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.builder.socket()
    }

    /// `drawbridge` with these arguments, as a client of this daemon.
    ///
    /// # Errors
    /// It could not be started. How it ended is the caller's to judge.
    pub fn drawbridge(&self, args: &[&str]) -> Result<Run> {
        let socket = self.socket();
        let socket = socket.to_str().context("the temporary folder's name is not UTF-8")?;
        self.lab.drawbridge(&[&["--api", socket], args].concat())
    }

    /// Its API.
    #[must_use]
    pub const fn api(&self) -> &ApiClient {
        &self.api
    }

    /// Runs a call of the API to its end.
    pub fn call<F: Future>(&self, call: F) -> F::Output {
        self.lab.block_on(call)
    }

    /// `/readyz`, `/metrics` and the like.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn text(&self, path: &str) -> Result<String, ClientError> {
        self.call(self.api.text(path))
    }

    /// Why it is not ready; empty if it is.
    #[must_use]
    pub fn trouble(&self) -> String {
        self.text("/readyz").err().map_or_else(String::new, |error| error.to_string())
    }

    /// Brings the store to what a policy file says, and the Lab's policy file, too. The answer is the generation.
    ///
    /// # Errors
    /// The policy makes no sense, or the daemon refused it.
    pub fn set_policy(&self, text: &str) -> Result<u64> {
        self.lab.set_policy(text)?;
        self.store_policy(text)
    }

    /// Brings the store alone to what a policy file says.
    ///
    /// # Errors
    /// As [`Self::set_policy`].
    pub fn store_policy(&self, text: &str) -> Result<u64> {
        let answer = self.call(self.api.apply(&document(text)?, true, false))?;
        Ok(answer.generation)
    }

    /// Brings into the store what a policy file says, beside what is there.
    ///
    /// # Errors
    /// As [`Self::set_policy`].
    pub fn add_policy(&self, text: &str) -> Result<u64> {
        Ok(self.call(self.api.apply(&document(text)?, false, false))?.generation)
    }

    /// Says that the store counts.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn adopt(&self) -> Result<()> {
        Ok(self.call(self.api.adopt()).map(drop)?)
    }

    /// A hook about a VM, or (`host-init`) a host.
    ///
    /// # Errors
    /// [`ClientError`], if it was not enforced with the report.
    pub fn hook(&self, event: &str, object: &str) -> Result<HookReport, ClientError> {
        self.hook_within(event, object, 60)
    }

    /// The same with a deadline, seconds.
    ///
    /// # Errors
    /// As [`Self::hook`].
    pub fn hook_within(&self, event: &str, object: &str, deadline: u16) -> Result<HookReport, ClientError> {
        let (mut vm, mut host) = (Some(object.to_owned()), None);
        if event == "host-init" {
            std::mem::swap(&mut vm, &mut host);
        }
        self.call(self.api.hook(event, &HookInput { vm, host, deadline: Some(deadline) }))
    }

    /// The hook that announces a migration.
    ///
    /// # Errors
    /// As [`Self::hook`].
    pub fn pre_migrate(&self, vm: &str, to: &str) -> Result<HookReport, ClientError> {
        let (vm, host) = (Some(vm.to_owned()), Some(to.to_owned()));
        self.call(self.api.hook("pre-migrate", &HookInput { vm, host, deadline: Some(60) }))
    }

    /// Every host, and how it stands.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn hosts(&self) -> Result<Vec<HostState>, ClientError> {
        self.call(self.api.hosts())
    }

    /// A host of these.
    ///
    /// # Errors
    /// The daemon does not know it.
    pub fn host(&self, name: &str) -> Result<HostState> {
        let hosts = self.hosts()?;
        hosts.into_iter().find(|host| host.name == name).with_context(|| format!("no host {name}"))
    }

    /// A number of `/metrics`: `drawbridge_` and `name`, summed over its labels.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn number(&self, name: &str) -> Result<u64> {
        let metrics = self.text("/metrics")?;
        let name = format!("drawbridge_{name}");
        let of = |line: &str| {
            let rest = line.strip_prefix(&name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.split_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.parse::<u64>().ok()
        };
        let found: Vec<u64> = metrics.lines().filter_map(of).collect();
        ensure!(!found.is_empty(), "no {name} in {metrics}");
        Ok(found.into_iter().sum())
    }

    /// Waits until every host is as the store has it now: the daemon says so, and who reads the kernels finds nothing left
    /// to do. The answer is how long that took.
    ///
    /// # Errors
    /// That takes too long; with what the daemon says.
    pub fn settle(&self) -> Result<Duration> {
        self.settle_but(&[])
    }

    /// The same, but for these hosts.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub fn settle_but(&self, left_out: &[&str]) -> Result<Duration> {
        let started = Instant::now();
        loop {
            if self.is_settled(left_out)? {
                return Ok(started.elapsed());
            }
            if started.elapsed() > self.builder.patience() {
                let (hosts, plan) = (self.hosts()?, self.lab.plan()?.stdout);
                bail!("not settled: {}\n{hosts:#?}\n{plan}\n{}", self.trouble(), self.log());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// As [`Self::settle`], and within 10 s of `whole`, the moment since which nothing is broken any more.
    ///
    /// That is a promise of the daemon's pauses and not of the machine's speed. So where several threads wait for each
    /// processor, as when tests run side by side, each second counts for that many, up to two and a half.
    ///
    /// # Errors
    /// It takes longer; with what the daemon says.
    pub fn settle_since(&self, whole: Instant) -> Result<Duration> {
        self.settle()?;
        let (took, limit) = (whole.elapsed(), CONVERGENCE.mul_f64(crowd()?.min(2.5)));
        ensure!(took <= limit, "settled after {took:?}, and not within {limit:?}\n{}", self.log());
        Ok(took)
    }

    /// Waits until the daemon says that every host is as the store has it now.
    ///
    /// # Errors
    /// That takes too long; with what the daemon says.
    pub fn settle_by_its_word(&self) -> Result<()> {
        self.until("it says that all is in sync", |daemon| daemon.says_settled(&[]))
    }

    fn says_settled(&self, left_out: &[&str]) -> Result<bool> {
        let wanted = self.call(self.api.status())?.generation;
        let mut hosts = self.hosts()?;
        hosts.retain(|host| !left_out.contains(&host.name.as_str()));
        let is_there = |host: &HostState| {
            host.status == HostStatus::InSync && host.enforced_generation.is_some_and(|it| it >= wanted)
        };
        Ok(!hosts.is_empty() && hosts.iter().all(is_there))
    }

    fn is_settled(&self, left_out: &[&str]) -> Result<bool> {
        if !self.says_settled(left_out)? {
            return Ok(false);
        }
        let is_left_out = |name: &String| left_out.contains(&name.as_str());
        let plan = self.lab.plan()?;
        // Without an answer XAPI could not be asked.
        let (Ok(changed), Ok(failed)) = (plan.changed(), plan.failed()) else { return Ok(false) };
        Ok(changed.iter().chain(&failed).all(is_left_out))
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// It is not soon (with the log), or it could not be asked.
    pub fn until(&self, what: &str, is_so: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        while !is_so(self)? {
            if started.elapsed() > self.builder.patience() {
                bail!("waited in vain: {what}; {}\n{}", self.trouble(), self.log());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let log = std::fs::read(self.builder.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Its store's file; beside it are those that SQLite makes.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.builder.store()
    }
}

/// How many threads wanted to run for each processor in the last minute, or do now as there are so many tests at a time; at least one.
fn crowd() -> Result<f64> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load: f64 = load.split(' ').next().unwrap_or_default().parse()?;
    let tests = std::env::var("RUST_TEST_THREADS").ok().and_then(|tests| tests.parse().ok()).unwrap_or(1.0);
    let processors = u32::try_from(std::thread::available_parallelism()?.get())?;
    Ok((load.max(tests) / f64::from(processors)).max(1.0))
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
