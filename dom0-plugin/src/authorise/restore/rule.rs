//! One rule: matches from a closed list, then one target from a closed list.

use drawbridge_wire::Family;

use super::super::Table;
use super::super::boundary::OTHER_ZONE;
use super::super::grammar::{
    hex, is_callers_chain, is_interface_pattern, is_list, is_mac, is_network, is_number, is_port_range,
    is_protocol,
};
use super::words::Word;

/// The bits of the connection mark that are ours. The others are other people's.
const MARK_MASK: u64 = 0xffff_ff00;

/// The bits of the packet mark that are ours.
const PACKET_MASK: u64 = 0x7000_0000;

/// What `--comment` holds at most (`XT_MAX_COMMENT_LEN` less NUL).
const COMMENT_BYTES: usize = 255;

/// Far above what one of our expressions needs.
const U32_BYTES: usize = 512;

/// The match modules.
const MODULES: [&str; 15] = [
    "physdev",
    "tcp",
    "udp",
    "sctp",
    "dccp",
    "udplite",
    "multiport",
    "icmp",
    "icmp6",
    "conntrack",
    "connmark",
    "mark",
    "mac",
    "addrtype",
    "u32",
];

const STATES: [&str; 7] = ["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "SNAT", "DNAT"];

const ADDRESS_TYPES: [&str; 9] = [
    "UNICAST",
    "LOCAL",
    "BROADCAST",
    "ANYCAST",
    "MULTICAST",
    "BLACKHOLE",
    "UNREACHABLE",
    "PROHIBIT",
    "UNSPEC",
];

/// Checks a rule's words, the chain and position already taken.
pub(super) fn check(table: Table, family: Family, words: &[Word<'_>]) -> Result<(), String> {
    let mut rule = Rule { table, family, words, modules: Vec::new(), protocol: None };
    while let Some((word, rest)) = rule.words.split_first() {
        rule.words = rest;
        match word.plain()? {
            "-j" => return rule.target(false),
            "-g" => return rule.target(true),
            "!" => {
                let option = rule.next()?.plain()?;
                rule.option(option, true)?;
            }
            option => rule.option(option, false)?,
        }
    }
    Err("a rule without a target".to_owned())
}

struct Rule<'w, 'a> {
    table: Table,
    family: Family,
    words: &'w [Word<'a>],
    modules: Vec<&'a str>,
    protocol: Option<&'a str>,
}

impl<'w, 'a> Rule<'w, 'a> {
    fn next(&mut self) -> Result<&'w Word<'a>, String> {
        let (word, rest) = self.words.split_first().ok_or("a value is missing at the end")?;
        self.words = rest;
        Ok(word)
    }

    /// Whether an option's module was named (or is implied by the protocol).
    fn has(&self, module: &str) -> bool {
        self.modules.contains(&module) || self.protocol == Some(module)
    }

    fn option(&mut self, option: &str, negated: bool) -> Result<(), String> {
        if option == "-m" {
            let module = self.next()?.plain()?;
            if negated || !(MODULES.contains(&module) || module == "comment") {
                return Err(format!("the match {module:.40} is not allowed"));
            }
            self.modules.push(module);
            return Ok(());
        }
        if option == "--physdev-is-bridged" {
            return if self.has("physdev") && !negated { Ok(()) } else { Err(misplaced(option)) };
        }
        // Which module an option belongs to, and whether `!` may stand before it.
        let (module, negatable) = match option {
            "-s" | "-d" | "-p" => (None, true),
            "-i" | "-o" => (None, false),
            "--physdev-in" | "--physdev-out" => (Some("physdev"), false),
            "--sport" | "--dport" => (None, true),
            "--sports" | "--dports" => (Some("multiport"), true),
            "--icmp-type" => (Some("icmp"), true),
            "--icmpv6-type" => (Some("icmp6"), true),
            "--ctstate" => (Some("conntrack"), true),
            "--ctdir" => (Some("conntrack"), false),
            // Of two modules' options with one name, iptables takes that of the one named last.
            "--mark" => (self.modules.last().copied().filter(|m| *m == "mark").or(Some("connmark")), true),
            "--mac-source" => (Some("mac"), true),
            "--src-type" | "--dst-type" => (Some("addrtype"), true),
            "--u32" => (Some("u32"), true),
            "--comment" => (Some("comment"), false),
            _ => return Err(format!("{option:.40} is not allowed")),
        };
        let placed = match option {
            "--sport" | "--dport" => ["tcp", "udp", "sctp", "dccp", "udplite"].iter().any(|m| self.has(m)),
            _ => module.is_none_or(|m| self.has(m)),
        };
        if !placed || (negated && !negatable) {
            return Err(misplaced(option));
        }
        let value = self.next()?;
        if self.is_value(option, value)? {
            Ok(())
        } else {
            Err(format!("{option} {:.60}: not a value", value.text()))
        }
    }

    fn is_value(&mut self, option: &str, word: &Word<'a>) -> Result<bool, String> {
        // Only these two may be quoted.
        match option {
            "--comment" => {
                let text = word.text();
                return Ok(text.len() <= COMMENT_BYTES && !text.starts_with('-'));
            }
            "--u32" => return Ok(is_u32(&word.text())),
            _ => {}
        }
        let value = word.plain()?;
        Ok(match option {
            "-s" | "-d" => is_network(value, self.family),
            "-p" => {
                self.protocol = Some(value);
                is_protocol(value)
            }
            "-i" | "-o" | "--physdev-in" | "--physdev-out" => is_interface_pattern(value),
            "--sport" | "--dport" => is_port_range(value),
            "--sports" | "--dports" => is_list(value, 15, is_port_range),
            "--icmp-type" => value == "any" || is_icmp_type(value),
            "--icmpv6-type" => is_icmp_type(value),
            "--ctstate" => is_list(value, STATES.len(), |state| STATES.contains(&state)),
            "--ctdir" => matches!(value, "ORIGINAL" | "REPLY"),
            "--mark" if self.modules.last() == Some(&"mark") => is_our_packet_mark(value),
            "--mark" => self.modules.last() == Some(&"connmark") && is_our_mark(value),
            "--mac-source" => is_mac(value),
            "--src-type" | "--dst-type" => {
                // The kernel knows no others for IPv6, and would refuse the second table of two.
                let v4 = self.family == Family::Ipv4;
                let known = |t: &str| v4 || !matches!(t, "BROADCAST" | "PROHIBIT" | "BLACKHOLE");
                is_list(value, ADDRESS_TYPES.len(), |t| ADDRESS_TYPES.contains(&t) && known(t))
            }
            _ => false,
        })
    }

    /// Checks the rest of the rule: a target, and nothing after it.
    fn target(&mut self, goto: bool) -> Result<(), String> {
        let target = self.next()?.plain()?;
        if is_callers_chain(target) {
            return match self.table {
                Table::Filter => self.end(),
                Table::Raw => Err(format!("a jump to {target:.40}: no chain of raw leads to another")),
            };
        }
        if goto {
            return Err(format!("a jump to {target:.40}, which is not a chain of ours"));
        }
        match (target, self.table) {
            ("RETURN", _) | ("ACCEPT" | "DROP", Table::Filter) => self.end(),
            ("ACCEPT" | "DROP", Table::Raw) => Err(format!("{target} in raw would reach dom0's own packets")),
            ("CONNMARK", Table::Filter) => {
                if self.next()?.plain()? != "--set-xmark" || !is_our_mark(self.next()?.plain()?) {
                    return Err("CONNMARK: expected --set-xmark VALUE/0xffffff00".to_owned());
                }
                self.end()
            }
            ("MARK", Table::Filter) => {
                if self.next()?.plain()? != "--set-xmark" || !is_our_packet_mark(self.next()?.plain()?) {
                    return Err("MARK: expected --set-xmark VALUE/MASK within 0x70000000".to_owned());
                }
                self.end()
            }
            ("CT", Table::Raw) => {
                // Zone 0 is dom0's.
                let is_zone = |zone| is_number(zone, OTHER_ZONE - 1) && zone != "0";
                if self.next()?.plain()? != "--zone" || !is_zone(self.next()?.plain()?) {
                    return Err("CT: expected --zone with a number from 1 to 65534".to_owned());
                }
                self.end()
            }
            _ => Err(format!("a jump to {target:.40}, which is not ours")),
        }
    }

    fn end(&self) -> Result<(), String> {
        match self.words {
            [] => Ok(()),
            [more, ..] => Err(format!("{:.40} after the target", more.text())),
        }
    }
}

fn misplaced(option: &str) -> String {
    format!("{option} without its -m, or a ! that cannot stand here")
}

/// `type` or `type/code`
fn is_icmp_type(text: &str) -> bool {
    text.split_once('/').map_or_else(|| is_number(text, 255), |(t, c)| is_number(t, 255) && is_number(c, 255))
}

/// `value/mask` with exactly our mask, and no bit outside it.
fn is_our_mark(text: &str) -> bool {
    let Some((value, mask)) = text.split_once('/') else { return false };
    hex(mask) == Some(MARK_MASK) && hex(value).is_some_and(|value| value & !MARK_MASK == 0)
}

/// `value/mask` with no bit outside ours, nor a value's outside its mask.
fn is_our_packet_mark(text: &str) -> bool {
    let Some((value, mask)) = text.split_once('/') else { return false };
    let (Some(value), Some(mask)) = (hex(value), hex(mask)) else { return false };
    mask != 0 && mask & !PACKET_MASK == 0 && value & !mask == 0
}

fn is_u32(text: &str) -> bool {
    (1..=U32_BYTES).contains(&text.len())
        && text.bytes().all(|b| {
            b.is_ascii_hexdigit() || matches!(b, b'x' | b'=' | b'&' | b':' | b',' | b'<' | b'>' | b'@')
        })
}
