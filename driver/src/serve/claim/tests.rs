use store::By;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::drain;
use super::super::fixture::{Call, PATIENCE, Xapi, pool_record, records, reference};
use super::*;

const READ: &str = "pool.get_all_records";
const REMOVE: &str = "pool.remove_from_other_config";
const ADD: &str = "pool.add_to_other_config";

/// A driver with a store that counts, under a XAPI that does what the test says.
struct Fixture {
    xapi: Xapi,
    seen: watch::Sender<Arc<Seen>>,
    duty: watch::Receiver<Duty>,
    end: watch::Sender<bool>,
    /// Those that must not go.
    _others: (watch::Sender<Option<Arc<Plan>>>, watch::Sender<bool>, TempDir),
}

fn own() -> Claim {
    Claim { turn: 1, instance: "me".to_owned(), store: "s".to_owned(), generation: 0 }
}

fn other(turn: u64) -> Claim {
    Claim { turn, instance: "other".to_owned(), ..own() }
}

fn text(says: Option<&Claim>) -> Option<String> {
    says.map(Claim::to_string)
}

fn pool(says: Option<&Claim>) -> Arc<Seen> {
    let pools = [(reference("pool"), pool_record(text(says)))].into();
    Arc::new(Seen { number: 1, pools, ..Seen::default() })
}

impl Fixture {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(&format!("sqlite:{}/store.db", folder.path().display())).await.unwrap();
        let adopted = store.adopt(By { actor: "me".to_owned(), origin: "here".to_owned() }).await.unwrap();
        let plan = Plan {
            number: 1,
            generation: adopted.generation,
            announced: 0,
            seen: Arc::default(),
            hosts: [].into(),
            idle: Vec::new(),
            bindings: Vec::new(),
            problems: Vec::new(),
        };
        let xapi = Xapi::start().await;
        let (seen, pool) = watch::channel(pool(None));
        let (plan, plans) = watch::channel(Some(Arc::new(plan)));
        let (insist, insisted) = watch::channel(false);
        let (duties, duty) = watch::channel(Duty::Standby(Standby::Starting));
        let (end, drained) = watch::channel(false);
        let client = xapi.client.clone();
        let given = Claiming { client, store, pool, plans, insisted, duties, take_turn: |_| {}, drained };
        tokio::spawn(claim(given, own()));
        Self { xapi, seen, duty, end, _others: (plan, insist, folder) }
    }

    /// A driver that has the pool.
    async fn active() -> Self {
        let mut it = Self::start().await;
        it.remove(None).await.answer("".into());
        it.add().await;
        it.until(Duty::is_active).await;
        it
    }

    fn see(&self, says: Option<&Claim>) {
        self.seen.send_replace(pool(says));
    }

    /// A write begins: what the record turns out to say.
    async fn read(&mut self, says: Option<&Claim>) {
        self.xapi.next(READ).await.answer(records(text(says)));
    }

    /// The first half of a write.
    async fn remove(&mut self, says: Option<&Claim>) -> Call {
        self.read(says).await;
        self.xapi.next(REMOVE).await
    }

    /// The second half of a write, and what the record says then.
    async fn add(&mut self) -> Claim {
        let call = self.xapi.next(ADD).await;
        let says = claim_in(&call);
        self.see(Some(&says));
        call.answer("".into());
        says
    }

    async fn until(&mut self, is_so: impl Fn(&Duty) -> bool) {
        timeout(PATIENCE, self.duty.wait_for(|duty| is_so(duty))).await.unwrap().unwrap();
    }

    async fn until_superseded(&mut self) {
        self.until(|duty| matches!(duty, Duty::Standby(Standby::Superseded { .. }))).await;
    }
}

fn claim_in(call: &Call) -> Claim {
    call.call.params.last().unwrap().as_str().unwrap().parse().unwrap()
}

/// XAPI took minutes to answer the renewal of a claim, and meanwhile the driver did not hear that another had the pool.
#[tokio::test]
async fn the_pool_is_listened_to_while_xapi_does_not_answer() {
    let mut it = Fixture::active().await;
    it.see(Some(&other(0)));
    let unanswered = it.remove(Some(&other(0))).await;
    it.see(Some(&other(2)));
    it.until_superseded().await;
    // What was begun is done to its end: half of it would leave no record. And it brings the pool back to nobody.
    unanswered.answer("".into());
    assert_eq!(it.add().await.instance, "me");
    it.see(Some(&other(2)));
    assert!(timeout(PATIENCE / 100, it.until(Duty::is_active)).await.is_err());
    assert!(it.xapi.is_silent());
}

/// A driver slept over the time to renew its claim. When it woke it wrote that over the next driver's, which its events had not told
/// of yet; XAPI then said that it had the pool, and it went on.
#[tokio::test]
async fn who_slept_reads_whose_the_pool_is_before_it_renews_its_claim() {
    let mut it = Fixture::active().await;
    // Any reason to write will do.
    it.see(Some(&other(0)));
    it.read(Some(&other(2))).await;
    it.until_superseded().await;
    // Its events never tell.
    it.see(None);
    assert!(timeout(PATIENCE / 100, it.until(Duty::is_active)).await.is_err());
    assert!(it.xapi.is_silent());
}

#[tokio::test]
async fn who_finds_a_later_driver_before_it_has_claimed_the_pool_comes_after_that() {
    let mut it = Fixture::start().await;
    it.read(Some(&other(7))).await;
    it.remove(Some(&other(7))).await.answer("".into());
    assert_eq!(it.add().await.turn, 8);
    it.until(Duty::is_active).await;
}

/// A round that is under way when the daemon is told to stop.
struct Stopping {
    round: oneshot::Sender<()>,
    drained: tokio::task::JoinHandle<()>,
}

impl Stopping {
    async fn begin(end: &watch::Sender<bool>) -> Self {
        let (round, ended) = oneshot::channel();
        let (stop, mut stopping) = watch::channel(false);
        let end = end.clone();
        let drained = tokio::spawn(async move { drain(async { ended.await.unwrap() }, &stop, &end).await });
        stopping.wait_for(|stop| *stop).await.unwrap();
        Self { round, drained }
    }
}

/// A driver was stopped and the next one started: the first went on for a minute with the round it was at, and did not hear.
#[tokio::test]
async fn who_stops_hears_of_another_until_its_hosts_are_done() {
    let mut it = Fixture::active().await;
    let stopping = Stopping::begin(&it.end).await;
    it.see(Some(&other(2)));
    it.until_superseded().await;
    stopping.round.send(()).unwrap();
    stopping.drained.await.unwrap();
    assert!(it.xapi.is_silent(), "it has the last word no more");
}

#[tokio::test]
async fn the_last_word_comes_when_the_hosts_are_done() {
    let mut it = Fixture::active().await;
    it.see(None);
    let stopping = Stopping::begin(&it.end).await;
    let early = timeout(PATIENCE / 100, it.xapi.next(READ)).await;
    assert!(early.is_err(), "a host was still being written");
    stopping.round.send(()).unwrap();
    it.remove(None).await.answer("".into());
    it.add().await;
    // It is no longer known who has the pool.
    assert!(timeout(PATIENCE, async { while it.duty.changed().await.is_ok() {} }).await.is_ok());
}
