//! One line per call to syslog (facility authpriv): who asked for what, and what came of it. Never the session, a key,
//! or the input; of that, a digest.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use drawbridge_wire::call::Function;
use drawbridge_wire::{Family, KeyId};

use crate::request::Request;
use crate::{Code, Refusal};

/// `authpriv` (10), `info` (6).
const DONE: u8 = 10 * 8 + 6;

/// `authpriv` (10), `warning` (4).
const REFUSED: u8 = 10 * 8 + 4;

/// Longest argv that is written; the kernel takes more, log collectors often not.
const ARGV_CHARS: usize = 500;

/// How long a log that nobody reads may hold us up.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of a call so far. Fields are filled as the call goes through the pipeline.
#[derive(Debug)]
pub(crate) struct Audit {
    started: Instant,
    function: Option<Function>,
    family: Option<Family>,
    args: Option<String>,
    /// Which key the call claims; only believed if `authentic`.
    key_id: Option<KeyId>,
    authentic: bool,
    generation: Option<u64>,
    input: Option<(usize, [u8; 32])>,
    part: Option<(u32, u32)>,
}

impl Audit {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            function: None,
            family: None,
            args: None,
            key_id: None,
            authentic: false,
            generation: None,
            input: None,
            part: None,
        }
    }

    pub(crate) fn called(&mut self, function: Function) {
        self.function = Some(function);
    }

    pub(crate) fn decoded(&mut self, request: &Request) {
        let arguments = &request.arguments;
        self.family = request.function.has_family().then_some(arguments.family);
        self.args = Some(arguments.args.clone());
        self.key_id = Some(arguments.auth.key_id);
        self.generation = arguments.generation;
        self.part = arguments.input.as_ref().and_then(|input| input.part).map(|part| (part.part, part.parts));
    }

    pub(crate) fn authenticated(&mut self) {
        self.authentic = true;
    }

    pub(crate) fn input(&mut self, input: &[u8]) {
        self.input = Some((input.len(), hmac_sha256::Hash::hash(input)));
    }

    /// The line, without syslog's header.
    fn line(&self, result: Result<Option<i32>, &Refusal>) -> String {
        let mut line = String::new();
        // Writing to a String cannot fail.
        match self.function {
            Some(function) => _ = write!(line, "function={function}"),
            None => line.push_str("function=?"),
        }
        if let Some(family) = self.family {
            let _ = write!(line, " family={family}");
        }
        if let Some(args) = &self.args {
            let short: String = args.chars().take(ARGV_CHARS).collect();
            let _ = write!(line, " args={:?}", short);
        }
        if let Some(key_id) = self.key_id {
            let _ = write!(line, " key={key_id}{}", if self.authentic { "" } else { " (not proved)" });
        }
        if let Some(generation) = self.generation {
            let _ = write!(line, " generation={generation}");
        }
        if let Some((part, parts)) = self.part {
            let _ = write!(line, " part={part}/{parts}");
        }
        if let Some((bytes, digest)) = &self.input {
            let _ = write!(line, " input_bytes={bytes} input_sha256=");
            for byte in digest {
                let _ = write!(line, "{byte:02x}");
            }
        }
        match result {
            Ok(Some(exit_code)) => _ = write!(line, " exit={exit_code} result=ok"),
            Ok(None) => line.push_str(" result=staged"),
            Err(refusal) => {
                _ = write!(line, " result={}", refusal.code);
                let details = match refusal.code {
                    // The first is the line's number, the others quote the input.
                    Code::InputRefused | Code::ForeignCookie => refusal.details.get(..1).unwrap_or_default(),
                    _ => &refusal.details,
                };
                if !details.is_empty() {
                    _ = write!(line, " detail={:?}", details.join(": "));
                }
            }
        }
        let _ = write!(line, " ms={}", self.started.elapsed().as_millis());
        line
    }

    /// Writes the line. `result`: the program's exit code, `None` if the call only put down a part.
    pub(crate) fn finish(&self, syslog: &Path, result: Result<Option<i32>, &Refusal>) {
        say(syslog, result.is_ok(), &self.line(result));
    }
}

/// Writes a line to syslog.
pub(crate) fn say(syslog: &Path, well: bool, line: &str) {
    let priority = if well { DONE } else { REFUSED };
    let message = format!("<{priority}>drawbridge[{}]: {line}", std::process::id());
    let send = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to(message.as_bytes(), syslog)
    };
    if send().is_err() {
        // XAPI keeps standard error only if the plugin fails, but whoever starts it by hand sees it.
        let _ = writeln!(std::io::stderr(), "{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_per_result() {
        let mut audit = Audit::start();
        assert!(
            audit
                .line(Err(&Code::MalformedCall.into()))
                .starts_with("function=? result=DRAWBRIDGE_MALFORMED_CALL")
        );
        audit.function = Some(Function::IptablesRestore);
        audit.family = Some(Family::Ipv6);
        audit.args = Some("--test \n\u{1b}[2J".to_owned());
        audit.generation = Some(9);
        audit.input(b"");
        let line = audit.line(Ok(Some(0)));
        let expected = "function=iptables-restore family=ipv6 args=\"--test \\n\\u{1b}[2J\" generation=9 input_bytes=0 \
             input_sha256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 exit=0 result=ok ms=";
        assert!(line.starts_with(expected), "{line}");
        audit.part = Some((2, 3));
        assert!(audit.line(Ok(None)).contains(" part=2/3 "));
        let refusal = Refusal::new(Code::BadValue).detail("a").detail("b");
        assert!(audit.line(Err(&refusal)).contains("result=DRAWBRIDGE_BAD_VALUE detail=\"a: b\" "));
        let refusal = Refusal::new(Code::InputRefused).detail(3).detail("the word x is not allowed");
        assert!(audit.line(Err(&refusal)).contains("result=DRAWBRIDGE_INPUT_REFUSED detail=\"3\" "));
    }
}
