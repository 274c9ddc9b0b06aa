//! The classes and fields the mock keeps, as named in XAPI's data model. From this table come the records' defaults,
//! the getters, the setters and their roles.

use drawbridge_wire::xmlrpc::Value;

use crate::config::Role;

/// XAPI's null reference.
pub(crate) const NULL_REF: &str = "OpaqueRef:NULL";

/// A class of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    Host,
    HostMetrics,
    Network,
    Pif,
    Pool,
    Task,
    Vif,
    Vm,
}

/// A field's type, as far as the wire shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// XAPI's int64: text in XML, a number in JSON.
    Int,
    Bool,
    Float,
    Date,
    Ref,
    Set,
    Map,
}

impl Kind {
    pub(crate) fn default(self) -> Value {
        match self {
            Self::Text => Value::from(""),
            Self::Int => Value::Int(0),
            Self::Bool => Value::Bool(false),
            Self::Float => Value::Double(0.0),
            Self::Date => Value::DateTime("19700101T00:00:00Z".to_owned()),
            Self::Ref => Value::from(NULL_REF),
            Self::Set => Value::Array(Vec::new()),
            Self::Map => Value::Struct(Vec::new()),
        }
    }
}

/// A field and who may write it (`None`: nobody, or only by a call of its own).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) writer: Option<Role>,
}

const fn ro(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, writer: None }
}

const fn rw(name: &'static str, kind: Kind, writer: Role) -> Field {
    Field { name, kind, writer: Some(writer) }
}

impl Class {
    pub(crate) const ALL: [Self; 8] = [
        Self::Host,
        Self::HostMetrics,
        Self::Network,
        Self::Pif,
        Self::Pool,
        Self::Task,
        Self::Vif,
        Self::Vm,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::HostMetrics => "host_metrics",
            Self::Network => "network",
            Self::Pif => "PIF",
            Self::Pool => "pool",
            Self::Task => "task",
            Self::Vif => "VIF",
            Self::Vm => "VM",
        }
    }

    pub(crate) const fn fields(self) -> &'static [Field] {
        use Kind::{Bool, Date, Float, Int, Map, Ref, Set, Text};
        use Role::{PoolOperator, VmAdmin};
        match self {
            Self::Host => {
                const {
                    &[
                        ro("uuid", Text),
                        rw("name_label", Text, PoolOperator),
                        rw("name_description", Text, PoolOperator),
                        ro("API_version_major", Int),
                        ro("API_version_minor", Int),
                        ro("address", Text),
                        ro("hostname", Text),
                        ro("enabled", Bool),
                        ro("metrics", Ref),
                        ro("software_version", Map),
                        ro("resident_VMs", Set),
                        ro("control_domain", Ref),
                        ro("PIFs", Set),
                        rw("other_config", Map, PoolOperator),
                    ]
                }
            }
            Self::HostMetrics => const { &[ro("uuid", Text), ro("live", Bool), ro("last_updated", Date)] },
            Self::Network => {
                const {
                    &[
                        ro("uuid", Text),
                        rw("name_label", Text, PoolOperator),
                        rw("name_description", Text, PoolOperator),
                        ro("bridge", Text),
                        ro("managed", Bool),
                        ro("MTU", Int),
                        ro("default_locking_mode", Text),
                        ro("PIFs", Set),
                        ro("VIFs", Set),
                        rw("tags", Set, VmAdmin),
                        rw("other_config", Map, PoolOperator),
                    ]
                }
            }
            Self::Pif => {
                const {
                    &[
                        ro("uuid", Text),
                        ro("device", Text),
                        ro("MAC", Text),
                        ro("MTU", Int),
                        ro("VLAN", Int),
                        ro("network", Ref),
                        ro("host", Ref),
                        ro("IP", Text),
                        ro("management", Bool),
                        ro("physical", Bool),
                        ro("currently_attached", Bool),
                        ro("bond_slave_of", Ref),
                        ro("sriov_logical_PIF_of", Set),
                        ro("sriov_physical_PIF_of", Set),
                        rw("other_config", Map, PoolOperator),
                    ]
                }
            }
            Self::Pool => {
                const {
                    &[
                        ro("uuid", Text),
                        rw("name_label", Text, PoolOperator),
                        rw("name_description", Text, PoolOperator),
                        ro("master", Ref),
                        rw("other_config", Map, PoolOperator),
                    ]
                }
            }
            Self::Task => {
                const {
                    &[
                        ro("uuid", Text),
                        ro("name_label", Text),
                        ro("name_description", Text),
                        ro("status", Text),
                        ro("progress", Float),
                        ro("type", Text),
                        ro("result", Text),
                        ro("error_info", Set),
                        ro("resident_on", Ref),
                        ro("created", Date),
                        ro("finished", Date),
                    ]
                }
            }
            Self::Vif => {
                const {
                    &[
                        ro("uuid", Text),
                        ro("device", Text),
                        ro("network", Ref),
                        ro("VM", Ref),
                        ro("MAC", Text),
                        ro("MAC_autogenerated", Bool),
                        ro("MTU", Int),
                        ro("currently_attached", Bool),
                        ro("locking_mode", Text),
                        ro("ipv4_allowed", Set),
                        ro("ipv6_allowed", Set),
                        rw("other_config", Map, VmAdmin),
                    ]
                }
            }
            Self::Vm => {
                const {
                    &[
                        ro("uuid", Text),
                        rw("name_label", Text, VmAdmin),
                        rw("name_description", Text, VmAdmin),
                        ro("power_state", Text),
                        ro("resident_on", Ref),
                        ro("scheduled_to_be_resident_on", Ref),
                        rw("affinity", Ref, Role::VmPowerAdmin),
                        ro("domid", Int),
                        ro("is_control_domain", Bool),
                        ro("is_a_template", Bool),
                        ro("is_default_template", Bool),
                        ro("is_a_snapshot", Bool),
                        ro("snapshot_of", Ref),
                        ro("snapshots", Set),
                        ro("VIFs", Set),
                        rw("actions_after_crash", Text, VmAdmin),
                        rw("tags", Set, VmAdmin),
                        rw("xenstore_data", Map, VmAdmin),
                        rw("other_config", Map, VmAdmin),
                    ]
                }
            }
        }
    }

    pub(crate) fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name)
    }
}
