//! Who calls. The listener says so; a request without it is a fault.

use store::By;

/// Who calls, and from where; for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `uid 0`, `token`.
    pub actor: String,
    /// `unix`, or an address and port.
    pub origin: String,
}

impl From<Caller> for By {
    fn from(Caller { actor, origin }: Caller) -> Self {
        Self { actor, origin }
    }
}
