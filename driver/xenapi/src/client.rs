//! A client for XAPI's XML-RPC over HTTPS.
//!
//! All clones of a [`Client`] share one session: it is opened by the first call, opened anew when XAPI has
//! forgotten it (restart, idle time, change of the master), and closed by [`Client::logout`]. Calls go to the
//! pool's master, found from whichever host is configured. Neither session nor password is ever part of an
//! error, a log line or a `Debug` output.

mod answer;
mod calls;
mod config;
mod error;
mod events;
mod tls;
mod transport;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drawbridge_wire::xmlrpc::Value;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

pub use answer::AnswerError;
pub use config::{ClientConfig, ConfigError, Tls};
pub use error::CallError;
pub use events::{Batch, Position};
pub use tls::{Fingerprint, InvalidFingerprint};

use crate::error::Kind;
use config::Endpoint;
use transport::Transport;

/// A client of one pool; cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    call_timeout: Duration,
}

struct Shared {
    endpoint: Endpoint,
    transport: Transport,
    username: String,
    password: SecretString,
    originator: String,
    /// Locked while logging in, so that many callers make one login.
    session: Mutex<Option<Arc<Session>>>,
    logins: AtomicU64,
    /// Addresses of further hosts of the pool.
    known_hosts: std::sync::Mutex<Vec<String>>,
}

/// An open session and the master that gave it.
struct Session {
    /// Counted, so that what holds in one session is not taken for another's.
    number: u64,
    token: SecretString,
    url: Url,
}

impl Client {
    /// A client of the pool that `config` names. Nothing is sent before the first call.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration cannot be used: among others `http://` without
    /// [`Tls::PlainLoopback`], and a CA file without certificates.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::new(&config.url, &config.tls)?;
        let transport = Transport::new(&config)?;
        let ClientConfig { username, password, originator, call_timeout, .. } = config;
        let session = Mutex::new(None);
        let logins = AtomicU64::new(0);
        let known_hosts = std::sync::Mutex::default();
        let shared =
            Shared { endpoint, transport, username, password, originator, session, logins, known_hosts };
        let shared = Arc::new(shared);
        Ok(Self { shared, call_timeout })
    }

    /// The same client, same session, with another limit on the time of a call: for those that take minutes.
    #[must_use]
    pub fn with_call_timeout(&self, call_timeout: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), call_timeout }
    }

    /// Names further hosts of the pool, by `host.address`: they are asked who is master when the configured host and
    /// the last master do not answer. What was named before is forgotten.
    pub fn set_known_hosts(&self, addresses: impl IntoIterator<Item = String>) {
        *self.known_hosts() = addresses.into_iter().collect();
    }

    fn known_hosts(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.known_hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where logging in may start, the configured host first.
    fn candidates(&self) -> Vec<Url> {
        let configured = self.shared.endpoint.url();
        let known = self.known_hosts();
        let others = known.iter().filter_map(|address| self.shared.endpoint.at(address));
        std::iter::once(configured.clone()).chain(others.filter(|url| url != configured)).collect()
    }

    /// Calls `method`; the session is put before `params`.
    ///
    /// Sent again, once, if XAPI refused it for its session or because the master has changed: both are
    /// decided before XAPI does anything.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn call(&self, method: &str, params: Vec<Value>) -> Result<Value, CallError> {
        self.call_in_session(method, |_| params.clone()).await.map(|(_, answer)| answer)
    }

    /// As [`call`](Self::call), with parameters that depend on the session's number, which is answered, too.
    async fn call_in_session(
        &self,
        method: &str,
        params: impl Fn(u64) -> Vec<Value>,
    ) -> Result<(u64, Value), CallError> {
        let session = self.session().await?;
        match self.call_in(&session, method, params(session.number)).await {
            Err(error) if self.is_over(&session, &error) => {
                tracing::debug!(method, reason = %error, "logging in again");
                self.forget(&session).await;
                let session = self.session().await?;
                let answer = self.call_in(&session, method, params(session.number)).await?;
                Ok((session.number, answer))
            }
            answer => Ok((session.number, answer?)),
        }
    }

    /// Closes the session, if there is one; the next call opens another.
    ///
    /// # Errors
    /// [`CallError`] if XAPI could not be told. The session is forgotten all the same; XAPI drops it after a day.
    pub async fn logout(&self) -> Result<(), CallError> {
        let Some(session) = self.shared.session.lock().await.take() else { return Ok(()) };
        match self.call_in(&session, "session.logout", Vec::new()).await {
            Err(CallError::Api(error)) if error.kind() == Kind::SessionInvalid => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    async fn session(&self) -> Result<Arc<Session>, CallError> {
        let mut current = self.shared.session.lock().await;
        if let Some(session) = &*current {
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(self.login().await?);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Drops `session`, unless another caller has replaced it already.
    async fn forget(&self, session: &Arc<Session>) {
        let mut current = self.shared.session.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *current = None;
        }
    }

    /// Whether after `error` only a new login helps, and the call has certainly not been carried out.
    fn is_over(&self, session: &Session, error: &CallError) -> bool {
        match error {
            CallError::Api(error) => matches!(error.kind(), Kind::SessionInvalid | Kind::HostIsSlave { .. }),
            // The master is gone; another host may know the new one.
            CallError::Connect { .. } => self.candidates().iter().any(|url| *url != session.url),
            _ => false,
        }
    }

    async fn call_in(
        &self,
        session: &Session,
        method: &str,
        mut params: Vec<Value>,
    ) -> Result<Value, CallError> {
        let token = session.token.expose_secret();
        params.insert(0, token.into());
        let answer = self.shared.transport.call(&session.url, method, params, self.call_timeout).await;
        answer.map_err(|error| error.without(token))
    }

    /// Logs in at the configured host, or at the master it names; if that is of no use, by way of the known hosts, as
    /// long as a call may take. The error is that of the configured host.
    async fn login(&self) -> Result<Session, CallError> {
        let start = Instant::now();
        let first = match self.login_by(self.shared.endpoint.url()).await {
            Ok(session) => return Ok(session),
            // Would not go better elsewhere, and too many wrong passwords lock an account.
            Err(error @ CallError::Authentication { .. }) => return Err(error),
            Err(error) => error,
        };
        for url in self.candidates().into_iter().skip(1) {
            if start.elapsed() >= self.call_timeout {
                break;
            }
            match self.login_by(&url).await {
                Ok(session) => return Ok(session),
                Err(error) => tracing::debug!(host = url.authority(), %error, "cannot log in here either"),
            }
        }
        Err(first)
    }

    /// Logs in at a host, or at the master it names.
    async fn login_by(&self, host: &Url) -> Result<Session, CallError> {
        let Shared { endpoint, username, .. } = &*self.shared;
        let (mut url, mut token) = (host.clone(), self.login_at(host).await);
        if let Err(CallError::Api(error)) = &token
            && let Kind::HostIsSlave { master } = error.kind()
        {
            url = endpoint.at(master).ok_or_else(|| CallError::BadMaster {
                host: host.authority().to_owned(),
                address: master.to_owned(),
            })?;
            tracing::info!(host = host.authority(), master = url.authority(), "not the master, following");
            token = self.login_at(&url).await;
        }
        match token {
            Ok(token) => {
                let number = self.shared.logins.fetch_add(1, Ordering::Relaxed);
                Ok(Session { number, token, url })
            }
            Err(CallError::Api(error))
                if matches!(error.kind(), Kind::AuthenticationFailed | Kind::PermissionDenied { .. }) =>
            {
                let host = url.authority().to_owned();
                Err(CallError::Authentication { host, username: username.clone(), source: error })
            }
            Err(error) => Err(error),
        }
    }

    async fn login_at(&self, url: &Url) -> Result<SecretString, CallError> {
        const METHOD: &str = "session.login_with_password";
        let Shared { transport, username, password, originator, .. } = &*self.shared;
        let password = password.expose_secret();
        let params =
            vec![username.as_str().into(), password.into(), "1.0".into(), originator.as_str().into()];
        let answer = transport.call(url, METHOD, params, self.call_timeout).await;
        match answer.map_err(|error| error.without(password))? {
            Value::String(token) if !token.is_empty() => Ok(token.into()),
            other => Err(CallError::decode(METHOD, AnswerError::unexpected("a session", &other))),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.shared.endpoint.url().as_str())
            .field("username", &self.shared.username)
            .field("call_timeout", &self.call_timeout)
            .finish_non_exhaustive()
    }
}

/// Whether `url` names an address of this very machine. Names do not count: who resolves them is not known.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}
