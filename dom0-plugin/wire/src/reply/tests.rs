use super::*;
use crate::code::Code;
use crate::xmlrpc::decode_response;

fn outcome(stdout: &str) -> Outcome {
    Outcome { exit_code: 1, stdout: stdout.to_owned(), stderr: "bad \"rule\" \\ \u{7}\r\n".to_owned() }
}

#[test]
fn json_is_written_without_control_characters() {
    let json = encode_json("1.2.3", &outcome("a\tb\n"), true);
    assert_eq!(
        json,
        r#"{"version":"1.2.3","exit_code":1,"stdout":"a\tb\n","stderr":"bad \"rule\" \\ \u0007\u000d\n","encoding":"plain"}"#
    );
    let large = "line\n".repeat(1000);
    assert!(encode_json("1", &outcome(&large), true).contains("\"encoding\":\"zlib+base64\""));
    assert!(encode_json("1", &outcome(&large), false).contains("\"encoding\":\"plain\""));
}

#[test]
fn envelopes_are_xapis() {
    let Ok(Response::Value(value)) = decode_response(&encode_success("{}".to_owned())) else { panic!() };
    assert_eq!(value.member("Status").and_then(Value::as_str), Some("Success"));
    assert_eq!(value.member("Value").and_then(Value::as_str), Some("{}"));

    let refusal = Refusal::new(Code::Replayed).detail("a\nb").detail("x".repeat(1000));
    let Ok(Response::Value(value)) = decode_response(&encode_failure(&refusal)) else { panic!() };
    assert_eq!(value.member("Status").and_then(Value::as_str), Some("Failure"));
    let expected: Value =
        ["DRAWBRIDGE_REPLAYED".to_owned(), "a?b".to_owned(), "x".repeat(200)].into_iter().collect();
    assert_eq!(value.member("ErrorDescription"), Some(&expected));
}

#[test]
fn codes_are_distinct_and_parse() {
    for code in Code::ALL {
        assert_eq!(code.as_str().parse(), Ok(*code));
        assert_eq!(Code::ALL.iter().filter(|c| c.as_str() == code.as_str()).count(), 1);
    }
    assert!("DRAWBRIDGE_".parse::<Code>().is_err());
}

#[cfg(feature = "client")]
#[test]
fn replies_come_back() {
    for (stdout, accepts) in [("", true), ("a\n", false), ("é".repeat(5000).as_str(), true)] {
        let written = outcome(stdout);
        let reply = Reply::parse(&encode_json("9.9", &written, accepts)).unwrap();
        let expected =
            Reply { version: "9.9".to_owned(), exit_code: 1, stdout: written.stdout, stderr: written.stderr };
        assert_eq!(reply, expected);
    }
    for bad in [
        "",
        "{}",
        r#"{"version":"1","exit_code":0,"stdout":"","stderr":"","encoding":"gzip"}"#,
        r#"{"version":"1","exit_code":0,"stdout":"*","stderr":"","encoding":"zlib+base64"}"#,
        r#"{"version":"1","exit_code":0,"stdout":"","stderr":"","encoding":"plain","more":1}"#,
    ] {
        assert!(Reply::parse(bad).is_err(), "{bad}");
    }
    let bomb = payload::compress(&vec![b' '; limits::OUTPUT_BYTES + 1]);
    let json =
        format!(r#"{{"version":"1","exit_code":0,"stdout":"{bomb}","stderr":"","encoding":"zlib+base64"}}"#);
    assert!(matches!(Reply::parse(&json), Err(ReplyError::Payload(_))));
}
