//! The guard: what it accepts, read as iptables-restore reads it, touches chains of ours and the two hooks.

use dom0_plugin::authorise::restore;
use drawbridge_wire::Family;

/// Matches that look at a packet and do nothing else.
pub(super) const MODULES: [&str; 16] = [
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
    "comment",
];

/// Every word with a dash in front that may stand after the chain.
const OPTIONS: [&str; 27] = [
    "-s",
    "-d",
    "-p",
    "-i",
    "-o",
    "-m",
    "-j",
    "-g",
    "--physdev-in",
    "--physdev-out",
    "--physdev-is-bridged",
    "--sport",
    "--dport",
    "--sports",
    "--dports",
    "--icmp-type",
    "--icmpv6-type",
    "--ctstate",
    "--ctdir",
    "--mark",
    "--mac-source",
    "--src-type",
    "--dst-type",
    "--u32",
    "--comment",
    "--set-xmark",
    "--zone",
];

/// The only lines that name a built-in chain.
const HOOKS: [(&str, &str); 3] = [
    ("filter", "-I FORWARD 1 -m physdev --physdev-is-bridged -j dwb-forward"),
    ("filter", "-D FORWARD -m physdev --physdev-is-bridged -j dwb-forward"),
    ("raw", "-D PREROUTING -m addrtype ! --dst-type LOCAL -j dwb-raw"),
];

/// What may stand after a chain's name to take forged packets out of connection tracking.
const FORGED: [&str; 3] = [
    "-m physdev --physdev-is-in -m addrtype --src-type LOCAL -j CT --notrack",
    "-m physdev --physdev-is-in -m addrtype --src-type MULTICAST -j CT --notrack",
    "-m physdev --physdev-is-in -m addrtype --src-type BROADCAST -j CT --notrack",
];

/// Input for iptables-restore.
pub fn restore_guard(data: &[u8]) -> bool {
    let accepted = |family| restore::check(data, family).is_ok();
    let taken = accepted(Family::Ipv4) || accepted(Family::Ipv6);
    if taken {
        touches_only_ours(data);
    }
    taken
}

/// Walks the lines as `iptables-restore.c` does.
fn touches_only_ours(data: &[u8]) {
    assert!(data.iter().all(|b| *b == b'\n' || (b' '..=b'~').contains(b)), "not printable");
    let Some(text) = super::text(data) else { panic!("not text") };
    let mut table: Option<&str> = None;
    for line in text.split_terminator('\n') {
        match (table, line.as_bytes().first()) {
            (_, None | Some(b'#')) => {}
            (Some(_), _) if line == "COMMIT" => table = None,
            (None, Some(b'*')) => {
                let name = line[1..].split(' ').find(|word| !word.is_empty());
                assert!(matches!(name, Some("filter" | "raw")), "another table: {line}");
                table = name;
            }
            (Some(_), Some(b':')) => {
                let words: Vec<&str> = line[1..].split(' ').filter(|word| !word.is_empty()).collect();
                assert!(is_ours(words[0]) && words[1] == "-", "declares another's chain: {line}");
            }
            (Some(table), _) if HOOKS.contains(&(table, line)) => {}
            (Some(table), _) => command(table, line),
            (None, _) => panic!("outside any table: {line}"),
        }
    }
    assert_eq!(table, None, "no COMMIT");
}

fn command(table: &str, line: &str) {
    let words = split(line);
    let [command, chain, rest @ ..] = words.as_slice() else { panic!("no command: {line}") };
    assert!(["-A", "-I", "-D", "-F", "-X"].contains(&command.as_str()), "another command: {line}");
    assert!(is_ours(chain), "another's chain: {line}");
    if table == "raw" && command == "-A" && FORGED.contains(&rest.join(" ").as_str()) {
        return;
    }
    let jumps: Vec<usize> = (0..rest.len()).filter(|at| matches!(rest[*at].as_str(), "-j" | "-g")).collect();
    match command.as_str() {
        "-F" | "-X" => assert!(rest.is_empty(), "{line}"),
        // Without matches or target only the number of a rule.
        "-D" if jumps.is_empty() => assert!(rest.len() == 1 && rest[0].parse::<u32>().is_ok(), "{line}"),
        _ => assert_eq!(jumps.len(), 1, "not one target: {line}"),
    }
    for (at, word) in rest.iter().enumerate() {
        // getopt_long takes any word with a dash for an option, wherever it stands, and shortened too.
        assert!(!word.starts_with('-') || OPTIONS.contains(&word.as_str()), "the option {word}: {line}");
        if word == "-m" {
            assert!(MODULES.contains(&rest[at + 1].as_str()), "the match {}: {line}", rest[at + 1]);
        }
    }
    if let [at] = jumps.as_slice() {
        target(table, &rest[*at], &rest[at + 1..], line);
    }
}

fn target(table: &str, jump: &str, words: &[String], line: &str) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let allowed = match (table, jump, words.as_slice()) {
        ("filter", _, [chain]) if is_ours(chain) => true,
        (_, "-j", ["RETURN"]) | ("filter", "-j", ["ACCEPT" | "DROP"]) => true,
        ("filter", "-j", ["CONNMARK", "--set-xmark", mark]) => {
            mark.split_once('/').is_some_and(|(_, mask)| hex(mask) == Some(0xffff_ff00))
        }
        ("filter", "-j", ["MARK", "--set-xmark", mark]) => mark
            .split_once('/')
            .is_some_and(|(_, mask)| hex(mask).is_some_and(|mask| mask & !0x7000_0000 == 0)),
        // Neither dom0's zone nor the plugin's.
        ("raw", "-j", ["CT", "--zone", zone]) => {
            zone.parse::<u16>().is_ok_and(|zone| (1..65_535).contains(&zone))
        }
        _ => false,
    };
    assert!(allowed, "another target: {line}");
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn is_ours(chain: &str) -> bool {
    let reserved = chain == "dwb-dom0" || chain.starts_with("dwb-dom0-");
    chain.starts_with("dwb-") && (5..=28).contains(&chain.len()) && !reserved
}

/// The words of a line, as `add_param_to_argv` (iptables 1.4.21 and 1.8) splits it.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for mut c in line.chars().chain(['\n']) {
        if quoted {
            match c {
                _ if escaped => escaped = false,
                '\\' => {
                    escaped = true;
                    continue;
                }
                // The end of a quotation ends the word.
                '"' => {
                    quoted = false;
                    c = '\n';
                }
                _ => {}
            }
            if quoted {
                word.push(c);
                continue;
            }
        } else if c == '"' {
            quoted = true;
            continue;
        }
        if matches!(c, ' ' | '\t' | '\n') {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
        } else {
            word.push(c);
            assert!(word.len() < 1024, "a word too long for 1.4.21: {line}");
        }
    }
    assert!(!quoted, "a quotation without an end: {line}");
    words
}
