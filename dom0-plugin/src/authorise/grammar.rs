//! Small words that several grammars share. Each returns whether the text is one.

use std::net::{Ipv4Addr, Ipv6Addr};

use drawbridge_wire::Family;

/// What our chains' names start with.
pub(crate) const PREFIX: &str = "dwb-";

/// Longest chain name the kernel takes (`XT_EXTENSION_MAXNAMELEN` less NUL).
pub(crate) const CHAIN_BYTES: usize = 28;

/// A chain of ours.
pub(crate) fn is_our_chain(name: &str) -> bool {
    name.len() <= CHAIN_BYTES
        && name.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_name_byte))
}

/// A chain of ours that callers may name: not the plugin's own.
pub(crate) fn is_callers_chain(name: &str) -> bool {
    is_our_chain(name) && !super::boundary::is_reserved(name)
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
}

/// A network interface's (or bridge's) name. A leading `-` would be an option; `.` and `..` are no names.
pub(crate) fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len()) && name.bytes().all(is_name_byte) && !name.starts_with(['-', '.'])
}

/// An interface's name, or the start of one followed by `+`.
pub(crate) fn is_interface_pattern(name: &str) -> bool {
    is_interface(name.strip_suffix('+').filter(|start| !start.is_empty()).unwrap_or(name))
}

/// `number`, in decimal, up to `max`, without sign or leading zero.
pub(crate) fn is_number(text: &str, max: u64) -> bool {
    number(text).is_some_and(|n| n <= max)
}

/// A decimal number in its only spelling.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

/// `0x…`, in hex.
pub(crate) fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let plausible = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plausible.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// `port` or `port:port`, rising.
pub(crate) fn is_port_range(text: &str) -> bool {
    let port = |text: &str| number(text).filter(|n| *n <= 65_535);
    match text.split_once(':') {
        None => port(text).is_some(),
        Some((from, to)) => matches!((port(from), port(to)), (Some(from), Some(to)) if from <= to),
    }
}

/// An address of the family, with or without a prefix length. Never a name, which would be looked up.
pub(crate) fn is_network(text: &str, family: Family) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    match family {
        Family::Ipv4 => address.parse::<Ipv4Addr>().is_ok() && prefix.is_none_or(|p| is_number(p, 32)),
        Family::Ipv6 => address.parse::<Ipv6Addr>().is_ok() && prefix.is_none_or(|p| is_number(p, 128)),
    }
}

/// A protocol's number, or a name as `/etc/protocols` spells them.
pub(crate) fn is_protocol(text: &str) -> bool {
    let is_name = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 16
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'+'));
    is_number(text, 255) || is_name
}

/// Six hex pairs with colons between them.
pub(crate) fn is_mac(text: &str) -> bool {
    let mut pairs = text.split(':');
    pairs.by_ref().take(6).filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit())).count() == 6
        && text.len() == 17
}

/// A list with commas, each item of which passes.
pub(crate) fn is_list(text: &str, max: usize, mut item: impl FnMut(&str) -> bool) -> bool {
    text.split(',').count() <= max && text.split(',').all(&mut item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(check: impl Fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        good.iter().for_each(|text| assert!(check(text), "{text:?}"));
        bad.iter().for_each(|text| assert!(!check(text), "{text:?}"));
    }

    #[test]
    fn chains() {
        table(
            is_our_chain,
            &["dwb-a", "dwb-o-vif12.0", "dwb-123456789012345678901234"],
            &[
                "dwb-",
                "dwb-1234567890123456789012345",
                "DWB-a",
                "xdwb-a",
                "dwb-a b",
                "dwb-é",
                "INPUT",
                "dwb-a/",
                "",
            ],
        );
    }

    #[test]
    fn interfaces() {
        table(
            is_interface,
            &["vif1.0", "xenbr0", "a", "123456789012345"],
            &["", "-a", ".", "..", "1234567890123456", "a/b", "unix:x", "tcp:1", "a b", "vif1+"],
        );
        table(is_interface_pattern, &["vif1.0", "vif+", "vif1+"], &["+", "", "vif++", "v+f"]);
    }

    #[test]
    fn numbers() {
        table(
            |t| is_number(t, 255),
            &["0", "255", "17"],
            &["", "256", "01", "+1", "-1", "1 ", "99999999999999999999"],
        );
        table(
            |t| hex(t).is_some(),
            &["0x0", "0xffFF"],
            &["", "0x", "ff", "0x+1", "0x1ffffffffffffffff", "0xg"],
        );
        table(
            is_port_range,
            &["0", "65535", "1:2", "5:5"],
            &["", ":", "1:", ":1", "2:1", "65536", "1:2:3", "http"],
        );
    }

    #[test]
    fn networks() {
        table(
            |t| is_network(t, Family::Ipv4),
            &["10.0.0.0/8", "1.2.3.4", "0.0.0.0/0"],
            &[
                "",
                "/8",
                "1.2.3.4/33",
                "1.2.3",
                "::1",
                "example.org",
                "1.2.3.4,5.6.7.8",
                "1.2.3.4/255.0.0.0",
                "1.2.3.4/",
            ],
        );
        table(
            |t| is_network(t, Family::Ipv6),
            &["::/0", "fe80::1/64", "::1"],
            &["10.0.0.1", "::/129", "fe80::%eth0"],
        );
    }

    #[test]
    fn others() {
        table(
            is_protocol,
            &["tcp", "0", "255", "ipv6-icmp", "udplite"],
            &["", "256", "TCP", "!tcp", "a b", "-p"],
        );
        table(
            is_mac,
            &["00:16:3e:00:00:01", "AA:bb:cc:dd:ee:ff"],
            &["", "00:16:3e:00:00", "00:16:3e:00:00:01:", "00:16:3e:00:00:0g", "0016:3e:00:00:011"],
        );
    }
}
