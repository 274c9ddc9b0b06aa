use super::client::{Client, config, error, pool, text};
use drawbridge_wire::xmlrpc::Value;
use std::collections::HashSet;
use xapi_mock::Mock;
use xapi_mock::faults::Fault;

fn strings(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| Value::from(*text)).collect()
}

#[tokio::test]
async fn login_takes_two_to_four_parameters() {
    let mock = pool().await;
    let client = Client::at(&mock, 0, "");
    for params in [&["root", "secret"][..], &["root", "secret", "1.0"], &["root", "secret", "1.0", "test"]] {
        let session = client.open("session.login_with_password", &strings(params)).unwrap();
        assert!(text(&session).starts_with("OpaqueRef:"));
    }
    let mismatch =
        |received| error(&["MESSAGE_PARAMETER_COUNT_MISMATCH", "session.login_with_password", "2", received]);
    assert_eq!(client.open("session.login_with_password", &strings(&["root"])), mismatch("1"));
    assert_eq!(
        client.open("session.login_with_password", &strings(&["root", "secret", "1", "o", "x"])),
        mismatch("5")
    );
}

#[tokio::test]
async fn a_wrong_password_is_named_after_the_user_and_not_shown() {
    let mock = pool().await;
    let client = Client::at(&mock, 0, "");
    for user in ["root", "nobody"] {
        let refused = client.open("session.login_with_password", &strings(&[user, "wr0ng"])).unwrap_err();
        assert_eq!(refused[..2], ["SESSION_AUTHENTICATION_FAILED", user]);
        assert!(!refused.join(" ").contains("wr0ng"));
    }
}

#[tokio::test]
async fn a_slave_sends_everybody_to_the_master() {
    let mock = pool().await;
    let master = Client::login(&mock);
    let slave = Client::at(&mock, 1, &master.session);
    let address = master.text("host.get_address", &[master.find("host", "host1").into()]);
    let expected = error(&["HOST_IS_SLAVE", &address]);
    assert_eq!(slave.open("session.login_with_password", &strings(&["root", "secret"])), expected);
    assert_eq!(slave.call("VM.get_all", &[]), expected);
    assert_eq!(slave.call("no.such_method", &[]), expected);
    // All hosts listen on one port, so the address alone leads there.
    let port = |url: &str| url.rsplit(':').next().map(str::to_owned);
    assert_eq!(port(&mock.hosts()[0].url), port(&mock.hosts()[1].url));
    assert_eq!(mock.master_url(), format!("https://{address}:{}", port(&mock.master_url()).unwrap()));
}

#[tokio::test]
async fn logout_and_loss_end_a_session_and_login_helps() {
    let mock = pool().await;
    let client = Client::login(&mock);
    client.call("session.logout", &[]).unwrap();
    let invalid = error(&["SESSION_INVALID", &client.session]);
    assert_eq!(client.call("VM.get_all", &[]), invalid);
    assert_eq!(client.call("session.logout", &[]), invalid);

    let client = Client::login(&mock);
    mock.faults().inject(Fault::DropSessions);
    assert_eq!(client.call("VM.get_all", &[]), error(&["SESSION_INVALID", &client.session]));
    assert!(Client::login(&mock).call("VM.get_all", &[]).is_ok());
    assert_eq!(
        Client::at(&mock, 0, "OpaqueRef:NULL").call("pool.get_all", &[]),
        error(&["SESSION_INVALID", "OpaqueRef:NULL"])
    );
}

#[tokio::test]
async fn the_oldest_of_500_sessions_of_an_originator_gives_way() {
    let mock = pool().await;
    let client = Client::at(&mock, 0, "");
    let login = |originator: &str| {
        let session =
            client.open("session.login_with_password", &strings(&["root", "secret", "1.0", originator]));
        Client::at(&mock, 0, &text(&session.unwrap()))
    };
    let other = login("other");
    let first = login("many");
    let second = login("many");
    for _ in 0..498 {
        login("many");
    }
    assert!(first.call("pool.get_all", &[]).is_ok());
    login("many");
    assert_eq!(first.call("pool.get_all", &[]), error(&["SESSION_INVALID", &first.session]));
    assert!(second.call("pool.get_all", &[]).is_ok());
    assert!(other.call("pool.get_all", &[]).is_ok());
}

#[tokio::test]
async fn equal_configurations_give_equal_references() {
    async fn everything() -> HashSet<String> {
        let mock = Mock::start(config()).await.unwrap();
        let client = Client::login(&mock);
        let mut all = HashSet::new();
        for class in ["VM", "VIF", "network", "host", "PIF", "pool"] {
            let references = super::client::texts(&client.call(&format!("{class}.get_all"), &[]).unwrap());
            assert!(!references.is_empty(), "{class}");
            all.extend(references);
        }
        mock.stop().await;
        all
    }
    assert_eq!(everything().await, everything().await);
}
