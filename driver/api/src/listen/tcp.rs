//! TCP: TLS, and a bearer token.

use std::net::SocketAddr;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::guard::Token;
use super::{HEAD, ListenError, Shared, accept_failed};
use crate::caller::Caller;

/// A TCP port to listen on.
#[derive(Clone)]
pub struct TcpListen {
    /// Where.
    pub address: SocketAddr,
    /// The server's certificate and key.
    pub tls: Arc<rustls::ServerConfig>,
    /// Who knows it may use the API.
    pub token: SecretString,
}

impl std::fmt::Debug for TcpListen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpListen").field("address", &self.address).finish_non_exhaustive()
    }
}

pub(super) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    token: Arc<SecretString>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}

impl TcpListen {
    pub(super) async fn bind(self) -> Result<Bound, ListenError> {
        let Self { address, tls, token } = self;
        let failed = |source| ListenError::Tcp { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Bound { listener, address, acceptor: tls.into(), token: Arc::new(token) })
    }
}

impl Bound {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn accept_all(&self, shared: &Shared) {
        loop {
            let Some(place) = shared.place().await else { return };
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_failed(error).await;
                    continue;
                }
            };
            let (acceptor, token, mut shared) = (self.acceptor.clone(), self.token.clone(), shared.clone());
            // Each request has to show the token: see `guard`.
            shared.router = shared.router.layer(axum::Extension(Token(token)));
            tokio::spawn(async move {
                match tokio::time::timeout(HEAD, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let caller = Caller { actor: "token".to_owned(), origin: peer.to_string() };
                        shared.connection(stream, Ok(caller)).await;
                    }
                    Ok(Err(error)) => tracing::debug!(peer = %peer, error = %error, "TLS handshake"),
                    Err(_) => tracing::debug!(peer = %peer, "TLS handshake took too long"),
                }
                drop(place);
            });
        }
    }
}
