//! The handle to the store: reads at once from memory, edits through the writer's task.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use crate::audit::{AuditRow, By};
use crate::database::{Database, DatabaseError};
use crate::document::{Document, DocumentRefused, Plan};
use crate::edit::{Edit, EditFailed, Receipt};
use crate::model::{Entity, Key};
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::touched::Touched;
use crate::writer::{Request, Work, Writer};

/// So many transactions are remembered for [`Store::touched_since`].
const REMEMBERED: usize = 4096;

/// So many edits may wait; who comes then waits for a place.
const WAITING: usize = 4096;

/// Why a call of the store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Refused; nothing was done.
    #[error(transparent)]
    Edit(#[from] EditFailed),
    /// Refused; nothing was done.
    #[error(transparent)]
    Document(#[from] DocumentRefused),
    /// The database failed before the commit: nothing was done.
    #[error("the store cannot save: nothing was changed")]
    Database(#[source] Arc<DatabaseError>),
    /// The database failed in the commit and has not been reached since.
    #[error(
        "the connection to the store's database broke while it saved: read again to see whether it was done"
    )]
    Unknown(#[source] Arc<DatabaseError>),
    /// Other writers came in between again and again: nothing was done.
    #[error("other writers of the store came in between again and again: nothing was changed, try once more")]
    Overtaken,
    /// [`Store::close`] was called.
    #[error("the store is closed")]
    Closed,
}

/// What became of a document.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What it changed.
    pub plan: Plan,
    /// The generation that contains it.
    pub receipt: Receipt,
}

/// The store. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

/// What the writer publishes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) identity: String,
    state: watch::Sender<Arc<State>>,
    generation: watch::Sender<u64>,
    touched: Mutex<Log>,
    trouble: Mutex<Option<Arc<DatabaseError>>>,
}

/// What the last transactions touched; complete from behind generation `floor` on.
#[derive(Debug)]
struct Log {
    floor: u64,
    entries: VecDeque<(u64, Touched)>,
}

impl Store {
    /// Opens the store, and makes it if it is not there: `sqlite:PATH` or `postgres://…`.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub async fn open(url: &str) -> Result<Self, DatabaseError> {
        let mut database = Database::open(url).await?;
        let identity = database.identity().await?;
        let state = database.load().await?;
        let (requests, receiver) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            identity,
            generation: watch::Sender::new(state.generation()),
            touched: Mutex::new(Log { floor: state.generation(), entries: VecDeque::new() }),
            trouble: Mutex::new(None),
            state: watch::Sender::new(Arc::new(state.clone())),
        });
        let writer = Writer::new(url.to_owned(), database, state, receiver, shared.clone());
        tokio::spawn(writer.run());
        Ok(Self { requests, shared })
    }

    /// What tells this store from any other. A copy, a backup brought back for one, has the same.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.shared.identity
    }

    /// Everything, as of the last commit. Costs nothing.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.shared.state.borrow().clone()
    }

    /// What has to be enforced, as of the last commit.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.state().snapshot()
    }

    /// The generation, and a notice whenever it rises. [`Store::state`] is never behind it.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// What the transactions behind a generation touched; everything, if that is too long ago to be known.
    #[must_use]
    pub fn touched_since(&self, generation: u64) -> Touched {
        let log = self.shared.touched.lock().unwrap_or_else(PoisonError::into_inner);
        if generation < log.floor {
            return Touched::everything();
        }
        let mut touched = Touched::default();
        for (_, one) in log.entries.iter().rev().take_while(|(of, _)| *of > generation) {
            touched.merge(one);
        }
        touched
    }

    /// What is wrong with the database at the moment. Reads go on from memory.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<DatabaseError>> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One transaction: all of the edits, in order, or none. When it returns, they are durable and visible.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn edit(&self, edits: Vec<Edit>, by: By) -> Result<Receipt, StoreError> {
        self.work(Work::Edits(edits), by).await.map(|applied| applied.receipt)
    }

    /// Brings the store to what a document says, in one transaction; with `prune`, whatever it does not name is removed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn apply(&self, document: Document, prune: bool, by: By) -> Result<Applied, StoreError> {
        self.work(Work::Document { document: Box::new(document), prune }, by).await
    }

    /// What [`Store::apply`] would do now.
    ///
    /// # Errors
    /// [`DocumentRefused`]
    pub fn plan(&self, document: &Document, prune: bool) -> Result<Plan, DocumentRefused> {
        self.state().apply(document, prune).map(|(_, changes)| Plan::of(&changes))
    }

    /// Says that what the store holds is what should be: from now on the daemon may take away what it does not hold.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn adopt(&self, by: By) -> Result<Receipt, StoreError> {
        let state = self.state();
        if state.row(&Key::Adoption).is_some() {
            return Ok(Receipt { generation: state.generation(), state, changes: 0 });
        }
        self.edit(vec![Edit::Create(Entity::Adoption)], by).await
    }

    /// The audit behind a generation, oldest first, at most `limit` lines.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn audit(&self, after: u64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Audit { after, limit, reply }).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Forgets the audit of before `at`, milliseconds since 1970; says how many lines.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_audit(&self, at: i64) -> Result<u64, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::ForgetAudit { at, reply }).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Saves what waits and closes the database.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Request::Close { reply }).await.is_ok() {
            // An error means that it was closed by somebody else in the meantime.
            answer.await.ok();
        }
    }

    async fn work(&self, work: Work, by: By) -> Result<Applied, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Work { work, by, reply }).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn send(&self, request: Request) -> Result<(), StoreError> {
        self.requests.send(request).await.map_err(|_| StoreError::Closed)
    }
}

impl Shared {
    /// Publishes a state with what led to it; `None` if that is not known.
    pub(crate) fn publish(&self, state: &State, touched: Option<Vec<(u64, Touched)>>) {
        {
            let mut log = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
            match touched {
                None => *log = Log { floor: state.generation(), entries: VecDeque::new() },
                Some(entries) => log.entries.extend(entries),
            }
            while log.entries.len() > REMEMBERED {
                if let Some((generation, _)) = log.entries.pop_front() {
                    log.floor = generation;
                }
            }
        }
        self.state.send_replace(Arc::new(state.clone()));
        self.generation.send_replace(state.generation());
    }

    pub(crate) fn set_trouble(&self, trouble: Option<Arc<DatabaseError>>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
