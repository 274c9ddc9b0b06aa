//! `event.from`: what changed, waited for, and what XAPI leaves out.

use std::time::{Duration, Instant};

use drawbridge_wire::xmlrpc::Value;
use xapi_mock::faults::{EventTrap, Fault};

use super::client::{Client, Outcome, error, map, pool, text, texts};
use super::lifecycle::Vm;

/// One event: class, operation, reference, whether there is a snapshot.
type Event = (String, String, String, bool);

struct Answer {
    events: Vec<Event>,
    token: String,
    counts: Value,
}

fn ask(client: &Client, classes: &[&str], token: &str, seconds: f64) -> Outcome {
    let classes: Value = classes.iter().copied().collect();
    client.call("event.from", &[classes, token.into(), Value::Double(seconds)])
}

fn from(client: &Client, classes: &[&str], token: &str, seconds: f64) -> Answer {
    let answer = ask(client, classes, token, seconds).unwrap();
    let member = |value: &Value, name: &str| text(value.member(name).unwrap());
    let Some(Value::Array(events)) = answer.member("events") else { panic!("no events: {answer:?}") };
    let event = |event: &Value| {
        assert_eq!(member(event, "timestamp"), "0.0");
        assert!(member(event, "id").parse::<u64>().is_ok());
        let snapshot = event.member("snapshot");
        assert!(snapshot.is_none_or(|record| record.member("uuid").is_some()));
        (member(event, "class"), member(event, "operation"), member(event, "ref"), snapshot.is_some())
    };
    Answer {
        events: events.iter().map(event).collect(),
        token: member(&answer, "token"),
        counts: answer.member("valid_ref_counts").unwrap().clone(),
    }
}

impl Answer {
    /// What happened to objects of a class, in order.
    fn of(&self, class: &str) -> Vec<(&str, &str)> {
        let events = self.events.iter().filter(|event| event.0 == class);
        events.map(|(_, operation, reference, _)| (operation.as_str(), reference.as_str())).collect()
    }

    fn count(&self, class: &str) -> &Value {
        self.counts.member(class).unwrap()
    }
}

/// The token of now.
fn now(client: &Client) -> String {
    from(client, &["*"], "", 0.0).token
}

#[tokio::test]
async fn without_a_token_everything_is_new_once() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let answer = from(&client, &["*"], "", 10.0);
    for class in ["host", "host_metrics", "network", "PIF", "pool", "VIF", "VM"] {
        let mut all = texts(&client.call(&format!("{class}.get_all"), &[]).unwrap());
        let lower = class.to_lowercase();
        assert_eq!(answer.count(&lower), &Value::Int(all.len().try_into().unwrap()), "{class}");
        let mut told: Vec<_> = answer.of(&lower).iter().map(|(_, object)| (*object).to_owned()).collect();
        all.sort();
        told.sort();
        assert_eq!(told, all, "{class}");
    }
    assert!(answer.events.iter().all(|event| event.1 == "add" && event.3));
    let (db, messages) = answer.token.split_once(',').unwrap();
    assert_eq!((db.len(), messages), (20, "00000000000000000000"));
}

#[tokio::test]
async fn without_a_change_it_waits_and_says_nothing() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let token = now(&client);
    let start = Instant::now();
    let answer = from(&client, &["vm"], &token, 0.3);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!((answer.events.len(), answer.token), (0, token));
}

#[tokio::test]
async fn a_change_ends_the_wait_and_is_told_with_what_it_changed_elsewhere() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let token = now(&client);
    let (vm, network) = (client.find("VM", "b"), client.find("network", "net"));
    let record = Value::Struct(
        [("device", "7"), ("network", network.as_str()), ("VM", vm.as_str()), ("MAC", "02:00:00:00:00:99")]
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .into(),
    );
    let waiting = Client::at(&mock, 0, &client.session);
    let (vif, answer) = std::thread::scope(|scope| {
        let waits = scope.spawn(|| from(&waiting, &["vm", "VIF", "network"], &token, 20.0));
        std::thread::sleep(Duration::from_millis(50));
        let vif = text(&client.call("VIF.create", &[record]).unwrap());
        (vif, waits.join().unwrap())
    });
    assert_eq!(answer.of("vif"), [("add", vif.as_str())]);
    assert_eq!(answer.of("vm"), [("mod", vm.as_str())]);
    assert_eq!(answer.of("network"), [("mod", network.as_str())]);
    assert_eq!(from(&client, &["*"], &answer.token, 0.0).events.len(), 0);
}

#[tokio::test]
async fn a_life_between_two_calls_is_one_event_and_a_death_has_no_snapshot() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let token = now(&client);
    let (a, b) = (Vm::named(&client, "a"), Vm::named(&client, "b"));
    a.start(false);
    a.call("hard_reboot", &[]).unwrap();
    a.call("hard_shutdown", &[]).unwrap();
    let vifs = texts(&b.call("get_VIFs", &[]).unwrap());
    b.call("destroy", &[]).unwrap();
    let answer = from(&client, &["vm", "vif"], &token, 10.0);
    assert_eq!(answer.of("vm"), [("mod", a.reference.as_str()), ("del", b.reference.as_str())]);
    assert!(answer.of("vif").contains(&("del", vifs[0].as_str())));
    assert!(answer.events.iter().all(|event| event.3 == (event.1 != "del")));
    // Deleted objects are not in a full answer, and what came and went in between is told nowhere.
    assert!(from(&client, &["vm"], "", 0.0).of("vm").iter().all(|(_, object)| *object != b.reference));
    let task = text(
        &client.call("Async.VM.start", &[a.reference.as_str().into(), false.into(), false.into()]).unwrap(),
    );
    client.call("task.destroy", &[task.into()]).unwrap();
    assert_eq!(from(&client, &["task"], &answer.token, 0.0).events.len(), 0);
}

#[tokio::test]
async fn writing_what_stands_there_is_no_change() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    let token = now(&client);
    vm.call("set_name_label", &["a".into()]).unwrap();
    assert_eq!(from(&client, &["*"], &token, 0.0).events.len(), 0);
    vm.call("set_other_config", &[map(&[("k", "v")])]).unwrap();
    assert_eq!(from(&client, &["*"], &token, 10.0).of("vm"), [("mod", vm.reference.as_str())]);
}

#[tokio::test]
async fn one_object_alone_can_be_watched() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let (a, b) = (Vm::named(&client, "a"), Vm::named(&client, "b"));
    let token = now(&client);
    let only = format!("VM/{}", a.reference);
    b.call("set_name_description", &["x".into()]).unwrap();
    assert_eq!(from(&client, &[&only], &token, 0.1).events.len(), 0);
    a.call("set_name_description", &["x".into()]).unwrap();
    let answer = from(&client, &[&only], &token, 10.0);
    assert_eq!(answer.of("vm"), [("mod", a.reference.as_str())]);
}

#[tokio::test]
async fn what_is_no_token_class_or_time_is_refused() {
    let mock = pool().await;
    let client = Client::login(&mock);
    for token in ["x", "1", "1,", "-1,0", "1,2,3"] {
        assert_eq!(ask(&client, &["vm"], token, 0.0).unwrap_err(), ["EVENT_FROM_TOKEN_PARSE_FAILURE", token]);
    }
    for class in ["vm/a/b", "vm//"] {
        assert_eq!(ask(&client, &[class], "", 0.0), error(&["EVENT_SUBSCRIPTION_PARSE_FAILURE", class]));
    }
    assert_eq!(from(&client, &["none_such"], "", 0.0).events.len(), 0);
    for seconds in [Value::from("0"), Value::Int(0)] {
        let classes: Value = ["vm"].into_iter().collect();
        client.call("event.from", &[classes, "".into(), seconds]).unwrap();
    }
}

#[tokio::test]
async fn the_end_of_the_session_ends_the_wait() {
    let mock = pool().await;
    let (client, other) = (Client::login(&mock), Client::login(&mock));
    let token = now(&client);
    for end in ["logout", "restart"] {
        let waiting = Client::login(&mock);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| ask(&waiting, &["vm"], &token, 20.0));
            std::thread::sleep(Duration::from_millis(50));
            match end {
                "logout" => drop(Client::at(&mock, 0, &waiting.session).call("session.logout", &[]).unwrap()),
                _ => mock.faults().inject(Fault::DropSessions),
            }
            assert_eq!(waits.join().unwrap(), error(&["SESSION_INVALID", &waiting.session]), "{end}");
        });
    }
    assert_eq!(ask(&other, &["vm"], "", 0.0), error(&["SESSION_INVALID", &other.session]));
}

#[tokio::test]
async fn a_token_from_the_future_waits_and_misses_what_happens_meanwhile() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    let token = now(&client);
    mock.set_back_events(5);
    vm.call("set_name_description", &["x".into()]).unwrap();
    let answer = from(&client, &["vm"], &token, 0.1);
    assert_eq!((answer.events.len(), answer.token.as_str()), (0, token.as_str()));
    assert!(now(&client) < token);
}

#[tokio::test]
async fn only_some_hundred_deletions_are_remembered_but_the_counts_are_right() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let (vm, network) = (client.find("VM", "b"), client.find("network", "net"));
    let vifs: Vec<_> = (10..610)
        .map(|device: u32| {
            let mac = format!("02:00:00:00:{:02x}:{:02x}", device >> 8, device & 0xff);
            let device = device.to_string();
            let fields = [("device", device.as_str()), ("network", &network), ("VM", &vm), ("MAC", &mac)];
            text(&client.call("VIF.create", &[map(&fields)]).unwrap())
        })
        .collect();
    let token = now(&client);
    for vif in vifs {
        client.call("VIF.destroy", &[vif.into()]).unwrap();
    }
    let answer = from(&client, &["vif"], &token, 0.0);
    assert!((256..=512).contains(&answer.events.len()), "{}", answer.events.len());
    assert_eq!(answer.count("vif"), &Value::Int(4));
}

#[tokio::test]
async fn answers_can_be_spoilt() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let trap = |trap| mock.faults().inject(Fault::Events { trap, times: 1 });
    let a = Vm::named(&client, "a");
    let change = |to: &str| a.call("set_name_description", &[to.into()]).unwrap();

    let token = now(&client);
    trap(EventTrap::Duplicate);
    change("1");
    let answer = from(&client, &["vm"], &token, 10.0);
    assert_eq!(answer.of("vm"), [("mod", a.reference.as_str()); 2]);

    trap(EventTrap::DropDeletions);
    change("2");
    let token = from(&client, &["vm"], &answer.token, 10.0).token;
    Vm::named(&client, "b").call("destroy", &[]).unwrap();
    let answer = from(&client, &["vm", "network"], &token, 10.0);
    assert_eq!((answer.of("vm").len(), answer.of("network").len()), (0, 1), "waits for a deletion to drop");

    trap(EventTrap::Reverse);
    change("3");
    Vm::named(&client, "template").call("destroy", &[]).unwrap();
    let answer = from(&client, &["vm"], &answer.token, 10.0);
    assert_eq!(answer.of("vm").iter().map(|event| event.0).collect::<Vec<_>>(), ["del", "mod"]);

    trap(EventTrap::TokenBack);
    change("4");
    assert!(from(&client, &["vm"], &answer.token, 10.0).token < answer.token);
    assert_eq!(from(&client, &["vm"], &answer.token, 10.0).of("vm").len(), 1, "once");
}
