//! The server: a unix socket whose clients the kernel names, and TCP with TLS and a bearer token.

mod guard;
mod tcp;
mod unix;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt;

pub use tcp::TcpListen;
pub use unix::UnixListen;

use crate::caller::Caller;
use crate::problem::Problem;
use guard::{closing, guarded};

/// Longest time for a request's head to arrive, and for a TLS handshake.
const HEAD: Duration = Duration::from_secs(15);

/// What one server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections over the socket, and as many over TCP; further ones wait in the kernel.
    pub connections: usize,
    /// Requests at a time; further ones are refused as [`crate::Code::Busy`].
    pub requests: usize,
    /// Longest time for a request, its body included. Hooks and watches have the time they ask for.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, requests: 512, time: Duration::from_secs(60) }
    }
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum ListenError {
    #[error("cannot listen on {path}")]
    Unix { path: PathBuf, source: std::io::Error },
    #[error("another daemon listens on {path} already")]
    InUse { path: PathBuf },
    #[error("cannot listen on {address}")]
    Tcp { address: SocketAddr, source: std::io::Error },
    #[error("{path} is a file and no socket: it is not removed")]
    NotASocket { path: PathBuf },
}

/// A server that is bound, and serves with [`Server::serve`].
#[derive(Debug)]
pub struct Server {
    router: Router,
    limits: Limits,
    unix: Option<unix::Bound>,
    tcp: Option<tcp::Bound>,
}

impl Server {
    /// Binds what is given.
    ///
    /// # Errors
    /// [`ListenError`]
    pub async fn bind(
        router: Router,
        limits: Limits,
        unix: Option<UnixListen>,
        tcp: Option<TcpListen>,
    ) -> Result<Self, ListenError> {
        let router = guarded(router, limits);
        let unix = unix.map(UnixListen::bind).transpose()?;
        let tcp = match tcp {
            Some(tcp) => Some(tcp.bind().await?),
            None => None,
        };
        Ok(Self { router, limits, unix, tcp })
    }

    /// Where TCP listens; the port was chosen by the kernel if 0 was asked for.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(tcp::Bound::address)
    }

    /// Serves until `stop`, then lets requests end that are under way, as long as that takes: how long they may is for the caller
    /// to say, who knows what they wait for.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send) {
        let Self { router, limits, unix, tcp } = self;
        let (end, ending) = watch::channel(false);
        // Each its own places: whoever comes over TCP need not know the token to hold one.
        let shared = || Shared {
            router: router.clone(),
            connections: Arc::new(Semaphore::new(limits.connections)),
            ending: ending.clone(),
        };
        let (by_unix, by_tcp) = (shared(), shared());
        {
            let unix = async {
                match &unix {
                    Some(unix) => unix.accept_all(&by_unix).await,
                    None => std::future::pending().await,
                }
            };
            let tcp = async {
                match &tcp {
                    Some(tcp) => tcp.accept_all(&by_tcp).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = unix => {}
                () = tcp => {}
                () = stop => {}
            }
        }
        drop((unix, tcp));
        end.send_replace(true);
        // Each connection holds a place until its request is answered.
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
        let (unix, tcp) = (&by_unix.connections, &by_tcp.connections);
        // They are never closed.
        drop(tokio::join!(unix.acquire_many(all), tcp.acquire_many(all)));
    }
}

/// What every connection of a listener needs.
#[derive(Clone)]
struct Shared {
    router: Router,
    connections: Arc<Semaphore>,
    ending: watch::Receiver<bool>,
}

impl Shared {
    /// A place for a connection, as soon as there is one.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.connections.clone().acquire_owned().await.ok()
    }

    /// Serves a connection; whoever is refused hears why.
    async fn connection<S>(&self, stream: S, caller: Result<Caller, Problem>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let service = tower::service_fn(move |mut request: Request<Incoming>| {
            let router = router.clone();
            let caller = caller.clone();
            async move {
                match caller {
                    Ok(caller) => {
                        request.extensions_mut().insert(caller);
                        router.oneshot(request.map(Body::new)).await
                    }
                    Err(problem) => Ok::<_, Infallible>(closing(problem)),
                }
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let mut ending = self.ending.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            // An error means that the server is gone, which is an end as well.
            _ = ending.wait_for(|end| *end) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %error, "a connection ended early");
        }
    }
}

/// A listener whose `accept` failed goes on after a moment: mostly the process is out of file descriptors.
async fn accept_failed(error: std::io::Error) {
    tracing::warn!(error = %error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
