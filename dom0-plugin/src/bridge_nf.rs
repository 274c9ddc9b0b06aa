//! Whether bridged packets reach iptables at all.
//!
//! dom0 ships `bridge-nf-call-iptables=0`, and its own FORWARD chain ends in a REJECT: turned on before our jump stands
//! first, it would cut every guest. So it is turned on here, after that was seen, and never off.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

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

/// How long the switches must have stayed on to be believed.
const STABLE: Duration = Duration::from_secs(1);

/// How long others may go on turning them off.
const PATIENCE: Duration = Duration::from_secs(10);

/// Turns the switches of these families on until they stay on. When the module is loaded, which the first rule of ours
/// does, dom0's udev rules set them to 0 a moment later.
///
/// # Errors
/// [`Code::BridgeNetfilter`]: there is no switch, or something turns it off again and again.
pub(crate) fn keep_on(paths: &Paths, families: &[Family]) -> Result<()> {
    let started = Instant::now();
    let mut on_since = started;
    while on_since.elapsed() < STABLE {
        for &family in families {
            if read(paths, family)? != Switch::On {
                turn_on(paths, family)?;
                on_since = Instant::now();
            }
        }
        if started.elapsed() > PATIENCE {
            return Err(Refusal::new(Code::BridgeNetfilter)
                .detail(paths.bridge_nf.display())
                .detail("something turns it off again and again"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
