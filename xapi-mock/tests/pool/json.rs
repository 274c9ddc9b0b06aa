//! JSON-RPC, both versions.

use drawbridge_wire::xmlrpc::Value;
use serde_json::{Value as Json, json};
use xapi_mock::Mock;

use super::client::{Client, address, pool, post};

/// The answer to a request on `/jsonrpc`.
fn ask(mock: &Mock, request: &Json) -> Json {
    let (status, body) = post(&address(mock, 0), "/jsonrpc", request.to_string().as_bytes()).unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn version_two_answers_with_a_result_or_an_error_object() {
    let mock = pool().await;
    let call = |method: &str, params: Json| {
        ask(&mock, &json!({ "jsonrpc": "2.0", "method": method, "params": params, "id": 7 }))
    };
    let answer = call("session.login_with_password", json!(["root", "secret"]));
    let session = answer["result"].as_str().unwrap();
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)));
    let answer = call("VM.get_by_uuid", json!([session, "x"]));
    let error = json!({ "code": 1, "message": "UUID_INVALID", "data": ["VM", "x"] });
    assert_eq!(answer, json!({ "jsonrpc": "2.0", "error": error, "id": 7 }));
    assert_eq!(call("VM.destroy", json!([session]))["error"]["message"], "MESSAGE_PARAMETER_COUNT_MISMATCH");
}

#[tokio::test]
async fn version_one_answers_with_both() {
    let mock = pool().await;
    let session = Client::login(&mock).session;
    let call =
        |method: &str, params: Json| ask(&mock, &json!({ "method": method, "params": params, "id": "a" }));
    let answer = call("VM.get_by_name_label", json!([session, "nobody"]));
    assert_eq!(answer, json!({ "result": [], "error": null, "id": "a" }));
    let answer = call("VM.get_by_uuid", json!(["x", "y"]));
    assert_eq!(answer, json!({ "result": null, "error": ["SESSION_INVALID", "x"], "id": "a" }));
}

/// Field by field as in XML, but for whole numbers, which are numbers here.
#[tokio::test]
async fn records_are_the_same_in_both_languages() {
    fn same(xml: &Value, json: &Json) -> bool {
        match (xml, json) {
            (Value::String(text), Json::Number(number)) => *text == number.to_string(),
            (Value::String(text) | Value::DateTime(text), Json::String(other)) => text == other,
            (Value::Bool(one), Json::Bool(other)) => one == other,
            (Value::Double(one), Json::Number(other)) => Some(*one) == other.as_f64(),
            (Value::Array(items), Json::Array(others)) => {
                items.len() == others.len() && items.iter().zip(others).all(|(one, other)| same(one, other))
            }
            (Value::Struct(members), Json::Object(others)) => {
                let found = |(name, one): &(String, Value)| others.get(name).is_some_and(|it| same(one, it));
                members.len() == others.len() && members.iter().all(found)
            }
            _ => false,
        }
    }
    let mock = pool().await;
    let client = Client::login(&mock);
    for class in ["host", "network", "PIF", "pool", "VIF", "VM"] {
        let method = format!("{class}.get_all_records");
        let request = json!({ "jsonrpc": "2.0", "method": method, "params": [client.session], "id": 1 });
        let answer = ask(&mock, &request);
        assert!(same(&client.call(&method, &[]).unwrap(), &answer["result"]), "{answer}");
    }
    let vm = client.find("VM", "a");
    let request = json!({ "method": "VM.get_domid", "params": [client.session, vm], "id": 1 });
    assert_eq!(ask(&mock, &request)["result"], json!(-1));
    let request = json!({ "method": "event.from", "params": [client.session, ["vm"], "", 0.5], "id": 1 });
    let answer = ask(&mock, &request);
    assert_eq!(answer["result"]["valid_ref_counts"]["vm"], json!(6));
    assert_eq!(answer["result"]["events"][0]["snapshot"]["domid"].as_i64().map(i64::signum), Some(-1));
}

#[tokio::test]
async fn what_is_no_call_is_an_http_error() {
    let mock = pool().await;
    for request in [
        "",
        "[]",
        "{\"method\":\"a\",\"params\":[]}",
        "{\"method\":\"a\",\"params\":[],\"id\":null}",
        "{\"method\":\"a\",\"params\":{},\"id\":1}",
        "{\"method\":1,\"params\":[],\"id\":1}",
        "{\"jsonrpc\":\"3.0\",\"method\":\"a\",\"params\":[],\"id\":1}",
        "<methodCall/>",
    ] {
        let (status, _) = post(&address(&mock, 0), "/jsonrpc", request.as_bytes()).unwrap();
        assert_eq!(status, 500, "{request}");
    }
}
