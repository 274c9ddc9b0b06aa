//! The pipeline of one call.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use drawbridge_wire::reply::{Outcome, encode_failure, encode_json, encode_success};
use drawbridge_wire::{VERSION, limits, payload};

use crate::audit::Audit;
use crate::authorise::authorise;
use crate::boot::{self, boot, boot_flows};
use crate::config::Config;
use crate::paths::Paths;
use crate::{Code, Refusal, Result, authenticate, perform, request, room, sanitise, stage};

/// The program: one call, from `argv` to standard output. Ends with exit code 0: XAPI loses the answer of a
/// plugin that exits with anything else, and older hosts then log the whole `argv`, session included.
///
/// Or, for the one argument `boot`, what has to be done when dom0 boots; for `boot flows`, when its Open vSwitch starts.
/// XAPI's argument is always a `methodCall`.
#[must_use]
pub fn run() -> ExitCode {
    let is = |words: &[&str]| std::env::args_os().skip(1).eq(words.iter().copied());
    if is(&["boot"]) {
        return boot::run(&Paths::production(), boot);
    }
    if is(&["boot", "flows"]) {
        return boot::run(&Paths::production(), boot_flows);
    }
    sanitise::answer_panics();
    let sanitised = sanitise::process();
    sanitise::answer_aborts();
    let reply = match sanitised {
        Ok(()) => serve(std::env::args_os(), &Paths::production()),
        Err(refusal) => {
            Audit::start().finish(&Paths::production().syslog, Err(&refusal));
            encode_failure(&refusal)
        }
    };
    print(&reply);
    ExitCode::SUCCESS
}

/// One call: the document to print for this `argv`.
#[must_use]
pub fn serve(argv: impl Iterator<Item = OsString>, paths: &Paths) -> String {
    let mut audit = Audit::start();
    let (document, result) = match call(argv, paths, &mut audit) {
        Ok(Answer { outcome, compressed, ran }) => {
            let json = encode_json(VERSION, &outcome, compressed);
            (encode_success(json), Ok(ran.then_some(outcome.exit_code)))
        }
        Err(refusal) => (encode_failure(&refusal), Err(refusal)),
    };
    audit.finish(&paths.syslog, result.as_ref().copied());
    document
}

/// What a call that was not refused comes to.
struct Answer {
    outcome: Outcome,
    compressed: bool,
    /// False: a part was put down.
    ran: bool,
}

fn call(argv: impl Iterator<Item = OsString>, paths: &Paths, audit: &mut Audit) -> Result<Answer> {
    let document = request::document(argv)?;
    let called = request::decode(&document)?;
    audit.called(called.function);
    let request = request::read(called)?;
    audit.decoded(&request);
    let config = Config::load(&paths.config)?;
    let caller = authenticate::authenticate(&request, &config, paths)?;
    audit.authenticated();
    let arguments = &request.arguments;
    // Held to the end.
    let _room = room::take(paths, arguments.input.is_some(), config.lock)?;
    let compressed = arguments.accepts_compressed;

    let input = match &arguments.input {
        None => None,
        Some(input) => match stage::assemble(&request, input, caller, paths, authenticate::now())? {
            Some(text) => Some(decode_input(&text, input.encoding, audit)?),
            None => {
                audit.input(input.text.as_bytes());
                let outcome = Outcome { exit_code: 0, stdout: String::new(), stderr: String::new() };
                return Ok(Answer { outcome, compressed, ran: false });
            }
        },
    };
    let args = shell_words::split(&arguments.args)
        .map_err(|e| Refusal::new(Code::BadValue).detail("args").detail(e))?;
    let plan = authorise(request.function, arguments.family, &args, input)?;
    let outcome = perform::perform(&plan, arguments.generation, &config, paths)?;
    Ok(Answer { outcome, compressed, ran: true })
}

fn decode_input(text: &str, encoding: payload::Encoding, audit: &mut Audit) -> Result<Vec<u8>> {
    let input =
        payload::decode(text, encoding, limits::INPUT_BYTES).map_err(|e| Refusal::new(e.code()).detail(e))?;
    audit.input(&input);
    Ok(input)
}

/// Writes the answer. If nobody reads it there is nobody to tell.
pub(crate) fn print(document: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(document.as_bytes());
    let _ = out.flush();
}
