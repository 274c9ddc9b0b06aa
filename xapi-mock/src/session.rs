//! Sessions: who is logged in, as what, and who is thrown out.

use std::collections::HashMap;

use uuid::Uuid;

use crate::config::{Role, UserConfig};
use crate::error::ApiError;

/// XAPI evicts the oldest session of an originator beyond this (db_gc_util.ml).
const PER_ORIGINATOR: usize = 500;

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) role: Role,
    /// Made by the master for a call it forwards: the only kind a slave accepts.
    pub(crate) pool: bool,
    originator: String,
    serial: u64,
}

/// All live sessions, by reference.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: HashMap<String, Session>,
    serial: u64,
}

impl Sessions {
    /// Opens a session; the oldest of the same originator gives way when there are too many.
    pub(crate) fn open(&mut self, role: Role, pool: bool, originator: &str) -> String {
        self.serial += 1;
        let same = || self.live.iter().filter(|(_, session)| session.originator == originator);
        if same().count() >= PER_ORIGINATOR
            && let Some(oldest) = same().min_by_key(|(_, session)| session.serial).map(|(key, _)| key.clone())
        {
            self.live.remove(&oldest);
        }
        let reference = format!("OpaqueRef:{}", Uuid::new_v4());
        let session = Session { role, pool, originator: originator.to_owned(), serial: self.serial };
        self.live.insert(reference.clone(), session);
        reference
    }

    pub(crate) fn get(&self, reference: &str) -> Result<&Session, ApiError> {
        self.live.get(reference).ok_or_else(|| ApiError::new("SESSION_INVALID", [reference]))
    }

    pub(crate) fn close(&mut self, reference: &str) {
        self.live.remove(reference);
    }

    /// What a restart of xapi does.
    pub(crate) fn clear(&mut self) {
        self.live.clear();
    }
}

/// The role of a user who gives this password.
pub(crate) fn authenticate(users: &[UserConfig], name: &str, password: &str) -> Result<Role, ApiError> {
    users
        .iter()
        .find(|user| user.name == name && user.password == password)
        .map(|user| user.role)
        .ok_or_else(|| ApiError::new("SESSION_AUTHENTICATION_FAILED", [name, "Authentication failure"]))
}
