//! Edits that the store saves in one go: each is answered by what it did itself, whatever those behind it made of that.

use api::{ApiState, Caller, router};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::fake::Daemon;

/// Status, ETag and body.
type Answer = (u16, Option<String>, Value);

async fn call(router: &Router, method: &str, path: &str, body: Value) -> Answer {
    let request =
        Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let mut request = request.body(Body::from(body.to_string())).expect("a request");
    request.extensions_mut().insert(Caller { actor: "test".to_owned(), origin: "here".to_owned() });
    let response = router.clone().oneshot(request).await.expect("an answer");
    let etag = response.headers().get(header::ETAG).map(|etag| etag.to_str().expect("text").to_owned());
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, etag, serde_json::from_slice(&body).unwrap_or_default())
}

/// On one thread both requests are with the writer before it begins.
#[tokio::test]
async fn an_edit_is_answered_by_its_own_row_and_revision() {
    let daemon = Daemon::start().await;
    let router = router(ApiState { store: daemon.store.clone(), control: daemon.fake.clone() });
    let call = async |method, path, body| call(&router, method, path, body).await;
    let named = |name: &str| json!({"name": name, "addresses": []});
    let mut generations = daemon.store.subscribe();
    // What is saved in one go is seen in one go.
    let mut saved_together = async |last: u64| {
        generations.changed().await.expect("it is saved");
        assert_eq!(*generations.borrow_and_update(), last);
    };
    call("POST", "/v1/sets", json!({"id": "s"})).await;
    saved_together(1).await;

    let (a, b, ()) = tokio::join!(
        call("PUT", "/v1/sets/s", named("A")),
        call("PUT", "/v1/sets/s", named("B")),
        saved_together(3)
    );
    assert_eq!(
        (a.0, a.1.as_deref(), &a.2["name"], &a.2["revision"]),
        (200, Some("\"2\""), &json!("A"), &json!(2))
    );
    assert_eq!(
        (b.0, b.1.as_deref(), &b.2["name"], &b.2["revision"]),
        (200, Some("\"3\""), &json!("B"), &json!(3))
    );

    let (changed, removed, ()) = tokio::join!(
        call("PUT", "/v1/sets/s", named("C")),
        call("DELETE", "/v1/sets/s", json!(null)),
        saved_together(5)
    );
    assert_eq!((changed.0, changed.1.as_deref(), &changed.2["name"]), (200, Some("\"4\""), &json!("C")));
    assert_eq!(removed.0, 204);

    call("POST", "/v1/groups", json!({"id": "web"})).await;
    saved_together(6).await;
    let rule = |description: &str| json!({"id": "r", "direction": "ingress", "ethertype": "ipv4", "description": description});
    let (made, removed, ()) = tokio::join!(
        call("POST", "/v1/groups/web/rules", rule("made")),
        call("DELETE", "/v1/groups/web", json!(null)),
        saved_together(8)
    );
    assert_eq!((made.0, made.1.as_deref(), &made.2["description"]), (201, Some("\"7\""), &json!("made")));
    assert_eq!(removed.0, 204);
}
