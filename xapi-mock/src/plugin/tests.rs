use super::*;

fn run(exit: Exit, stdout: &[u8], stderr: &str) -> Reply {
    outcome(&PluginRun { exit, stdout: stdout.to_vec(), stderr: stderr.as_bytes().to_vec() })
}

fn wrote(stdout: &str) -> Reply {
    run(Exit::Code(0), stdout.as_bytes(), "ignored")
}

fn response(value: &str) -> String {
    format!("<methodResponse><params><param><value>{value}</value></param></params></methodResponse>")
}

fn success(value: &str) -> String {
    response(&format!(
        "<struct><member><name>Status</name><value>Success</value></member>\
         <member><name>Value</name>{value}</member></struct>"
    ))
}

fn failed(description: &str) -> String {
    response(&format!(
        "<struct><member><name>Status</name><value>Failure</value></member>\
         <member><name>ErrorDescription</name><value><array><data>{description}</data></array></value></member></struct>"
    ))
}

#[test]
fn a_string_in_the_envelope_is_the_result() {
    let python = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><struct>\n<member>\n\
                  <name>Status</name>\n<value><string>Success</string></value>\n</member>\n<member>\n\
                  <name>Value</name>\n<value><string>a &lt;b&gt;</string></value>\n</member>\n</struct></value>\n\
                  </param>\n</params>\n</methodResponse>\n";
    let large = "x".repeat(3_000_000);
    let cases = [
        (success("<value>done</value>"), "done"),
        (success("<value><string>done</string></value>"), "done"),
        (success("<value/>"), ""),
        (success("<value><string/></value>"), ""),
        (success("<value> \n\t</value>"), ""),
        (success("<value>  kept  </value>"), "  kept  "),
        (success("<value>a\r\nb</value>"), "a\nb"),
        (success("<value>grün ☃</value>"), "grün ☃"),
        (success(&format!("<value>{large}</value>")), large.as_str()),
        (python.to_owned(), "a <b>"),
        (format!("{}\ntrailing, not looked at", success("<value>done</value>")), "done"),
    ];
    for (output, expected) in cases {
        assert_eq!(wrote(&output), Ok(Value::from(expected)), "{}", output.get(..200).unwrap_or(&output));
    }
}

#[test]
fn a_failure_is_passed_on_verbatim() {
    assert_eq!(wrote(&failed("<value>CODE</value>")), Err(ApiError::new::<&str>("CODE", [])));
    let two = failed("<value>DRAWBRIDGE_X</value><value>one</value><value> </value>");
    assert_eq!(wrote(&two), Err(ApiError::new("DRAWBRIDGE_X", ["one", ""])));
}

#[test]
fn the_end_of_the_process_comes_before_what_it_wrote() {
    let good = success("<value>done</value>");
    assert_eq!(run(Exit::Code(1), good.as_bytes(), "why"), Err(failure("non-zero exit", &good, "why")));
    assert_eq!(run(Exit::Code(126), b"", ""), Err(failure("non-zero exit", "", "")));
    assert_eq!(
        run(Exit::Signal("SIGTERM".to_owned()), b"half", "e"),
        Err(failure("signal: SIGTERM", "half", "e"))
    );
}

#[test]
fn what_is_no_xml_is_a_parse_failure_with_its_line() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "unexpected end of input, no root element line 1"),
        (b"Traceback:\n  oh\n", "character sequence illegal here line 1"),
        (b"junk <methodResponse/>", "character sequence illegal here line 1"),
        (b"<methodResponse>\n<params>", "unexpected end of input line 2"),
        (b"<methodResponse>\n\x01</methodResponse>", "character sequence illegal here line 2"),
        (b"<methodResponse>\xff</methodResponse>", "malformed character stream line 1"),
    ];
    for (output, why) in cases {
        let expected = failure("failed to parse plugin output", &String::from_utf8_lossy(output), why);
        assert_eq!(run(Exit::Code(0), output, ""), Err(expected));
    }
    let mismatched = wrote("<a>\n</b>").expect_err("tags do not match");
    assert_eq!(mismatched.code, "XENAPI_PLUGIN_FAILURE");
    assert!(mismatched.params[2].ends_with("line 2"), "{mismatched:?}");
}

#[test]
fn a_fault_names_code_and_reason() {
    let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>7</int></value>\
                 </member><member><name>faultString</name><value>why</value></member></struct></value></fault>\
                 </methodResponse>";
    assert_eq!(wrote(fault), Err(failure("fault", "7", "why")));
}

#[test]
fn well_formed_but_of_another_shape_is_an_internal_error() {
    let cases = [
        response("plain text"),
        response("<struct><member><name>Status</name><value>Success</value></member></struct>"),
        response("<struct><member><name>Status</name><value>Maybe</value></member></struct>"),
        success("<value><int>4</int></value>"),
        success("<value><array><data/></array></value>"),
        failed(""),
        failed("<value><int>4</int></value>"),
        "<html/>".to_owned(),
        "<methodResponse><params/></methodResponse>".to_owned(),
        success("<value a='1'>attribute</value>"),
    ];
    for output in cases {
        let error = wrote(&output).expect_err(&output);
        assert_eq!(error.code, "INTERNAL_ERROR", "{output}");
        assert!(error.params[0].contains("RunTimeTypeError"), "{error:?}");
    }
}

#[test]
fn control_characters_in_arguments_are_dropped() {
    let args = vec![("k\u{1}".to_owned(), "a\u{0}b\u{1b}c\td\n".to_owned())];
    let text = method_call("OpaqueRef:s", "f", args).expect("short enough");
    assert!(text.contains("<name>k</name><value>abc\td\n</value>"), "{text}");
}

#[test]
fn the_kernels_limit_is_exact() {
    let fixed = method_call("s", "f", vec![("k".to_owned(), String::new())]).expect("short").len();
    let of_length = |length: usize| method_call("s", "f", vec![("k".to_owned(), "x".repeat(length - fixed))]);
    assert_eq!(of_length(131_071).map(|text| text.len()), Ok(131_071));
    assert_eq!(of_length(131_072), Err(failure("non-zero exit", "", "")));
}
