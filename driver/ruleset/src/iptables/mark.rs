//! The connection mark: in which epoch a connection was last judged. The packet mark: what was found out about a packet.

use std::fmt;

/// The bits of the connection mark that are ours. The low byte is left to others.
pub const MARK_MASK: u32 = 0xffff_ff00;

/// An epoch, 1 to 2²⁴ − 3. Zero is a connection that was never judged; the two highest numbers have a meaning of their
/// own, see [`Mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

const LAST: u32 = (MARK_MASK >> 8) - 2;

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

/// The bits of a packet's own mark that are ours.
pub const PACKET_MASK: u32 = 0x7000_0000;

/// A value of the packet's mark under some of our bits.
///
/// It belongs to one copy of one packet, and every packet that the rules are asked about starts with none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketMark {
    value: u32,
    mask: u32,
}

impl PacketMark {
    /// All of our bits cleared.
    pub const CLEAR: Self = Self { value: 0, mask: PACKET_MASK };
    /// The sender's side has not let it pass.
    pub const UNJUDGED: Self = Self::sender(0);
    /// The sender's side lets it pass.
    pub const PASSED: Self = Self::sender(1);
    /// So it does, by a group that keeps connections.
    pub const KEEPING: Self = Self::sender(2);
    /// The sender is not filtered: whether a connection is kept is up to the receiver's group.
    pub const UNOPPOSED: Self = Self::sender(3);
    /// It is for the address of a port, and goes out to somebody else as far as is known.
    pub const STRAY: Self = Self { value: 0x4000_0000, mask: 0x4000_0000 };
    /// It goes where it is meant to.
    pub const MEANT: Self = Self { value: 0, mask: 0x4000_0000 };

    const fn sender(number: u32) -> Self {
        Self { value: number << 28, mask: 0x3000_0000 }
    }

    /// A mark from its numbers; `None` if it has bits that are not ours.
    #[must_use]
    pub fn new(value: u32, mask: u32) -> Option<Self> {
        (mask != 0 && mask & !PACKET_MASK == 0 && value & !mask == 0).then_some(Self { value, mask })
    }

    /// Whether a packet marked `packet` has it.
    #[must_use]
    pub fn is_on(self, packet: u32) -> bool {
        packet & self.mask == self.value
    }

    /// `packet` with it.
    #[must_use]
    pub fn put_on(self, packet: u32) -> u32 {
        (packet & !self.mask) | self.value
    }
}

impl fmt::Display for PacketMark {
    /// As iptables-save prints a mark with its mask.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
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
        for special in [Mark::REVOKED, Mark::KEPT] {
            assert_eq!(Epoch::from_mark(special), None);
        }
        assert_eq!(Epoch::from_mark(Mark(0)), None);
        assert_eq!(Epoch::seeded(7).mark().to_string(), "0x800/0xffffff00");
        assert_eq!(Mark::new(0x8ff), None);
    }
}
