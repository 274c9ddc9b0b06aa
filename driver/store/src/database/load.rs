//! Reading: everything at one generation; the audit.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Connection, Row as _};

use super::{Database, DatabaseError, EVERYTHING, STATEMENT, positive, within};
use crate::audit::AuditRow;
use crate::convert::{RuleColumns, from_word, number, parse};
use crate::model::{AddressSet, Entity, Group, GroupRule, Port, PortTarget, Project, ProviderRule, Row};
use crate::state::State;

/// A table's name, a row's id, and the row: whatever is wrong is said with both.
struct Reader<'r> {
    table: &'static str,
    row: &'r AnyRow,
}

impl Reader<'_> {
    fn corrupt(&self, message: &dyn Display) -> DatabaseError {
        let column = if self.table == "guarded_networks" { "name" } else { "id" };
        let id = self.row.try_get(column).unwrap_or_else(|_| "?".to_owned());
        DatabaseError::Corrupt { table: self.table, id, message: message.to_string() }
    }

    fn text(&self, column: &str) -> Result<String, DatabaseError> {
        self.row.try_get(column).map_err(|e| self.corrupt(&e))
    }

    fn optional<T>(&self, column: &str) -> Result<Option<T>, DatabaseError>
    where
        for<'d> T: sqlx::Decode<'d, sqlx::Any> + sqlx::Type<sqlx::Any>,
    {
        self.row.try_get(column).map_err(|e| self.corrupt(&e))
    }

    fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, DatabaseError> {
        parse(&self.text(column)?).map_err(|e| self.corrupt(&e))
    }

    fn parsed_optional<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, DatabaseError> {
        let text: Option<String> = self.optional(column)?;
        text.map(|text| parse(&text)).transpose().map_err(|e| self.corrupt(&e))
    }

    fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, DatabaseError> {
        from_word(column, &self.text(column)?).map_err(|e| self.corrupt(&e))
    }

    fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, DatabaseError> {
        let value: i64 = self.row.try_get(column).map_err(|e| self.corrupt(&e))?;
        number(value).map_err(|e| self.corrupt(&e))
    }

    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, DatabaseError> {
        serde_json::from_str(&self.text(column)?).map_err(|e| self.corrupt(&e))
    }

    fn rule(&self) -> Result<ruleset::model::Rule, DatabaseError> {
        let columns = RuleColumns {
            direction: self.text("direction")?,
            ethertype: self.text("ethertype")?,
            protocol: self.optional("protocol")?,
            port_first: self.optional("port_first")?,
            port_last: self.optional("port_last")?,
            icmp_type: self.optional("icmp_type")?,
            icmp_code: self.optional("icmp_code")?,
            remote: self.text("remote")?,
            remote_prefix: self.optional("remote_prefix")?,
            remote_group: self.optional("remote_group")?,
            remote_set: self.optional("remote_set")?,
            description: self.text("description")?,
        };
        columns.rule(&self.text("id")?).map_err(|e| self.corrupt(&e))
    }
}

fn project(r: &Reader<'_>) -> Result<Entity, DatabaseError> {
    Ok(Entity::Project(Project {
        id: r.parsed("id")?,
        name: r.text("name")?,
        description: r.text("description")?,
        default_group: r.parsed("default_group")?,
    }))
}

fn group(r: &Reader<'_>) -> Result<Entity, DatabaseError> {
    Ok(Entity::Group(Group {
        id: r.parsed("id")?,
        project: r.parsed_optional("project")?,
        name: r.text("name")?,
        description: r.text("description")?,
        on_rule_removal: r.word("on_rule_removal")?,
    }))
}

fn set(r: &Reader<'_>) -> Result<Entity, DatabaseError> {
    Ok(Entity::Set(AddressSet {
        id: r.parsed("id")?,
        project: r.parsed_optional("project")?,
        name: r.text("name")?,
        description: r.text("description")?,
        addresses: r.json("addresses")?,
    }))
}

fn rule(r: &Reader<'_>) -> Result<Entity, DatabaseError> {
    Ok(Entity::Rule(GroupRule { group: r.parsed("group_id")?, rule: r.rule()? }))
}

fn provider_rule(r: &Reader<'_>) -> Result<Entity, DatabaseError> {
    let (position, action) = (r.number("position")?, r.word("action")?);
    Ok(Entity::ProviderRule(ProviderRule { position, action, rule: r.rule()? }))
}

/// A port, still without its groups.
fn port(r: &Reader<'_>) -> Result<Entity, DatabaseError> {
    let target = match (r.optional("vm")?, r.optional::<i64>("device")?, r.parsed_optional("vif")?) {
        (Some(vm), Some(device), None) => {
            PortTarget::Device { vm, device: number(device).map_err(|e| r.corrupt(&e))? }
        }
        (None, None, Some(vif)) => PortTarget::Vif(vif),
        _ => return Err(r.corrupt(&"neither vm and device nor vif")),
    };
    Ok(Entity::Port(Port {
        id: r.parsed("id")?,
        project: r.parsed_optional("project")?,
        target,
        addresses: r.json("addresses")?,
        pairs: r.json("pairs")?,
        groups: Vec::new(),
        security: r.word("security")?,
    }))
}

fn guarded(r: &Reader<'_>) -> Result<Entity, DatabaseError> {
    Ok(Entity::GuardedNetwork(r.text("name")?))
}

type Decode = fn(&Reader<'_>) -> Result<Entity, DatabaseError>;

/// Every table of rows but `ports`.
const TABLES: &[(&str, &str, Decode)] = &[
    ("projects", "SELECT * FROM projects", project),
    ("groups", "SELECT * FROM groups", group),
    ("sets", "SELECT * FROM sets", set),
    ("rules", "SELECT * FROM rules", rule),
    ("provider_rules", "SELECT * FROM provider_rules", provider_rule),
    ("guarded_networks", "SELECT * FROM guarded_networks", guarded),
    ("adoption", "SELECT * FROM adoption", |_| Ok(Entity::Adoption)),
];

impl Database {
    /// Everything.
    pub(crate) async fn load(&mut self) -> Result<State, DatabaseError> {
        within(EVERYTHING, self.load_at_ease()).await
    }

    async fn load_at_ease(&mut self) -> Result<State, DatabaseError> {
        let mut transaction = self.connection.begin().await?;
        // SQLite reads one snapshot from the first statement on; PostgreSQL has to be told.
        if transaction.backend_name() == "PostgreSQL" {
            sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                .execute(&mut *transaction)
                .await?;
        }
        let state = load(&mut transaction).await?;
        transaction.rollback().await?;
        Ok(state)
    }

    /// Whether this process wrote that generation.
    pub(crate) async fn wrote(&mut self, generation: u64, writer: &str) -> Result<bool, DatabaseError> {
        let find = sqlx::query("SELECT seq FROM audit WHERE generation = $1 AND writer = $2 LIMIT 1")
            .bind(i64::try_from(generation).unwrap_or(i64::MAX))
            .bind(writer.to_owned());
        let found = within(STATEMENT, find.fetch_optional(&mut self.connection)).await?;
        Ok(found.is_some())
    }

    /// The audit behind a generation, oldest first, at most `limit` lines.
    pub(crate) async fn audit(&mut self, after: u64, limit: u32) -> Result<Vec<AuditRow>, DatabaseError> {
        let read = sqlx::query("SELECT * FROM audit WHERE generation > $1 ORDER BY generation, seq LIMIT $2")
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(i64::from(limit));
        let rows = within(STATEMENT, read.fetch_all(&mut self.connection)).await?;
        rows.iter().map(|row| audit_row(&Reader { table: "audit", row })).collect()
    }

    /// Forgets the audit of before `at`, milliseconds since 1970.
    pub(crate) async fn forget_audit(&mut self, at: i64) -> Result<u64, DatabaseError> {
        let forget = sqlx::query("DELETE FROM audit WHERE at < $1").bind(at);
        let done = within(EVERYTHING, forget.execute(&mut self.connection)).await?;
        Ok(done.rows_affected())
    }
}

async fn load(connection: &mut AnyConnection) -> Result<State, DatabaseError> {
    let (generation,): (i64,) =
        sqlx::query_as("SELECT generation FROM meta WHERE id = 1").fetch_one(&mut *connection).await?;
    let mut state = State::default();
    for (table, statement, decode) in TABLES {
        for row in sqlx::query(*statement).fetch_all(&mut *connection).await? {
            let reader = Reader { table, row: &row };
            let entity = decode(&reader)?;
            state.insert(Arc::new(Row { revision: reader.number("revision")?, entity }));
        }
    }
    let mut groups: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for row in sqlx::query("SELECT port_id AS id, group_id FROM port_groups ORDER BY group_id")
        .fetch_all(&mut *connection)
        .await?
    {
        let reader = Reader { table: "port_groups", row: &row };
        groups.entry(reader.text("id")?).or_default().push(reader.parsed("group_id")?);
    }
    for row in sqlx::query("SELECT * FROM ports").fetch_all(&mut *connection).await? {
        let reader = Reader { table: "ports", row: &row };
        let mut entity = port(&reader)?;
        if let Entity::Port(port) = &mut entity {
            port.groups = groups.remove(port.id.as_str()).unwrap_or_default();
            // The database may sort by another alphabet.
            port.groups.sort_unstable();
        }
        state.insert(Arc::new(Row { revision: reader.number("revision")?, entity }));
    }
    state.set_generation(positive("meta", generation)?);
    Ok(state)
}

fn audit_row(r: &Reader<'_>) -> Result<AuditRow, DatabaseError> {
    let json = |column| -> Result<Option<serde_json::Value>, DatabaseError> {
        let text: Option<String> = r.optional(column)?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|e| r.corrupt(&e))
    };
    Ok(AuditRow {
        generation: r.number("generation")?,
        seq: r.number("seq")?,
        at: r.number("at")?,
        actor: r.text("actor")?,
        origin: r.text("origin")?,
        kind: r.text("kind")?,
        id: r.text("id")?,
        before: json("before_value")?,
        after: json("after_value")?,
    })
}
