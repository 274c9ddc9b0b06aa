//! What stands before the routes: the token, the number of requests, their time, and a fault's answer.

use std::any::Any;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use super::Limits;
use crate::problem::{Code, Problem};
use crate::routes::{LONGEST_DEADLINE, LONGEST_WATCH};

/// The token that a request of this connection must show.
#[derive(Clone)]
pub(super) struct Token(pub(super) Arc<SecretString>);

/// Largest body, bytes.
const BODY: usize = 1 << 20;
/// Largest body of several edits or a document, bytes: 100,000 rules are about 20 MB.
const TRANSACTION_BODY: usize = 64 << 20;

/// Paths that need no token: whoever watches a process has none.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

pub(super) fn guarded(router: Router, limits: Limits) -> Router {
    let places = Arc::new(Semaphore::new(limits.requests));
    router
        .layer(CatchPanicLayer::custom(fault))
        .layer(from_fn(whole_body))
        .layer(from_fn(move |request, next| in_time(limits.time, request, next)))
        .layer(from_fn_with_state(places, counted))
        .layer(from_fn(authenticated))
}

async fn authenticated(request: Request, next: Next) -> Response {
    let Some(Token(token)) = request.extensions().get() else { return next.run(request).await };
    let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let shown = shown.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    let known: bool = shown.ct_eq(token.expose_secret().as_bytes()).into();
    if known || OPEN.contains(&request.uri().path()) {
        next.run(request).await
    } else {
        closing(Problem::new(Code::NotAuthenticated, "send Authorization: Bearer and the token"))
    }
}

async fn counted(
    axum::extract::State(places): axum::extract::State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    match places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => closing(Problem::new(Code::Busy, "too many requests at a time: try again")),
    }
}

/// Reads the body before anybody looks at the request: who is refused for its head must not find the connection closed at
/// his next request.
async fn whole_body(request: Request, next: Next) -> Response {
    let limit = match request.uri().path() {
        "/v1/edits" | "/v1/apply" => TRANSACTION_BODY,
        _ => BODY,
    };
    let (head, body) = request.into_parts();
    match axum::body::to_bytes(body, limit).await {
        Ok(bytes) => next.run(Request::from_parts(head, bytes.into())).await,
        Err(error) if error.source().is_some_and(|source| source.is::<LengthLimitError>()) => {
            closing(Problem::new(Code::BodyTooLarge, format!("here a body has at most {limit} bytes")))
        }
        Err(error) => closing(Problem::new(Code::InvalidBody, error.to_string())),
    }
}

/// A refusal before the body was read: nothing more can come over this connection.
pub(super) fn closing(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn in_time(time: Duration, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let asked = if path.starts_with("/v1/hooks/") {
        LONGEST_DEADLINE
    } else if path == "/v1/watch" {
        LONGEST_WATCH
    } else {
        0
    };
    let time = time + Duration::from_secs(asked.into());
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("no answer within {} s; read again to see what was done", time.as_secs());
            closing(Problem::new(Code::Deadline, detail))
        }
    }
}

/// The panic hook has written what happened, and where.
fn fault(_: Box<dyn Any + Send>) -> Response {
    Problem::new(Code::Internal, "the daemon has a fault; its log says more").into_response()
}
