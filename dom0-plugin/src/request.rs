//! Decoding `argv[1]`: the XML-RPC call as XAPI writes it.

use std::ffi::OsString;

use drawbridge_wire::call::{Arguments, Function};
use drawbridge_wire::limits;
use drawbridge_wire::xmlrpc::{Value, decode_call};

use crate::{Code, Refusal, Result};

/// A call to a function we have, its arguments not yet looked at. The session it came with is dropped here and goes
/// nowhere.
#[derive(Debug)]
pub(crate) struct Call {
    /// What to do.
    pub(crate) function: Function,
    /// The arguments as sent: what the signature is over.
    members: Vec<(String, Value)>,
}

/// A call of the right form.
#[derive(Debug)]
pub(crate) struct Request {
    /// What to do.
    pub(crate) function: Function,
    /// The arguments as sent: what the signature is over.
    members: Vec<(String, String)>,
    /// The arguments, read.
    pub(crate) arguments: Arguments,
}

impl Request {
    /// The arguments as sent, borrowed.
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        pairs(&self.members)
    }
}

fn pairs(members: &[(String, String)]) -> Vec<(&str, &str)> {
    members.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// The one argument of `argv`, as text.
///
/// # Errors
/// [`Code::MalformedCall`], [`Code::CallTooLarge`].
pub(crate) fn document(mut argv: impl Iterator<Item = OsString>) -> Result<String> {
    let malformed = |problem: &str| Refusal::new(Code::MalformedCall).detail(problem);
    argv.next();
    let document =
        argv.next().ok_or_else(|| malformed("no argument: XAPI passes the call as the only one"))?;
    if argv.next().is_some() {
        return Err(malformed("more than one argument"));
    }
    if document.len() > limits::ARGV_BYTES {
        let refusal = Refusal::new(Code::CallTooLarge);
        return Err(refusal.detail(document.len()).detail(limits::ARGV_BYTES));
    }
    document.into_string().map_err(|_| malformed("not UTF-8"))
}

/// Reads the document.
///
/// # Errors
/// A refusal with the code of what is wrong.
pub(crate) fn decode(document: &str) -> Result<Call> {
    use drawbridge_wire::xmlrpc::{DecodeError, Problem};
    let call = decode_call(document).map_err(|e| match e {
        DecodeError { problem: Problem::DuplicateMember(key), .. } => {
            Refusal::new(Code::DuplicateKey).detail(key)
        }
        other => Refusal::new(Code::MalformedCall).detail(other),
    })?;
    let malformed = |problem: &str| Refusal::new(Code::MalformedCall).detail(problem);
    let function: Function = call.name.parse()?;
    let [Value::String(_session), arguments] = <[Value; 2]>::try_from(call.params)
        .map_err(|_| malformed("expected two parameters, the session and the arguments"))?
    else {
        return Err(malformed("the session is not a string"));
    };
    let Value::Struct(members) = arguments else { return Err(malformed("the arguments are not a struct")) };
    Ok(Call { function, members })
}

/// Reads a call's arguments.
///
/// # Errors
/// A refusal with the code of what is wrong.
pub(crate) fn read(call: Call) -> Result<Request> {
    let Call { function, members } = call;
    let members = members
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            _ => Err(Refusal::new(Code::BadValue).detail(key).detail("expected a string")),
        })
        .collect::<Result<Vec<_>>>()?;
    let arguments = Arguments::read(function, &pairs(&members))?;
    Ok(Request { function, members, arguments })
}
