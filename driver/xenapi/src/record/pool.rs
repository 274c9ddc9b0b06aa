//! `pool`

use std::collections::BTreeMap;

use drawbridge_wire::xmlrpc::Value;

use super::host::Host;
use super::{Record, conversions, map, record, text};
use crate::fields::{Fields, RecordError};
use crate::reference::{Ref, Uuid};

/// The pool; there is exactly one, also for a single host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// `uuid`
    pub uuid: Uuid<Self>,
    /// `master`: the host whose XAPI answers.
    pub master: Ref<Host>,
    /// `other_config`
    pub other_config: BTreeMap<String, String>,
}

conversions!(Pool, "pool");

impl Record for Pool {
    fn decode(value: &Value) -> Result<Self, RecordError> {
        let fields = Fields::of::<Self>(value)?;
        Ok(Self {
            uuid: fields.parsed("uuid", "a uuid")?,
            master: fields.reference("master")?,
            other_config: fields.map("other_config")?,
        })
    }

    fn encode(&self) -> Value {
        record([
            ("uuid", text(&self.uuid)),
            ("master", text(&self.master)),
            ("other_config", map(&self.other_config)),
        ])
    }
}
