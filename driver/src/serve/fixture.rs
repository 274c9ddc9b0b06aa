//! Pools for tests about guests that go from host to host, and a XAPI that is at the test's hands.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use drawbridge_wire::xmlrpc::{MethodCall, Response, Value, decode_call, encode_response};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use xenapi::{Client, ClientConfig, Pool, PowerState, Record as _, Ref, Tls, Uuid, Vm};

use super::claim::KEY;
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

/// A pool whose record says this of who writes.
pub(super) fn pool_record(says: Option<String>) -> Pool {
    Pool {
        uuid: "00000000-0000-0000-0000-000000000001".parse().unwrap(),
        master: Ref::null(),
        other_config: says.map(|says| (KEY.to_owned(), says)).into_iter().collect(),
    }
}

/// The same as XAPI answers it.
pub(super) fn records(says: Option<String>) -> Value {
    Value::Struct([(reference::<Pool>("pool").to_string(), pool_record(says).encode())].into())
}

/// Longer than any of these tests takes, and shorter than a call may.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A XAPI whose calls the test answers, one by one. Who logs in is let in.
#[derive(Debug)]
pub(super) struct Xapi {
    pub client: Client,
    calls: mpsc::UnboundedReceiver<Call>,
}

/// A call that waits for its answer; dropped, it fails.
#[derive(Debug)]
pub(super) struct Call {
    pub call: MethodCall,
    answer: oneshot::Sender<Value>,
}

impl Call {
    pub(super) fn answer(self, value: Value) {
        // Who no longer waits need not hear it.
        let _ = self.answer.send(value);
    }
}

impl Xapi {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = ClientConfig::new(url, "root", "secret".into(), Tls::PlainLoopback);
        let (tell, calls) = mpsc::unbounded_channel();
        let router = Router::new().fallback(move |body| answer(body, tell.clone()));
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { client: Client::new(client).unwrap(), calls }
    }

    /// The next call, which must be of this method.
    pub(super) async fn next(&mut self, method: &str) -> Call {
        let call = timeout(PATIENCE, self.calls.recv()).await.expect(method).unwrap();
        assert_eq!(call.call.name, method);
        call
    }

    /// Whether nobody has called.
    pub(super) fn is_silent(&self) -> bool {
        self.calls.is_empty()
    }
}

async fn answer(body: String, calls: mpsc::UnboundedSender<Call>) -> Result<String, StatusCode> {
    let call = decode_call(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let value = match call.name.as_str() {
        "session.login_with_password" => "OpaqueRef:session".into(),
        _ => {
            let (answer, answered) = oneshot::channel();
            let lost = || StatusCode::INTERNAL_SERVER_ERROR;
            calls.send(Call { call, answer }).map_err(|_| lost())?;
            answered.await.map_err(|_| lost())?
        }
    };
    let members = [("Status", "Success".into()), ("Value", value)].map(|(name, it)| (name.to_owned(), it));
    Ok(encode_response(&Response::Value(Value::Struct(members.into()))))
}
