//! Writing: a batch of transactions, each with its own generation, in one database transaction.
//!
//! Of a row that a batch changes several times only the last form is written. First come rows, in an order in which nothing
//! refers to what is not there yet, then removals in the opposite order; many rows to a statement, since a statement costs
//! more than a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::{AnyConnection, Connection};

use super::rows::{AUDIT, PORT_GROUPS, Table, Value, table, values};
use super::{Database, DatabaseError, STATEMENT, signed, within};
use crate::audit::{By, to_json};
use crate::model::{Entity, Key, Kind, Row};
use crate::state::Change;

/// Nothing refers to a kind further down.
const ORDER: [Kind; Kind::COUNT] = [
    Kind::Project,
    Kind::Group,
    Kind::Set,
    Kind::Rule,
    Kind::ProviderRule,
    Kind::Port,
    Kind::GuardedNetwork,
    Kind::Adoption,
];

/// Rows of one statement: few different numbers, so that statements are prepared once; not more, since SQLite looks for each
/// parameter's name among all of them.
const CHUNKS: [usize; 3] = [16, 4, 1];

/// A transaction that was checked, with what it changes.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub generation: u64,
    pub changes: Vec<Change>,
    pub by: By,
    /// Milliseconds since 1970.
    pub at: i64,
}

/// Why a batch was not committed, as far as this connection knows. The connection is of no more use.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Somebody else has written since `before`.
    Overtaken,
    /// Refused before the commit.
    Refused(DatabaseError),
    /// The commit itself failed: it may have happened all the same.
    Unknown(DatabaseError),
}

impl From<DatabaseError> for CommitError {
    fn from(error: DatabaseError) -> Self {
        Self::Refused(error)
    }
}

impl Database {
    /// Writes a batch that begins at generation `before`; durable when this returns.
    pub(crate) async fn commit(
        &mut self,
        before: u64,
        writer: &str,
        batch: &[Transaction],
    ) -> Result<(), CommitError> {
        let Some(last) = batch.last() else { return Ok(()) };
        let mut transaction = within(STATEMENT, self.connection.begin()).await?;
        // First of all, so that it takes the lock that another writer would need.
        let claim = sqlx::query("UPDATE meta SET generation = $1 WHERE id = 1 AND generation = $2")
            .bind(signed(last.generation))
            .bind(signed(before));
        let claimed = within(STATEMENT, claim.execute(&mut *transaction)).await?;
        if claimed.rows_affected() != 1 {
            return Err(CommitError::Overtaken);
        }
        let mut rows: BTreeMap<Kind, BTreeMap<&Key, Option<&Arc<Row>>>> = BTreeMap::new();
        for change in batch.iter().flat_map(|one| &one.changes) {
            rows.entry(change.key.kind()).or_default().insert(&change.key, change.after.as_ref());
        }
        for kind in ORDER {
            let put = rows.get(&kind).into_iter().flatten().filter_map(|(_, row)| *row);
            write(kind, &put.map(AsRef::as_ref).collect::<Vec<_>>(), &mut transaction).await?;
        }
        for kind in ORDER.into_iter().rev() {
            let gone = rows.get(&kind).into_iter().flatten().filter(|(_, row)| row.is_none());
            remove(kind, &gone.map(|(key, _)| key.id()).collect::<Vec<_>>(), &mut transaction).await?;
        }
        insert(
            &AUDIT,
            &batch.iter().flat_map(|one| audit(one, writer)).collect::<Vec<_>>(),
            &mut transaction,
        )
        .await?;
        within(STATEMENT, transaction.commit()).await.map_err(CommitError::Unknown)
    }
}

/// Puts rows in, each in place of the one of the same id.
async fn write(kind: Kind, rows: &[&Row], connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    insert(table(kind), &rows.iter().map(|row| values(row)).collect::<Vec<_>>(), connection).await?;
    if kind != Kind::Port {
        return Ok(());
    }
    let ports = rows.iter().filter_map(|row| match &row.entity {
        Entity::Port(port) => Some(port),
        _ => None,
    });
    let ids: Vec<&str> = ports.clone().map(|port| port.id.as_str()).collect();
    delete(&PORT_GROUPS, &ids, connection).await?;
    let groups = ports
        .flat_map(|port| port.groups.iter().map(|group| vec![Value::text(&port.id), Value::text(group)]));
    insert(&PORT_GROUPS, &groups.collect::<Vec<_>>(), connection).await
}

async fn remove(kind: Kind, ids: &[&str], connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    if kind == Kind::Port {
        delete(&PORT_GROUPS, ids, connection).await?;
    }
    delete(table(kind), ids, connection).await
}

async fn insert(
    table: &Table,
    rows: &[Vec<Value>],
    connection: &mut AnyConnection,
) -> Result<(), DatabaseError> {
    let mut rows = rows;
    for chunk in CHUNKS {
        while rows.len() >= chunk {
            let (now, later) = rows.split_at(chunk);
            rows = later;
            let mut query = sqlx::query(sqlx::AssertSqlSafe(table.insert(chunk)));
            for value in now.iter().flatten() {
                query = match value.clone() {
                    Value::Text(text) => query.bind(text),
                    Value::Number(number) => query.bind(number),
                };
            }
            within(STATEMENT, query.execute(&mut *connection)).await?;
        }
    }
    Ok(())
}

async fn delete(table: &Table, ids: &[&str], connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    let mut ids = ids;
    for chunk in CHUNKS {
        while ids.len() >= chunk {
            let (now, later) = ids.split_at(chunk);
            ids = later;
            let mut query = sqlx::query(sqlx::AssertSqlSafe(table.delete(chunk)));
            for id in now {
                query = query.bind((*id).to_owned());
            }
            within(STATEMENT, query.execute(&mut *connection)).await?;
        }
    }
    Ok(())
}

fn audit(transaction: &Transaction, writer: &str) -> impl Iterator<Item = Vec<Value>> {
    let Transaction { generation, changes, by, at } = transaction;
    let json = |row: &Option<Arc<Row>>| Value::Text(row.as_ref().map(|row| to_json(&row.entity).to_string()));
    changes.iter().enumerate().map(move |(seq, change)| {
        vec![
            Value::number(*generation),
            Value::Number(i64::try_from(seq).ok()),
            Value::Number(Some(*at)),
            Value::text(&by.actor),
            Value::text(&by.origin),
            Value::text(writer),
            Value::text(change.key.kind().name()),
            Value::text(change.key.id()),
            json(&change.before),
            json(&change.after),
        ]
    })
}
