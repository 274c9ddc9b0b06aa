//! A range of ports as values under masks: the only way OpenFlow has to match a range.

use super::flow::Masked;

/// The fewest masks that cover `first..=last` and nothing else, in ascending order; at most 30 for 16 bits.
///
/// From below, each takes the biggest aligned block that starts at the first port left and does not reach past the last.
#[must_use]
pub fn masks(first: u16, last: u16) -> Vec<Masked> {
    let mut masks = Vec::new();
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    while next < end {
        let aligned = if next == 0 { 16 } else { next.trailing_zeros() };
        let fits = (end - next).ilog2();
        let size = 1_u32 << aligned.min(fits).min(16);
        let value = u16::try_from(next).unwrap_or(u16::MAX);
        let mask = u16::try_from(0x1_0000 - size).unwrap_or(0);
        masks.push(Masked { value, mask });
        next += size;
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_covered_exactly() {
        // Edges from neutron's own tests of the same job, and its known counts.
        for (first, last, count) in [
            (5, 12, None),
            (20, 130, None),
            (4501, 33057, None),
            (0, 65535, Some(1)),
            (22, 22, Some(1)),
            (5001, 5001, Some(1)),
            (0, 7, Some(1)),
            (8, 15, Some(1)),
            (1, 127, Some(7)),
            (1, 65534, Some(30)),
            (1, 65535, Some(16)),
            (1000, 1999, Some(7)),
        ] {
            let masks = masks(first, last);
            if let Some(count) = count {
                assert_eq!(masks.len(), count, "{first}-{last}");
            }
            for port in 0..=u16::MAX {
                let covered = masks.iter().filter(|m| m.contains(port)).count();
                assert_eq!(covered, usize::from((first..=last).contains(&port)), "{port} of {first}-{last}");
            }
        }
    }

    #[test]
    fn no_range_needs_more_than_30() {
        for first in (0..=u16::MAX).step_by(251) {
            for last in (first..=u16::MAX).step_by(241) {
                assert!(masks(first, last).len() <= 30, "{first}-{last}");
            }
        }
        assert_eq!(masks(9, 8), []);
    }
}
