//! Several edits at once: `/v1/edits`, `/v1/apply`.

use axum::Json;
use axum::extract::State;
use store::{Document, EditFailed, StoreError};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::query::ApplyQuery;
use crate::extract::{Body, Editor, Parameters};
use crate::problem::Problem;
use crate::wire::{ApplyAnswer, DocumentInput, Edits, EditsAnswer, EditsInput};

/// Several edits in one transaction, all of them or none
#[utoipa::path(post, path = "/v1/edits", tag = "transactions", operation_id = "edit", request_body = EditsInput,
    responses((status = 200, body = EditsAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn edit(
    State(state): State<ApiState>,
    Editor(by): Editor,
    Body(input): Body<EditsInput>,
) -> Result<Json<EditsAnswer>, Problem> {
    let Edits { edits, places, edited } = input.edits(&state.store.state())?;
    let receipt = state.store.edit(edits, by).await.map_err(|error| match error {
        StoreError::Edit(EditFailed { index, error }) => {
            Problem::from(error).under(places.get(index).map(String::as_str).unwrap_or_default())
        }
        other => other.into(),
    })?;
    Ok(Json(EditsAnswer { generation: receipt.generation, edited }))
}

/// Bring the store to what a document says, in one transaction
#[utoipa::path(post, path = "/v1/apply", tag = "transactions", operation_id = "apply", params(ApplyQuery),
    request_body = DocumentInput,
    responses((status = 200, body = ApplyAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
async fn apply(
    State(state): State<ApiState>,
    Parameters(ApplyQuery { prune, dry_run }): Parameters<ApplyQuery>,
    Editor(by): Editor,
    Body(input): Body<DocumentInput>,
) -> Result<Json<ApplyAnswer>, Problem> {
    let document = Document::try_from(input)?;
    if dry_run {
        let stored = state.store.state();
        let plan = state.store.plan(&document, prune)?;
        return Ok(Json(ApplyAnswer::new(&plan, stored.generation())));
    }
    let applied = state.store.apply(document, prune, by).await?;
    Ok(Json(ApplyAnswer::new(&applied.plan, applied.receipt.generation)))
}

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(edit)).routes(routes!(apply))
}
