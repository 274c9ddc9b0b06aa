//! A small blocking client over a bare TCP connection, and the pool most tests use.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use drawbridge_wire::xmlrpc::{MethodCall, Response, Value, decode_response, encode_call};
use xapi_mock::config::{DataPlaneKind, HostConfig, NetworkConfig, Role, UserConfig, VifConfig, VmConfig};
use xapi_mock::{Mock, PoolConfig};

/// A result, or XAPI's code and parameters.
pub(crate) type Outcome = Result<Value, Vec<String>>;

/// A user of one host's address.
pub(crate) struct Client {
    address: String,
    pub(crate) session: String,
}

impl Client {
    /// Logged in on the master as root.
    pub(crate) fn login(mock: &Mock) -> Self {
        Self::login_as(mock, "root")
    }

    /// Logged in on the master; all users have the same password.
    pub(crate) fn login_as(mock: &Mock, user: &str) -> Self {
        let mut client = Self { address: address(mock, 0), session: String::new() };
        let session = client.open("session.login_with_password", &[user.into(), "secret".into()]).unwrap();
        client.session = text(&session);
        client
    }

    /// With this session, at the address of host number `host`.
    pub(crate) fn at(mock: &Mock, host: usize, session: &str) -> Self {
        Self { address: address(mock, host), session: session.to_owned() }
    }

    /// A call that needs no session.
    pub(crate) fn open(&self, method: &str, params: &[Value]) -> Outcome {
        let reply = self.raw(method, params);
        match reply.member("Status").and_then(Value::as_str) {
            Some("Success") => Ok(reply.member("Value").unwrap().clone()),
            Some("Failure") => Err(texts(reply.member("ErrorDescription").unwrap())),
            _ => panic!("no envelope: {reply:?}"),
        }
    }

    /// A call with the session before its parameters.
    pub(crate) fn call(&self, method: &str, params: &[Value]) -> Outcome {
        let mut with_session = vec![Value::from(self.session.as_str())];
        with_session.extend_from_slice(params);
        self.open(method, &with_session)
    }

    /// As [`call`](Self::call); `None`: the connection ended without a reply.
    pub(crate) fn try_call(&self, method: &str, params: &[Value]) -> Option<(u16, String)> {
        let mut with_session = vec![Value::from(self.session.as_str())];
        with_session.extend_from_slice(params);
        let call = MethodCall { name: method.to_owned(), params: with_session };
        post(&self.address, "/", encode_call(&call).as_bytes())
    }

    /// The text a call answers.
    pub(crate) fn text(&self, method: &str, params: &[Value]) -> String {
        text(&self.call(method, params).unwrap())
    }

    /// The reference of the object of this name.
    pub(crate) fn find(&self, class: &str, name: &str) -> String {
        let found = self.call(&format!("{class}.get_by_name_label"), &[name.into()]).unwrap();
        texts(&found).into_iter().next().unwrap()
    }

    /// What the response holds, envelope and all.
    pub(crate) fn raw(&self, method: &str, params: &[Value]) -> Value {
        let call = MethodCall { name: method.to_owned(), params: params.to_vec() };
        let (status, body) = post(&self.address, "/", encode_call(&call).as_bytes()).unwrap();
        assert_eq!(status, 200, "{method}: {body}");
        match decode_response(&body).unwrap() {
            Response::Value(value) => value,
            Response::Fault { code, message } => panic!("fault {code}: {message}"),
        }
    }
}

/// `127.0.0.1:port` of a host, for plain HTTP.
pub(crate) fn address(mock: &Mock, host: usize) -> String {
    mock.hosts()[host].http_url.strip_prefix("http://").unwrap().to_owned()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no string: {value:?}")).to_owned()
}

pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        other => panic!("no array: {other:?}"),
    }
}

/// A map of strings.
pub(crate) fn map(entries: &[(&str, &str)]) -> Value {
    Value::Struct(entries.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect())
}

/// XAPI's error as the client sees it.
pub(crate) fn error(description: &[&str]) -> Outcome {
    Err(description.iter().map(|text| (*text).to_owned()).collect())
}

/// One POST on a connection of its own: status and body. `None`: the connection ended without a reply.
pub(crate) fn post(address: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut stream = connect(address);
    stream.write_all(head.as_bytes()).unwrap();
    // The server may refuse by the head alone and close.
    let _refused = stream.write_all(body);
    read_reply(&mut stream)
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Status and body of the next reply on a connection.
pub(crate) fn read_reply(stream: &mut TcpStream) -> Option<(u16, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no reply: {error}"),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Some((status, String::from_utf8(body).unwrap()))
}

/// Two hosts, one network, VMs `a` (two VIFs) and `b`, a snapshot and a template; users of several roles.
pub(crate) fn config() -> PoolConfig {
    let user = |name: &str, role| UserConfig { name: name.to_owned(), password: "secret".to_owned(), role };
    let vif = |device, mac: &str| VifConfig {
        device,
        network: "net".to_owned(),
        mac: Some(mac.to_owned()),
        ..VifConfig::default()
    };
    let vm = |name: &str, vifs| VmConfig { name: name.to_owned(), vifs, ..VmConfig::default() };
    PoolConfig {
        data_plane: DataPlaneKind::None,
        plugins: Some(crate::plugins::directory()),
        hosts: ["host1", "host2"]
            .map(|name| HostConfig { name: name.to_owned(), ..HostConfig::default() })
            .into(),
        networks: vec![NetworkConfig { name: "net".to_owned(), ..NetworkConfig::default() }],
        users: vec![
            user("root", Role::PoolAdmin),
            user("operator", Role::PoolOperator),
            user("vm-operator", Role::VmOperator),
            user("reader", Role::ReadOnly),
        ],
        vms: vec![
            VmConfig {
                affinity: Some("host2".to_owned()),
                ..vm("a", vec![vif(0, "02:00:00:00:00:01"), vif(1, "02:00:00:00:00:02")])
            },
            vm("b", vec![vif(0, "02:00:00:00:00:03")]),
            VmConfig {
                snapshot_of: Some("a".to_owned()),
                ..vm("snapshot", vec![vif(0, "02:00:00:00:00:01")])
            },
            VmConfig { template: true, ..vm("template", vec![]) },
        ],
        ..PoolConfig::default()
    }
}

pub(crate) async fn pool() -> Mock {
    Mock::start(config()).await.unwrap()
}
