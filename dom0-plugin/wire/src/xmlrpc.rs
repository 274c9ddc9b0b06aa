//! XML-RPC as XAPI speaks it: one bounded codec for plugin, driver and mock.
//!
//! Decoding takes what XAPI and its Python plugins emit (untagged strings, 64-bit integers as text, `<nil/>`,
//! dates without hyphens) and refuses what neither ever sends: DTDs, entities other than the five of XML,
//! attributes, processing instructions inside the document, anything deeper than [`MAX_DEPTH`].
//! Source of the dialect: xen-api `ocaml/libs/xml-light2`, `http-lib/xMLRPC.ml`, ocaml-rpc `xmlrpc.ml`.

mod decode;
mod encode;

pub use decode::{DecodeError, Problem, decode_call, decode_response, decode_value};
pub use encode::{encode_call, encode_response, encode_value};

/// Deepest nesting of `<value>` that is decoded. XAPI's records need 5.
pub const MAX_DEPTH: usize = 32;

/// An XML-RPC value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `<nil/>`
    Nil,
    /// `<boolean>`
    Bool(bool),
    /// `<int>`, `<i4>`, `<i8>`. XAPI itself sends its int64 as an untagged string.
    Int(i64),
    /// `<double>`
    Double(f64),
    /// `<string>` or bare text, verbatim.
    String(String),
    /// `<dateTime.iso8601>`, as sent.
    DateTime(String),
    /// `<base64>`, still encoded; whoever wants the bytes decodes them with a bound.
    Base64(String),
    /// `<array>`
    Array(Vec<Self>),
    /// `<struct>`: members in the order sent; names are unique (a duplicate is a decode error).
    Struct(Vec<(String, Self)>),
}

impl Value {
    /// The member `name` of a struct; `None` if this is no struct or has no such member.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a string value.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<T: Into<Self>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

/// A `<methodCall>`.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodCall {
    /// The method's name.
    pub name: String,
    /// Positional parameters.
    pub params: Vec<Value>,
}

/// A `<methodResponse>`, before XAPI's own `Status` envelope is looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// `<params>` with one value.
    Value(Value),
    /// `<fault>`: XAPI does not send it, a plugin may.
    Fault {
        /// `faultCode`
        code: i64,
        /// `faultString`
        message: String,
    },
}

#[cfg(test)]
mod tests;
