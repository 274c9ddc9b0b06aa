//! The command line: a client of the daemon, or, where there is none, the driver itself.

mod args;
mod daemon;
mod explain;
mod failure;
mod generate;
mod group;
mod hook;
mod host;
mod keygen;
mod list;
mod manual_call;
mod network;
mod noun;
mod policy;
mod port;
mod progress;
mod project;
mod provider_rule;
mod rule;
mod said;
mod service;
mod set;
mod standalone;
mod status;
mod table;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command, Policy};
use daemon::{Way, daemon, way};
use failure::Failure;
use said::{Said, fail, print};

/// The policy file of a driver without a daemon, if no other is named.
const POLICY: &str = "/etc/drawbridge/policy.toml";

/// Exit codes, as the help text tells them.
mod exit {
    /// Refused, or something could not be brought to where it should be; it was said what.
    pub(super) const INCOMPLETE: u8 = 1;
    /// Nothing was attempted: usage, configuration, policy, or nobody can be asked.
    pub(super) const NOT_STARTED: u8 = 2;
}

/// Runs the program and gives its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
    // Refused only if another provider was installed before, which would do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::Other(error.into()), false),
    };
    runtime.block_on(dispatch(arguments))
}

async fn dispatch(arguments: Arguments) -> ExitCode {
    let json = arguments.json;
    carry_out(arguments).await.unwrap_or_else(|failure| fail(&failure, json))
}

async fn carry_out(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { config, json, log: _, daemon: elsewhere, command } = arguments;
    let client = || daemon(&config, &elsewhere);
    let said = match command {
        Command::Plan(policy) => policy_file(&way(&config, &elsewhere)?, &config, policy, false).await?,
        Command::Apply(policy) => policy_file(&way(&config, &elsewhere)?, &config, policy, true).await?,
        Command::Hook { event } => match way(&config, &elsewhere)? {
            Way::Daemon(client) => hook::hook(&client, event).await?,
            Way::Standalone => standalone::hook(&config, event).await?,
        },
        Command::Explain(asked) => explain::run(&config, &way(&config, &elsewhere)?, asked).await?,
        Command::Export => policy::export(&client()?).await?,
        Command::Status => status::status(&client()?).await?,
        Command::Watch { count } => return watch::watch(&client()?, count, json).await,
        Command::Project(command) => project::run(&client()?, command).await?,
        Command::Group(command) => group::run(&client()?, command).await?,
        Command::Rule(command) => rule::run(&client()?, command).await?,
        Command::Set(command) => set::run(&client()?, command).await?,
        Command::Port(command) => port::run(&client()?, command).await?,
        Command::ProviderRule(command) => provider_rule::run(&client()?, command).await?,
        Command::Network(command) => network::run(&client()?, command).await?,
        Command::Host(command) => host::run(&client()?, command).await?,
        Command::Refresh { what, group } => service::refresh(&client()?, what, &group).await?,
        Command::Adopt => service::adopt(&client()?).await?,
        Command::Audit { after, limit } => service::audit(&client()?, after, limit).await?,
        Command::Serve => {
            crate::serve::serve(&config).await.map_err(anyhow::Error::from)?;
            return Ok(ExitCode::SUCCESS);
        }
        // A line for a file, whoever reads it.
        Command::Keygen { out } => return Ok(print(&keygen::keygen(&out)?, true)),
        Command::Call(call) => return Ok(manual_call::call(&config, call, json).await?),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { folder } => generate::man(&folder)?,
    };
    Ok(said.print(json))
}

async fn policy_file(
    way: &Way,
    config: &std::path::Path,
    policy: Policy,
    write: bool,
) -> Result<Said, Failure> {
    let Policy { file, prune } = policy;
    match way {
        Way::Daemon(client) => policy::apply(client, &file, prune, !write).await,
        Way::Standalone => standalone::policy(config, &file, prune, write).await,
    }
}
