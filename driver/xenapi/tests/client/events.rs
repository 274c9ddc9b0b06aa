//! `event.from` and the sessions its tokens belong to.

use std::sync::{Arc, Mutex};

use xenapi::EventClass;
use xenapi::client::Position;

use crate::*;

fn answer(token: &str) -> Reply {
    let member = |name: &str, value| (name.to_owned(), value);
    Reply::Value(Value::Struct(vec![
        member("events", Value::Array(vec![])),
        member("valid_ref_counts", Value::Struct(vec![])),
        member("token", token.into()),
    ]))
}

/// Answers with tokens 1, 2, 3, …; the tokens it was asked with are in the list. Session `invalid` is refused.
async fn numbering(invalid: Arc<Mutex<String>>) -> (Server, Arc<Mutex<Vec<Value>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen, mut logins, mut answers) = (Arc::clone(&asked), 0, 0);
    let server = Server::plain(move |call| {
        if is_login(call) {
            logins += 1;
            return Reply::Value(format!("{SESSION}-{logins}").into());
        }
        let session = call.params[0].as_str().unwrap();
        if session == *invalid.lock().unwrap() {
            return Reply::failure(&["SESSION_INVALID", session]);
        }
        seen.lock().unwrap().push(call.params[2].clone());
        answers += 1;
        answer(&answers.to_string())
    })
    .await;
    (server, asked)
}

async fn ask(client: &Client, position: Option<&Position>) -> xenapi::client::Batch {
    client
        .event_from(&[EventClass::Vm, EventClass::Pif], position, Duration::from_millis(1500))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_token_is_asked_with_in_its_own_session_only() {
    let invalid = Arc::new(Mutex::new(String::new()));
    let (server, asked) = numbering(Arc::clone(&invalid)).await;
    let client = plain(&server);
    let first = ask(&client, None).await;
    assert!(first.complete && !first.went_back);
    let second = ask(&client, Some(&first.position)).await;
    assert!(!second.complete && !second.went_back);
    // The session is gone: the call is made in a new one, where the token means nothing.
    *invalid.lock().unwrap() = format!("{SESSION}-1");
    let third = ask(&client, Some(&second.position)).await;
    assert!(third.complete);
    assert_eq!(*asked.lock().unwrap(), ["", "1", ""].map(Value::from));
    assert!(!ask(&client, Some(&third.position)).await.complete);
    assert!(ask(&client, Some(&second.position)).await.complete);

    let calls = server.calls();
    let classes: Value = ["vm", "pif"].into_iter().collect();
    assert_eq!(calls[1].name, "event.from");
    assert_eq!((&calls[1].params[1], &calls[1].params[3]), (&classes, &Value::Double(1.5)));
}

#[tokio::test]
async fn a_token_before_the_one_asked_with_is_told() {
    let mut tokens = ["5", "4", "4"].into_iter();
    let server = answering(move |_| answer(tokens.next().unwrap())).await;
    let client = plain(&server);
    let first = ask(&client, None).await;
    let second = ask(&client, Some(&first.position)).await;
    assert!(second.went_back);
    assert!(!ask(&client, Some(&second.position)).await.went_back);
}

/// XAPI takes its time by right: the wait comes on top of what a call may take.
#[tokio::test]
async fn the_wait_is_no_timeout() {
    let server = answering(|_| {
        std::thread::sleep(Duration::from_millis(400));
        answer("1")
    })
    .await;
    let client = plain(&server).with_call_timeout(Duration::from_millis(200));
    client.event_from(&[EventClass::Vm], None, Duration::from_secs(20)).await.unwrap();
    let server = answering(|_| Reply::Never).await;
    let client = plain(&server).with_call_timeout(Duration::from_millis(200));
    let error = client.event_from(&[EventClass::Vm], None, Duration::from_millis(100)).await.unwrap_err();
    let CallError::Timeout { method, after, .. } = &error else { panic!("{error:?}") };
    assert_eq!((method.as_str(), *after), ("event.from", Duration::from_millis(300)));
}

#[tokio::test]
async fn known_hosts_are_asked_when_the_configured_one_is_gone() {
    let (first, second) = server::bind_two_hosts().await;
    let configured = Server::start(first, None, |call| if is_login(call) { session() } else { Reply::ok() });
    let other = Server::start(second, None, |call| if is_login(call) { session() } else { Reply::ok() });
    let client = plain(&configured);
    client.set_known_hosts(["no address".to_owned(), "127.0.0.2".to_owned()]);
    client.call("a.b", vec![]).await.unwrap();
    assert_eq!(other.methods(), [""; 0]);
    drop(configured);
    // Until the server's task is gone a call may still reach it, or be cut.
    let deadline = Instant::now() + Duration::from_secs(5);
    while client.call("a.c", vec![]).await.is_err() || other.methods().is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(other.methods(), ["session.login_with_password", "a.c"]);
    client.set_known_hosts([]);
    drop(other);
    while client.call("a.d", vec![]).await.is_ok() {
        assert!(Instant::now() < deadline);
    }
    let error = client.call("a.e", vec![]).await.unwrap_err();
    assert!(matches!(&error, CallError::Connect { .. } | CallError::Interrupted { .. }), "{error:?}");
}
