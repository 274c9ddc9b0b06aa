//! What the pool's record says of who writes.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// What the pool's record says: `<turn> <instance> <store> <generation>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Claim {
    /// Higher than that of the driver before: the highest has the pool.
    pub turn: u64,
    /// The driver, told from any other.
    pub instance: String,
    /// Id of its store.
    pub store: String,
    /// Generation of the store that it last wrote from.
    pub generation: u64,
}

impl Claim {
    /// Which of two drivers came later. Two that come at the same moment may have the same turn.
    pub(super) fn in_order(&self, other: &Self) -> Ordering {
        (self.turn, &self.instance).cmp(&(other.turn, &other.instance))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turn, instance, store, generation } = self;
        write!(f, "{turn} {instance} {store} {generation}")
    }
}

/// Text that is no claim.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not \"<turn> <instance> <store> <generation>\"")]
pub(in crate::serve) struct InvalidClaim(String);

impl FromStr for Claim {
    type Err = InvalidClaim;

    fn from_str(text: &str) -> Result<Self, InvalidClaim> {
        let invalid = || InvalidClaim(text.to_owned());
        let words: Vec<&str> = text.split(' ').collect();
        let ([turn, instance, store, generation], false) = (&words[..], words.contains(&"")) else {
            return Err(invalid());
        };
        Ok(Self {
            turn: turn.parse().map_err(|_| invalid())?,
            instance: (*instance).to_owned(),
            store: (*store).to_owned(),
            generation: generation.parse().map_err(|_| invalid())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_claims_read_back() {
        let own = Claim { turn: u64::MAX, instance: "me".to_owned(), store: "s".to_owned(), generation: 7 };
        assert_eq!(own.to_string().parse::<Claim>().ok(), Some(own));
        for text in ["", "1 me s", "x me s 7", "1 me s 7 8", "1 me s -7", "1  s 7"] {
            assert!(text.parse::<Claim>().is_err(), "{text:?}");
        }
    }
}
