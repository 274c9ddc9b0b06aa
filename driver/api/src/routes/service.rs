//! What watches the daemon: `/v1/watch`, `/v1/audit`, `/metrics`, `/healthz`, `/readyz`, the OpenAPI document.

use std::fmt::Write as _;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use store::{Kind, PortTarget, Touched};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::query::{AuditQuery, WatchQuery};
use crate::extract::Parameters;
use crate::problem::{Code, Problem};
use crate::wire::{AuditLine, WatchAnswer};

/// Longest time that a watch waits.
pub(crate) const LONGEST_WATCH: u16 = 60;

/// Wait until the store or the state of a host or port changes (long poll)
#[utoipa::path(get, path = "/v1/watch", tag = "service", operation_id = "watch", params(WatchQuery),
    responses((status = 200, body = WatchAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn watch(
    State(state): State<ApiState>,
    Parameters(query): Parameters<WatchQuery>,
) -> Result<Json<WatchAnswer>, Problem> {
    let WatchQuery { after, engine, timeout } = query;
    numbers([after, engine])?;
    let timeout = timeout.unwrap_or(25);
    if timeout > LONGEST_WATCH {
        return Err(Problem::new(Code::InvalidQuery, format!("timeout is at most {LONGEST_WATCH} seconds")));
    }
    let (mut generations, mut engines) = (state.store.subscribe(), state.control.subscribe());
    if let (Some(after), Some(engine)) = (after, engine) {
        let something = async {
            tokio::select! {
                // An error means that the daemon ends; then there is no more to wait for.
                _ = generations.wait_for(|now| *now != after) => {}
                _ = engines.wait_for(|now| *now != engine) => {}
            }
        };
        // Nothing happened: that is an answer, too.
        tokio::time::timeout(Duration::from_secs(timeout.into()), something).await.ok();
    }
    let stored = state.store.state();
    let touched = match after {
        Some(after) if after <= stored.generation() => state.store.touched_since(after),
        _ => Touched::everything(),
    };
    let Touched { groups, members, ports, everything } = touched;
    let words =
        |ids: std::collections::BTreeSet<ruleset::ids::GroupId>| ids.into_iter().map(String::from).collect();
    let port = |target: PortTarget| match target {
        PortTarget::Device { vm, device } => format!("{vm}#{device}"),
        PortTarget::Vif(vif) => vif.into(),
    };
    Ok(Json(WatchAnswer {
        generation: stored.generation(),
        engine: *engines.borrow_and_update(),
        everything,
        groups: words(groups),
        members: words(members),
        ports: ports.into_iter().map(port).collect(),
    }))
}

/// Refuses numbers that cannot be a generation: it is an `int64` in the OpenAPI document, and in the database.
fn numbers(given: [Option<u64>; 2]) -> Result<(), Problem> {
    let most = i64::MAX.unsigned_abs();
    match given.into_iter().flatten().find(|number| *number > most) {
        None => Ok(()),
        Some(number) => {
            Err(Problem::new(Code::InvalidQuery, format!("{number} is no generation: at most {most}")))
        }
    }
}

/// Who did what, when, from where
#[utoipa::path(get, path = "/v1/audit", tag = "service", operation_id = "audit", params(AuditQuery),
    responses((status = 200, body = Vec<AuditLine>),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn audit(
    State(state): State<ApiState>,
    Parameters(AuditQuery { after, limit }): Parameters<AuditQuery>,
) -> Result<Json<Vec<AuditLine>>, Problem> {
    let limit = match limit.unwrap_or(1000) {
        limit @ 1..=10_000 => limit,
        other => return Err(Problem::new(Code::InvalidQuery, format!("limit is 1 to 10,000, not {other}"))),
    };
    numbers([Some(after), None])?;
    let rows = state.store.audit(after, limit).await?;
    let lines = rows.into_iter().map(|row| {
        let store::AuditRow { generation, seq: _, at, actor, origin, kind, id, before, after } = row;
        let at = jiff::Timestamp::from_millisecond(at).map(|at| at.to_string()).unwrap_or_default();
        AuditLine { generation, at, actor, origin, kind, id, before, after }
    });
    Ok(Json(lines.collect()))
}

/// Numbers for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "service", operation_id = "metrics",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn metrics(State(state): State<ApiState>) -> impl IntoResponse {
    let mut text = state.control.metrics().await;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let stored = state.store.state();
    text.push_str("# HELP drawbridge_store_generation Transactions of the store so far.\n");
    text.push_str("# TYPE drawbridge_store_generation counter\n");
    // Writing to a string does not fail.
    let _ = writeln!(text, "drawbridge_store_generation {}", stored.generation());
    text.push_str(
        "# HELP drawbridge_store_rows Rows of the store by kind.\n# TYPE drawbridge_store_rows gauge\n",
    );
    for kind in [
        Kind::Project,
        Kind::Group,
        Kind::Rule,
        Kind::Set,
        Kind::Port,
        Kind::ProviderRule,
        Kind::GuardedNetwork,
    ] {
        let _ = writeln!(text, "drawbridge_store_rows{{kind=\"{}\"}} {}", kind.name(), stored.count(kind));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// Whether the process lives
#[utoipa::path(get, path = "/healthz", tag = "service", operation_id = "healthz",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the daemon can do its work
#[utoipa::path(get, path = "/readyz", tag = "service", operation_id = "readyz",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn readyz(State(state): State<ApiState>) -> Result<&'static str, Problem> {
    let trouble = trouble(&state).await;
    if trouble.is_empty() { Ok("ready\n") } else { Err(Problem::new(Code::NotReady, trouble.join("; "))) }
}

/// What is wrong at the moment, one reason each.
pub(super) async fn trouble(state: &ApiState) -> Vec<String> {
    let mut reasons = state.control.ready().await.err().unwrap_or_default();
    if let Some(error) = state.store.trouble() {
        let causes = std::iter::successors(Some(&*error as &dyn std::error::Error), |error| error.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        reasons.push(format!("the store cannot save: {}", causes.join(": ")));
    }
    reasons
}

/// This document
#[utoipa::path(get, path = "/v1/openapi.json", tag = "service", operation_id = "openapi",
    responses((status = 200, body = Object)))]
async fn document() -> Json<OpenApi> {
    Json(super::openapi())
}

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(watch))
        .routes(routes!(audit))
        .routes(routes!(metrics))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(document))
}
