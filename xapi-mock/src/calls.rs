//! XAPI's calls: the table of all methods, and what every call passes before it is carried out.

mod event;
mod host;
mod plugin;
mod record;
mod session;
mod task;
mod vif;
mod vm;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use drawbridge_wire::xmlrpc::{MethodCall, Value};

use crate::config::Role;
use crate::error::{ApiError, Reply};
use crate::pool::Pool;
use crate::schema::Class;

/// A call as its method sees it: whoever makes it is known and may make it.
pub(crate) struct Call {
    pub(crate) pool: Arc<Pool>,
    /// The caller's session; empty for the calls that need none.
    pub(crate) session: String,
    /// Whether the caller has gone away, so that nobody waits for the answer any more.
    pub(crate) gone: Arc<AtomicBool>,
    args: Vec<Value>,
}

impl Call {
    fn arg(&self, index: usize) -> &Value {
        self.args.get(index).unwrap_or(&Value::Nil)
    }

    /// A string or reference.
    fn text(&self, index: usize) -> Result<&str, ApiError> {
        self.arg(index).as_str().ok_or_else(|| type_error("string", self.arg(index)))
    }

    fn flag(&self, index: usize) -> Result<bool, ApiError> {
        match self.arg(index) {
            Value::Bool(value) => Ok(*value),
            other => Err(type_error("bool", other)),
        }
    }

    /// A float; as in XAPI a whole number will do, and text that says one.
    fn seconds(&self, index: usize) -> Result<f64, ApiError> {
        let number = match self.arg(index) {
            Value::Double(seconds) => Some(*seconds),
            Value::Int(seconds) => seconds.to_string().parse().ok(),
            Value::String(seconds) => seconds.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| type_error("float", self.arg(index)))
    }

    /// A set of strings.
    fn texts(&self, index: usize) -> Result<Vec<String>, ApiError> {
        let Value::Array(items) = self.arg(index) else { return Err(type_error("array", self.arg(index))) };
        let text = |item: &Value| item.as_str().map(str::to_owned).ok_or_else(|| type_error("string", item));
        items.iter().map(text).collect()
    }

    /// A map from strings to strings, in the caller's order.
    fn map(&self, index: usize) -> Result<Vec<(String, String)>, ApiError> {
        let Value::Struct(members) = self.arg(index) else {
            return Err(type_error("struct", self.arg(index)));
        };
        let entry = |(key, value): &(String, Value)| match value.as_str() {
            Some(text) => Ok((key.clone(), text.to_owned())),
            None => Err(type_error("string", value)),
        };
        members.iter().map(entry).collect()
    }
}

/// What ocaml-rpc's unmarshaller raises and nobody catches.
fn type_error(expected: &str, got: &Value) -> ApiError {
    let kind = match got {
        Value::Nil => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Double(_) => "float",
        Value::String(_) => "string",
        Value::DateTime(_) => "datetime",
        Value::Base64(_) => "base64",
        Value::Array(_) => "array",
        Value::Struct(_) => "struct",
    };
    ApiError::internal(format!("Failure(\"Expected {expected}, got {kind}\")"))
}

type Run = Box<dyn Fn(&Call) -> Reply + Send + Sync>;

struct Method {
    /// Parameters without the session, and how many more may follow.
    params: usize,
    optional: usize,
    role: Role,
    session: bool,
    asynchronous: bool,
    run: Run,
}

/// The table under construction.
struct Methods(BTreeMap<String, Method>);

impl Methods {
    /// A call that reads or writes records.
    fn add(
        &mut self,
        name: String,
        params: usize,
        role: Role,
        run: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) {
        let run = Box::new(run);
        self.0.insert(name, Method { params, optional: 0, role, session: true, asynchronous: false, run });
    }

    /// A call that takes time, so that it exists as `Async.…`, too.
    fn add_async(&mut self, name: &str, params: usize, role: Role, run: fn(&Call) -> Reply) {
        let run = Box::new(run);
        let method = Method { params, optional: 0, role, session: true, asynchronous: true, run };
        self.0.insert(name.to_owned(), method);
    }

    /// A call without session.
    fn add_open(&mut self, name: &str, params: usize, optional: usize, run: fn(&Call) -> Reply) {
        let run = Box::new(run);
        let method =
            Method { params, optional, role: Role::ReadOnly, session: false, asynchronous: false, run };
        self.0.insert(name.to_owned(), method);
    }
}

static METHODS: LazyLock<BTreeMap<String, Method>> = LazyLock::new(|| {
    let mut methods = Methods(BTreeMap::new());
    for class in Class::ALL {
        record::register(&mut methods, class);
    }
    session::register(&mut methods);
    host::register(&mut methods);
    vm::register(&mut methods);
    vif::register(&mut methods);
    plugin::register(&mut methods);
    task::register(&mut methods);
    event::register(&mut methods);
    methods.0
});

/// What goes back to the client.
pub(crate) enum Answer {
    /// In XAPI's envelope.
    Reply(Reply),
    /// As it is: `system.listMethods` alone answers so.
    Bare(Value),
}

/// Carries out a call that arrived at `host`'s address. `gone` may become true meanwhile: see [`Call::gone`].
pub(crate) fn dispatch(pool: &Arc<Pool>, host: &str, call: MethodCall, gone: &Arc<AtomicBool>) -> Answer {
    pool.note_liveness();
    if call.name == "system.listMethods" {
        return Answer::Bare(method_names().collect());
    }
    Answer::Reply(dispatch_method(pool, host, call, gone))
}

fn method_names() -> impl Iterator<Item = String> {
    METHODS.iter().flat_map(|(name, method)| {
        let twin = method.asynchronous.then(|| format!("Async.{name}"));
        std::iter::once(name.clone()).chain(twin)
    })
}

fn dispatch_method(
    pool: &Arc<Pool>,
    host: &str,
    MethodCall { name, params }: MethodCall,
    gone: &Arc<AtomicBool>,
) -> Reply {
    let plain = name.strip_prefix("Async.");
    let method = METHODS.get(plain.unwrap_or(&name)).filter(|method| plain.is_none() || method.asynchronous);
    let Some(method) = method else {
        check_session(pool, host, params.first().and_then(Value::as_str).unwrap_or_default())?;
        return Err(ApiError::new("MESSAGE_METHOD_UNKNOWN", [name]));
    };
    let session_params = usize::from(method.session);
    let received = params.len().saturating_sub(session_params);
    if params.len() < session_params || !(method.params..=method.params + method.optional).contains(&received)
    {
        let counts = [name, method.params.to_string(), received.to_string()];
        return Err(ApiError::new("MESSAGE_PARAMETER_COUNT_MISMATCH", counts));
    }
    let mut args = params;
    let session = if method.session {
        match args.remove(0) {
            Value::String(session) => session,
            other => return Err(type_error("string", &other)),
        }
    } else {
        String::new()
    };
    if method.session {
        let role = check_session(pool, host, &session)?;
        if role < method.role {
            let message = format!(
                "No permission in user session. (Roles with this permission: {})",
                method.role.and_stronger()
            );
            return Err(ApiError::new("RBAC_PERMISSION_DENIED", [name, message]));
        }
    } else {
        refuse_on_slave(pool, host)?;
    }
    if let Some(error) = pool.faults.take_refusal(&name) {
        return Err(error);
    }
    let call = Call { pool: Arc::clone(pool), session, gone: Arc::clone(gone), args };
    match plain {
        Some(_) => Ok(task::start(&name, call, &method.run)),
        None => (method.run)(&call),
    }
}

/// The role of a live session.
fn check_session(pool: &Pool, host: &str, session: &str) -> Result<Role, ApiError> {
    let found = pool.sessions().get(session).cloned();
    if !found.as_ref().is_ok_and(|session| session.pool) {
        refuse_on_slave(pool, host)?;
    }
    found.map(|session| session.role)
}

fn refuse_on_slave(pool: &Pool, host: &str) -> Result<(), ApiError> {
    let master = pool.master();
    if host == master {
        return Ok(());
    }
    let address = pool.db().get(Class::Host, &master)?.text("address").to_owned();
    Err(ApiError::new("HOST_IS_SLAVE", [address]))
}
