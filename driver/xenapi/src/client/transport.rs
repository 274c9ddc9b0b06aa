//! One call over HTTP: sent whole, answered within bounds.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use drawbridge_wire::xmlrpc::{MethodCall, Value, encode_call};
use reqwest::{Url, header, redirect};

use super::config::{ClientConfig, ConfigError};
use super::tls::{self, PinMismatch};
use super::{CallError, answer};

/// Largest body XAPI takes (`Constants.http_limit_max_rpc_size`); over it, it closes the connection.
const MAX_CALL: usize = 300 << 10;

/// XAPI closes idle connections; not waiting for that spares calls that meet it doing so.
const IDLE: Duration = Duration::from_secs(5);

/// An answer from this size on, in bytes, takes milliseconds to decode.
const LARGE: usize = 256 << 10;

pub(super) struct Transport {
    http: reqwest::Client,
    max_answer: usize,
}

impl Transport {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, ConfigError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::configuration(&config.tls)?)
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(config.connect_timeout)
            .pool_idle_timeout(IDLE)
            .user_agent(config.user_agent.as_str())
            .build()?;
        Ok(Self { http, max_answer: config.max_answer })
    }

    /// Calls `method` at `url` and takes XAPI's envelope off the answer.
    pub(super) async fn call(
        &self,
        url: &Url,
        method: &str,
        params: Vec<Value>,
        timeout: Duration,
    ) -> Result<Value, CallError> {
        let body = encode_call(&MethodCall { name: method.to_owned(), params });
        if body.len() > MAX_CALL {
            let (method, size, limit) = (method.to_owned(), body.len(), MAX_CALL);
            return Err(CallError::CallTooLarge { method, size, limit });
        }
        let request = self.http.post(url.clone()).header(header::CONTENT_TYPE, "text/xml").timeout(timeout);
        let failed = |error| classify(url, method, timeout, error);
        let mut response = request.body(body).send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            let (host, status) = (url.authority().to_owned(), response.status().as_u16());
            return Err(CallError::Http { host, method: method.to_owned(), status });
        }
        let limit = self.max_answer;
        let too_large =
            || CallError::TooLarge { host: url.authority().to_owned(), method: method.to_owned(), limit };
        if response.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |n| n > limit))
        {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if chunk.len() > limit - body.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        tracing::trace!(host = url.authority(), method, bytes = body.len(), "answered");
        if body.len() < LARGE {
            return answer::open(method, &body);
        }
        let name = method.to_owned();
        aside(move || answer::open(&name, &body)).await
    }
}

/// Runs what takes a while without keeping other tasks waiting.
#[expect(clippy::panic, reason = "what panicked there panics here")]
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("the runtime is shut down: {error}"),
        },
    }
}

fn classify(url: &Url, method: &str, after: Duration, error: reqwest::Error) -> CallError {
    let (host, method) = (url.authority().to_owned(), method.to_owned());
    match tls_error(&error) {
        Some(rustls::Error::InvalidCertificate(problem)) => match pin_mismatch(problem) {
            Some(PinMismatch { expected, seen }) => {
                CallError::CertificateMismatch { host, expected: expected.clone(), seen: *seen }
            }
            None => CallError::CertificateRefused { host, problem: problem.clone().into() },
        },
        _ if error.is_connect() => CallError::Connect { host, source: error.without_url() },
        _ if error.is_timeout() => CallError::Timeout { host, method, after },
        _ => CallError::Interrupted { host, method, source: error.without_url() },
    }
}

/// The TLS error among the causes. `io::Error` does not name the error it wraps as its source, but that one's.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        cause = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn pin_mismatch(problem: &rustls::CertificateError) -> Option<&PinMismatch> {
    match problem {
        rustls::CertificateError::Other(rustls::OtherError(error)) => {
            let error: &Arc<dyn Error + Send + Sync> = error;
            error.downcast_ref()
        }
        _ => None,
    }
}
