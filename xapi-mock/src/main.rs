//! `xapi-mock`: the pool as a program. One JSON line on stdout says where it is; logs go to stderr.
#![forbid(unsafe_code)]

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use xapi_mock::config::DataPlaneKind;
use xapi_mock::dataplane::{Iptables, NetworkBackend};
use xapi_mock::{Mock, PoolConfig};

/// A XAPI pool to test against.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// What the pool consists of.
    #[arg(long, value_name = "POOL.TOML")]
    config: PathBuf,
    /// The master's address; further hosts take the next addresses. Overrides the file.
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// What stands behind the records; `netns` needs root. Overrides the file.
    #[arg(long)]
    data_plane: Option<DataPlaneArg>,
    /// What switches packets in every host. Overrides the file.
    #[arg(long)]
    backend: Option<BackendArg>,
    /// Which back end iptables has in dom0. Overrides the file.
    #[arg(long)]
    iptables: Option<IptablesArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DataPlaneArg {
    None,
    Netns,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendArg {
    Bridge,
    #[value(name = "openvswitch")]
    OpenVSwitch,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IptablesArg {
    Nft,
    Legacy,
}

impl Args {
    fn pool(&self) -> anyhow::Result<PoolConfig> {
        let mut config = PoolConfig::load(&self.config)?;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        match self.data_plane {
            Some(DataPlaneArg::None) => config.data_plane = DataPlaneKind::None,
            Some(DataPlaneArg::Netns) => config.data_plane = DataPlaneKind::Netns,
            None => {}
        }
        if let Some(backend) = self.backend {
            config.network_backend = match backend {
                BackendArg::Bridge => NetworkBackend::Bridge,
                BackendArg::OpenVSwitch => NetworkBackend::OpenVSwitch,
            };
            config.hosts.iter_mut().for_each(|host| host.network_backend = None);
        }
        match self.iptables {
            Some(IptablesArg::Nft) => config.iptables = Iptables::Nft,
            Some(IptablesArg::Legacy) => config.iptables = Iptables::Legacy,
            None => {}
        }
        Ok(config)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();

    // Before anything is made: whoever starts the mock may stop it at once.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mock = Mock::start(args.pool()?).await?;
    let ready = serde_json::json!({
        "url": mock.master_url(),
        "fingerprint": mock.fingerprint(),
        "pid": std::process::id(),
        "hosts": mock.hosts(),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ready}").and_then(|()| stdout.flush()).context("cannot write to stdout")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    mock.stop().await;
    Ok(())
}
