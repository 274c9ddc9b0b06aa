//! `VM`

use std::collections::BTreeMap;

use drawbridge_wire::xmlrpc::Value;

use super::host::Host;
use super::vif::Vif;
use super::{Record, conversions, map, names, record, text, texts};
use crate::fields::{Fields, RecordError};
use crate::reference::{Ref, Uuid};

/// A virtual machine; also a template, a snapshot, or a host's dom0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// `uuid`
    pub uuid: Uuid<Self>,
    /// `name_label`; not unique.
    pub name_label: String,
    /// `power_state`
    pub power_state: PowerState,
    /// `resident_on`: the host it runs on; null if it does not run. Flips at the end of a migration.
    pub resident_on: Ref<Host>,
    /// `scheduled_to_be_resident_on`: the host it is about to run on, while it starts, resumes or migrates; else null.
    pub scheduled_to_be_resident_on: Ref<Host>,
    /// `domid`: the domain's number on that host. New after each start, reboot, resume and migration.
    /// XAPI writes -1 if there is no domain.
    pub domid: Option<u32>,
    /// `is_control_domain`: a host's dom0.
    pub is_control_domain: bool,
    /// `is_a_template`
    pub is_a_template: bool,
    /// `is_a_snapshot`
    pub is_a_snapshot: bool,
    /// `VIFs`
    pub vifs: Vec<Ref<Vif>>,
    /// `other_config`
    pub other_config: BTreeMap<String, String>,
    /// `xenstore_data`
    pub xenstore_data: BTreeMap<String, String>,
}

/// `VM.power_state`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PowerState {
    /// No domain.
    Halted,
    /// A domain that does not run: its VIFs exist, no packet is sent.
    Paused,
    /// A domain that runs.
    Running,
    /// No domain; its memory is on disk.
    Suspended,
}

names!(PowerState { Halted = "Halted", Paused = "Paused", Running = "Running", Suspended = "Suspended" });
conversions!(Vm, "VM");

impl Vm {
    /// A machine of a tenant: no template, no snapshot, no dom0. The VIFs of the others never carry a guest's
    /// packets, and a snapshot's have the same MAC addresses as the original's.
    #[must_use]
    pub const fn is_guest(&self) -> bool {
        !self.is_control_domain && !self.is_a_template && !self.is_a_snapshot
    }
}

impl Record for Vm {
    fn decode(value: &Value) -> Result<Self, RecordError> {
        let fields = Fields::of::<Self>(value)?;
        Ok(Self {
            uuid: fields.parsed("uuid", "a uuid")?,
            name_label: fields.string("name_label")?,
            power_state: fields.parsed("power_state", "Halted, Paused, Running or Suspended")?,
            resident_on: fields.reference("resident_on")?,
            scheduled_to_be_resident_on: fields.reference("scheduled_to_be_resident_on")?,
            domid: fields.int::<Domid>("domid", "a domain id or -1")?.0,
            is_control_domain: fields.bool("is_control_domain")?,
            is_a_template: fields.bool("is_a_template")?,
            is_a_snapshot: fields.bool("is_a_snapshot")?,
            vifs: fields.references("VIFs")?,
            other_config: fields.map("other_config")?,
            xenstore_data: fields.map("xenstore_data")?,
        })
    }

    fn encode(&self) -> Value {
        record([
            ("uuid", text(&self.uuid)),
            ("name_label", text(&self.name_label)),
            ("power_state", text(&self.power_state)),
            ("resident_on", text(&self.resident_on)),
            ("scheduled_to_be_resident_on", text(&self.scheduled_to_be_resident_on)),
            ("domid", self.domid.map_or_else(|| text(&-1), |number| text(&number))),
            ("is_control_domain", self.is_control_domain.into()),
            ("is_a_template", self.is_a_template.into()),
            ("is_a_snapshot", self.is_a_snapshot.into()),
            ("VIFs", texts(&self.vifs)),
            ("other_config", map(&self.other_config)),
            ("xenstore_data", map(&self.xenstore_data)),
        ])
    }
}

/// `VM.domid` with XAPI's -1 told apart.
struct Domid(Option<u32>);

impl TryFrom<i64> for Domid {
    type Error = std::num::TryFromIntError;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        if number == -1 { Ok(Self(None)) } else { u32::try_from(number).map(|domid| Self(Some(domid))) }
    }
}
