//! Writing XML-RPC the way XAPI writes it: no prolog in calls, no white space, strings untagged.

use std::fmt::Write as _;

use super::{MethodCall, Response, Value};

/// `<methodCall>…`, the form XAPI hands to a plugin as `argv[1]` (xen-api `XMLRPC.To.methodCall`).
#[must_use]
pub fn encode_call(call: &MethodCall) -> String {
    let mut out = String::with_capacity(256);
    out.push_str("<methodCall><methodName>");
    escape(&call.name, &mut out);
    out.push_str("</methodName><params>");
    for param in &call.params {
        out.push_str("<param>");
        value(param, &mut out);
        out.push_str("</param>");
    }
    out.push_str("</params></methodCall>");
    out
}

/// `<?xml version="1.0"?><methodResponse>…`
#[must_use]
pub fn encode_response(response: &Response) -> String {
    let mut out = String::with_capacity(256);
    out.push_str("<?xml version=\"1.0\"?><methodResponse>");
    match response {
        Response::Value(result) => {
            out.push_str("<params><param>");
            value(result, &mut out);
            out.push_str("</param></params>");
        }
        Response::Fault { code, message } => {
            out.push_str("<fault>");
            let fault = Value::Struct(vec![
                ("faultCode".to_owned(), Value::Int(*code)),
                ("faultString".to_owned(), Value::String(message.clone())),
            ]);
            value(&fault, &mut out);
            out.push_str("</fault>");
        }
    }
    out.push_str("</methodResponse>");
    out
}

/// `<value>…</value>` alone: what a plugin's caller finds in a task's `result`.
#[must_use]
pub fn encode_value(v: &Value) -> String {
    let mut out = String::new();
    value(v, &mut out);
    out
}

fn value(v: &Value, out: &mut String) {
    out.push_str("<value>");
    match v {
        Value::Nil => out.push_str("<nil/>"),
        Value::Bool(b) => out.push_str(if *b { "<boolean>1</boolean>" } else { "<boolean>0</boolean>" }),
        Value::Int(n) => tagged("int", n, out),
        Value::Double(d) => tagged("double", d, out),
        Value::String(text) => escape(text, out),
        Value::DateTime(text) => {
            out.push_str("<dateTime.iso8601>");
            escape(text, out);
            out.push_str("</dateTime.iso8601>");
        }
        Value::Base64(text) => {
            out.push_str("<base64>");
            escape(text, out);
            out.push_str("</base64>");
        }
        Value::Array(items) => {
            out.push_str("<array><data>");
            for item in items {
                value(item, out);
            }
            out.push_str("</data></array>");
        }
        Value::Struct(members) => {
            out.push_str("<struct>");
            for (name, member) in members {
                out.push_str("<member><name>");
                escape(name, out);
                out.push_str("</name>");
                value(member, out);
                out.push_str("</member>");
            }
            out.push_str("</struct>");
        }
    }
    out.push_str("</value>");
}

fn tagged(tag: &str, content: impl std::fmt::Display, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "<{tag}>{content}</{tag}>");
}

/// XAPI's `Xml.esc_pcdata`: escapes `> < & "` and drops what XML 1.0 cannot carry (bytes below 0x20 other than
/// TAB, LF, CR; and, which XAPI forgets, U+FFFE and U+FFFF).
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c < ' ' || matches!(c, '\u{FFFE}' | '\u{FFFF}') => {}
            c => out.push(c),
        }
    }
}
