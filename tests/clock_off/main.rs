//! Stands in dom0 where XAPI looks for the plugin, and hands each call to the real one as a driver would have signed it whose
//! clock is off. A time namespace has no clock of its own for that, the plugin is a static program, and the machine's clock
//! is everybody's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use drawbridge_wire::auth::Nonce;
use drawbridge_wire::xmlrpc::{Value, decode_call, encode_call};
use drawbridge_wire::{Function, Signer, call};
use e2e::lab::clock::{KEY, OFF, PLUGIN};

fn main() -> Result<()> {
    let document = std::env::args().nth(1).context("no call")?;
    let off = fs::read_to_string(OFF)?.trim().parse()?;
    let document = if off == 0 { document } else { signed_anew(&document, off)? };
    #[expect(clippy::disallowed_methods, reason = "it becomes the plugin")]
    let error = std::process::Command::new(PLUGIN).arg(document).exec();
    Err(error).context(PLUGIN)
}

/// The same call by a clock that is off by so many seconds.
fn signed_anew(document: &str, off: i64) -> Result<String> {
    let mut called = decode_call(document)?;
    let function = Function::ALL.into_iter().find(|function| function.as_str() == called.name);
    let Some(Value::Struct(members)) = called.params.get_mut(1) else { bail!("no arguments") };
    let text = |(key, value): &(String, Value)| Some((key.clone(), value.as_str()?.to_owned()));
    let mut arguments: BTreeMap<_, _> =
        members.iter().map(text).collect::<Option<_>>().context("an argument is no text")?;
    let auth = arguments.remove(call::AUTH).context("not signed")?;
    let nonce = auth.split(' ').nth(3).context("no nonce")?;
    let nonce = u128::from_str_radix(nonce, 16)?.to_be_bytes();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let time = now.checked_add_signed(off).context("before 1970")?;
    let inventory = fs::read_to_string("/etc/xensource-inventory")?;
    let uuid =
        inventory.lines().find_map(|line| line.strip_prefix("INSTALLATION_UUID='")?.strip_suffix('\''));
    let signer = Signer::from_private_key(&fs::read_to_string(KEY)?)?;
    let function = function.context("an unknown function")?;
    signer.sign(uuid.context("no uuid")?, function, &mut arguments, time, Nonce(nonce));
    *members = arguments.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
    Ok(encode_call(&called))
}
