//! Each way in which events mislead, by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use drawbridge_wire::xmlrpc::Value;
use xapi_mock::faults::{EventTrap, Fault, HostState};
use xenapi::{CallError, EventClass, FullRead, Ref, Vif, Vm};

use crate::*;

/// A watch that has read the pool, and the client beside it.
async fn watching(mock: &Mock) -> (Watch, Client) {
    let mut watch = Watch::with_config(client(mock), QUICK);
    assert!(!watch.is_filled());
    watch.next().await.unwrap();
    assert_eq!(watch.last_full_read(), Some(FullRead::First));
    (watch, client(mock))
}

fn named(watch: &Watch, name: &str) -> Ref<Vm> {
    watch.cache().vms.iter().find(|(_, vm)| vm.name_label == name).unwrap().0.clone()
}

async fn describe(client: &Client, vm: &Ref<Vm>, key: &str) {
    let params = vec![vm.into(), key.into(), "x".into()];
    client.call("VM.add_to_other_config", params).await.unwrap();
}

#[tokio::test]
async fn the_first_turn_fills_the_cache_and_says_that_all_is_new() {
    let mock = pool().await;
    let mut watch = Watch::start(client(&mock));
    let changed = watch.next().await.unwrap();
    assert_eq!(**watch.cache(), full_read(&client(&mock)).await);
    assert_eq!((changed.hosts.len(), changed.networks.len(), changed.pools.len()), (2, 2, 1));
    assert_eq!((changed.vms.len(), changed.vifs.len(), changed.pifs.len()), (6, 8, 4));
    assert!(changed.vms.values().all(Option::is_none));
}

#[tokio::test]
async fn a_change_is_told_with_what_was_before_and_old_states_can_be_kept() {
    let mock = pool().await;
    let (mut watch, client) = watching(&mock).await;
    let (vm, old) = (named(&watch, "vm1"), Arc::clone(watch.cache()));
    client.start(&vm, false).await.unwrap();
    let mut changed = watch.next().await.unwrap();
    assert_eq!(changed.vms.remove(&vm).unwrap().as_ref(), Some(&old.vms[&vm]));
    assert!(watch.cache().vms[&vm].domid.is_some() && old.vms[&vm].domid.is_none());
    assert_eq!(changed.vifs.len(), 2);
    client.hard_shutdown(&vm).await.unwrap();
    client.destroy(&vm).await.unwrap();
    let changed = watch.next().await.unwrap();
    assert!(changed.vms[&vm].is_some() && !watch.cache().vms.contains_key(&vm));
}

#[tokio::test]
async fn nothing_happens_and_it_returns_all_the_same() {
    let mock = pool().await;
    let (mut watch, client) = watching(&mock).await;
    assert!(watch.next().await.unwrap().is_empty());
    // Fields that are not read do not count.
    let vm = named(&watch, "vm1");
    client.call("VM.set_name_description", vec![(&vm).into(), "x".into()]).await.unwrap();
    assert!(watch.next().await.unwrap().is_empty());
    assert_eq!(watch.last_full_read(), Some(FullRead::First));
}

#[tokio::test]
async fn a_deletion_that_is_not_told_is_found_by_the_counts() {
    let mock = pool().await;
    let (mut watch, client) = watching(&mock).await;
    let vm = named(&watch, "vm2");
    mock.faults().inject(Fault::Events { trap: EventTrap::DropDeletions, times: 1 });
    client.destroy(&vm).await.unwrap();
    let changed = watch.next().await.unwrap();
    assert_eq!(watch.last_full_read(), Some(FullRead::Miscounted(EventClass::Vif)));
    assert_eq!((changed.vms.contains_key(&vm), changed.vifs.len()), (true, 2));
    assert_eq!(**watch.cache(), full_read(&client).await);
}

#[tokio::test]
async fn a_token_that_goes_back_is_not_gone_on_from() {
    let mock = pool().await;
    let (mut watch, client) = watching(&mock).await;
    mock.faults().inject(Fault::Events { trap: EventTrap::TokenBack, times: 1 });
    describe(&client, &named(&watch, "vm1"), "k").await;
    assert_eq!(watch.next().await.unwrap().vms.len(), 1);
    assert_eq!(watch.last_full_read(), Some(FullRead::WentBack));
}

#[tokio::test]
async fn events_twice_or_the_other_way_round_are_the_same_events() {
    let mock = pool().await;
    let (mut watch, client) = watching(&mock).await;
    for (vm, trap) in [("vm1", EventTrap::Duplicate), ("vm2", EventTrap::Reverse)] {
        mock.faults().inject(Fault::Events { trap, times: 1 });
        describe(&client, &named(&watch, "vm3"), vm).await;
        client.destroy(&named(&watch, vm)).await.unwrap();
        let changed = watch.next().await.unwrap();
        assert_eq!((changed.vms.len(), changed.vifs.len()), (2, 2), "{trap:?}");
        assert_eq!(**watch.cache(), full_read(&client).await, "{trap:?}");
    }
    assert_eq!(watch.last_full_read(), Some(FullRead::First));
}

/// The database's count goes back, which nothing in the answers shows: the time comes when everything is read.
#[tokio::test]
async fn what_no_answer_shows_ends_with_the_next_full_read() {
    let mock = pool().await;
    let config = WatchConfig { full_read: Duration::from_millis(300), ..QUICK };
    let mut watch = Watch::with_config(client(&mock), config);
    watch.next().await.unwrap();
    mock.set_back_events(5);
    describe(&client(&mock), &named(&watch, "vm1"), "k").await;
    while next(&mut watch).await.vms.is_empty() {}
    assert_eq!(watch.last_full_read(), Some(FullRead::Due));
}

#[tokio::test]
async fn xapi_may_say_itself_that_events_are_lost() {
    let mock = pool().await;
    let (mut watch, _) = watching(&mock).await;
    for code in ["EVENTS_LOST", "EVENT_FROM_TOKEN_PARSE_FAILURE"] {
        let method = Some("event.from".to_owned());
        mock.faults().inject(Fault::Refuse { method, code: code.to_owned(), params: vec![], times: 1 });
        assert!(watch.next().await.unwrap().is_empty());
        assert_eq!(watch.last_full_read(), Some(FullRead::EventsLost));
    }
}

#[tokio::test]
async fn after_a_restart_of_the_toolstack_everything_is_read() {
    let mock = pool().await;
    let (mut watch, client) = watching(&mock).await;
    let vm = named(&watch, "vm1");
    client.destroy(&vm).await.unwrap();
    mock.restart_toolstack("host1").unwrap();
    assert!(next(&mut watch).await.vms.contains_key(&vm));
    assert_eq!(watch.last_full_read(), Some(FullRead::NewSession));
    assert_eq!(**watch.cache(), full_read(&client).await);
}

/// While it waits, too: the call ends in an error, and the next goes on.
#[tokio::test]
async fn a_restart_while_it_waits_is_survived() {
    let mock = pool().await;
    let mut watch = Watch::with_config(client(&mock), WatchConfig { wait: Duration::from_secs(20), ..QUICK });
    watch.next().await.unwrap();
    let waits = tokio::spawn(async move {
        let outcome = watch.next().await;
        (outcome, watch)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    mock.restart_toolstack("host1").unwrap();
    let (outcome, mut watch) = waits.await.unwrap();
    assert!(matches!(outcome, Err(CallError::Interrupted { .. })), "{outcome:?}");
    let changed = next(&mut watch).await;
    assert_eq!((changed.hosts.len(), changed.vms.len()), (1, 0), "the host says since when XAPI runs");
    assert_eq!(watch.last_full_read(), Some(FullRead::NewSession));
}

#[tokio::test]
async fn a_new_master_is_followed() {
    let mock = pool().await;
    let (mut watch, client) = watching(&mock).await;
    mock.change_master("host2").unwrap();
    describe(&client, &named(&watch, "vm1"), "k").await;
    let changed = next(&mut watch).await;
    assert_eq!((changed.pools.len(), changed.vms.len()), (1, 1));
    assert_eq!(watch.last_full_read(), Some(FullRead::NewSession));
    assert_eq!(**watch.cache(), full_read(&client).await);
}

/// The configured host is the one that is gone; the others are known from the records.
#[tokio::test]
async fn a_new_master_is_found_when_the_old_one_is_gone_for_good() {
    let mock = pool().await;
    let (mut watch, _) = watching(&mock).await;
    mock.faults().inject(Fault::Host { host: "host1".to_owned(), state: HostState::Offline });
    mock.change_master("host2").unwrap();
    let changed = next(&mut watch).await;
    assert_eq!(changed.pools.len(), 1);
    assert_eq!(**watch.cache(), full_read(&client_at(&mock, 1)).await);
}

#[tokio::test]
async fn a_turn_that_is_dropped_loses_nothing() {
    let mock = pool().await;
    let (mut watch, client) = watching(&mock).await;
    let vm = named(&watch, "vm1");
    for n in 0..20 {
        describe(&client, &vm, &n.to_string()).await;
        let _dropped = tokio::time::timeout(Duration::from_millis(7 * n), watch.next()).await;
    }
    let config = &watch.cache().vms[&vm].other_config;
    if config.len() < 20 {
        next(&mut watch).await;
    }
    assert_eq!(watch.cache().vms[&vm].other_config.len(), 20);
    assert_eq!(**watch.cache(), full_read(&client).await);
}

/// Nothing closes the connection, as when a network is cut: the call ends all the same, and what happened meanwhile is
/// seen when the network is back.
#[tokio::test]
async fn silence_is_an_error_in_bounded_time() {
    let mock = pool().await;
    let config = WatchConfig { grace: Duration::from_millis(200), ..QUICK };
    let mut watch = Watch::with_config(client(&mock).with_call_timeout(Duration::from_secs(1)), config);
    watch.next().await.unwrap();
    let state = |state| Fault::Host { host: "host1".to_owned(), state };
    mock.faults().inject(state(HostState::Silent));
    let start = Instant::now();
    for _ in 0..2 {
        let error = watch.next().await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. } | CallError::Connect { .. }), "{error:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    mock.faults().inject(state(HostState::Online));
    let vm = named(&watch, "vm1");
    describe(&client(&mock), &vm, "k").await;
    assert!(next(&mut watch).await.vms.contains_key(&vm));
    assert_eq!(watch.last_full_read(), Some(FullRead::Silence));
}

#[tokio::test]
async fn a_record_that_cannot_be_understood_is_an_error_that_names_it() {
    let mock = pool().await;
    let (mut watch, client) = watching(&mock).await;
    let vm = named(&watch, "vm1");
    let network = watch.cache().networks.keys().next().unwrap().clone();
    let fields = [("device", "5".into()), ("network", (&network).into()), ("VM", (&vm).into())];
    let mode = [("MAC", "02:00:00:00:00:01".into()), ("locking_mode", "of a later version".into())];
    let members = fields.into_iter().chain(mode).map(|(name, value)| (name.to_owned(), value));
    let vif = client.call("VIF.create", vec![Value::Struct(members.collect())]).await.unwrap();
    let vif = Ref::<Vif>::new(vif.as_str().unwrap());
    let before = Arc::clone(watch.cache());
    let error = watch.next().await.unwrap_err();
    let CallError::Decode { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains(vif.as_str()), "{source}");
    assert_eq!(*watch.cache(), before);
    client.call("VIF.destroy", vec![(&vif).into()]).await.unwrap();
    next(&mut watch).await;
    assert_eq!(**watch.cache(), full_read(&client).await);
}
