//! `session.*`

use drawbridge_wire::xmlrpc::Value;

use super::{Call, Methods};
use crate::config::Role;
use crate::error::Reply;
use crate::session::authenticate;

pub(super) fn register(methods: &mut Methods) {
    methods.add_open("session.login_with_password", 2, 2, login);
    methods.add("session.logout".to_owned(), 0, Role::ReadOnly, |call| {
        call.pool.sessions().close(&call.session);
        Ok(Value::from(""))
    });
}

/// `(uname, pwd, version?, originator?)`; the version is not looked at, by XAPI neither.
fn login(call: &Call) -> Reply {
    let (name, password) = (call.text(0)?, call.text(1)?);
    let originator = call.text(3).unwrap_or_default();
    let role = authenticate(&call.pool.users, name, password)
        .inspect_err(|_| std::thread::sleep(call.pool.wrong_password_delay))?;
    Ok(Value::from(call.pool.sessions().open(role, false, originator)))
}
