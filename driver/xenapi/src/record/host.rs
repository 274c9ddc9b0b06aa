//! `host`

use std::collections::BTreeMap;

use drawbridge_wire::xmlrpc::Value;

use super::{Record, conversions, map, names, record, text};
use crate::fields::{Fields, Problem, RecordError, unexpected};
use crate::reference::{Class, HostMetrics, Ref, Uuid};

/// A host of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `uuid`; in dom0 it is `INSTALLATION_UUID` of `/etc/xensource-inventory`.
    pub uuid: Uuid<Self>,
    /// `name_label`; not unique.
    pub name_label: String,
    /// `hostname`
    pub hostname: String,
    /// `address`: of its management interface.
    pub address: String,
    /// `enabled`: whether VMs may be started on it. Not whether it can be reached.
    pub enabled: bool,
    /// `software_version`
    pub software_version: BTreeMap<String, String>,
    /// `metrics`: holds whether the host is alive.
    pub metrics: Ref<HostMetrics>,
    /// `other_config`; XAPI keeps `boot_time` and `agent_start_time` in it.
    pub other_config: BTreeMap<String, String>,
}

/// What connects the guests of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// The Linux bridge.
    Bridge,
    /// Open vSwitch.
    OpenVSwitch,
}

names!(Backend { Bridge = "bridge", OpenVSwitch = "openvswitch" });
conversions!(Host, "host");

impl Host {
    /// `software_version:network_backend`.
    ///
    /// # Errors
    /// [`RecordError`] if the host does not say, or names something else than the two.
    pub fn backend(&self) -> Result<Backend, RecordError> {
        let problem = match self.software_version.get("network_backend") {
            None => Problem::Missing,
            Some(name) => match name.parse() {
                Ok(backend) => return Ok(backend),
                Err(()) => unexpected("bridge or openvswitch", format!("{name:?}")),
            },
        };
        let field = Some("software_version:network_backend");
        Err(RecordError { class: Self::NAME, reference: Some(self.uuid.to_string()), field, problem })
    }

    /// Which start of dom0 and of its toolstack this is (`boot_time` and `agent_start_time`, which XAPI writes into
    /// `other_config` when it starts). Means nothing but by comparison.
    #[must_use]
    pub fn incarnation(&self) -> String {
        let of = |key| self.other_config.get(key).map_or("", String::as_str);
        format!("{} {}", of("boot_time"), of("agent_start_time"))
    }
}

impl Record for Host {
    fn decode(value: &Value) -> Result<Self, RecordError> {
        let fields = Fields::of::<Self>(value)?;
        Ok(Self {
            uuid: fields.parsed("uuid", "a uuid")?,
            name_label: fields.string("name_label")?,
            hostname: fields.string("hostname")?,
            address: fields.string("address")?,
            enabled: fields.bool("enabled")?,
            software_version: fields.map("software_version")?,
            metrics: fields.reference("metrics")?,
            other_config: fields.map("other_config")?,
        })
    }

    fn encode(&self) -> Value {
        record([
            ("uuid", text(&self.uuid)),
            ("name_label", text(&self.name_label)),
            ("hostname", text(&self.hostname)),
            ("address", text(&self.address)),
            ("enabled", self.enabled.into()),
            ("software_version", map(&self.software_version)),
            ("metrics", text(&self.metrics)),
            ("other_config", map(&self.other_config)),
        ])
    }
}
