//! `/v1/groups/{id}/rules`, `/v1/rules`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use ruleset::ids::GroupId;
use store::{Edit, Entity, Key, Kind};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::handlers::{delete, get, handlers, list, replace};
use super::kinds::Rules;
use super::query::ListQuery;
use super::resources::{self, Resource, not_found};
use crate::extract::{Body, Editor, IfMatch, Parameters, Segment};
use crate::problem::Problem;
use crate::wire::{Page, Rule, RuleInput};

handlers! {
    rules {
        list!(Rules, Rule, "/v1/rules", "rules");
        get!(Rules, Rule, "/v1/rules/{id}", "rules");
        replace!(Rules, RuleInput, Rule, "/v1/rules/{id}", "rules");
        delete!(Rules, "/v1/rules/{id}", "rules");
    }
}

/// The rules of a group, by id
#[utoipa::path(get, path = "/v1/groups/{id}/rules", tag = "rules", operation_id = "list_group_rules",
    params(("id" = String, Path)),
    responses((status = 200, body = Page<Rule>),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn list_of_group(
    State(state): State<ApiState>,
    Segment(id): Segment,
) -> Result<Json<Page<Rule>>, Problem> {
    let stored = state.store.state();
    let group = group(&stored, &id)?;
    let items = stored.rules_of(&group).filter_map(|row| Rules::output(row)).collect();
    Ok(Json(Page { items, next: None, generation: stored.generation() }))
}

/// Make a rule of a group
#[utoipa::path(post, path = "/v1/groups/{id}/rules", tag = "rules", operation_id = "create_group_rules",
    params(("id" = String, Path)), request_body = RuleInput,
    responses((status = 201, body = Rule),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn create_in_group(
    State(state): State<ApiState>,
    Segment(id): Segment,
    Editor(by): Editor,
    Body(input): Body<RuleInput>,
) -> Result<Response, Problem> {
    let rule = input.group_rule(&group(&state.store.state(), &id)?)?;
    resources::make::<Rules>(&state, vec![Edit::Create(Entity::Rule(rule))], by).await
}

/// A group that is there.
pub(super) fn group(stored: &store::State, id: &str) -> Result<GroupId, Problem> {
    let group: Option<GroupId> = id.parse().ok();
    let group = group.filter(|group| stored.row(&Key::Group(group.clone())).is_some());
    group.ok_or_else(|| not_found(Kind::Group, id))
}

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list_of_group, create_in_group))
        .routes(routes!(rules::list_all))
        .routes(routes!(rules::get_one, rules::replace_one, rules::delete_one))
}
