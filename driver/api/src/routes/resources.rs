//! What is the same for every kind of row: list, make, read, change, remove.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use store::{By, Edit, Entity, Key, Kind, Row, State as Stored};

use super::ApiState;
use super::query::ListQuery;
use crate::problem::{Code, Problem};
use crate::wire::{Page, invalid};

/// A kind of row with routes of its own.
pub(crate) trait Resource {
    const KIND: Kind;
    type Input: Send;
    type Output: Serialize;

    /// The key of an id; `None` if nothing can have that id.
    fn key(id: &str) -> Option<Key>;

    /// The id that the input names, if it names one.
    fn id(input: &Self::Input) -> Option<&str>;

    /// The same input with this id.
    fn with_id(input: Self::Input, id: String) -> Self::Input;

    /// The edits that make it; the first is its own.
    fn create(input: Self::Input, state: &Stored) -> Result<Vec<Edit>, Problem> {
        Self::entity(input, None, state).map(|entity| vec![Edit::Create(entity)])
    }

    /// What the input says; `existing` is what it shall take the place of.
    fn entity(input: Self::Input, existing: Option<&Entity>, state: &Stored) -> Result<Entity, Problem>;

    /// The row on the wire.
    fn output(row: &Row) -> Option<Self::Output>;
}

pub(crate) fn not_found(kind: Kind, id: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no {} {id}", kind.name()))
}

fn found<R: Resource>(id: &str) -> Result<Key, Problem> {
    R::key(id).ok_or_else(|| not_found(R::KIND, id))
}

/// How many rows a page has.
pub(crate) fn page_size(limit: Option<u32>) -> Result<usize, Problem> {
    match limit.unwrap_or(1000) {
        limit @ 1..=10_000 => Ok(limit as usize),
        other => Err(Problem::new(Code::InvalidQuery, format!("limit is 1 to 10,000, not {other}"))),
    }
}

/// The row behind which a page begins.
pub(crate) fn behind<R: Resource>(after: Option<&str>) -> Result<Option<Key>, Problem> {
    let bad = || Problem::new(Code::InvalidQuery, "after is no id");
    after.map(|id| R::key(id).ok_or_else(bad)).transpose()
}

pub(crate) fn list<R: Resource>(
    state: &ApiState,
    query: &ListQuery,
) -> Result<Json<Page<R::Output>>, Problem> {
    let ListQuery { after, limit, project } = query;
    let (limit, after) = (page_size(*limit)?, behind::<R>(after.as_deref())?);
    let wanted = |row: &Row| {
        let owner = match &row.entity {
            Entity::Group(group) => group.project.as_ref(),
            Entity::Set(set) => set.project.as_ref(),
            _ => None,
        };
        project.as_ref().is_none_or(|wanted| owner.is_some_and(|id| id.as_str() == wanted))
    };
    let stored = state.store.state();
    let mut rows = stored.rows(R::KIND, after.as_ref()).filter(|row| wanted(row));
    let page: Vec<&Row> = rows.by_ref().take(limit).map(AsRef::as_ref).collect();
    let more = rows.next().is_some();
    let next = page.last().filter(|_| more).map(|row| row.entity.key().id().to_owned());
    let items = page.into_iter().filter_map(R::output).collect();
    Ok(Json(Page { items, next, generation: stored.generation() }))
}

pub(crate) fn get<R: Resource>(state: &ApiState, id: &str) -> Result<Response, Problem> {
    answer::<R>(StatusCode::OK, &state.store.state(), &found::<R>(id)?)
}

pub(crate) async fn create<R: Resource>(
    state: &ApiState,
    input: R::Input,
    by: By,
) -> Result<Response, Problem> {
    let edits = R::create(input, &state.store.state())?;
    make::<R>(state, edits, by).await
}

/// Does the edits; the answer is the row that the first of them makes.
pub(crate) async fn make<R: Resource>(
    state: &ApiState,
    edits: Vec<Edit>,
    by: By,
) -> Result<Response, Problem> {
    let Some(Edit::Create(entity)) = edits.first() else {
        return Err(Problem::new(Code::Internal, "nothing was to be made"));
    };
    let key = entity.key();
    let done = state.store.edit(edits, by).await?;
    answer::<R>(StatusCode::CREATED, &done.state, &key)
}

pub(crate) async fn replace<R: Resource>(
    state: &ApiState,
    id: &str,
    expected: Option<u64>,
    input: R::Input,
    by: By,
) -> Result<Response, Problem> {
    let key = found::<R>(id)?;
    if R::id(&input).is_some_and(|given| given != id) {
        return Err(invalid("/id", "the id in the body is not the one in the path"));
    }
    let stored = state.store.state();
    let existing = stored.row(&key).ok_or_else(|| not_found(R::KIND, id))?;
    let entity = R::entity(R::with_id(input, id.to_owned()), Some(&existing.entity), &stored)?;
    let done = state.store.edit(vec![Edit::Replace { entity, expected }], by).await?;
    answer::<R>(StatusCode::OK, &done.state, &key)
}

pub(crate) async fn remove<R: Resource>(
    state: &ApiState,
    id: &str,
    expected: Option<u64>,
    by: By,
) -> Result<StatusCode, Problem> {
    let key = found::<R>(id)?;
    state.store.edit(vec![Edit::Delete { key, expected }], by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The row with its ETag, as it stands there. After an edit that is what the edit left: what the store holds now may be somebody
/// else's.
fn answer<R: Resource>(status: StatusCode, stored: &Stored, key: &Key) -> Result<Response, Problem> {
    let gone = || not_found(R::KIND, key.id());
    let row = stored.row(key).ok_or_else(gone)?;
    let output = R::output(row).ok_or_else(gone)?;
    Ok((status, [(header::ETAG, etag(row.revision))], Json(output)).into_response())
}

pub(crate) fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}
