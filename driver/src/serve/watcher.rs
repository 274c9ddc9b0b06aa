//! The pool as XAPI's events tell of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use xenapi::{CallError, Client, Pool, Ref, Watch};

use super::pauses::pauses;
use crate::intake::inventory::Inventory;
use crate::report::chain;

/// Pauses while XAPI cannot be reached: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The pool at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Rises with every change; 0 before anything was seen.
    pub number: u64,
    /// Its records.
    pub inventory: Inventory,
    /// The pool's own record, a table of one.
    pub pools: BTreeMap<Ref<Pool>, Pool>,
}

/// Who wants a pool that is no older than the question, and hears its number, or why there is none.
type Question = oneshot::Sender<Result<u64, String>>;

/// Asks the task that watches.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    questions: mpsc::Sender<Question>,
}

impl Watcher {
    /// Has XAPI asked, now, for what has happened; the pool of this number, or a later one, shows it.
    ///
    /// # Errors
    /// Why XAPI could not be asked.
    pub(super) async fn fresh(&self) -> Result<u64, String> {
        let stopping = |_| "the driver is stopping".to_owned();
        let (question, answer) = oneshot::channel();
        self.questions.send(question).await.map_err(|error| stopping(error.to_string()))?;
        answer.await.map_err(|error| stopping(error.to_string()))?
    }
}

/// Watches a pool until nobody can ask any more. `trouble` tells why XAPI cannot be reached, while it cannot.
pub(super) fn watch(
    client: Client,
    trouble: watch::Sender<Option<String>>,
) -> (Watcher, watch::Receiver<Arc<Seen>>, impl Future<Output = ()> + Send) {
    // Each question is one call: who asks together is answered together.
    let (questions, asked) = mpsc::channel(1024);
    let (tell, seen) = watch::channel(Arc::default());
    let work = Work { watch: Watch::start(client), tell, trouble, number: 0 };
    (Watcher { questions }, seen, work.run(asked))
}

struct Work {
    watch: Watch,
    tell: watch::Sender<Arc<Seen>>,
    trouble: watch::Sender<Option<String>>,
    number: u64,
}

impl Work {
    async fn run(mut self, mut asked: mpsc::Receiver<Question>) {
        let mut pause = pauses(PAUSES.0, PAUSES.1);
        let mut waiting: Vec<Question> = Vec::new();
        loop {
            let happened = if waiting.is_empty() {
                tokio::select! {
                    read = asked.recv_many(&mut waiting, 1024) => match read {
                        0 => return,
                        _ => continue,
                    },
                    outcome = self.watch.next() => outcome,
                }
            } else {
                self.watch.refresh().await
            };
            match happened {
                Ok(changed) => {
                    if self.number == 0 || !changed.is_empty() {
                        self.publish();
                    }
                    pause = pauses(PAUSES.0, PAUSES.1);
                    self.trouble.send_if_modified(|trouble| trouble.take().is_some());
                    waiting.drain(..).for_each(|question| answer(question, Ok(self.number)));
                }
                Err(error) => {
                    let reason = self.note(&error);
                    waiting.drain(..).for_each(|question| answer(question, Err(reason.clone())));
                    // A question does not wait for the end of the pause: whoever asks wants to know.
                    tokio::select! {
                        () = sleep(pause.next().unwrap_or(PAUSES.1)) => {}
                        read = asked.recv_many(&mut waiting, 1024) => if read == 0 { return },
                    }
                }
            }
        }
    }

    fn publish(&mut self) {
        let cache = self.watch.cache();
        let inventory = Inventory {
            hosts: cache.hosts.clone(),
            vms: cache.vms.clone(),
            vifs: cache.vifs.clone(),
            networks: cache.networks.clone(),
            pifs: cache.pifs.clone(),
        };
        self.number += 1;
        self.tell.send_replace(Arc::new(Seen { number: self.number, inventory, pools: cache.pools.clone() }));
    }

    fn note(&self, error: &CallError) -> String {
        let reason = chain(error);
        self.trouble.send_if_modified(|trouble| {
            if trouble.is_none() {
                tracing::warn!(reason, "XAPI cannot be asked; what stands on the hosts stands");
            }
            trouble.replace(reason.clone()).is_none_or(|before| before != reason)
        });
        reason
    }
}

/// Who no longer waits need not hear it.
fn answer(question: Question, answer: Result<u64, String>) {
    let _ = question.send(answer);
}
