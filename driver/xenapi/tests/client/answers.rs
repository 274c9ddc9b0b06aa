//! What comes back, or does not.

use crate::*;

#[tokio::test]
async fn what_is_no_answer_of_xapi_is_an_error() {
    let bodies: &[&[u8]] = &[
        b"",
        b"<html>Not found</html>",
        b"<methodResponse><params><param><value>x</value></param></params></methodResponse>",
        b"<methodResponse><params><param><value><struct></struct></value></param></params></methodResponse>",
        b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value>\
          </member></struct></value></param></params></methodResponse>",
        b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Failure</value>\
          </member></struct></value></param></params></methodResponse>",
        b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Perhaps</value>\
          </member><member><name>Value</name><value/></member></struct></value></param></params></methodResponse>",
        b"<methodResponse><params><param><value><struct><member><name>Status</name><value>Failure</value></member>\
          <member><name>ErrorDescription</name><value><array><data></data></array></value></member></struct></value>\
          </param></params></methodResponse>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><methodResponse/>",
        b"\xff\xfe\x00",
    ];
    for &body in bodies {
        let server = answering(move |_| Reply::Body(body.to_vec())).await;
        let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
        let CallError::Decode { method, .. } = &error else { panic!("{error:?}") };
        assert_eq!(method, "a.b");
    }
}

#[tokio::test]
async fn a_fault_is_an_error_with_its_code() {
    let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>-3</int></value></member>\
         <member><name>faultString</name><value>broken</value></member></struct></value></fault></methodResponse>";
    let server = answering(|_| Reply::Body(fault.into())).await;
    let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
    assert_eq!(api(&error).to_string(), "Fault: -3, broken");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_read() {
    let chunked = |size: usize| {
        let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n");
        [head.as_bytes(), &vec![b' '; size], b"\r\n0\r\n\r\n"].concat()
    };
    // Announced: the body itself never comes, so whoever waits for it times out.
    let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n".to_vec();
    let large = |size: usize| [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b' '; size]].concat();
    for (raw, too_large) in
        [(announced, true), (chunked(1001), true), (chunked(1000), false), (large(100_000), true)]
    {
        let server = answering(move |_| Reply::Raw(raw.clone())).await;
        let url = format!("http://{}", server.address);
        let config = ClientConfig { max_answer: 1000, ..config(url, Tls::PlainLoopback) };
        let error = Client::new(config).unwrap().call("a.b", vec![]).await.unwrap_err();
        match &error {
            CallError::TooLarge { limit, .. } => assert!(too_large && *limit == 1000, "{error:?}"),
            CallError::Decode { .. } => assert!(!too_large, "{error:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_slow_answer_is_not_waited_for() {
    for (what, slow) in [("silence", (|| Reply::Never) as fn() -> Reply), ("a trickle", || Reply::Trickle)] {
        let server = answering(move |_| slow()).await;
        let client = plain(&server);
        client.logout().await.unwrap();
        let start = Instant::now();
        let limit = Duration::from_millis(200);
        let error = client.with_call_timeout(limit).call("a.b", vec![]).await.unwrap_err();
        let CallError::Timeout { method, after, .. } = &error else { panic!("{what}: {error:?}") };
        assert_eq!((method.as_str(), *after), ("a.b", limit), "{what}");
        assert!(start.elapsed() < Duration::from_secs(4), "{what}: {:?}", start.elapsed());
        assert_eq!(server.methods().len(), 2, "{what}: not sent again");
    }
}

#[tokio::test]
async fn a_cut_connection_is_an_error_and_the_call_is_not_sent_again() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab".to_vec();
    for part in [vec![], half] {
        let mut cut = false;
        let server = answering(move |_| {
            // Whoever asks again is answered.
            if std::mem::replace(&mut cut, true) { Reply::ok() } else { Reply::Cut(part.clone()) }
        })
        .await;
        let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
        assert!(matches!(error, CallError::Interrupted { .. }), "{error:?}");
        assert_eq!(server.methods(), ["session.login_with_password", "a.b"]);
    }
}

#[tokio::test]
async fn a_status_other_than_200_is_an_error_and_no_redirect_is_followed() {
    let elsewhere = answering(|_| Reply::ok()).await;
    for status in [301, 307, 403, 500] {
        let location = format!("http://{}/", elsewhere.address);
        let raw = format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let server = answering(move |_| Reply::Raw(raw.clone().into_bytes())).await;
        let error = plain(&server).call("a.b", vec![]).await.unwrap_err();
        let CallError::Http { status: seen, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*seen, status);
    }
    assert_eq!(elsewhere.methods(), [""; 0]);
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_host_and_the_cause() {
    let server = answering(|_| Reply::ok()).await;
    let address = server.address;
    let client = plain(&server);
    drop(server);
    tokio::task::yield_now().await;
    let error = client.call("a.b", vec![]).await.unwrap_err();
    let CallError::Connect { host, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*host, address.to_string());
    assert!(everything(&error).contains("refused"), "{}", everything(&error));
}

#[tokio::test]
async fn a_call_larger_than_xapi_takes_is_not_sent() {
    let server = answering(|_| Reply::ok()).await;
    let client = plain(&server);
    client.call("a.b", vec!["x".repeat(290 << 10).into()]).await.unwrap();
    let error = client.call("a.b", vec!["x".repeat(300 << 10).into()]).await.unwrap_err();
    assert!(matches!(error, CallError::CallTooLarge { .. }), "{error:?}");
    assert_eq!(server.methods().len(), 2);
}
