//! The routes, each beside its description in the OpenAPI document.

mod engine;
mod handlers;
mod kinds;
mod ports;
mod query;
mod resources;
mod rows;
mod rules;
mod service;
mod transactions;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use store::Store;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::control::Control;
use crate::problem::{Code, Problem};

pub(crate) use engine::LONGEST_DEADLINE;
pub(crate) use service::LONGEST_WATCH;

/// What the handlers work on.
#[derive(Clone)]
pub struct ApiState {
    /// What should hold.
    pub store: Store,
    /// The running daemon.
    pub control: Arc<dyn Control>,
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").finish_non_exhaustive()
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Drawbridge",
        description = "Security groups for XenServer and XCP-ng: what should hold, and how it stands.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, Code))
)]
struct Description;

fn described() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(rows::routes())
        .merge(rules::routes())
        .merge(transactions::routes())
        .merge(engine::routes())
        .merge(service::routes())
}

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> OpenApi {
    described().into_openapi()
}

/// Every route. Who calls must be in the request's extensions ([`crate::Caller`]); [`crate::Server`] sees to it.
pub fn router(state: ApiState) -> Router {
    let (router, _) = described().split_for_parts();
    // The server has read the body and knows its limit.
    let router = router.layer(DefaultBodyLimit::disable());
    router.fallback(no_such_route).method_not_allowed_fallback(method_not_allowed).with_state(state)
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::new(Code::NoSuchRoute, format!("there is no {}: see /v1/openapi.json", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{} does not know {method}", uri.path()))
}
