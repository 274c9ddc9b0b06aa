//! Input that does not fit into one call travels in parts.
//!
//! Each part is a signed call of its own with the same function, `args`, `family`, `stdin_encoding`, `generation` and
//! `accept`; its `stdin` is the next stretch of the encoded input. Parts are sent in order. A part that is not the last
//! is answered with `exit_code` 0 and no output; the last one runs the program and its answer is the program's.

use std::fmt;

use crate::hex;

/// 16 random bytes that name an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadId(pub(crate) [u8; 16]);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// Which part of which upload a call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The upload.
    pub upload: UploadId,
    /// This part, from 1.
    pub part: u32,
    /// How many there are, at least 2.
    pub parts: u32,
    /// SHA-256 of all parts' `stdin` joined, still encoded.
    pub sha256: [u8; 32],
}

impl Part {
    /// Whether the program runs with this part.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.part == self.parts
    }
}
