//! The plugin's own cost: one signed `iptables-save` of an empty table, beside the bare program.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use drawbridge_wire::xmlrpc::{MethodCall, Value, encode_call};
use drawbridge_wire::{Family, Function, Invocation, Signer, signed_calls};
use e2e::lab::Lab;

use crate::stats::{Stats, ms, ratio, timed};

const RUNS: usize = 300;
const PLUGIN: &str = "/etc/xapi.d/plugins/drawbridge";

pub(crate) fn measure(lab: &Lab) -> Result<String> {
    let host = lab.host("host1")?;
    let signer = Signer::from_private_key(&std::fs::read_to_string(lab.private_key())?)?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (output, took) = timed(|| host.command("iptables-save", &[], b""));
        ensure!(output?.status.success(), "iptables-save failed");
        bare.push(took);
        let call = call(&signer, host.uuid())?;
        let (output, took) = timed(|| host.command(PLUGIN, &[&call], b""));
        let answer = String::from_utf8(output?.stdout)?;
        ensure!(answer.contains("Success"), "the plugin refused: {answer}");
        ours.push(took);
    }
    let (bare, ours) = (Stats::of(bare), Stats::of(ours));
    let mut text = format!("Plugin, `iptables-save` of an empty table, {RUNS} runs each, alternating:\n\n");
    let _ = writeln!(text, "| | median | best |\n|---|---|---|");
    let _ = writeln!(text, "| bare | {} | {} |", ms(bare.median), ms(bare.best));
    let _ = writeln!(text, "| plugin | {} | {} |", ms(ours.median), ms(ours.best));
    let own = ours.median.saturating_sub(bare.median);
    let _ = writeln!(text, "| own cost | {} | ratio {} |", ms(own), ratio(ours.median, bare.median));
    let memory = host.command("time", &["-f", "%M", PLUGIN, &call(&signer, host.uuid())?], b"")?;
    let kib = String::from_utf8_lossy(&memory.stderr).trim().to_owned();
    let _ = write!(text, "| peak RSS of plugin or program, whichever is larger | {kib} KiB | |");
    Ok(text)
}

fn call(signer: &Signer, host_uuid: &str) -> Result<String> {
    let invocation = Invocation {
        function: Function::IptablesSave,
        args: Vec::new(),
        family: Family::Ipv4,
        stdin: None,
        generation: None,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let arguments = signed_calls(&invocation, signer, host_uuid, now)?.swap_remove(0);
    let members = arguments.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
    let params = vec![Value::from("OpaqueRef:bench"), Value::Struct(members)];
    Ok(encode_call(&MethodCall { name: Function::IptablesSave.as_str().to_owned(), params }))
}
