//! The ownership guard: input for `iptables-restore` that touches our chains and nothing else.
//!
//! Every line, every word of it, must be known. A compromised caller can then decide about guests' packets, and about
//! nothing else: our chains in `filter` are reached only through a jump of fixed form that sees only bridged packets; the
//! one chain in `raw` that anything leads to is entered behind the plugin's own [`boundary`](super::boundary), and can do
//! nothing but set a conntrack zone.

mod rule;
mod words;

use drawbridge_wire::Family;

use self::words::{Word, words};
use super::boundary::is_reserved;
use super::grammar::{is_callers_chain, number};
use super::{Table, lines, refuse_line};
use crate::{Code, Refusal, Result};

/// `iptables-restore` 1.4.21 reads lines into 10,240 bytes and words into 1,024.
const LINE_BYTES: usize = 1000;

/// The lines that may touch a built-in chain. Into PREROUTING only the plugin itself puts a jump, which leads to the callers'
/// chain as well ([`super::boundary`]); the one that callers put there before version 0.2 may go.
fn hooks(table: Table) -> &'static [&'static str] {
    match table {
        Table::Filter => &[
            "-I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-forward",
            "-D FORWARD -m physdev --physdev-is-bridged -j dwb-forward",
        ],
        Table::Raw => &["-D PREROUTING -m addrtype ! --dst-type LOCAL -j dwb-raw"],
    }
}

/// Whether a line of `raw` takes forged packets out of connection tracking: their source is dom0's own address, or many.
fn is_notrack(line: &str, chain: &str, family: Family) -> bool {
    let kinds: &[&str] = match family {
        Family::Ipv4 => &["LOCAL", "MULTICAST", "BROADCAST"],
        Family::Ipv6 => &["LOCAL", "MULTICAST"],
    };
    let forged = "-m physdev --physdev-is-in -m addrtype --src-type";
    kinds.iter().any(|kind| line == format!("-A {chain} {forged} {kind} -j CT --notrack"))
}

/// Checks an input.
///
/// # Errors
/// [`Code::InputRefused`] with the first line that is not allowed.
pub fn check(input: &[u8], family: Family) -> Result<()> {
    let mut guard = Guard { family, open: None, finished: Vec::new() };
    let mut end = 0;
    for line in lines(input, LINE_BYTES)? {
        guard.line(line?).map_err(|problem| refuse_line(end, problem))?;
        end += 1;
    }
    match guard.open {
        None if guard.finished.is_empty() => {
            Err(Refusal::new(Code::InputRefused).detail(1).detail("no table"))
        }
        None => Ok(()),
        Some(_) => Err(refuse_line(end, "the last table has no COMMIT")),
    }
}

struct Guard {
    family: Family,
    open: Option<Table>,
    finished: Vec<Table>,
}

impl Guard {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let Some(table) = self.open else { return self.outside(line) };
        match line.as_bytes() {
            [] | [b'#', ..] => Ok(()),
            b"COMMIT" => {
                self.open = None;
                self.finished.push(table);
                Ok(())
            }
            [b':', ..] => declaration(line),
            [b'-', ..] => self.command(table, line),
            _ => Err("not a line of ours".to_owned()),
        }
    }

    /// Between tables.
    fn outside(&mut self, line: &str) -> Result<(), String> {
        let table = match line {
            "*filter" => Table::Filter,
            "*raw" => Table::Raw,
            "" => return Ok(()),
            comment if comment.starts_with('#') => return Ok(()),
            _ => return Err("expected *filter or *raw".to_owned()),
        };
        if self.finished.contains(&table) {
            return Err(format!("the table {} stands twice", table.as_str()));
        }
        self.open = Some(table);
        Ok(())
    }

    fn command(&self, table: Table, line: &str) -> Result<(), String> {
        if hooks(table).contains(&line) {
            return Ok(());
        }
        let words = words(line)?;
        let [command, chain, rest @ ..] = words.as_slice() else {
            return Err("a command without a chain".to_owned());
        };
        let command = command.plain()?;
        let chain = chain.plain()?;
        if !is_callers_chain(chain) {
            return Err(not_the_callers(chain));
        }
        if table == Table::Raw && is_notrack(line, chain, self.family) {
            return Ok(());
        }
        let position =
            |word: Option<&Word<'_>>| word.and_then(|w| w.plain().ok()).and_then(number).filter(|n| *n > 0);
        // No -R: iptables-nft 1.8.9 crashes on one that replaces a rule of the same input.
        match (command, rest) {
            ("-A", rule) => rule::check(table, self.family, rule),
            ("-I", rule) if position(rule.first()).is_some() => rule::check(table, self.family, &rule[1..]),
            ("-I", rule) => rule::check(table, self.family, rule),
            ("-D", [at]) if position(Some(at)).is_some() => Ok(()),
            ("-D", rule) => rule::check(table, self.family, rule),
            ("-F" | "-X", []) => Ok(()),
            ("-F" | "-X", _) => Err(format!("{command} takes a chain and nothing more")),
            _ => Err(format!("{command:.20} is not a command of ours")),
        }
    }
}

fn not_the_callers(chain: &str) -> String {
    match is_reserved(chain) {
        true => format!("the chain {chain:.40} is the plugin's own"),
        false => format!("the chain {chain:.40} is not ours"),
    }
}

/// `:dwb-NAME - [0:0]`
fn declaration(line: &str) -> Result<(), String> {
    let chain = line.strip_prefix(':').and_then(|l| l.strip_suffix(" - [0:0]"));
    match chain {
        Some(chain) if is_callers_chain(chain) => Ok(()),
        Some(chain) => Err(not_the_callers(chain)),
        None => Err("expected :dwb-NAME - [0:0]".to_owned()),
    }
}
