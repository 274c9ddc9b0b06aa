//! The command line.

mod args;
mod keygen;
mod manual_call;
mod progress;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::desired::desired;
use crate::explain::{Answer, Question};
use crate::intake::inventory::Inventory;
use crate::intake::own;
use crate::intake::policy_file::PolicyFile;
use crate::report::{Report, chain};
use crate::run::{Pool, RunError, Scope, run};
use args::{Arguments, Command, HookEvent};

/// Exit codes, as the help text tells them.
mod exit {
    /// Something could not be brought to the desired state; the report says what.
    pub(super) const INCOMPLETE: u8 = 1;
    /// Nothing was attempted: usage, configuration, policy, or XAPI cannot be reached.
    pub(super) const NOT_STARTED: u8 = 2;
}

/// Runs the program and gives its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Refused only if another provider was installed before, which would do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, false),
    };
    runtime.block_on(dispatch(arguments))
}

async fn dispatch(arguments: Arguments) -> ExitCode {
    let Arguments { config, json, log: _, command } = arguments;
    let (policy, action, scope, write) = match command {
        Command::Serve => {
            return match crate::serve::serve(&config).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error, json),
            };
        }
        Command::Keygen { out } => return finish(keygen::keygen(&out), json),
        Command::Call(call) => {
            return match manual_call::call(&config, call, json).await {
                Ok(code) => code,
                Err(error) => fail(&*error.into_boxed_dyn_error(), json),
            };
        }
        Command::Explain(question) => {
            return match explain(&config, question).await {
                Ok(answer) => {
                    let text = if json { to_json(&answer) } else { answer.to_string() };
                    let right = answer.answers.iter().flat_map(|a| &a.live).all(|live| live.agrees);
                    if write(&text) && right { ExitCode::SUCCESS } else { ExitCode::from(exit::INCOMPLETE) }
                }
                Err(error) => fail(&*error.into_boxed_dyn_error(), json),
            };
        }
        Command::Plan { policy } => (policy, "plan", Scope::Everything, false),
        Command::Apply { policy } => (policy, "apply", Scope::Everything, true),
        Command::Hook { event } => {
            let (policy, scope) = match &event {
                HookEvent::Create(on)
                | HookEvent::Reboot(on)
                | HookEvent::Resume(on)
                | HookEvent::Plug(on)
                | HookEvent::Unplug(on) => {
                    (on.policy.clone(), Scope::Vm { vm: on.vm.clone(), leaving: false })
                }
                HookEvent::Suspend(on) | HookEvent::Terminate(on) => {
                    (on.policy.clone(), Scope::Vm { vm: on.vm.clone(), leaving: true })
                }
                HookEvent::HostInit { host, policy } => (policy.clone(), Scope::Host(host.clone())),
            };
            (policy, event.name(), scope, true)
        }
    };
    let started = async {
        let bar = progress::Progress::start(action);
        let pool = Pool::open(&config).map_err(RunError::Config)?;
        run(pool, &policy, action, &scope, write, |done, total| bar.tell(done, total)).await
    };
    match started.await {
        Ok(report) => print_report(&report, json),
        Err(error) => fail(&error, json),
    }
}

async fn explain(config: &Path, asked: args::Explain) -> anyhow::Result<Answer> {
    let args::Explain { from, to, packet, live, policy } = asked;
    let pool = Pool::open(config)?;
    let file = PolicyFile::load(&policy)?;
    let inventory = Inventory::read(&pool.client).await?;
    let desired = desired(&file, &inventory, &own::macs())?;
    let question = Question { from, to, probe: packet, live };
    let answer = crate::explain::explain(&pool, &desired, &inventory, &question).await;
    pool.close().await;
    Ok(answer?)
}

fn print_report(report: &Report, json: bool) -> ExitCode {
    let text = if json { to_json(report) } else { report.to_string() };
    let printed = write(&text);
    if report.ok && printed { ExitCode::SUCCESS } else { ExitCode::from(exit::INCOMPLETE) }
}

/// Prints what a command has to say, or why it has nothing.
fn finish(outcome: anyhow::Result<String>, json: bool) -> ExitCode {
    match outcome {
        Ok(text) if write(&text) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(exit::INCOMPLETE),
        Err(error) => fail(&*error.into_boxed_dyn_error(), json),
    }
}

fn fail(error: &dyn std::error::Error, json: bool) -> ExitCode {
    let message = chain(error);
    if json {
        write(&to_json(&serde_json::json!({ "ok": false, "error": message })));
    } else {
        // Nothing is left to do if even this cannot be written.
        let _ = writeln!(std::io::stderr(), "drawbridge: {message}");
    }
    ExitCode::from(exit::NOT_STARTED)
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value)
        .map_or_else(|error| format!("{{\"error\":\"{error}\"}}\n"), |text| text + "\n")
}

/// Writes to stdout; false if nobody reads there any more.
fn write(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
