//! What passes VIFs without rules on guarded bridges all the same: the driver's own VM reaches XAPI (docs/security.md, H1.1).
//!
//! Remembered are the rules themselves, one a line, as they stood after the last write. Whatever is wrong with a record, it
//! can only close.

use drawbridge_wire::{Family, Function};

use super::{Bridges, failed, is_named, keep};
use crate::authorise::authorise;
use crate::paths::Paths;
use crate::{Result, trusted};

/// How a bridge is named in the rules of the chains that close guarded bridges.
const CHAINS: [(&str, &str); 2] = [("-A dwb-unknown-from ", "-i"), ("-A dwb-unknown-to ", "-o")];

/// The bridge that a rule makes an exception on; `None` if it is another rule.
fn bridge(rule: &str) -> Option<&str> {
    let (_, option) = CHAINS.iter().find(|(chain, _)| rule.starts_with(chain))?;
    let mut words = rule.strip_suffix(" -j RETURN")?.split(' ').skip_while(|word| word != option);
    words.nth(1)
}

/// Remembers the exceptions of a cut dump.
///
/// # Errors
/// `GuardedRecord`
pub(super) fn record(paths: &Paths, family: Family, cut: &str) -> Result<()> {
    let rules = cut.lines().filter(|line| bridge(line).is_some());
    keep(paths, &paths.lifelines(family), &rules.map(|rule| format!("{rule}\n")).collect::<String>())
}

/// The exceptions remembered for these bridges, each checked as if a caller sent it.
///
/// # Errors
/// `UnsafeFile`, `GuardedRecord`: none of them is to be believed then.
pub(crate) fn remembered(paths: &Paths, family: Family, bridges: &Bridges) -> Result<Vec<String>> {
    let path = paths.lifelines(family);
    let text = trusted::read(&path)?.unwrap_or_default();
    let mut rules = Vec::new();
    for (at, rule) in text.lines().enumerate() {
        let input = format!("*filter\n{rule}\nCOMMIT\n").into_bytes();
        let allowed = authorise(Function::IptablesRestore, family, &[], Some(input)).is_ok();
        match bridge(rule).filter(|_| allowed) {
            Some(bridge) if bridges.iter().any(|known| is_named(bridge, known)) => {
                rules.push(rule.to_owned())
            }
            Some(_) => {}
            None => return Err(failed(&path, &format!("line {}: not a rule of a lifeline", at + 1))),
        };
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_exception() {
        for (rule, on) in [
            (
                "-A dwb-unknown-from -d 192.0.2.7/32 -i xenbr0 -p tcp -m tcp --dport 443 -m mac --mac-source 00:16:3e:00:00:aa -j RETURN",
                Some("xenbr0"),
            ),
            ("-A dwb-unknown-to -o xapi1 -p udp -m udp --sport 67 --dport 68 -j RETURN", Some("xapi1")),
            ("-A dwb-unknown-from -i xenbr0 -j DROP", None),
            ("-A dwb-unknown-from -i xenbr0 -m mac --mac-source 00:16:3e:00:00:aa -g dwb-s-x", None),
            ("-A dwb-unknown-from -j RETURN", None),
            ("-A dwb-unknown-to -i xenbr0 -j RETURN", None),
            ("-A dwb-forward -i xenbr0 -j RETURN", None),
        ] {
            assert_eq!(bridge(rule), on, "{rule}");
        }
    }
}
