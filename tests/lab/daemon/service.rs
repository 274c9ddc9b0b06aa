//! What systemd sees: readiness, the watchdog, the end.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::{ClientError, Code};
use e2e::lab::Backend;
use e2e::scenario::{POLICY, pool};
use nix::sys::signal::Signal;
use xapi_mock::faults::{Fault, PluginFault};

/// `READY=1` when the socket answers, `WATCHDOG=1` while it runs, `STOPPING=1` on its way out.
#[test]
fn systemd_is_told() -> Result<()> {
    let lab = pool(Backend::Nft).start()?;
    let path = lab.scratch_path("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let heard = || -> Result<String> {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
    };
    let path = path.to_str().context("no UTF-8")?;
    let daemon = lab.daemon("a")?.environment("NOTIFY_SOCKET", path).environment("WATCHDOG_USEC", "600000");
    let mut daemon = daemon.start_with(POLICY)?;
    let mut said = vec![heard()?];
    while said.iter().filter(|word| *word == "WATCHDOG=1").count() < 3 {
        said.push(heard()?);
    }
    ensure!(said.iter().filter(|word| *word == "READY=1").count() == 1, "{said:?}");
    daemon.signal(Signal::SIGTERM)?;
    while heard()? != "STOPPING=1" {}
    ensure!(daemon.wait()?.success(), "{}", daemon.log());
    Ok(())
}

/// Told to end, it lets the host it is writing be written and answers who waits for that; who comes later is refused.
#[test]
fn it_ends_in_good_order() -> Result<()> {
    let lab = pool(Backend::Nft).start()?;
    let mut daemon = lab.daemon("a")?.call_timeout(60).deadline(60).start_with(POLICY)?;
    let fault = Fault::Plugin { host: Some("host1".to_owned()), action: PluginFault::Hang, times: 1 };
    lab.mock()?.faults().inject(fault);
    lab.hard_reboot("web1")?;
    let api = daemon.api().clone();
    let input = api::wire::HookInput { vm: Some("web1".to_owned()), host: None, deadline: Some(120) };
    let waiting = std::thread::spawn(move || -> Result<_> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(api.hook("reboot", &input)))
    });
    // It hangs, and the hook waits for it.
    std::thread::sleep(Duration::from_secs(1));
    ensure!(!waiting.is_finished(), "{:?}", waiting.join());
    daemon.signal(Signal::SIGTERM)?;
    daemon.until("nobody new is let in", |daemon| {
        Ok(matches!(daemon.text("/healthz"), Err(ClientError::Unreachable { .. })))
    })?;
    ensure!(!waiting.is_finished(), "the hook was given up");
    lab.mock()?.faults().inject(Fault::Clear);
    let answer = waiting.join().map_err(|_| anyhow::anyhow!("the caller panicked"))??;
    // The plugin was killed: that is what is to be told, or that nobody will try again.
    let Err(ClientError::Problem(problem)) = answer else { anyhow::bail!("{answer:?}") };
    ensure!([Code::NotEnforced, Code::ShuttingDown].contains(&problem.code), "{problem:?}");
    ensure!(daemon.wait()?.success(), "{}", daemon.log());
    daemon.start()?;
    daemon.settle().map(drop)
}
