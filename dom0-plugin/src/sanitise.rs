//! First of all, before any input is looked at: nothing inherited stays.

use std::os::fd::RawFd;
use std::panic;

use drawbridge_wire::reply::encode_failure;

use crate::{Code, Refusal, Result, process};

/// Files a child may write at most: the lock files and little else. The reply itself goes to a file of XAPI's.
const FILE_BYTES: u64 = 256 * 1024 * 1024;

/// More memory than the plugin needs for the largest input and output at once.
const ADDRESS_SPACE: u64 = 512 * 1024 * 1024;

/// More than the plugin and its children use.
const OPEN_FILES: u64 = 256;

/// Makes the process's surroundings known: descriptors, environment, umask, signals, limits, privileges, working directory.
pub(crate) fn process() -> Result<()> {
    close_inherited();
    process::clear_environment();
    process::restrict_umask();
    process::reset_signals();
    let fail = |what: &str, e: std::io::Error| Refusal::new(Code::Internal).detail(format!("{what}: {e}"));
    process::limit_both(libc::RLIMIT_CORE, 0).map_err(|e| fail("core limit", e))?;
    process::limit_both(libc::RLIMIT_NOFILE, OPEN_FILES).map_err(|e| fail("file limit", e))?;
    process::limit_both(libc::RLIMIT_FSIZE, FILE_BYTES).map_err(|e| fail("file size limit", e))?;
    process::limit_own(libc::RLIMIT_AS, ADDRESS_SPACE).map_err(|e| fail("memory limit", e))?;
    process::no_new_privileges().map_err(|e| fail("no_new_privs", e))?;
    std::env::set_current_dir("/").map_err(|e| fail("working directory", e))
}

/// A panic answers as a failure too, and exits with 0. It never shows the panic's own text: that may hold input.
pub(crate) fn answer_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        crate::serve::print(&encode_failure(&Refusal::new(Code::Internal).detail(place)));
        process::exit_now();
    }));
}

/// So does an abort: when memory ends.
pub(crate) fn answer_aborts() {
    process::on_abort(encode_failure(&Refusal::new(Code::Internal).detail("aborted; out of memory?")));
}

/// Closes every descriptor above standard error. XAPI leaves none open, but others may start us.
fn close_inherited() {
    // Kernel 4.19 has no close_range. Collected first: the listing has a descriptor of its own.
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = listing
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    open.into_iter().for_each(process::close_inherited);
}

#[cfg(test)]
mod tests {
    use drawbridge_wire::xmlrpc::{Response, Value, decode_response};

    /// Set for the child of the test below.
    const CHILD: &str = "DRAWBRIDGE_TEST_PANIC";

    /// What [`super::answer_panics`] promises needs a process of its own to see: this test, started again.
    #[test]
    fn a_panic_is_an_answer() {
        if std::env::var_os(CHILD).is_some() {
            super::answer_panics();
            panic!("OpaqueRef:secret");
        }
        #[expect(clippy::disallowed_methods, reason = "starts this test program once more")]
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sanitise::tests::a_panic_is_an_answer", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        let printed = String::from_utf8(output.stdout).unwrap();
        let document = &printed[printed.find("<?xml").unwrap()..];
        let Ok(Response::Value(value)) = decode_response(document) else { panic!("{document}") };
        let Some(Value::Array(texts)) = value.member("ErrorDescription") else { panic!("{document}") };
        assert_eq!(texts[0].as_str(), Some("DRAWBRIDGE_INTERNAL"));
        assert!(!printed.contains("secret"), "{printed}");
    }
}
