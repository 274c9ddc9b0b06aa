use drawbridge_wire::{Signer, generate_keypair};
use ruleset::resolve::HostPolicy;

use super::super::duty::Standby;
use super::super::fixture::{PATIENCE, Xapi, records, reference};
use super::*;

/// A worker that has something to do, and what belongs to it.
struct Fixture {
    worker: Worker,
    duty: watch::Sender<Duty>,
    health: watch::Receiver<Health>,
    /// Those that the worker must not see the end of.
    others: (watch::Sender<Task>, watch::Sender<u64>),
}

fn fixture(turns: &Arc<Turns>, xapi: &Xapi) -> Fixture {
    let signer = Signer::from_private_key(generate_keypair().unwrap().0.expose()).unwrap();
    let wanted = HostDesired {
        backend: Backend::Bridge,
        policy: HostPolicy::default(),
        locking: Vec::new(),
        locked: [].into(),
    };
    let task = Task {
        plan: 1,
        generation: 1,
        name: "host1".to_owned(),
        uuid: "00000000-0000-0000-0000-000000000001".to_owned(),
        incarnation: String::new(),
        hosts: 1,
        wanted: Arc::new(wanted),
    };
    let (give, tasks) = watch::channel(task);
    let (kick, kicks) = watch::channel(0);
    let (tell, health) = watch::channel(Health::default());
    let duty = watch::Sender::new(Duty::Active);
    let worker = Worker {
        pool: Arc::new(Pool { client: xapi.client.clone(), signer }),
        host: reference("host1"),
        tasks,
        kicks,
        duty: duty.subscribe(),
        health: tell,
        bell: Bell::default(),
        turns: Arc::clone(turns),
        timing: Timing::from(Reconcile::default()),
        instance: "me".into(),
        dispelled: dom0::doubts(),
    };
    Fixture { worker, duty, health, others: (give, kick) }
}

fn superseded() -> Duty {
    Duty::Standby(Standby::Superseded { by: "another".to_owned() })
}

#[tokio::test]
async fn who_has_lost_the_pool_by_the_time_of_its_turn_begins_nothing() {
    let turns = Arc::new(Turns::new(4));
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(turns.take(false).await.unwrap());
    }
    let xapi = Xapi::start().await;
    let Fixture { worker, duty, health, others: _others } = fixture(&turns, &xapi);
    tokio::spawn(worker.run());
    // It comes to wait for its turn.
    tokio::task::yield_now().await;
    duty.send_replace(superseded());
    drop(taken);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(health.borrow().attempts, 0);
    assert!(xapi.is_silent());
}

#[tokio::test]
async fn who_loses_the_pool_goes_no_further() {
    let mut xapi = Xapi::start().await;
    let Fixture { worker, duty, mut health, others: _others } = fixture(&Arc::new(Turns::new(4)), &xapi);
    tokio::spawn(worker.run());
    let _unanswered = xapi.next("host.call_plugin").await;
    duty.send_replace(superseded());
    let health = timeout(PATIENCE, health.wait_for(|health| health.attempts > 0)).await.unwrap().unwrap();
    assert_eq!(health.failing.as_ref().map(|failing| failing.reason.as_str()), Some(LOST));
}

/// What comes of a doubt whose pool the record says in turn to be these drivers'; the last one for good.
async fn in_doubt(says: &[Option<&str>]) -> Result<(), String> {
    let mut xapi = Xapi::start().await;
    let Fixture { mut worker, .. } = fixture(&Arc::new(Turns::new(4)), &xapi);
    worker.dispelled = u64::MAX;
    let mut done = tokio::spawn(async move { worker.dispel_doubts().await });
    let mut says = says.iter();
    let mut last = None;
    loop {
        tokio::select! {
            done = &mut done => {
                assert_eq!(says.next(), None, "not asked often enough");
                return done.unwrap();
            }
            call = xapi.next("pool.get_all_records") => {
                last = says.next().copied().unwrap_or(last);
                call.answer(records(last.map(|name| format!("1 {name} s 7"))));
            }
        }
    }
}

/// A driver was renewing its claim when an operator's command wrote to a host: it said that another driver had the pool.
#[tokio::test]
async fn a_record_that_names_nobody_is_asked_for_again() {
    assert_eq!(in_doubt(&[Some("me")]).await, Ok(()));
    assert_eq!(in_doubt(&[None, None, Some("me")]).await, Ok(()));
    assert_eq!(in_doubt(&[Some("another")]).await.unwrap_err(), LOST);
    assert_eq!(in_doubt(&[None, Some("another")]).await.unwrap_err(), LOST);
    assert_eq!(in_doubt(&[None]).await.unwrap_err(), NOBODYS);
}
