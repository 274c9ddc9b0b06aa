//! How XAPI reads what a plugin left (`xapi_plugins.ml`, `xMLRPC.ml`).

use drawbridge_wire::xmlrpc::{MethodCall, Response, Value, decode_response, encode_call};
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::dataplane::{Exit, PluginRun};
use crate::error::{ApiError, Reply};

/// The longest `argv[1]` the kernel takes: MAX_ARG_STRLEN without the final NUL.
const MAX_ARGUMENT: usize = 131_071;

/// The `<methodCall>` a plugin gets.
///
/// # Errors
/// It is longer than the kernel takes: `execve` fails in xapi's helper, which exits 126.
pub(crate) fn method_call(
    session: &str,
    function: &str,
    args: Vec<(String, String)>,
) -> Result<String, ApiError> {
    let args = args.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
    let params = vec![Value::from(session), Value::Struct(args)];
    let text = encode_call(&MethodCall { name: function.to_owned(), params });
    if text.len() > MAX_ARGUMENT {
        return Err(failure("non-zero exit", "", ""));
    }
    Ok(text)
}

/// What the caller gets for this run.
pub(crate) fn outcome(run: &PluginRun) -> Reply {
    let stdout = String::from_utf8_lossy(&run.stdout);
    let stderr = String::from_utf8_lossy(&run.stderr);
    match &run.exit {
        Exit::Code(0) => {}
        Exit::Code(_) => return Err(failure("non-zero exit", &stdout, &stderr)),
        Exit::Signal(name) => return Err(failure(&format!("signal: {name}"), &stdout, &stderr)),
    }
    let document =
        well_formed(&run.stdout).map_err(|why| failure("failed to parse plugin output", &stdout, &why))?;
    match decode_response(document) {
        Ok(Response::Fault { code, message }) => Err(failure("fault", &code.to_string(), &message)),
        Ok(Response::Value(value)) => unwrap(&value),
        Err(_) => Err(wrong_shape("methodResponse")),
    }
}

/// XAPI's own envelope inside the response.
fn unwrap(value: &Value) -> Reply {
    match value.member("Status").and_then(Value::as_str) {
        Some("Success") => match value.member("Value") {
            Some(Value::String(text)) => Ok(Value::String(without_lone_space(text))),
            _ => Err(wrong_shape("Value")),
        },
        Some("Failure") => {
            let Some(Value::Array(description)) = value.member("ErrorDescription") else {
                return Err(wrong_shape("ErrorDescription"));
            };
            let texts: Option<Vec<_>> =
                description.iter().map(|item| item.as_str().map(without_lone_space)).collect();
            match texts.as_deref() {
                Some([code, params @ ..]) => Err(ApiError { code: code.clone(), params: params.to_vec() }),
                Some([]) => Err(wrong_shape("Empty array of error strings")),
                None => Err(wrong_shape("ErrorDescription")),
            }
        }
        _ => Err(wrong_shape("Status")),
    }
}

/// Xml-light drops text that is white space alone.
fn without_lone_space(text: &str) -> String {
    if text.trim_ascii().is_empty() { String::new() } else { text.to_owned() }
}

/// `XENAPI_PLUGIN_FAILURE [status, stdout, stderr]`
pub(crate) fn failure(status: &str, stdout: &str, stderr: &str) -> ApiError {
    ApiError::new("XENAPI_PLUGIN_FAILURE", [status, stdout, stderr])
}

/// xapi does not catch this exception of its own decoder.
fn wrong_shape(what: &str) -> ApiError {
    ApiError::internal(format!("XMLRPC.RunTimeTypeError({what:?}, _)"))
}

/// The document from its start to the end of its root; what follows is not looked at. Or why it is no XML, worded
/// `<message> line <number>`.
fn well_formed(output: &[u8]) -> Result<&str, String> {
    let line = |offset: usize| output.iter().take(offset).filter(|byte| **byte == b'\n').count() + 1;
    let text = std::str::from_utf8(output)
        .map_err(|error| format!("malformed character stream line {}", line(error.valid_up_to())))?;
    if let Some(offset) = text.bytes().position(|byte| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r'))
    {
        return Err(format!("character sequence illegal here line {}", line(offset)));
    }
    let mut reader = Reader::from_str(text);
    let mut depth = 0_usize;
    let position = |reader: &Reader<_>| usize::try_from(reader.buffer_position()).unwrap_or(text.len());
    loop {
        let start = position(&reader);
        let event = reader.read_event();
        let offset = position(&reader);
        let problem = match event {
            Ok(Event::Start(_)) => {
                depth += 1;
                continue;
            }
            Ok(Event::End(_)) => {
                depth = depth.saturating_sub(1);
                if depth > 0 {
                    continue;
                }
                return Ok(&text[..offset]);
            }
            Ok(Event::Empty(_)) if depth == 0 => return Ok(&text[..offset]),
            Ok(Event::Eof) if depth == 0 => "unexpected end of input, no root element".to_owned(),
            Ok(Event::Eof) => "unexpected end of input".to_owned(),
            Ok(Event::Text(text)) if depth == 0 && !text.trim_ascii().is_empty() => {
                "character sequence illegal here".to_owned()
            }
            Ok(Event::CData(_) | Event::GeneralRef(_)) if depth == 0 => {
                "character sequence illegal here".to_owned()
            }
            Ok(_) => continue,
            Err(error) => error.to_string(),
        };
        return Err(format!("{problem} line {}", line(start)));
    }
}

#[cfg(test)]
mod tests;
