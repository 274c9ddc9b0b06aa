//! XAPI's envelope: `Status`, then `Value` or `ErrorDescription`.

use drawbridge_wire::xmlrpc::{self, Response, Value, decode_response};

use super::CallError;
use crate::error::ApiError;
use crate::fields::{RecordError, kind};

/// What is wrong with an answer. Never holds the answer itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    Utf8,
    /// Not XML-RPC.
    #[error(transparent)]
    XmlRpc(#[from] DecodeError),
    /// XML-RPC, but not what this call is answered with.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What would have been right.
        expected: &'static str,
        /// The kind of what stood there.
        found: &'static str,
    },
    /// Not as many objects as it says there are. They may have gone while it was made: the next answer will be whole.
    #[error("it tells of {told} objects of class {class}, and says that there are {counted}")]
    Incomplete {
        /// The class, as events spell it.
        class: &'static str,
        /// How many it tells of.
        told: usize,
        /// How many it says there are.
        counted: u64,
    },
    /// A record is not what the data model says.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The codec's own error.
type DecodeError = xmlrpc::DecodeError;

impl AnswerError {
    pub(super) const fn unexpected(expected: &'static str, found: &Value) -> Self {
        Self::Unexpected { expected, found: kind(found) }
    }
}

/// Takes XAPI's envelope off the body of an answer to `method`.
pub(super) fn open(method: &str, body: &[u8]) -> Result<Value, CallError> {
    let wrong = |error| CallError::decode(method, error);
    let body = std::str::from_utf8(body).map_err(|_| wrong(AnswerError::Utf8))?;
    let members = match decode_response(body).map_err(|error| wrong(error.into()))? {
        Response::Value(Value::Struct(members)) => members,
        Response::Value(other) => return Err(wrong(AnswerError::unexpected("a Status", &other))),
        // XAPI has no faults of its own; with a code it is as good as a failure.
        Response::Fault { code, message } => {
            return Err(ApiError { code: "Fault".to_owned(), params: vec![code.to_string(), message] }.into());
        }
    };
    let (mut status, mut result, mut failure) = (None, None, None);
    for (name, value) in members {
        match name.as_str() {
            "Status" => status = Some(value),
            "Value" => result = Some(value),
            "ErrorDescription" => failure = Some(value),
            _ => {}
        }
    }
    match (status.as_ref().and_then(Value::as_str), result, failure) {
        (Some("Success"), Some(value), _) => Ok(value),
        (Some("Failure"), _, Some(description)) => Err(match api_error(&description) {
            Some(error) => error.into(),
            None => wrong(AnswerError::unexpected("an ErrorDescription of strings", &description)),
        }),
        (Some("Success"), None, _) => {
            Err(wrong(AnswerError::Unexpected { expected: "a Value", found: "none" }))
        }
        (Some("Failure"), _, None) => {
            Err(wrong(AnswerError::Unexpected { expected: "an ErrorDescription", found: "none" }))
        }
        _ => Err(wrong(AnswerError::Unexpected { expected: "Status Success or Failure", found: "neither" })),
    }
}

fn api_error(description: &Value) -> Option<ApiError> {
    let Value::Array(items) = description else { return None };
    let mut texts = items.iter().map(|item| item.as_str().map(str::to_owned));
    let code = texts.next()??;
    Some(ApiError { code, params: texts.collect::<Option<_>>()? })
}
