//! What is the same for everything that the store holds: list, show, create, edit, delete.

use api::{ApiClient, ClientError, Code, Versioned, segment};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer as _};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::said::Said;
use super::table::{lines, table};

/// How often an edit is tried again when another came in between.
const ATTEMPTS: usize = 5;

/// The fields of something, as they go over the wire.
pub(super) type Fields = Map<String, Value>;

/// Something that the store holds.
pub(super) trait Noun: Serialize + DeserializeOwned {
    /// What it is called.
    const KIND: &'static str;
    /// Where the API has it.
    const PATH: &'static str;
    /// Those of [`Noun::fields`] that a list shows.
    const COLUMNS: &'static [&'static str];
    /// Fields that are read and not written.
    const READ_ONLY: &'static [&'static str] = &["revision"];

    fn id(&self) -> &str;

    /// Whether it goes by this name, too.
    fn goes_by(&self, _name: &str) -> bool {
        false
    }

    /// For people.
    fn fields(&self) -> Vec<(&'static str, String)>;
}

/// `--revision`
#[derive(Debug, Default, Args)]
pub(super) struct AtRevision {
    /// Only if it is still of this revision, as `show` tells it.
    #[arg(long)]
    pub revision: Option<u64>,
}

impl AtRevision {
    fn etag(&self) -> Option<String> {
        self.revision.map(|revision| format!("\"{revision}\""))
    }
}

fn path<N: Noun>(id: &str) -> String {
    format!("{}/{}", N::PATH, segment(id))
}

/// Reads the one that has this id; if none has, the one that goes by this name.
pub(super) async fn read<N: Noun>(client: &ApiClient, called: &str) -> Result<Versioned<N>, Failure> {
    let missing = match client.get::<N>(&path::<N>(called)).await {
        Err(ClientError::Problem(problem)) if problem.code == Code::NotFound => problem,
        read => return Ok(read?),
    };
    let all: Vec<N> = client.list(N::PATH, "").await?;
    // Whoever says nothing does not mean what has no name.
    let named = all.iter().filter(|row| !called.is_empty() && row.goes_by(called));
    let named: Vec<&str> = named.map(Noun::id).collect();
    match named.as_slice() {
        [] => Err(ClientError::Problem(missing).into()),
        [id] => Ok(client.get(&path::<N>(id)).await?),
        several => Err(Failure::Ambiguous {
            kind: N::KIND,
            called: called.to_owned(),
            ids: several.iter().map(ToString::to_string).collect(),
        }),
    }
}

/// The id of what has this id or goes by this name.
pub(super) async fn id<N: Noun>(client: &ApiClient, called: &str) -> Result<String, Failure> {
    Ok(read::<N>(client, called).await?.value.id().to_owned())
}

/// The same where there may be none.
pub(super) async fn id_if<N: Noun>(
    client: &ApiClient,
    called: Option<&str>,
) -> Result<Option<String>, Failure> {
    match called {
        Some(called) => Ok(Some(id::<N>(client, called).await?)),
        None => Ok(None),
    }
}

/// A table of rows.
pub(super) fn rows<N: Noun>(rows: &[N]) -> String {
    let cells = rows.iter().map(|row| {
        let fields = row.fields();
        let cell =
            |column: &&str| fields.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone());
        N::COLUMNS.iter().map(|column| cell(column).unwrap_or_default()).collect()
    });
    table(N::COLUMNS, &cells.collect::<Vec<_>>())
}

/// All of a kind; `query` is empty or such as `project=acme`.
pub(super) async fn list<N: Noun>(client: &ApiClient, query: &str) -> Result<Said, Failure> {
    let all: Vec<N> = client.list(N::PATH, query).await?;
    Ok(Said::well(rows(&all), &all))
}

/// One, with all of its fields.
pub(super) fn tell<N: Noun>(row: &N) -> Said {
    Said::well(lines(&row.fields()), row)
}

pub(super) async fn show<N: Noun>(client: &ApiClient, called: &str) -> Result<Said, Failure> {
    Ok(tell(&read::<N>(client, called).await?.value))
}

/// Makes one, at the path of its kind or of what it belongs to.
pub(super) async fn create<N: Noun>(client: &ApiClient, path: &str, input: &Fields) -> Result<Said, Failure> {
    Ok(tell(&client.post::<_, N>(path, input).await?))
}

/// Changes fields and leaves the others as they are. If somebody else changes it meanwhile, the edit is done over on what that
/// one left, unless a revision is asked for.
pub(super) async fn edit<N: Noun>(
    client: &ApiClient,
    called: &str,
    at: &AtRevision,
    change: impl Fn(&mut Fields) -> Result<(), Failure>,
) -> Result<Said, Failure> {
    let mut attempt = 1;
    loop {
        let Versioned { value: row, etag } = read::<N>(client, called).await?;
        let mut input = fields(&row);
        input.retain(|name, _| !N::READ_ONLY.contains(&name.as_str()));
        change(&mut input)?;
        let expected = at.etag().or(etag);
        let done = client.put::<_, N>(&path::<N>(row.id()), &input, expected.as_deref()).await;
        match done {
            Err(ClientError::Problem(problem))
                if problem.code == Code::RevisionMismatch && at.revision.is_none() && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            done => return Ok(tell(&done?)),
        }
    }
}

/// The same where fields are given that take the place of those that are there.
pub(super) async fn change<N: Noun>(
    client: &ApiClient,
    called: &str,
    at: &AtRevision,
    given: &Fields,
) -> Result<Said, Failure> {
    edit::<N>(client, called, at, |fields| {
        fields.extend(given.clone());
        Ok(())
    })
    .await
}

pub(super) async fn delete<N: Noun>(
    client: &ApiClient,
    called: &str,
    at: &AtRevision,
) -> Result<Said, Failure> {
    let id = id::<N>(client, called).await?;
    client.delete(&path::<N>(&id), at.etag().as_deref()).await?;
    let said = json!({ "removed": { "kind": N::KIND, "id": id } });
    Ok(Said::well(format!("removed {} {id}\n", N::KIND), &said))
}

/// A value's fields; what was not given is not among them.
pub(super) fn fields(value: &impl Serialize) -> Fields {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Fields::new(),
    }
}

/// An argument that is one of the words of a closed list, as the wire has them.
pub(super) fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| {
        let word: StringDeserializer<serde::de::value::Error> = word.into_deserializer();
        T::deserialize(word)
    })
}

/// Text that may not be there.
pub(super) fn text(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// A word of a closed list, as the wire has it.
pub(super) fn as_word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}
