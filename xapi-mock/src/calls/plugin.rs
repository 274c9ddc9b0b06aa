//! `host.call_plugin` and `VM.call_host_plugin`

use drawbridge_wire::xmlrpc::Value;

use super::vm::{Operation, check};
use super::{Call, Methods};
use crate::config::Role;
use crate::error::{ApiError, Reply};
use crate::faults::PluginFault;
use crate::plugin::{failure, method_call, outcome};
use crate::schema::Class;

pub(super) fn register(methods: &mut Methods) {
    methods.add_async("host.call_plugin", 4, Role::PoolAdmin, |call| on_host(call, call.text(0)?));
    // Any vm-operator may run any plugin: so it is since xapi 25.22.
    methods.add_async("VM.call_host_plugin", 4, Role::VmOperator, |call| {
        let vm = call.text(0)?;
        let host = {
            let db = call.pool.db();
            check(&db, vm, Operation::CallPlugin)?;
            db.get(Class::Vm, vm)?.text("resident_on").to_owned()
        };
        on_host(call, &host)
    });
}

/// `(…, plugin, fn, args)`, run on this host.
fn on_host(call: &Call, host: &str) -> Reply {
    let (plugin, function, args) = (call.text(1)?, call.text(2)?, call.map(3)?);
    let pool = &call.pool;
    let name = pool.reach(host)?;
    // An unreadable directory holds no plugin, says xapi.
    let known = pool.data_plane.plugins(&name).unwrap_or_default();
    if !known.iter().any(|known| known == plugin) {
        return Err(ApiError::new("XENAPI_MISSING_PLUGIN", [plugin]));
    }
    let session = pool.plugin_session(host, &call.session);
    let text = method_call(&session.reference, function, args)?;
    match pool.faults.take_plugin(&name) {
        Some(PluginFault::Hang) => pool.faults.hang(),
        Some(PluginFault::Die) => {}
        None => {
            let run = pool.data_plane.run_plugin(&name, plugin, &text)?;
            // Without the host its answer does not get here either.
            pool.reach(host).map_err(|_| ApiError::new("CANNOT_CONTACT_HOST", [host]))?;
            return outcome(&run);
        }
    }
    Err::<Value, _>(failure("signal: SIGKILL", "", ""))
}
