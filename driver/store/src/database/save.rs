//! Writing: a batch of transactions, each with its own generation, in one database transaction.

use serde_json::json;
use sqlx::any::{Any, AnyArguments};
use sqlx::query::Query;
use sqlx::{AnyConnection, Connection};

use super::{Database, DatabaseError};
use crate::audit::{By, to_json};
use crate::convert::{PairJson, RuleColumns, security_word};
use crate::model::{Entity, Key, OnRuleRemoval, Port, PortTarget, Row};
use crate::state::Change;
use ruleset::model::Action;

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

impl From<sqlx::Error> for CommitError {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(error.into())
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
        let mut transaction = self.connection.begin().await?;
        // First of all, so that it takes the lock that another writer would need.
        let claimed = sqlx::query("UPDATE meta SET generation = $1 WHERE id = 1 AND generation = $2")
            .bind(signed(last.generation))
            .bind(signed(before))
            .execute(&mut *transaction)
            .await?;
        if claimed.rows_affected() != 1 {
            return Err(CommitError::Overtaken);
        }
        for one in batch {
            for (seq, change) in one.changes.iter().enumerate() {
                match &change.after {
                    Some(row) => put(row, &mut transaction).await?,
                    None => delete(&change.key, &mut transaction).await?,
                }
                audit(one, seq, change, writer, &mut transaction).await?;
            }
        }
        transaction.commit().await.map_err(|error| CommitError::Unknown(error.into()))
    }
}

/// SQL has no unsigned numbers; a generation never gets there.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

async fn audit(
    transaction: &Transaction,
    seq: usize,
    change: &Change,
    writer: &str,
    connection: &mut AnyConnection,
) -> Result<(), sqlx::Error> {
    let json = |row: &Option<std::sync::Arc<Row>>| row.as_ref().map(|row| to_json(&row.entity).to_string());
    sqlx::query(
        "INSERT INTO audit (generation, seq, at, actor, origin, writer, kind, id, before_value, after_value) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(signed(transaction.generation))
    .bind(i64::try_from(seq).unwrap_or(i64::MAX))
    .bind(transaction.at)
    .bind(transaction.by.actor.clone())
    .bind(transaction.by.origin.clone())
    .bind(writer.to_owned())
    .bind(change.key.kind().name())
    .bind(change.key.id().to_owned())
    .bind(json(&change.before))
    .bind(json(&change.after))
    .execute(connection)
    .await?;
    Ok(())
}

async fn put(row: &Row, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let revision = signed(row.revision);
    let query = match &row.entity {
        Entity::Project(p) => sqlx::query(
            "INSERT INTO projects (id, revision, name, description, default_group) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, name = excluded.name, \
             description = excluded.description",
        )
        .bind(p.id.to_string())
        .bind(revision)
        .bind(p.name.clone())
        .bind(p.description.clone())
        .bind(p.default_group.to_string()),
        Entity::Group(g) => sqlx::query(
            "INSERT INTO groups (id, revision, project, name, description, on_rule_removal) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, name = excluded.name, \
             description = excluded.description, on_rule_removal = excluded.on_rule_removal",
        )
        .bind(g.id.to_string())
        .bind(revision)
        .bind(g.project.as_ref().map(ToString::to_string))
        .bind(g.name.clone())
        .bind(g.description.clone())
        .bind(match g.on_rule_removal {
            OnRuleRemoval::Cut => "cut",
            OnRuleRemoval::Keep => "keep",
        }),
        Entity::Set(s) => sqlx::query(
            "INSERT INTO sets (id, revision, project, name, description, addresses) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, project = excluded.project, \
             name = excluded.name, description = excluded.description, addresses = excluded.addresses",
        )
        .bind(s.id.to_string())
        .bind(revision)
        .bind(s.project.as_ref().map(ToString::to_string))
        .bind(s.name.clone())
        .bind(s.description.clone())
        .bind(json!(s.addresses).to_string()),
        Entity::Rule(r) => {
            let query = sqlx::query(
                "INSERT INTO rules (direction, ethertype, protocol, port_first, port_last, icmp_type, icmp_code, \
                 remote, remote_prefix, remote_group, remote_set, description, id, revision, group_id) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
                 ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, direction = excluded.direction, \
                 ethertype = excluded.ethertype, protocol = excluded.protocol, port_first = excluded.port_first, \
                 port_last = excluded.port_last, icmp_type = excluded.icmp_type, icmp_code = excluded.icmp_code, \
                 remote = excluded.remote, remote_prefix = excluded.remote_prefix, \
                 remote_group = excluded.remote_group, remote_set = excluded.remote_set, \
                 description = excluded.description",
            );
            bind_rule(query, RuleColumns::new(&r.rule))
                .bind(r.rule.id.to_string())
                .bind(revision)
                .bind(r.group.to_string())
        }
        Entity::ProviderRule(p) => {
            let query = sqlx::query(
                "INSERT INTO provider_rules (direction, ethertype, protocol, port_first, port_last, icmp_type, \
                 icmp_code, remote, remote_prefix, remote_group, remote_set, description, id, revision, position, \
                 action) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
                 ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, direction = excluded.direction, \
                 ethertype = excluded.ethertype, protocol = excluded.protocol, port_first = excluded.port_first, \
                 port_last = excluded.port_last, icmp_type = excluded.icmp_type, icmp_code = excluded.icmp_code, \
                 remote = excluded.remote, remote_prefix = excluded.remote_prefix, \
                 remote_group = excluded.remote_group, remote_set = excluded.remote_set, \
                 description = excluded.description, position = excluded.position, action = excluded.action",
            );
            bind_rule(query, RuleColumns::new(&p.rule))
                .bind(p.rule.id.to_string())
                .bind(revision)
                .bind(i64::from(p.position))
                .bind(match p.action {
                    Action::Allow => "allow",
                    Action::Deny => "deny",
                })
        }
        Entity::Port(port) => return put_port(port, revision, connection).await,
        Entity::GuardedNetwork(name) => {
            sqlx::query("INSERT INTO guarded_networks (name, revision) VALUES ($1, $2)")
                .bind(name.clone())
                .bind(revision)
        }
        Entity::Adoption => {
            sqlx::query("INSERT INTO adoption (id, revision) VALUES (1, $1)").bind(revision)
        }
    };
    query.execute(connection).await?;
    Ok(())
}

type AnyQuery<'q> = Query<'q, Any, AnyArguments>;

fn bind_rule<'q>(query: AnyQuery<'q>, columns: RuleColumns) -> AnyQuery<'q> {
    query
        .bind(columns.direction)
        .bind(columns.ethertype)
        .bind(columns.protocol)
        .bind(columns.port_first)
        .bind(columns.port_last)
        .bind(columns.icmp_type)
        .bind(columns.icmp_code)
        .bind(columns.remote)
        .bind(columns.remote_prefix)
        .bind(columns.remote_group)
        .bind(columns.remote_set)
        .bind(columns.description)
}

async fn put_port(port: &Port, revision: i64, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let Port { id, project, target, addresses, pairs, groups, security } = port;
    let (vm, device, vif) = match target {
        PortTarget::Device { vm, device } => (Some(vm.clone()), Some(i64::from(*device)), None),
        PortTarget::Vif(vif) => (None, None, Some(vif.to_string())),
    };
    let pairs: Vec<PairJson> = pairs.iter().map(Into::into).collect();
    sqlx::query(
        "INSERT INTO ports (id, revision, project, vm, device, vif, addresses, pairs, security) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, project = excluded.project, vm = excluded.vm, \
         device = excluded.device, vif = excluded.vif, addresses = excluded.addresses, pairs = excluded.pairs, \
         security = excluded.security",
    )
    .bind(id.to_string())
    .bind(revision)
    .bind(project.as_ref().map(ToString::to_string))
    .bind(vm)
    .bind(device)
    .bind(vif)
    .bind(json!(addresses).to_string())
    .bind(json!(pairs).to_string())
    .bind(security_word(*security))
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM port_groups WHERE port_id = $1")
        .bind(id.to_string())
        .execute(&mut *connection)
        .await?;
    for group in groups {
        sqlx::query("INSERT INTO port_groups (port_id, group_id) VALUES ($1, $2)")
            .bind(id.to_string())
            .bind(group.to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn delete(key: &Key, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let statement = match key {
        Key::Project(_) => "DELETE FROM projects WHERE id = $1",
        Key::Group(_) => "DELETE FROM groups WHERE id = $1",
        Key::Rule(_) => "DELETE FROM rules WHERE id = $1",
        Key::Set(_) => "DELETE FROM sets WHERE id = $1",
        Key::Port(_) => {
            sqlx::query("DELETE FROM port_groups WHERE port_id = $1")
                .bind(key.id().to_owned())
                .execute(&mut *connection)
                .await?;
            "DELETE FROM ports WHERE id = $1"
        }
        Key::ProviderRule(_) => "DELETE FROM provider_rules WHERE id = $1",
        Key::GuardedNetwork(_) => "DELETE FROM guarded_networks WHERE name = $1",
        // Nothing takes an adoption back; the parameter is the empty text.
        Key::Adoption => "DELETE FROM adoption WHERE $1 = ''",
    };
    sqlx::query(statement).bind(key.id().to_owned()).execute(connection).await?;
    Ok(())
}
