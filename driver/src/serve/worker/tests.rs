use drawbridge_wire::{Signer, generate_keypair};
use ruleset::resolve::HostPolicy;
use tokio::net::TcpListener;
use xenapi::{Client, ClientConfig, Tls};

use super::super::duty::Standby;
use super::super::fixture::{PATIENCE, reference};
use super::*;

/// A worker that has something to do, under a XAPI that takes calls and never answers.
struct Fixture {
    xapi: TcpListener,
    duty: watch::Sender<Duty>,
    health: watch::Receiver<Health>,
    /// Those that the worker must not see the end of.
    _others: (watch::Sender<Task>, watch::Sender<u64>),
}

async fn start(turns: &Arc<Turns>) -> Fixture {
    let xapi = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", xapi.local_addr().unwrap());
    let client = ClientConfig::new(url, "root", "secret".into(), Tls::PlainLoopback);
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
        pool: Arc::new(Pool { client: Client::new(client).unwrap(), signer }),
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
    tokio::spawn(worker.run());
    Fixture { xapi, duty, health, _others: (give, kick) }
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
    let Fixture { xapi: _xapi, duty, health, _others } = start(&turns).await;
    // It comes to wait for its turn.
    tokio::task::yield_now().await;
    duty.send_replace(superseded());
    drop(taken);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(health.borrow().attempts, 0);
}

#[tokio::test]
async fn who_loses_the_pool_goes_no_further() {
    let Fixture { xapi, duty, mut health, _others } = start(&Arc::new(Turns::new(4))).await;
    let _call = timeout(PATIENCE, xapi.accept()).await.unwrap().unwrap();
    duty.send_replace(superseded());
    let health = timeout(PATIENCE, health.wait_for(|health| health.attempts > 0)).await.unwrap().unwrap();
    assert_eq!(health.failing.as_ref().map(|failing| failing.reason.as_str()), Some(LOST));
}
