//! XAPI's HTTP server (`http_svr.ml`): `POST` with a Content-Length, keep-alive, and its own limits.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::calls::{Answer, dispatch};
use crate::faults::{Fault, HostState};
use crate::incidents::{self, Incident};
use crate::mock::blocking;
use crate::pool::Pool;
use crate::rpc;

/// `max_header_length_tcp`, bytes.
const MAX_HEAD: usize = 1024;
/// `http_limit_max_rpc_size`, bytes.
const MAX_BODY: usize = 300 * 1024;
/// What the first byte of a TLS record with a ClientHello is.
const TLS_HANDSHAKE: u8 = 0x16;

/// One host's address: who it is and how it proves that.
pub(crate) struct Host {
    pub(crate) pool: Arc<Pool>,
    pub(crate) name: String,
    pub(crate) reference: String,
    pub(crate) tls: TlsAcceptor,
}

/// Serves a host until the task is dropped; its connections end with it.
pub(crate) async fn serve(listener: std::net::TcpListener, host: Arc<Host>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(host = host.name, %error, "cannot listen"),
    };
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let host = Arc::clone(&host);
                let mut cut = host.pool.cut_of(&host.reference);
                connections.spawn(async move {
                    let ended = tokio::select! {
                        ended = welcome(stream, peer, &host) => ended,
                        _ = cut.changed() => Err(io::ErrorKind::ConnectionAborted.into()),
                    };
                    if let Err(error) = ended {
                        tracing::debug!(host = host.name, %peer, %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(host = host.name, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Whether the host's address answers. While the network to it is cut, nothing is heard at all.
async fn answers(host: &Host) -> bool {
    let mut state = host.pool.faults.host(&host.name);
    let cut = state == HostState::Silent;
    while state == HostState::Silent {
        tokio::time::sleep(Duration::from_millis(20)).await;
        state = host.pool.faults.host(&host.name);
    }
    !cut && state == HostState::Online
}

/// TLS or not: the first byte tells. A real host has a port for each.
async fn welcome(stream: TcpStream, peer: SocketAddr, host: &Host) -> io::Result<()> {
    if !answers(host).await {
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(());
    }
    if first[0] == TLS_HANDSHAKE {
        converse(host.tls.accept(stream).await?, peer, host).await
    } else {
        converse(stream, peer, host).await
    }
}

/// Answers requests until either side has enough.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    peer: SocketAddr,
    host: &Host,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let request = match read_request(&mut stream, &mut buffer).await? {
            Read::Request(request) => request,
            Read::End => return Ok(()),
            Read::Refused(status) => {
                write_reply(&mut stream, &Reply::error(status), false).await?;
                return stream.shutdown().await;
            }
        };
        if !answers(host).await {
            return Ok(());
        }
        let keep_alive = request.keep_alive;
        let gone = Arc::default();
        let mut answer = pin!(answer(request, peer, host, &gone));
        let answered = loop {
            let listens = !gone.load(Ordering::Relaxed) && buffer.len() < MAX_BODY;
            tokio::select! {
                reply = &mut answer => break reply,
                // Heard at once, whether the client asks on or goes away.
                read = stream.read_buf(&mut buffer), if listens => {
                    gone.store(!matches!(read, Ok(1..)), Ordering::Relaxed);
                }
            }
        };
        let Some(reply) = answered else { return Ok(()) };
        if !answers(host).await {
            return Ok(());
        }
        let keep_alive = keep_alive && reply.status == "200 OK";
        write_reply(&mut stream, &reply, keep_alive).await?;
        if !keep_alive {
            return stream.shutdown().await;
        }
    }
}

struct Request {
    method: String,
    path: String,
    keep_alive: bool,
    body: Vec<u8>,
}

enum Read {
    Request(Request),
    End,
    Refused(&'static str),
}

struct Reply {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Reply {
    fn ok(content_type: &'static str, body: String) -> Self {
        Self { status: "200 OK", content_type, body }
    }

    fn error(status: &'static str) -> Self {
        let body = format!("<html><body><h1>HTTP {status}</h1></body></html>");
        Self { status, content_type: "text/html", body }
    }
}

/// Reads one request; what follows it stays in the buffer.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<Read> {
    let head_end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > MAX_HEAD {
            return Ok(Read::Refused("431 Request Header Fields Too Large"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(Read::End);
        }
    };
    if head_end + 4 > MAX_HEAD {
        return Ok(Read::Refused("431 Request Header Fields Too Large"));
    }
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Ok(Read::Refused("400 Bad Request"));
    };
    let mut length = None;
    let mut keep_alive = version == "HTTP/1.1";
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse::<usize>().ok(),
            "connection" if value.eq_ignore_ascii_case("close") => keep_alive = false,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => keep_alive = true,
            _ => {}
        }
    }
    let length = match (method, length) {
        ("POST", None) => return Ok(Read::Refused("500 Internal Server Error")),
        ("POST", Some(length)) if length > MAX_BODY => return Ok(Read::Refused("500 Internal Server Error")),
        (_, length) => length.unwrap_or(0).min(MAX_BODY),
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let end = head_end + 4 + length;
    while buffer.len() < end {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(Read::End);
        }
    }
    let body = buffer[head_end + 4..end].to_vec();
    buffer.drain(..end);
    Ok(Read::Request(Request { method, path, keep_alive, body }))
}

async fn write_reply<S: AsyncWrite + Unpin>(
    stream: &mut S,
    reply: &Reply,
    keep_alive: bool,
) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-length: {}\r\ncontent-type: {}\r\nconnection: {connection}\r\ncache-control: no-cache, \
         no-store\r\n\r\n",
        reply.status,
        reply.body.len(),
        reply.content_type
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(reply.body.as_bytes()).await?;
    stream.flush().await
}

/// The reply to a request; none: the connection is to be cut.
async fn answer(request: Request, peer: SocketAddr, host: &Host, gone: &Arc<AtomicBool>) -> Option<Reply> {
    match request.method.as_str() {
        "POST" if ["/mock/fault", "/mock/incident"].contains(&request.path.as_str()) => {
            Some(control(&request, peer, host).await)
        }
        "POST" => call(&request, host, gone).await,
        "GET" => Some(Reply::error("403 Forbidden")),
        _ => Some(Reply::error("501 Method Not Implemented")),
    }
}

/// The control endpoints, for this machine only.
async fn control(request: &Request, peer: SocketAddr, host: &Host) -> Reply {
    if !peer.ip().is_loopback() {
        return Reply::error("403 Forbidden");
    }
    let done = if request.path == "/mock/fault" {
        let fault = serde_json::from_slice::<Fault>(&request.body);
        fault.map(|fault| host.pool.faults.inject(fault)).map_err(|error| error.to_string())
    } else {
        match serde_json::from_slice::<Incident>(&request.body) {
            Ok(incident) => {
                let pool = Arc::clone(&host.pool);
                blocking(move || incidents::happen(&pool, &incident)).await.map_err(|error| words(&error))
            }
            Err(error) => Err(error.to_string()),
        }
    };
    match done {
        Ok(()) => Reply::ok("application/json", "{}".to_owned()),
        Err(error) => Reply {
            status: "400 Bad Request",
            content_type: "application/json",
            body: serde_json::json!({ "error": error }).to_string(),
        },
    }
}

/// An error and what it comes from.
fn words(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", words(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

/// A call, carried out on a thread of its own: as in XAPI it goes on when the client goes away.
async fn call(request: &Request, host: &Host, gone: &Arc<AtomicBool>) -> Option<Reply> {
    let Some((call, language)) = rpc::read(&request.path, &request.body) else {
        return Some(Reply::error("500 Internal Server Error"));
    };
    tokio::time::sleep(host.pool.faults.latency()).await;
    let (pool, reference, name) = (Arc::clone(&host.pool), host.reference.clone(), call.name.clone());
    let (done, outcome) = oneshot::channel();
    let gone = Arc::clone(gone);
    std::thread::spawn(move || {
        // Nobody waits any more: the connection was cut.
        let _cut = done.send(dispatch(&pool, &reference, call, &gone));
    });
    // The thread panicked: that is what XAPI calls an internal error.
    let Ok(answer) = outcome.await else { return Some(Reply::error("500 Internal Server Error")) };
    if host.pool.faults.take_cut(&name) {
        return None;
    }
    match &answer {
        Answer::Reply(Err(error)) => {
            tracing::info!(host = host.name, method = name, code = error.code, "refused");
        }
        Answer::Reply(Ok(_)) | Answer::Bare(_) => tracing::debug!(host = host.name, method = name, "done"),
    }
    let (content_type, body) = language.write(answer);
    Some(Reply::ok(content_type, body))
}
