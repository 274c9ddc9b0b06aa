//! The one task that writes. Waiting edits are checked one after the other, committed together, and answered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::audit::{AuditRow, By};
use crate::database::{CommitError, Database, DatabaseError, Transaction};
use crate::document::{Document, Plan};
use crate::edit::{Edit, Receipt};
use crate::ids::{PortId, new_id};
use crate::state::State;
use crate::store::{Applied, Shared, StoreError};
use crate::touched::Touched;

/// Most transactions of one commit.
const BATCH: usize = 512;

/// How often it is looked whether somebody else wrote.
const POLL: Duration = Duration::from_secs(1);

/// How often a batch is tried when others come in between.
const ATTEMPTS: usize = 10;

/// What the task is asked.
#[derive(Debug)]
pub(crate) enum Request {
    Work { work: Work, by: By, reply: Reply<Applied> },
    Audit { after: u64, limit: u32, reply: Reply<Vec<AuditRow>> },
    ForgetAudit { at: i64, reply: Reply<u64> },
    Close { reply: oneshot::Sender<()> },
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

#[derive(Debug)]
pub(crate) enum Work {
    Edits(Vec<Edit>),
    Document { document: Box<Document>, prune: bool },
}

/// An edit that waits for its answer.
struct Job {
    work: Work,
    by: By,
    reply: Reply<Applied>,
}

/// A batch, checked: the state it leads to, what is to be written, and each job's answer once it is.
struct Checked {
    state: State,
    transactions: Vec<Transaction>,
    touched: Vec<(u64, Touched)>,
    answers: Vec<Result<Applied, StoreError>>,
}

pub(crate) struct Writer {
    url: String,
    /// None after a failure, until the next request or poll.
    database: Option<Database>,
    state: State,
    /// Names this process in the audit.
    name: String,
    requests: mpsc::Receiver<Request>,
    shared: Arc<Shared>,
    /// What was logged since the last edit that was saved: a thousand edits that are refused for one reason are told of once.
    complained: BTreeSet<String>,
}

impl Writer {
    pub(crate) fn new(
        url: String,
        database: Database,
        state: State,
        requests: mpsc::Receiver<Request>,
        shared: Arc<Shared>,
    ) -> Self {
        let name = String::from(new_id::<PortId>());
        let complained = BTreeSet::new();
        Self { url, database: Some(database), state, name, requests, shared, complained }
    }

    /// Serves until every handle is gone or it is told to close.
    pub(crate) async fn run(mut self) {
        let mut poll: Interval = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut closing = None;
        while closing.is_none() {
            let first = tokio::select! {
                request = self.requests.recv() => request,
                _ = poll.tick() => {
                    self.look_for_others().await;
                    continue;
                }
            };
            let Some(first) = first else { break };
            let mut jobs = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next.take() {
                match request {
                    Request::Work { work, by, reply } => jobs.push(Job { work, by, reply }),
                    Request::Audit { after, limit, reply } => {
                        let found = self.read_audit(after, limit).await;
                        // Whoever asked may be gone.
                        reply.send(found).ok();
                    }
                    Request::ForgetAudit { at, reply } => {
                        let done = self.forget_audit(at).await;
                        reply.send(done).ok();
                    }
                    Request::Close { reply } => {
                        closing = Some(reply);
                        break;
                    }
                }
                if jobs.len() < BATCH {
                    next = self.requests.try_recv().ok();
                }
            }
            self.serve(jobs).await;
        }
        if let Some(database) = self.database.take() {
            database.close().await;
        }
        if let Some(reply) = closing {
            reply.send(()).ok();
        }
    }

    async fn serve(&mut self, jobs: Vec<Job>) {
        let (jobs, refused) = match self.commit(&jobs).await {
            Ok(answers) => {
                answer(jobs, answers);
                return;
            }
            Err(error) => (jobs, error),
        };
        // One that the database refuses must not take the others with it.
        if jobs.len() > 1 && matches!(&refused, StoreError::Database(error) if is_constraint(error)) {
            for job in jobs {
                let one = self.commit(std::slice::from_ref(&job)).await;
                answer(vec![job], one.unwrap_or_else(|error| vec![Err(error)]));
            }
            return;
        }
        let answers = jobs.iter().map(|_| Err(refused.clone())).collect();
        answer(jobs, answers);
    }

    /// Checks and commits a batch: each job's answer, or why none was saved.
    async fn commit(&mut self, jobs: &[Job]) -> Result<Vec<Result<Applied, StoreError>>, StoreError> {
        for attempt in 0..ATTEMPTS {
            self.connect().await.map_err(|error| StoreError::Database(self.failed(error)))?;
            let Checked { state, transactions, touched, answers } = check(&self.state, jobs);
            if answers.iter().any(Result::is_err) && self.overtaken().await {
                continue;
            }
            let Some(database) = &mut self.database else { continue };
            match database.commit(self.state.generation(), &self.name, &transactions).await {
                Ok(()) => {
                    self.state = state;
                    if !transactions.is_empty() {
                        self.shared.publish(&self.state, Some(touched));
                        if !std::mem::take(&mut self.complained).is_empty() {
                            tracing::info!("the store's database saves again");
                        }
                    }
                    return Ok(answers);
                }
                // The next round connects anew and reads what the other wrote.
                Err(CommitError::Overtaken) => self.database = None,
                Err(CommitError::Refused(error)) => {
                    let error = self.failed(error);
                    // A connection that has died in the meantime says so only now; the next may live.
                    if attempt > 0 || is_constraint(&error) {
                        return Err(StoreError::Database(error));
                    }
                }
                Err(CommitError::Unknown(error)) => {
                    self.find_out(state.generation(), error).await?;
                    return Ok(answers);
                }
            }
        }
        Err(StoreError::Overtaken)
    }

    /// After a commit that failed: did it happen? The audit knows who wrote a generation; and since connecting writes, which the
    /// transaction's lock would hold up, it is over by then, however late its commit may have come.
    async fn find_out(&mut self, generation: u64, error: DatabaseError) -> Result<(), StoreError> {
        let error = self.failed(error);
        if self.connect().await.is_err() {
            return Err(StoreError::Unknown(error));
        }
        let Some(database) = &mut self.database else { return Err(StoreError::Unknown(error)) };
        match database.wrote(generation, &self.name).await {
            // Connecting has read the state already.
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Database(error)),
            Err(again) => {
                self.failed(again);
                Err(StoreError::Unknown(error))
            }
        }
    }

    /// Makes sure that there is a connection, and that the state is what it holds.
    async fn connect(&mut self) -> Result<(), DatabaseError> {
        if self.database.is_some() {
            return Ok(());
        }
        let (mut database, generation) =
            Database::reopen(&self.url, (&self.shared.identity, self.state.generation())).await?;
        if generation != self.state.generation() {
            self.state = database.load().await?;
            self.shared.publish(&self.state, None);
        }
        self.database = Some(database);
        self.shared.set_trouble(None);
        Ok(())
    }

    /// Whether somebody else has written; then the connection is given up, and the next one reads the state.
    async fn overtaken(&mut self) -> bool {
        let Some(database) = &mut self.database else { return true };
        match database.generation().await {
            Ok(generation) if generation == self.state.generation() => false,
            Ok(_) => {
                self.database = None;
                true
            }
            Err(error) => {
                self.failed(error);
                true
            }
        }
    }

    async fn look_for_others(&mut self) {
        if self.overtaken().await
            && let Err(error) = self.connect().await
        {
            self.failed(error);
        }
    }

    /// Notes a failure; the connection is of no more use.
    fn failed(&mut self, error: DatabaseError) -> Arc<DatabaseError> {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        if self.complained.insert(format!("{error}: {source}")) {
            tracing::error!(error = &error as &dyn std::error::Error, "the store's database failed");
        }
        let error = Arc::new(error);
        self.database = None;
        self.shared.set_trouble(Some(error.clone()));
        error
    }

    async fn read_audit(&mut self, after: u64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.connect().await.map_err(|error| StoreError::Database(self.failed(error)))?;
        let Some(database) = &mut self.database else { return Err(StoreError::Closed) };
        database.audit(after, limit).await.map_err(|error| StoreError::Database(self.failed(error)))
    }

    async fn forget_audit(&mut self, at: i64) -> Result<u64, StoreError> {
        self.connect().await.map_err(|error| StoreError::Database(self.failed(error)))?;
        let Some(database) = &mut self.database else { return Err(StoreError::Closed) };
        database.forget_audit(at).await.map_err(|error| StoreError::Database(self.failed(error)))
    }
}

/// Checks each job against the state that those before it lead to.
fn check(state: &State, jobs: &[Job]) -> Checked {
    let mut checked = Checked {
        state: state.clone(),
        transactions: Vec::new(),
        touched: Vec::new(),
        answers: Vec::with_capacity(jobs.len()),
    };
    for Job { work, by, reply: _ } in jobs {
        let done = match work {
            Work::Edits(edits) => checked.state.transact(edits).map_err(StoreError::from),
            Work::Document { document, prune } => {
                checked.state.apply(document, *prune).map_err(StoreError::from)
            }
        };
        checked.answers.push(done.map(|(state, changes)| {
            let generation = state.generation();
            let receipt = Receipt { generation, state: Arc::new(state.clone()), changes: changes.len() };
            let plan = Plan::of(&changes);
            if !changes.is_empty() {
                checked.touched.push((generation, Touched::by(&changes, &state)));
                let at = jiff::Timestamp::now().as_millisecond();
                checked.transactions.push(Transaction { generation, changes, by: by.clone(), at });
            }
            checked.state = state;
            Applied { plan, receipt }
        }));
    }
    checked
}

fn answer(jobs: Vec<Job>, answers: Vec<Result<Applied, StoreError>>) {
    for (job, answer) in jobs.into_iter().zip(answers) {
        // Whoever asked may be gone; what was saved is saved.
        job.reply.send(answer).ok();
    }
}

/// Whether the database understood the statement and refuses what it says.
fn is_constraint(error: &DatabaseError) -> bool {
    use sqlx::error::ErrorKind;
    match error {
        DatabaseError::Statement(sqlx::Error::Database(error)) => !matches!(error.kind(), ErrorKind::Other),
        _ => false,
    }
}
