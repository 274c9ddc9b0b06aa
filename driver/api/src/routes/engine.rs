//! What needs the running daemon: hooks, hosts, misfits, explain, refresh, adopt.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use store::{Key, Kind};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::query::ExplainQuery;
use super::rules::group;
use crate::control::{
    Explanation, Hook, HookReport, HostEvent, HostState, Misfit, Outcome, Question, VmEvent,
};
use crate::extract::{Body, Editor, Parameters, Segment};
use crate::problem::{Code, Problem};
use crate::wire::{HookInput, Refreshed, Status, invalid};

/// Longest time a hook waits if its caller does not say.
const DEADLINE: u16 = 30;
/// Longest time a hook can wait.
pub(crate) const LONGEST_DEADLINE: u16 = 600;

/// Something happened to a VM or a host: returns when it is enforced
///
/// Events of a VM: create, reboot, suspend, resume, terminate, plug, unplug, pre-migrate, post-migrate; of a host:
/// host-init.
#[utoipa::path(post, path = "/v1/hooks/{event}", tag = "engine", operation_id = "hook",
    params(("event" = String, Path)), request_body = HookInput,
    responses((status = 200, body = HookReport),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn hook(
    State(state): State<ApiState>,
    Segment(event): Segment,
    Body(input): Body<HookInput>,
) -> Result<Json<HookReport>, Problem> {
    let HookInput { vm, host, deadline } = input;
    let deadline = match deadline.unwrap_or(DEADLINE) {
        seconds @ 1..=LONGEST_DEADLINE => Duration::from_secs(seconds.into()),
        other => {
            return Err(invalid(
                "/deadline",
                format_args!("deadline is 1 to {LONGEST_DEADLINE} seconds, not {other}"),
            ));
        }
    };
    let report = state.control.hook(understand(&event, vm, host)?, deadline).await?;
    let failed = |code, detail: String| Problem {
        report: Some(Box::new(report.clone())),
        ..Problem::new(code, detail)
    };
    match report.outcome {
        Outcome::Enforced => Ok(Json(report)),
        Outcome::Failed => Err(failed(Code::NotEnforced, why(&report))),
        Outcome::Deadline => {
            let detail = format!("not enforced within {} s; the work goes on", deadline.as_secs());
            Err(failed(Code::Deadline, detail))
        }
    }
}

fn why(report: &HookReport) -> String {
    let hosts =
        report.hosts.iter().filter_map(|host| Some(format!("{}: {}", host.host, host.error.as_ref()?)));
    let reasons: Vec<_> = hosts.chain(report.problems.iter().cloned()).collect();
    if reasons.is_empty() { "not enforced".to_owned() } else { reasons.join("; ") }
}

fn understand(event: &str, vm: Option<String>, host: Option<String>) -> Result<Hook, Problem> {
    let word = || -> StrDeserializer<'_, Error> { event.into_deserializer() };
    let present = |name: Option<String>, pointer: &str| match name {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(invalid(pointer, format_args!("the hook {event} needs it"))),
    };
    if let Ok(event) = VmEvent::deserialize(word()) {
        let host = if event == VmEvent::PreMigrate { Some(present(host, "/host")?) } else { host };
        return Ok(Hook::Vm { event, vm: present(vm, "/vm")?, host });
    }
    match HostEvent::deserialize(word()) {
        Ok(_) if vm.is_some() => Err(invalid("/vm", format_args!("the hook {event} is about a host"))),
        Ok(event) => Ok(Hook::Host { event, host: present(host, "/host")? }),
        Err(_) => Err(Problem::new(Code::NotFound, format!("there is no hook {event:?}"))),
    }
}

/// Every host, and how it stands
#[utoipa::path(get, path = "/v1/hosts", tag = "engine", operation_id = "list_hosts",
    responses((status = 200, body = Vec<HostState>),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn hosts(State(state): State<ApiState>) -> Json<Vec<HostState>> {
    Json(state.control.hosts().await)
}

/// Whether a packet passes, by which rule, or why not
#[utoipa::path(get, path = "/v1/explain", tag = "engine", operation_id = "explain", params(ExplainQuery),
    responses((status = 200, body = Explanation),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn explain(
    State(state): State<ApiState>,
    Parameters(query): Parameters<ExplainQuery>,
) -> Result<Json<Explanation>, Problem> {
    let ExplainQuery { from, to, packet, live } = query;
    Ok(Json(state.control.explain(Question { from, to, packet, live }).await?))
}

/// What fits nothing in the pool, and what of the pool cannot be enforced
#[utoipa::path(get, path = "/v1/misfits", tag = "engine", operation_id = "list_misfits",
    responses((status = 200, body = Vec<Misfit>),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn misfits(State(state): State<ApiState>) -> Json<Vec<Misfit>> {
    Json(state.control.misfits().await)
}

/// Look again at every host with ports of the group, and at no other (nova's `refresh_security_group_rules`)
#[utoipa::path(post, path = "/v1/groups/{id}/refresh-rules", tag = "engine", operation_id = "refresh_rules",
    params(("id" = String, Path)),
    responses((status = 200, body = Refreshed),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn refresh_rules(
    State(state): State<ApiState>,
    Segment(id): Segment,
) -> Result<Json<Refreshed>, Problem> {
    let group = group(&state.store.state(), &id)?;
    Ok(Json(Refreshed { hosts: state.control.refresh_rules(&group).await }))
}

/// Look again at every host whose rules name the group's members (nova's `refresh_security_group_members`)
#[utoipa::path(post, path = "/v1/groups/{id}/refresh-members", tag = "engine", operation_id = "refresh_members",
    params(("id" = String, Path)),
    responses((status = 200, body = Refreshed),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn refresh_members(
    State(state): State<ApiState>,
    Segment(id): Segment,
) -> Result<Json<Refreshed>, Problem> {
    let group = group(&state.store.state(), &id)?;
    Ok(Json(Refreshed { hosts: state.control.refresh_members(&group).await }))
}

/// Say that the store is what should be: from now on, what it does not hold may be taken away from hosts
#[utoipa::path(post, path = "/v1/adopt", tag = "engine", operation_id = "adopt",
    responses((status = 200, body = Status),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn adopt(State(state): State<ApiState>, Editor(by): Editor) -> Result<Json<Status>, Problem> {
    state.store.adopt(by).await?;
    state.control.insist().await;
    Ok(Json(status_now(&state).await))
}

/// The store and the daemon at a glance
#[utoipa::path(get, path = "/v1/status", tag = "engine", operation_id = "status",
    responses((status = 200, body = Status),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn status(State(state): State<ApiState>) -> Json<Status> {
    Json(status_now(&state).await)
}

async fn status_now(state: &ApiState) -> Status {
    let stored = state.store.state();
    Status {
        generation: stored.generation(),
        adopted: stored.row(&Key::Adoption).is_some(),
        projects: stored.count(Kind::Project),
        groups: stored.count(Kind::Group),
        rules: stored.count(Kind::Rule),
        sets: stored.count(Kind::Set),
        ports: stored.count(Kind::Port),
        provider_rules: stored.count(Kind::ProviderRule),
        guarded_networks: stored.count(Kind::GuardedNetwork),
        trouble: super::service::trouble(state).await,
    }
}

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(hook))
        .routes(routes!(hosts))
        .routes(routes!(misfits))
        .routes(routes!(explain))
        .routes(routes!(refresh_rules))
        .routes(routes!(refresh_members))
        .routes(routes!(adopt))
        .routes(routes!(status))
}
