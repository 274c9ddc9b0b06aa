//! `host.*`: what is not a plain getter or setter.

use std::sync::Arc;
use std::thread;

use drawbridge_wire::xmlrpc::Value;

use super::{Call, Methods};
use crate::config::Role;
use crate::error::{ApiError, Reply};
use crate::incidents::{self, Incident};
use crate::schema::Class;

pub(super) fn register(methods: &mut Methods) {
    // No VM starts on a disabled host. Those that run there go on.
    methods.add_async("host.disable", 1, Role::PoolOperator, |call| set_enabled(call, false));
    methods.add_async("host.enable", 1, Role::PoolOperator, |call| set_enabled(call, true));
    methods.add_async("host.reboot", 1, Role::PoolOperator, reboot);
}

fn set_enabled(call: &Call, enabled: bool) -> Reply {
    let host = call.text(0)?;
    call.pool.reach(host)?;
    call.pool.db().update(Class::Host, host, |host| host.set("enabled", enabled));
    Ok(Value::from(""))
}

/// Of a host that is disabled and has no VMs; it goes down when this has returned, and stays disabled.
fn reboot(call: &Call) -> Reply {
    let host = call.text(0)?;
    let name = call.pool.reach(host)?;
    {
        let db = call.pool.db();
        if db.get(Class::Host, host)?.flag("enabled") {
            return Err(ApiError::new::<&str>("HOST_NOT_DISABLED", []));
        }
        let runs = |vm: &&str| db.get(Class::Vm, vm).is_ok_and(|vm| !vm.flag("is_control_domain"));
        if let Some(vm) = db.find(Class::Vm, "resident_on", host).find(runs) {
            return Err(ApiError::new("HOST_IN_USE", [host, "VM", vm]));
        }
    }
    let pool = Arc::clone(&call.pool);
    thread::spawn(move || {
        if let Err(error) = incidents::happen(&pool, &Incident::RebootHost { host: name }) {
            tracing::error!(%error, "a host does not reboot");
        }
    });
    Ok(Value::from(""))
}
