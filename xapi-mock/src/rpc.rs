//! The two languages of a call: XML-RPC, and on `/jsonrpc` and `/json` JSON-RPC 1.0 and 2.0 (ocaml-rpc `xmlrpc.ml`,
//! `jsonrpc.ml`).

use drawbridge_wire::xmlrpc::{MethodCall, Response, Value, decode_call, encode_response};
use serde_json::{Map, Number, Value as Json, json};

use crate::calls::Answer;
use crate::error::Reply;

/// How a call was made, and so how it is answered.
#[derive(Debug)]
pub(crate) enum Language {
    Xml,
    Json {
        /// JSON-RPC 2.0.
        second: bool,
        id: Json,
    },
}

/// The call in a request's body; none if it cannot be understood.
pub(crate) fn read(path: &str, body: &[u8]) -> Option<(MethodCall, Language)> {
    if !matches!(path.trim_end_matches('/'), "/jsonrpc" | "/json") {
        let call = std::str::from_utf8(body).ok().and_then(|text| decode_call(text).ok())?;
        return Some((call, Language::Xml));
    }
    let Json::Object(mut request) = serde_json::from_slice(body).ok()? else { return None };
    let second = match request.get("jsonrpc") {
        None => false,
        Some(version) if version == "2.0" => true,
        Some(_) => return None,
    };
    let id = request.remove("id").filter(|id| id.is_string() || id.is_i64())?;
    let Json::String(name) = request.remove("method")? else { return None };
    let params = match request.remove("params") {
        Some(Json::Array(params)) => params.into_iter().map(from_json).collect(),
        None => Vec::new(),
        Some(_) => return None,
    };
    Some((MethodCall { name, params }, Language::Json { second, id }))
}

impl Language {
    /// What stands in `content-type`, and the body.
    pub(crate) fn write(&self, answer: Answer) -> (&'static str, String) {
        match self {
            Self::Xml => ("text/xml", encode_response(&Response::Value(in_xml(envelope(answer))))),
            Self::Json { second, id } => ("application/json", in_json(answer, *second, id).to_string()),
        }
    }
}

fn envelope(answer: Answer) -> Value {
    let struct_of = |status: &str, name: &str, value| {
        Value::Struct(vec![("Status".to_owned(), Value::from(status)), (name.to_owned(), value)])
    };
    match answer {
        Answer::Bare(value) => value,
        Answer::Reply(Ok(value)) => struct_of("Success", "Value", value),
        Answer::Reply(Err(error)) => struct_of("Failure", "ErrorDescription", error.description()),
    }
}

/// In XML an int64 is text. What `event.from` counts is none but an int32, which has a tag.
fn in_xml(value: Value) -> Value {
    match value {
        Value::Int(number) => Value::String(number.to_string()),
        Value::Array(items) => Value::Array(items.into_iter().map(in_xml).collect()),
        Value::Struct(members) => {
            let member = |(name, value)| {
                let value = if name == "valid_ref_counts" { value } else { in_xml(value) };
                (name, value)
            };
            Value::Struct(members.into_iter().map(member).collect())
        }
        other => other,
    }
}

fn in_json(answer: Answer, second: bool, id: &Json) -> Json {
    let outcome: Reply = match answer {
        Answer::Bare(value) => Ok(value),
        Answer::Reply(outcome) => outcome,
    };
    match (outcome, second) {
        (Ok(value), true) => json!({ "jsonrpc": "2.0", "result": to_json(value), "id": id }),
        (Ok(value), false) => json!({ "result": to_json(value), "error": null, "id": id }),
        (Err(error), true) => {
            let error = json!({ "code": 1, "message": error.code, "data": error.params });
            json!({ "jsonrpc": "2.0", "error": error, "id": id })
        }
        (Err(error), false) => json!({ "result": null, "error": to_json(error.description()), "id": id }),
    }
}

fn to_json(value: Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Bool(value) => Json::Bool(value),
        Value::Int(number) => Json::from(number),
        Value::Double(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Value::String(text) | Value::DateTime(text) | Value::Base64(text) => Json::String(text),
        Value::Array(items) => Json::Array(items.into_iter().map(to_json).collect()),
        Value::Struct(members) => {
            let members = members.into_iter().map(|(name, value)| (name, to_json(value)));
            Json::Object(members.collect::<Map<_, _>>())
        }
    }
}

fn from_json(value: Json) -> Value {
    match value {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Double(number.as_f64().unwrap_or_default()), Value::Int)
        }
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::Array(items.into_iter().map(from_json).collect()),
        Json::Object(members) => {
            Value::Struct(members.into_iter().map(|(name, value)| (name, from_json(value))).collect())
        }
    }
}
