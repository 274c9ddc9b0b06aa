//! `drawbridge call`: one signed call by hand.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use drawbridge_wire::Invocation;
use drawbridge_wire::call::{Family, Function};

use super::args::{FamilyArgument, ManualCall};
use super::said::{to_json, write};
use crate::dom0::{Dom0, generation};
use crate::run::Pool;

pub(super) async fn call(config: &Path, call: ManualCall, json: bool) -> anyhow::Result<ExitCode> {
    let ManualCall { host, function, family, stdin, args } = call;
    let function: Function = function
        .parse()
        .map_err(|_| anyhow::anyhow!("{function:?} is none of the plugin's four functions"))?;
    let family = match family {
        FamilyArgument::Ipv4 => Family::Ipv4,
        FamilyArgument::Ipv6 => Family::Ipv6,
    };
    let stdin = if stdin {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("reading stdin")?;
        Some(bytes)
    } else {
        None
    };
    // What brings input may write, and a write carries a generation.
    let generation = stdin.is_some().then(generation);
    let pool = Pool::open(config)?;
    let (reference, record) = pool.host(&host).await?;
    let dom0 =
        Dom0 { client: &pool.client, signer: &pool.signer, host: &reference, uuid: record.uuid.to_string() };
    let reply = dom0.run(&Invocation { function, args, family, stdin, generation }).await;
    pool.close().await;
    let reply = reply?;
    if json {
        write(&to_json(&serde_json::json!({
            "version": reply.version,
            "exit_code": reply.exit_code,
            "stdout": reply.stdout,
            "stderr": reply.stderr,
        })));
    } else {
        write(&reply.stdout);
        std::io::stderr().write_all(reply.stderr.as_bytes()).context("writing to stderr")?;
    }
    Ok(if reply.exit_code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
