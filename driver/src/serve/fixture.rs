//! Pools for tests about guests that go from host to host.

use std::collections::BTreeMap;

use xenapi::{PowerState, Ref, Uuid, Vm};

use crate::intake::inventory::Inventory;

pub(super) fn reference<C>(name: &str) -> Ref<C> {
    Ref::new(format!("OpaqueRef:{name}"))
}

/// A VM that runs on a host under this domid, in the course of going to `scheduled`.
pub(super) fn pool(host: &str, scheduled: Option<&str>, domid: u32) -> Inventory {
    let vm = Vm {
        uuid: "00000000-0000-0000-0000-000000000001".parse::<Uuid<Vm>>().unwrap(),
        name_label: "web".to_owned(),
        power_state: PowerState::Running,
        resident_on: reference(host),
        scheduled_to_be_resident_on: scheduled.map_or_else(Ref::null, reference),
        domid: Some(domid),
        is_control_domain: false,
        is_a_template: false,
        is_a_snapshot: false,
        vifs: Vec::new(),
        other_config: BTreeMap::new(),
        xenstore_data: BTreeMap::new(),
    };
    Inventory { vms: [(reference("vm"), vm)].into(), ..Inventory::default() }
}
