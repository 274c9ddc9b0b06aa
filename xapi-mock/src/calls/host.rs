//! `host.*`: what is not a plain getter or setter.

use drawbridge_wire::xmlrpc::Value;

use super::{Call, Methods};
use crate::config::Role;
use crate::error::Reply;
use crate::schema::Class;

pub(super) fn register(methods: &mut Methods) {
    // No VM starts on a disabled host. Those that run there go on.
    methods.add_async("host.disable", 1, Role::PoolOperator, |call| set_enabled(call, false));
    methods.add_async("host.enable", 1, Role::PoolOperator, |call| set_enabled(call, true));
}

fn set_enabled(call: &Call, enabled: bool) -> Reply {
    let host = call.text(0)?;
    call.pool.reach(host)?;
    call.pool.db().update(Class::Host, host, |host| host.set("enabled", enabled));
    Ok(Value::from(""))
}
