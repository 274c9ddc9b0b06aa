use super::decode::Problem;
use super::*;

fn value(document: &str) -> Result<Value, Problem> {
    decode_value(document).map_err(|e| e.problem)
}

#[test]
fn accepts_every_spelling_xapi_and_its_plugins_use() {
    let cases: &[(&str, Value)] = &[
        ("<value></value>", Value::from("")),
        ("<value/>", Value::from("")),
        ("<value><string/></value>", Value::from("")),
        ("<value>  padded </value>", Value::from("  padded ")),
        ("<value>   </value>", Value::from("   ")),
        ("<value>a&amp;b&lt;&gt;&quot;&apos;&#65;&#x42;</value>", Value::from("a&b<>\"'AB")),
        ("<value><![CDATA[a<b]]></value>", Value::from("a<b")),
        ("<value>\n  <int> 42 </int>\n</value>", Value::Int(42)),
        ("<value><i8>4294967296</i8></value>", Value::Int(4_294_967_296)),
        ("<value><boolean>1</boolean></value>", Value::Bool(true)),
        ("<value><double>1.5</double></value>", Value::Double(1.5)),
        ("<value><nil/></value>", Value::Nil),
        (
            "<value><dateTime.iso8601>20260821T02:00:23Z</dateTime.iso8601></value>",
            Value::DateTime("20260821T02:00:23Z".to_owned()),
        ),
        ("<value><array/></value>", Value::Array(vec![])),
        ("<value><array><data/></array></value>", Value::Array(vec![])),
        ("<value><array><data><value>x</value></data></array></value>", Value::Array(vec![Value::from("x")])),
        ("<value><struct/></value>", Value::Struct(vec![])),
        (
            "<?xml version='1.0'?>\n<value><struct>\n<member>\n<name>k</name>\n<value>v</value>\n</member>\n</struct></value>\n",
            Value::Struct(vec![("k".to_owned(), Value::from("v"))]),
        ),
    ];
    for (document, expected) in cases {
        assert_eq!(value(document).as_ref(), Ok(expected), "{document}");
    }
}

#[test]
fn refuses_the_rest_of_xml() {
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aa\"><!ENTITY b \"&a;&a;\">]><value>&b;</value>";
    assert_eq!(value(bomb), Err(Problem::Forbidden("a DTD")));
    assert_eq!(value("<value>&b;</value>"), Err(Problem::Forbidden("a named entity")));
    assert_eq!(value("<value a=\"1\">x</value>"), Err(Problem::Forbidden("an attribute")));
    assert_eq!(value("<value><?php x ?></value>"), Err(Problem::Forbidden("a processing instruction")));
    assert_eq!(value("<value>&#0;</value>"), Err(Problem::Forbidden("this character reference")));
    for text in ["a\0b", "\u{1}", "<![CDATA[\u{8}]]>", "\u{ffff}"] {
        let document = format!("<value>{text}</value>");
        assert_eq!(value(&document), Err(Problem::Forbidden("a control character")), "{text:?}");
    }
    assert!(matches!(value("<value>x"), Err(Problem::Syntax(_) | Problem::Unexpected { .. })));
    assert!(matches!(value("<value>x</value><value/>"), Err(Problem::Unexpected { .. })));
    assert!(matches!(value("<value><int>4x</int></value>"), Err(Problem::BadScalar("integer"))));
    let twice = "<value><struct><member><name>k</name><value/></member><member><name>k</name><value/></member></struct></value>";
    assert_eq!(value(twice), Err(Problem::DuplicateMember("k".to_owned())));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
    let deep = "<value><array><data>".repeat(100_000);
    assert_eq!(value(&deep), Err(Problem::TooDeep));
}

#[test]
fn a_call_reads_back_as_it_was_written() {
    let call = MethodCall {
        name: "iptables-save".to_owned(),
        params: vec![
            Value::from("OpaqueRef:x"),
            Value::Struct(vec![
                ("args".to_owned(), Value::from("a \"b\" <c> & d\r\n")),
                ("e".to_owned(), Value::from("")),
            ]),
        ],
    };
    let text = encode_call(&call);
    let mut expected = call;
    // XML 1.0 §2.11: a reader turns CR LF into LF, as XAPI's and Python's do.
    expected.params[1] = Value::Struct(vec![
        ("args".to_owned(), Value::from("a \"b\" <c> & d\n")),
        ("e".to_owned(), Value::from("")),
    ]);
    assert_eq!(decode_call(&text), Ok(expected));
}

#[test]
fn a_response_reads_back_as_it_was_written() {
    for response in [
        Response::Value(Value::Struct(vec![("Status".to_owned(), Value::from("Success"))])),
        Response::Fault { code: 3, message: "no".to_owned() },
    ] {
        assert_eq!(decode_response(&encode_response(&response)), Ok(response));
    }
}
