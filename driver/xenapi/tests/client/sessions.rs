//! Logging in, once for all callers, at the pool's master.

use crate::server::bind_two_hosts;
use crate::*;

#[tokio::test]
async fn the_first_call_logs_in_and_the_session_stands_before_its_parameters() {
    let server = answering(|_| Reply::Value(Value::Int(7))).await;
    let client = plain(&server);
    assert_eq!(server.methods(), [""; 0]);
    assert_eq!(client.call("a.b", vec!["p".into(), true.into()]).await.unwrap(), Value::Int(7));
    client.call("a.c", vec![]).await.unwrap();
    let strings = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect::<Vec<Value>>();
    let calls = server.calls();
    assert_eq!(calls[0].params, strings(&["root", PASSWORD, "1.0", "drawbridge"]));
    assert_eq!(
        (calls[1].name.as_str(), &calls[1].params),
        ("a.b", &vec![SESSION.into(), "p".into(), true.into()])
    );
    assert_eq!((calls[2].name.as_str(), &calls[2].params), ("a.c", &strings(&[SESSION])));
    assert_eq!(calls.len(), 3);
}

/// Sessions are numbered; all up to `over` are invalid.
async fn numbering(over: usize) -> Server {
    let mut logins = 0;
    Server::plain(move |call| {
        if is_login(call) {
            logins += 1;
            return Reply::Value(format!("{SESSION}-{logins}").into());
        }
        let session = call.params[0].as_str().unwrap();
        let number: usize = session.rsplit('-').next().unwrap().parse().unwrap();
        if number <= over { Reply::failure(&["SESSION_INVALID", session]) } else { Reply::ok() }
    })
    .await
}

#[tokio::test]
async fn a_forgotten_session_is_replaced_and_the_call_sent_once_more() {
    let server = numbering(1).await;
    plain(&server).call("a.b", vec!["p".into()]).await.unwrap();
    let login = "session.login_with_password";
    assert_eq!(server.methods(), [login, "a.b", login, "a.b"]);
    assert_eq!(server.calls()[3].params[1], Value::from("p"));
}

#[tokio::test]
async fn a_session_forgotten_again_is_an_error_that_does_not_show_it() {
    let server = numbering(usize::MAX).await;
    let client = plain(&server);
    let error = client.call("a.b", vec![]).await.unwrap_err();
    assert_eq!(api(&error).kind(), Kind::SessionInvalid);
    assert!(!everything(&error).contains(SESSION), "{}", everything(&error));
    assert_eq!(server.methods().len(), 4);
}

#[tokio::test]
async fn many_callers_share_one_login_and_one_login_anew() {
    let server = numbering(1).await;
    let client = plain(&server);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call("a.b", vec![]).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(server.calls().iter().filter(|call| is_login(call)).count(), 2);
}

#[tokio::test]
async fn a_wrong_password_is_its_own_error_and_is_not_shown() {
    for description in [
        ["SESSION_AUTHENTICATION_FAILED", "root", PASSWORD],
        ["RBAC_PERMISSION_DENIED", "session.login_with_password", "no roles"],
    ] {
        let server = Server::plain(move |_| Reply::failure(&description)).await;
        let client = plain(&server);
        let error = client.call("a.b", vec![]).await.unwrap_err();
        let CallError::Authentication { username, source, .. } = &error else { panic!("{error:?}") };
        assert_eq!((username.as_str(), source.code.as_str()), ("root", description[0]));
        assert!(!everything(&error).contains(PASSWORD), "{}", everything(&error));
        assert!(!format!("{client:?}").contains(PASSWORD), "{client:?}");
        assert_eq!(server.methods().len(), 1, "not tried again");
    }
}

#[tokio::test]
async fn a_login_that_gives_no_session_is_an_error() {
    for value in [Value::from(""), Value::Nil, Value::Int(5)] {
        let server = Server::plain(move |_| Reply::Value(value.clone())).await;
        let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
        assert!(matches!(error, CallError::Decode { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn logging_out_closes_the_session_and_the_next_call_opens_another() {
    let server = numbering(0).await;
    let client = plain(&server);
    client.logout().await.unwrap();
    assert_eq!(server.methods(), [""; 0], "there was none");
    client.call("a.b", vec![]).await.unwrap();
    client.logout().await.unwrap();
    client.logout().await.unwrap();
    client.call("a.c", vec![]).await.unwrap();
    let login = "session.login_with_password";
    assert_eq!(server.methods(), [login, "a.b", "session.logout", login, "a.c"]);
}

#[tokio::test]
async fn logging_out_of_a_forgotten_session_is_fine() {
    let server = answering(|call| match call.name.as_str() {
        "session.logout" => Reply::failure(&["SESSION_INVALID", SESSION]),
        _ => Reply::ok(),
    })
    .await;
    let client = plain(&server);
    client.call("a.b", vec![]).await.unwrap();
    client.logout().await.unwrap();
}

#[tokio::test]
async fn a_slave_that_names_a_slave_is_not_followed_further() {
    let (first, second) = bind_two_hosts().await;
    let one = Server::start(first, None, |_| Reply::failure(&["HOST_IS_SLAVE", "127.0.0.2"]));
    let two = Server::start(second, None, |_| Reply::failure(&["HOST_IS_SLAVE", "127.0.0.1"]));
    let error = plain(&one).call("a.b", vec![]).await.unwrap_err();
    assert_eq!(api(&error).kind(), Kind::HostIsSlave { master: "127.0.0.1" });
    assert_eq!((one.methods().len(), two.methods().len()), (1, 1));
}

#[tokio::test]
async fn a_master_that_is_no_address_or_not_ours_to_talk_to_is_refused() {
    for address in
        ["", "192.0.2.1", "localhost", "127.0.0.1:80", "127.0.0.1/x", "user@127.0.0.1", "a b", "[::1]"]
    {
        let server = Server::plain(move |_| Reply::failure(&["HOST_IS_SLAVE", address])).await;
        let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
        let CallError::BadMaster { address: named, .. } = &error else { panic!("{address}: {error:?}") };
        assert_eq!(named, address);
    }
}

#[tokio::test]
async fn a_change_of_the_master_is_followed() {
    let (first, second) = bind_two_hosts().await;
    let mut calls = 0;
    let old = Server::start(first, None, move |_| {
        calls += 1;
        if calls <= 2 { session() } else { Reply::failure(&["HOST_IS_SLAVE", "127.0.0.2"]) }
    });
    let new = Server::start(second, None, |_| session());
    let client = plain(&old);
    client.call("a.b", vec![]).await.unwrap();
    client.call("a.c", vec![]).await.unwrap();
    client.call("a.d", vec![]).await.unwrap();
    let login = "session.login_with_password";
    assert_eq!(old.methods(), [login, "a.b", "a.c", login]);
    assert_eq!(new.methods(), [login, "a.c", "a.d"]);
}

#[tokio::test]
async fn when_the_master_is_gone_the_configured_host_is_asked_again() {
    let (first, second) = bind_two_hosts().await;
    let mut asked = 0;
    let configured = Server::start(first, None, move |_| {
        asked += 1;
        if asked == 1 { Reply::failure(&["HOST_IS_SLAVE", "127.0.0.2"]) } else { session() }
    });
    let master = Server::start(second, None, |_| session());
    let client = plain(&configured);
    client.call("a.b", vec![]).await.unwrap();
    drop(master);
    // Until the server's task is gone a call may still reach it, or be cut.
    let deadline = Instant::now() + Duration::from_secs(5);
    while client.call("a.c", vec![]).await.is_err() || configured.methods().len() < 3 {
        assert!(Instant::now() < deadline, "{:?}", configured.methods());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let login = "session.login_with_password";
    assert_eq!(configured.methods(), [login, login, "a.c"]);
}
