//! `network`

use std::collections::BTreeMap;

use drawbridge_wire::xmlrpc::Value;

use super::pif::Pif;
use super::vif::Vif;
use super::{Record, conversions, map, names, record, text, texts};
use crate::fields::{Fields, RecordError};
use crate::reference::{Ref, Uuid};

/// A network: on each host a bridge of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// `uuid`
    pub uuid: Uuid<Self>,
    /// `name_label`; not unique.
    pub name_label: String,
    /// `bridge`: its name in dom0.
    pub bridge: String,
    /// `default_locking_mode`
    pub default_locking_mode: DefaultLockingMode,
    /// `other_config`
    pub other_config: BTreeMap<String, String>,
    /// `PIFs`: none for a network within one host.
    pub pifs: Vec<Ref<Pif>>,
    /// `VIFs`
    pub vifs: Vec<Ref<Vif>>,
}

/// `network.default_locking_mode`: what holds for VIFs in [`LockingMode::NetworkDefault`](super::vif::LockingMode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefaultLockingMode {
    /// The guest may send anything.
    Unlocked,
    /// The VIF is not on the bridge.
    Disabled,
}

names!(DefaultLockingMode { Unlocked = "unlocked", Disabled = "disabled" });
conversions!(Network, "network");

impl Record for Network {
    fn decode(value: &Value) -> Result<Self, RecordError> {
        let fields = Fields::of::<Self>(value)?;
        Ok(Self {
            uuid: fields.parsed("uuid", "a uuid")?,
            name_label: fields.string("name_label")?,
            bridge: fields.string("bridge")?,
            default_locking_mode: fields.parsed("default_locking_mode", "unlocked or disabled")?,
            other_config: fields.map("other_config")?,
            pifs: fields.references("PIFs")?,
            vifs: fields.references("VIFs")?,
        })
    }

    fn encode(&self) -> Value {
        record([
            ("uuid", text(&self.uuid)),
            ("name_label", text(&self.name_label)),
            ("bridge", text(&self.bridge)),
            ("default_locking_mode", text(&self.default_locking_mode)),
            ("other_config", map(&self.other_config)),
            ("PIFs", texts(&self.pifs)),
            ("VIFs", texts(&self.vifs)),
        ])
    }
}
