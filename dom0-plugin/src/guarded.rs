//! Which bridges are guarded: read off the rules that stand, and remembered for dom0's next boot.
//!
//! Rules do not survive a boot, XAPI's `VIF.locking_mode` does: a guest started before the driver has written again
//! would have all that its lock allows. What is remembered here lets [`crate::boot()`] close these bridges until then.
//! Flows do not even survive their switch: [`flows`].

pub(crate) mod flows;
pub(crate) mod lifelines;

use std::collections::BTreeSet;
use std::path::Path;

use drawbridge_wire::Family;

use crate::authorise::is_interface_pattern;
use crate::paths::Paths;
use crate::{Code, Refusal, Result, state, trusted};

/// Families have a record each: their rules are written one after the other, and one may fail.
pub(crate) const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Names of bridges.
pub(crate) type Bridges = BTreeSet<String>;

fn failed(path: &Path, problem: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::GuardedRecord).detail(path.display()).detail(problem)
}

/// The bridges that a cut dump guards: those on which a VIF without rules of its own may send nothing.
fn standing(cut: &str) -> Bridges {
    let bridge = |line: &str| {
        let name = line.strip_prefix("-A dwb-unknown-from -i ")?.strip_suffix(" -j DROP")?;
        is_interface_pattern(name).then(|| name.to_owned())
    };
    cut.lines().filter_map(bridge).collect()
}

/// Remembers what a cut dump guards, and the exceptions. Nothing is written if that is known already.
///
/// # Errors
/// [`Code::GuardedRecord`]
pub(crate) fn record(paths: &Paths, family: Family, cut: &str) -> Result<()> {
    let wanted: String = standing(cut).into_iter().map(|bridge| bridge + "\n").collect();
    keep(paths, &paths.guarded(family), &wanted)?;
    lifelines::record(paths, family, cut)
}

/// Replaces a record, if it is to say something new.
fn keep(paths: &Paths, path: &Path, wanted: &str) -> Result<()> {
    // Whatever is wrong with the old record, a new one mends it.
    let known = trusted::read(path).ok().flatten().unwrap_or_default();
    if known == wanted && (path.exists() || wanted.is_empty()) {
        return Ok(());
    }
    replace(paths, path, wanted)
}

fn replace(paths: &Paths, path: &Path, text: &str) -> Result<()> {
    let write = || {
        state::secure_dir(&paths.lasting)?;
        state::replace_for_good(path, text.as_bytes())
    };
    write().map_err(|refusal: Refusal| failed(path, &refusal.details.join(": ")))
}

/// The bridges remembered, whichever family's rules guarded them: a network is guarded as a whole.
///
/// # Errors
/// [`Code::UnsafeFile`], [`Code::GuardedRecord`]
pub(crate) fn remembered(paths: &Paths) -> Result<Bridges> {
    let mut bridges = Bridges::new();
    for family in FAMILIES {
        bridges.append(&mut of_family(paths, family)?);
    }
    Ok(bridges)
}

fn of_family(paths: &Paths, family: Family) -> Result<Bridges> {
    let path = paths.guarded(family);
    let text = trusted::read(&path)?.unwrap_or_default();
    let bridge = |(at, line): (usize, &str)| match is_interface_pattern(line) {
        true => Ok(line.to_owned()),
        false => Err(failed(&path, &format!("line {}: not a bridge's name", at + 1))),
    };
    text.lines().enumerate().map(bridge).collect()
}

/// Whether a bridge is meant by a name that was remembered.
pub(crate) fn is_named(bridge: &str, pattern: &str) -> bool {
    pattern.strip_suffix('+').map_or(bridge == pattern, |start| bridge.starts_with(start))
}

/// Forgets bridges in the records of both families: from now on flows guard them, or nothing does.
///
/// # Errors
/// [`Code::UnsafeFile`], [`Code::GuardedRecord`]
fn forget(paths: &Paths, gone: &BTreeSet<&str>) -> Result<()> {
    for family in FAMILIES {
        let known = of_family(paths, family)?;
        let left: String = known
            .iter()
            .filter(|name| !gone.contains(name.as_str()))
            .map(|name| format!("{name}\n"))
            .collect();
        if left.lines().count() < known.len() {
            replace(paths, &paths.guarded(family), &left)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guards() {
        let cut = "*filter\n:dwb-unknown-from - [0:0]\n-A dwb-unknown-from -i xenbr0 -j DROP\n\
                   -A dwb-unknown-from -i xapi12 -j DROP\n-A dwb-unknown-to -o xapi7 -j DROP\nCOMMIT\n";
        assert_eq!(standing(cut), Bridges::from(["xapi12".to_owned(), "xenbr0".to_owned()]));
        for other in [
            "*filter\nCOMMIT\n",
            "-A dwb-unknown-from -i xenbr0 -j ACCEPT\n",
            "-A dwb-unknown-from -i xenbr0 -p tcp -j DROP\n",
            "-A dwb-unknown-to -i xenbr0 -j DROP\n",
            "-A dwb-unknown-from -i ../../etc/x -j DROP\n",
        ] {
            assert_eq!(standing(other), Bridges::new(), "{other}");
        }
    }
}
