//! Ids of what `ruleset` does not know, and new ids.

use std::fmt;
use std::str::FromStr;

use ruleset::ids::{GroupId, InvalidId};
use serde::{Deserialize, Serialize};

/// Ids of groups that the driver makes itself begin so; nobody else may use them.
pub const RESERVED_PREFIX: &str = "drawbridge:";

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // One rule for every id.
                text.parse::<GroupId>().map(|id| Self(id.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A project's (tenant's) id: 1 to 64 letters, digits and `- _ . :`, as every id.
    ProjectId
}
id! {
    /// A port's id. Neutron's port uuid, or one made here; not the VIF's uuid.
    PortId
}

/// A new id: a random uuid, which every id type accepts.
///
/// # Panics
/// Never: a uuid is a valid id.
#[must_use]
pub fn new_id<T: TryFrom<String, Error = InvalidId>>() -> T {
    match T::try_from(uuid::Uuid::new_v4().to_string()) {
        Ok(id) => id,
        Err(error) => unreachable!("a uuid is a valid id: {error}"),
    }
}
