//! The connection mark: in which epoch a connection was last judged.

use std::fmt;

/// The bits of the connection mark that are ours. The low byte is left to others.
pub const MARK_MASK: u32 = 0xffff_ff00;

/// An epoch, 1 to 2²⁴ − 5. Zero is a connection that was never judged; the four highest numbers have a meaning of their
/// own, see [`Mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

const LAST: u32 = (MARK_MASK >> 8) - 4;

impl Epoch {
    /// The epoch for a host that has none yet, from a number that only grows (a clock's seconds): connections that an
    /// earlier installation marked must not look freshly judged.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let reduced = seed % u64::from(LAST);
        Self(u32::try_from(reduced).unwrap_or_default() + 1)
    }

    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(if self.0 == LAST { 1 } else { self.0 + 1 })
    }

    /// The epoch a mark stands for; `None` for 0 and for the revoked mark.
    #[must_use]
    pub fn from_mark(mark: Mark) -> Option<Self> {
        let number = mark.0 >> 8;
        (1..=LAST).contains(&number).then_some(Self(number))
    }

    /// Its mark.
    #[must_use]
    pub fn mark(self) -> Mark {
        Mark(self.0 << 8)
    }
}

/// A value of the connection mark under [`MARK_MASK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u32);

impl Mark {
    /// A connection that is no longer allowed.
    pub const REVOKED: Self = Self(MARK_MASK);

    /// A connection that lives on when its rule goes: every group that allowed it says `keep`.
    pub const KEPT: Self = Self(0xffff_fe00);
    /// A packet on its way: the sender's group says `keep`, the receiver's side is still to be asked.
    pub const KEEPING: Self = Self(0xffff_fd00);
    /// A packet on its way from a sender that is not filtered: `keep` is up to the receiver's group.
    pub const UNOPPOSED: Self = Self(0xffff_fc00);

    /// A mark from its number; `None` if it has bits outside the mask.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        (value & !MARK_MASK == 0).then_some(Self(value))
    }

    /// The number, without the mask.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mark {
    /// As iptables-save prints a mark with its mask.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{MARK_MASK:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_epoch_looks_unjudged_or_revoked() {
        for epoch in [
            Epoch::seeded(0),
            Epoch::seeded(u64::MAX),
            Epoch::seeded(u64::from(LAST) - 1),
            Epoch(LAST).next(),
        ] {
            assert_ne!(epoch.mark(), Mark::REVOKED);
            assert_ne!(epoch.mark(), Mark(0));
            assert_eq!(Epoch::from_mark(epoch.mark()), Some(epoch));
        }
        for special in [Mark::REVOKED, Mark::KEPT, Mark::KEEPING, Mark::UNOPPOSED] {
            assert_eq!(Epoch::from_mark(special), None);
        }
        assert_eq!(Epoch::from_mark(Mark(0)), None);
        assert_eq!(Epoch::seeded(7).mark().to_string(), "0x800/0xffffff00");
        assert_eq!(Mark::new(0x8ff), None);
    }
}
