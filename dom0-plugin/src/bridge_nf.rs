//! Whether bridged packets reach iptables at all.
//!
//! dom0 ships `bridge-nf-call-iptables=0`, and its own FORWARD chain ends in a REJECT: turned on before our jump stands
//! first, it would cut every guest. So it is turned on here, after that was seen, and never off.

use std::fs;
use std::io::ErrorKind;

use drawbridge_wire::Family;

use crate::paths::Paths;
use crate::{Code, Refusal, Result};

/// The switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    On,
    Off,
    /// The kernel has no bridge netfilter (its module is not loaded).
    Absent,
}

impl Switch {
    /// As written in the first line of a filtered dump.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::On => "1",
            Self::Off => "0",
            Self::Absent => "absent",
        }
    }
}

/// Reads it.
///
/// # Errors
/// [`Code::BridgeNetfilter`] if it is neither 0 nor 1.
pub(crate) fn read(paths: &Paths, family: Family) -> Result<Switch> {
    let path = paths.bridge_nf_call(family);
    let refuse = |problem: &dyn std::fmt::Display| {
        Err(Refusal::new(Code::BridgeNetfilter).detail(path.display()).detail(problem))
    };
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim_ascii() {
            "0" => Ok(Switch::Off),
            "1" => Ok(Switch::On),
            _ => refuse(&"neither 0 nor 1"),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Switch::Absent),
        Err(e) => refuse(&e),
    }
}

/// Turns it on.
///
/// # Errors
/// [`Code::BridgeNetfilter`].
pub(crate) fn turn_on(paths: &Paths, family: Family) -> Result<()> {
    let path = paths.bridge_nf_call(family);
    // Not created: what is absent in /proc cannot be.
    let write = || std::io::Write::write_all(&mut fs::File::options().write(true).open(&path)?, b"1\n");
    write().map_err(|e: std::io::Error| Refusal::new(Code::BridgeNetfilter).detail(path.display()).detail(e))
}
