//! The `u32` match (iptables-extensions(8)): tests on 32-bit words at any byte of the packet.

/// Whether a test holds of a packet's bytes, counted from its IP header; `None` if it cannot be read.
pub(in crate::iptables) fn holds(test: &str, bytes: &[u8]) -> Option<bool> {
    let mut all = true;
    for part in test.split("&&") {
        let (location, values) = part.split_once('=')?;
        let word = word(location, bytes)?;
        let mut any = false;
        for range in values.split(',') {
            let (low, high) = range.split_once(':').unwrap_or((range, range));
            let range = number(low)?..=number(high)?;
            any |= word.is_some_and(|word| range.contains(&word));
        }
        all &= any;
    }
    Some(all)
}

/// The word a location leads to; the inner `None` is beyond the packet's end.
fn word(location: &str, bytes: &[u8]) -> Option<Option<u32>> {
    let (mut operand, mut rest) = operand(location)?;
    let mut base = 0_usize;
    let mut word = load(bytes, base, operand);
    while !rest.is_empty() {
        let operator;
        (operator, rest) = rest.split_at(if rest.starts_with(['<', '>']) { 2 } else { 1 });
        (operand, rest) = self::operand(rest)?;
        word = match operator {
            "&" => word.map(|word| word & operand),
            "<<" => word.map(|word| word.checked_shl(operand).unwrap_or(0)),
            ">>" => word.map(|word| word.checked_shr(operand).unwrap_or(0)),
            "@" => word.and_then(|word| {
                base = base.checked_add(usize::try_from(word).ok()?)?;
                load(bytes, base, operand)
            }),
            _ => return None,
        };
    }
    Some(word)
}

fn load(bytes: &[u8], base: usize, offset: u32) -> Option<u32> {
    let at = base.checked_add(usize::try_from(offset).ok()?)?;
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(word.try_into().ok()?))
}

fn operand(text: &str) -> Option<(u32, &str)> {
    let end = text.find(['&', '<', '>', '@']).unwrap_or(text.len());
    Some((number(&text[..end])?, &text[end..]))
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_where_the_test_says() {
        let bytes = [0x45, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 0xff, 5, 0, 0];
        for (test, expected) in [
            ("0x0=0x45010203", true),
            ("0&0xff=3", true),
            ("0x3&0xff=0x6", true),
            ("0x4>>0x10=0x405", true),
            ("0x4<<0x8=0x5060700", true),
            ("0x4=0:0x3,0x4050607:0x4050608", true),
            ("0x4=0x4050608", false),
            ("0x0=0x45010203&&0x4=0x0", false),
            // The header's length, and from there on.
            ("0x0>>0x16&0x3c@0x0>>0x18=0xff", true),
            ("0x0>>0x16&0x3c@0x0>>0x10=0xff05", true),
            ("0x0>>0x16&0x3c@0x0>>0x10=0xff06", false),
            // Beyond the end nothing holds, not even a range of everything.
            ("0x15=0x0:0xffffffff", false),
            ("0x14=0x0:0xffffffff", true),
            ("0x4@0x0=0x0:0xffffffff", false),
        ] {
            assert_eq!(holds(test, &bytes), Some(expected), "{test}");
        }
        for unreadable in ["", "0x0", "x=1", "0x0=", "0x0+0x1=1", "0x0&=1", "0x0=1&&"] {
            assert_eq!(holds(unreadable, &bytes), None, "{unreadable}");
        }
    }
}
