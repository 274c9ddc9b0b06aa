//! Reading ports, which the store and the engine know together.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use store::{Entity, Kind, PortTarget};

use super::ApiState;
use super::kinds::Ports;
use super::query::PortsQuery;
use super::resources::{Resource as _, behind, etag, not_found, page_size};
use crate::extract::{Parameters, Segment};
use crate::problem::Problem;
use crate::wire::{Page, Port};

/// List, by id, with how they stand
#[utoipa::path(get, path = "/v1/ports", tag = "ports", operation_id = "list_ports", params(PortsQuery),
    responses((status = 200, body = Page<Port>),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list_all(
    State(state): State<ApiState>,
    Parameters(query): Parameters<PortsQuery>,
) -> Result<Json<Page<Port>>, Problem> {
    let PortsQuery { after, limit, project, group, vm, state: status } = query;
    let (limit, after) = (page_size(limit)?, behind::<Ports>(after.as_deref())?);
    let wanted = |port: &store::Port| {
        let is = |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
        is(&project, &|id| port.project.as_ref().is_some_and(|owner| owner.as_str() == id))
            && is(&group, &|id| port.groups.iter().any(|group| group.as_str() == id))
            && is(&vm, &|name| matches!(&port.target, PortTarget::Device { vm, .. } if vm == name))
    };
    let stored = state.store.state();
    // How a port stands is asked of the engine, for all that may be on the page at once.
    let most = if status.is_some() { usize::MAX } else { limit + 1 };
    let ports = stored.rows(Kind::Port, after.as_ref()).filter_map(|row| match &row.entity {
        Entity::Port(port) if wanted(port) => Some((port, row.revision)),
        _ => None,
    });
    let ports: Vec<_> = ports.take(most).collect();
    let ids: Vec<_> = ports.iter().map(|(port, _)| port.id.clone()).collect();
    let states = state.control.port_states(&ids).await;
    let items = ports.into_iter().zip(states).filter(|(_, state)| status.is_none_or(|it| it == state.status));
    let mut items: Vec<Port> =
        items.take(limit + 1).map(|(port, state)| Port { state: Some(state), ..port.into() }).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|port| port.id.clone());
    Ok(Json(Page { items, next, generation: stored.generation() }))
}

/// Read one, with how it stands
#[utoipa::path(get, path = "/v1/ports/{id}", tag = "ports", operation_id = "get_ports", params(("id" = String, Path)),
    responses((status = 200, body = Port),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn get_one(
    State(state): State<ApiState>,
    Segment(id): Segment,
) -> Result<Response, Problem> {
    let stored = state.store.state();
    let gone = || not_found(Kind::Port, &id);
    let row = Ports::key(&id).and_then(|key| stored.row(&key).cloned()).ok_or_else(gone)?;
    let Entity::Port(port) = &row.entity else { return Err(gone()) };
    let standing = state.control.port_states(std::slice::from_ref(&port.id)).await.pop();
    let answer = Port { state: standing, ..(port, row.revision).into() };
    Ok(([(header::ETAG, etag(row.revision))], Json(answer)).into_response())
}
