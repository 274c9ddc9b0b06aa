//! The database: one connection, SQLite or PostgreSQL, the same statements for both.

mod load;
mod rows;
mod save;

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, install_default_drivers};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, ConnectOptions, Connection, SqlSafeStr};

pub(crate) use save::{CommitError, Transaction};

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for a statement, and for the commit. Of a machine that is gone without a word TCP says nothing for a quarter of an hour.
const STATEMENT: Duration = Duration::from_secs(10);
/// Longest time for a new connection to be of use. Meanwhile the server ends a transaction of ours that died, which would keep it waiting.
const AGAIN: Duration = CONNECT.saturating_add(STATEMENT);
/// Longest time for what takes the longer the more the store holds: to read all of it, and to bring its tables to a new form.
const EVERYTHING: Duration = Duration::from_secs(60);

/// Each file of `migrations/`, in order. What was released never changes.
const MIGRATIONS: &[(i64, &str, &str)] = &[(1, "initial", include_str!("../migrations/0001_initial.sql"))];

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.set_locking(false);
    migrator
});

/// The lock in PostgreSQL of who makes or changes the tables: a number that nobody else in this database has.
const MIGRATES: &str = "SELECT pg_advisory_xact_lock(6855327034)";

/// Why the database cannot be used. No message holds the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum DatabaseError {
    #[error("the store's URL is neither sqlite:PATH nor postgres://…")]
    Url,
    #[error("cannot make the file {path}")]
    File { path: String, source: std::io::Error },
    #[error("cannot connect to the store's database")]
    Connect(#[source] sqlx::Error),
    #[error("the store's database does not answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("cannot bring the store's tables to this version's form")]
    Migrate(#[source] MigrateError),
    #[error("the store's tables were brought to another form since the daemon was started: start it anew")]
    OtherForm,
    #[error(
        "the store's database holds another store since, or an older state of this one: bring it back as it was, or stop the \
         daemon and start it on what is there"
    )]
    OtherStore,
    #[error("the store's database refuses a statement")]
    Statement(#[from] sqlx::Error),
    #[error("{table} {id} in the store makes no sense: {message}; restore a backup or mend it by hand")]
    Corrupt { table: &'static str, id: String, message: String },
}

/// A connection to the store's database.
#[derive(Debug)]
pub(crate) struct Database {
    connection: AnyConnection,
}

impl Database {
    /// Connects, brings the tables to this version's form, and gives a store that is new its name.
    pub(crate) async fn open(url: &str) -> Result<Self, DatabaseError> {
        let mut database = Self::connect(url).await?;
        within(EVERYTHING, migrate(&mut database.connection)).await?;
        database.name().await?;
        Ok(database)
    }

    /// Connects anew, able to write; says the generation as well. Only at start tables are made or changed, and a store is taken as it
    /// is found: here one that is gone is no new one, and one that is behind `known` (its name and generation) may be half of a
    /// backup that is being brought back.
    pub(crate) async fn reopen(url: &str, known: (&str, u64)) -> Result<(Self, u64), DatabaseError> {
        let reopen = async {
            let mut database = Self::connect(url).await?;
            database.check_form().await?;
            database.probe().await?;
            let (store, generation) = (database.identity().await?, database.generation().await?);
            if store != known.0 || generation < known.1 {
                return Err(DatabaseError::OtherStore);
            }
            Ok((database, generation))
        };
        within(AGAIN, reopen).await
    }

    async fn connect(url: &str) -> Result<Self, DatabaseError> {
        install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        let url = if sqlite {
            create_file(url)?;
            format!("{url}{}mode=rwc", if url.contains('?') { "&" } else { "?" })
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            url.to_owned()
        } else {
            return Err(DatabaseError::Url);
        };
        let options: AnyConnectOptions = url.parse().map_err(|_| DatabaseError::Url)?;
        // A statement's text in the log helps nobody, and a batch is slow on purpose.
        let options = options.disable_statement_logging();
        let connect = async { options.connect().await.map_err(DatabaseError::Connect) };
        let mut connection = within(CONNECT, connect).await?;
        let settings: &[&str] = if sqlite {
            // An answered edit must survive a power cut, too.
            &["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON"]
        } else {
            // A connection that was given up must not keep the next one from writing: the server may not know that it is gone.
            &["SET idle_in_transaction_session_timeout = '10s'"]
        };
        for setting in settings {
            within(STATEMENT, sqlx::query(*setting).execute(&mut connection)).await?;
        }
        Ok(Self { connection })
    }

    pub(crate) async fn close(self) {
        if let Err(error) = within(STATEMENT, self.connection.close()).await {
            tracing::debug!(error = %error, "closing the store's database");
        }
    }

    async fn name(&mut self) -> Result<(), DatabaseError> {
        let name = sqlx::query("UPDATE meta SET store = $1 WHERE id = 1 AND store = ''")
            .bind(uuid::Uuid::new_v4().to_string());
        within(STATEMENT, name.execute(&mut self.connection)).await?;
        Ok(())
    }

    /// What tells this store from any other; its copies have the same.
    pub(crate) async fn identity(&mut self) -> Result<String, DatabaseError> {
        let read = sqlx::query_as("SELECT store FROM meta WHERE id = 1");
        let (store,): (String,) = within(STATEMENT, read.fetch_one(&mut self.connection)).await?;
        Ok(store)
    }

    async fn check_form(&mut self) -> Result<(), DatabaseError> {
        let read = sqlx::query_as("SELECT MAX(version) FROM _sqlx_migrations");
        let (version,): (Option<i64>,) = within(STATEMENT, read.fetch_one(&mut self.connection)).await?;
        let known = MIGRATIONS.last().map(|(version, ..)| *version);
        if version == known { Ok(()) } else { Err(DatabaseError::OtherForm) }
    }

    /// Writes without changing anything: whether there is room, and leave to write.
    async fn probe(&mut self) -> Result<(), DatabaseError> {
        let nothing = "UPDATE meta SET generation = generation WHERE id = 1";
        within(STATEMENT, sqlx::query(nothing).execute(&mut self.connection)).await?;
        Ok(())
    }

    /// The number of transactions so far, whoever made them.
    pub(crate) async fn generation(&mut self) -> Result<u64, DatabaseError> {
        let read = sqlx::query_as("SELECT generation FROM meta WHERE id = 1");
        let (generation,): (i64,) = within(STATEMENT, read.fetch_one(&mut self.connection)).await?;
        positive("meta", generation)
    }
}

/// In one transaction: of a process that dies in it without a word the server gets rid as of any other's. The lock that sqlx would
/// take is the session's, and lasts for as long as the server takes that to be alive.
async fn migrate(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    let is_postgres = connection.backend_name() == "PostgreSQL";
    // SQLite's lock; without it two that start together would read the same, and both write.
    let begin = if is_postgres { "BEGIN" } else { "BEGIN IMMEDIATE" };
    let mut transaction = connection.begin_with(begin).await?;
    if is_postgres {
        sqlx::query(MIGRATES).execute(&mut *transaction).await?;
    }
    // `Migrator::run` makes a future that the compiler does not know to be `Send`; this is what it calls.
    MIGRATOR.run_direct(None, &mut *transaction, false).await.map_err(DatabaseError::Migrate)?;
    Ok(transaction.commit().await?)
}

/// Waits for the database no longer than that. A connection that did not answer in time is of no more use.
async fn within<T, E: Into<DatabaseError>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, DatabaseError> {
    tokio::time::timeout(limit, work).await.map_err(|_| DatabaseError::Silent(limit))?.map_err(Into::into)
}

/// SQL has no unsigned numbers; a generation never gets there.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn positive(table: &'static str, value: i64) -> Result<u64, DatabaseError> {
    u64::try_from(value).map_err(|_| DatabaseError::Corrupt {
        table,
        id: String::new(),
        message: format!("{value} is negative"),
    })
}

/// SQLite would make the file readable for everybody.
fn create_file(url: &str) -> Result<(), DatabaseError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = url.trim_start_matches("sqlite:").split('?').next().unwrap_or_default();
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path == ":memory:" || path.contains('%') {
        return Ok(());
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(DatabaseError::File { path: path.to_owned(), source }),
    }
}
