//! References and uuids that know the class of what they name.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

/// A class of XAPI objects; for the classes whose records we read, the record type itself stands for the class.
pub trait Class {
    /// The class as XAPI's methods spell it: `VM`, `VIF`, `network`.
    const NAME: &'static str;
}

macro_rules! named_only {
    ($($(#[$doc:meta])* $class:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $class {}

        impl Class for $class {
            const NAME: &'static str = $name;
        }
    )*};
}

named_only! {
    /// A bond of PIFs; only ever named, never read.
    Bond = "Bond";
    /// A host's metrics; only ever named, never read.
    HostMetrics = "host_metrics";
    /// An SR-IOV network; only ever named, never read.
    NetworkSriov = "network_sriov";
}

/// A reference to an object of class `C`: an opaque string, valid as long as the object is in XAPI's database.
pub struct Ref<C> {
    opaque: String,
    class: PhantomData<fn() -> C>,
}

impl<C> Ref<C> {
    /// How XAPI writes the reference to nothing.
    const NULL: &'static str = "OpaqueRef:NULL";

    /// The reference XAPI wrote as `opaque`. Nothing is checked: XAPI alone knows what it means.
    #[must_use]
    pub fn new(opaque: impl Into<String>) -> Self {
        Self { opaque: opaque.into(), class: PhantomData }
    }

    /// The reference to nothing: `OpaqueRef:NULL`.
    #[must_use]
    pub fn null() -> Self {
        Self::new(Self::NULL)
    }

    /// Whether this refers to nothing. Old versions write the empty string.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.opaque.is_empty() || self.opaque == Self::NULL
    }

    /// The reference as XAPI writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.opaque
    }

    /// This reference, or nothing if it is null.
    #[must_use]
    pub fn non_null(&self) -> Option<&Self> {
        (!self.is_null()).then_some(self)
    }
}

// Not derived: the derives would ask the same of the class.
impl<C> Clone for Ref<C> {
    fn clone(&self) -> Self {
        Self::new(self.opaque.clone())
    }
}

impl<C> PartialEq for Ref<C> {
    fn eq(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }
}

impl<C> Eq for Ref<C> {}

impl<C> PartialOrd for Ref<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<C> Ord for Ref<C> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.opaque.cmp(&other.opaque)
    }
}

impl<C> Hash for Ref<C> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.opaque.hash(state);
    }
}

impl<C> fmt::Display for Ref<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.opaque)
    }
}

impl<C: Class> fmt::Debug for Ref<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", C::NAME, self.opaque)
    }
}

/// The uuid of an object of class `C`: unlike a [`Ref`], the same after a restore of XAPI's database.
pub struct Uuid<C> {
    uuid: uuid::Uuid,
    class: PhantomData<fn() -> C>,
}

impl<C> Uuid<C> {
    /// Marks `uuid` as that of an object of class `C`.
    #[must_use]
    pub const fn new(uuid: uuid::Uuid) -> Self {
        Self { uuid, class: PhantomData }
    }

    /// The bare uuid.
    #[must_use]
    pub const fn as_uuid(&self) -> uuid::Uuid {
        self.uuid
    }
}

impl<C> Clone for Uuid<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Uuid<C> {}

impl<C> PartialEq for Uuid<C> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}

impl<C> Eq for Uuid<C> {}

impl<C> PartialOrd for Uuid<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<C> Ord for Uuid<C> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}

impl<C> Hash for Uuid<C> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

/// Lower case with hyphens, as XAPI writes it.
impl<C> fmt::Display for Uuid<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.as_hyphenated().fmt(f)
    }
}

impl<C: Class> fmt::Debug for Uuid<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", C::NAME, self.uuid.as_hyphenated())
    }
}

/// Takes the hyphenated form only: XAPI writes no other.
impl<C> FromStr for Uuid<C> {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<uuid::fmt::Hyphenated>().map(|hyphenated| Self::new(hyphenated.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, Vm};

    #[test]
    fn null_is_told_from_a_reference() {
        for (opaque, null) in [("OpaqueRef:NULL", true), ("", true), ("OpaqueRef:1", false), ("NULL", false)]
        {
            let reference = Ref::<Vm>::new(opaque);
            assert_eq!(reference.is_null(), null, "{opaque:?}");
            assert_eq!(reference.non_null().is_none(), null, "{opaque:?}");
            assert_eq!(reference.as_str(), opaque);
        }
        assert!(Ref::<Vm>::null().is_null());
    }

    #[test]
    fn references_are_ordered_as_their_text_and_show_their_class() {
        let (a, b) = (Ref::<Vm>::new("OpaqueRef:a"), Ref::<Vm>::new("OpaqueRef:b"));
        assert!(a < b && a == a.clone());
        assert_eq!(format!("{a} {a:?}"), "OpaqueRef:a VM OpaqueRef:a");
    }

    #[test]
    fn uuids_accept_and_reject() {
        let text = "5ad4f3a0-72e0-4b1c-9ac0-5a3c9c1d0e11";
        for (given, accepted) in [
            (text, true),
            ("5AD4F3A0-72E0-4B1C-9AC0-5A3C9C1D0E11", true),
            ("5ad4f3a072e04b1c9ac05a3c9c1d0e11", false),
            ("{5ad4f3a0-72e0-4b1c-9ac0-5a3c9c1d0e11}", false),
            ("5ad4f3a0-72e0-4b1c-9ac0-5a3c9c1d0e1", false),
            ("", false),
        ] {
            let parsed = given.parse::<Uuid<Host>>();
            assert_eq!(parsed.is_ok(), accepted, "{given:?}");
            if let Ok(uuid) = parsed {
                assert_eq!(uuid.to_string(), text);
            }
        }
    }
}
