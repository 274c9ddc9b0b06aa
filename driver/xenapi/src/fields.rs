//! Reading a record's fields, with errors that say where and what.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use drawbridge_wire::xmlrpc::Value;

use crate::reference::{Class, Ref};

/// Why a record was refused: `VIF OpaqueRef:1, field device: expected a number from 0 to 4294967295, found "x"`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{class}{}, {}{problem}", Named(.reference.as_ref()), OfField(.field))]
pub struct RecordError {
    /// The class, as XAPI spells it.
    pub class: &'static str,
    /// The object, where it is known: a record alone does not hold its own reference.
    pub reference: Option<String>,
    /// The field, or nothing if the record as a whole is wrong.
    pub field: Option<&'static str>,
    /// What is wrong with it.
    pub problem: Problem,
}

impl RecordError {
    pub(crate) const fn whole<C: Class>(problem: Problem) -> Self {
        Self { class: C::NAME, reference: None, field: None, problem }
    }

    pub(crate) fn at(mut self, reference: &str) -> Self {
        self.reference = Some(shortened(reference));
        self
    }
}

/// What was wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not there.
    #[error("missing")]
    Missing,
    /// There, but not what the data model says.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What would have been right.
        expected: &'static str,
        /// What stood there: the text for numbers, names and uuids, else only its kind.
        found: String,
    },
}

struct Named<'a>(Option<&'a String>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |reference| write!(f, " {reference}"))
    }
}

struct OfField<'a>(&'a Option<&'static str>);

impl fmt::Display for OfField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(field) => write!(f, "field {field}: "),
            None => f.write_str("record: "),
        }
    }
}

/// The fields of one record of class `class`.
pub(crate) struct Fields<'a> {
    class: &'static str,
    members: &'a [(String, Value)],
}

impl<'a> Fields<'a> {
    pub(crate) fn of<C: Class>(value: &'a Value) -> Result<Self, RecordError> {
        match value {
            Value::Struct(members) => Ok(Self { class: C::NAME, members }),
            other => Err(RecordError::whole::<C>(unexpected("a struct", kind(other)))),
        }
    }

    fn error(&self, field: &'static str, problem: Problem) -> RecordError {
        RecordError { class: self.class, reference: None, field: Some(field), problem }
    }

    fn optional(&self, field: &'static str) -> Option<&'a Value> {
        self.members.iter().find(|(name, _)| name == field).map(|(_, value)| value)
    }

    fn get(&self, field: &'static str) -> Result<&'a Value, RecordError> {
        self.optional(field).ok_or_else(|| self.error(field, Problem::Missing))
    }

    fn str(&self, field: &'static str) -> Result<&'a str, RecordError> {
        let value = self.get(field)?;
        value.as_str().ok_or_else(|| self.error(field, unexpected("a string", kind(value))))
    }

    pub(crate) fn string(&self, field: &'static str) -> Result<String, RecordError> {
        self.str(field).map(str::to_owned)
    }

    pub(crate) fn bool(&self, field: &'static str) -> Result<bool, RecordError> {
        match self.get(field)? {
            Value::Bool(value) => Ok(*value),
            other => Err(self.error(field, unexpected("a boolean", kind(other)))),
        }
    }

    pub(crate) fn reference<C>(&self, field: &'static str) -> Result<Ref<C>, RecordError> {
        self.str(field).map(Ref::new)
    }

    /// A whole number. XAPI writes int64 as untagged text; `<int>` is taken as well.
    pub(crate) fn int<N: TryFrom<i64>>(
        &self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<N, RecordError> {
        let value = self.get(field)?;
        let number = match value {
            Value::Int(number) => Some(*number),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| self.error(field, unexpected(expected, shown(value))))
    }

    /// A string that is one of the data model's names, a uuid, a MAC address, …
    pub(crate) fn parsed<T: FromStr>(
        &self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<T, RecordError> {
        let value = self.get(field)?;
        value
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.error(field, unexpected(expected, shown(value))))
    }

    pub(crate) fn strings(&self, field: &'static str) -> Result<Vec<String>, RecordError> {
        self.set(field, str::to_owned)
    }

    pub(crate) fn references<C>(&self, field: &'static str) -> Result<Vec<Ref<C>>, RecordError> {
        self.set(field, |opaque| Ref::new(opaque))
    }

    /// For a field that older versions do not have.
    pub(crate) fn references_or_none<C>(&self, field: &'static str) -> Result<Vec<Ref<C>>, RecordError> {
        self.optional(field).map_or_else(|| Ok(Vec::new()), |_| self.references(field))
    }

    fn set<T>(&self, field: &'static str, item: impl Fn(&str) -> T) -> Result<Vec<T>, RecordError> {
        let wrong = |found: &Value| self.error(field, unexpected("an array of strings", kind(found)));
        match self.get(field)? {
            Value::Array(values) => {
                values.iter().map(|value| value.as_str().map(&item).ok_or_else(|| wrong(value))).collect()
            }
            other => Err(wrong(other)),
        }
    }

    pub(crate) fn map(&self, field: &'static str) -> Result<BTreeMap<String, String>, RecordError> {
        let wrong = |found: &Value| self.error(field, unexpected("a map of strings", kind(found)));
        match self.get(field)? {
            Value::Struct(members) => members
                .iter()
                .map(|(key, value)| match value.as_str() {
                    Some(text) => Ok((key.clone(), text.to_owned())),
                    None => Err(wrong(value)),
                })
                .collect(),
            other => Err(wrong(other)),
        }
    }
}

pub(crate) fn unexpected(expected: &'static str, found: impl Into<String>) -> Problem {
    Problem::Unexpected { expected, found: found.into() }
}

/// The kind alone: free text (`other_config`, `xenstore_data`) may hold secrets of others.
pub(crate) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Bool(_) => "a boolean",
        Value::Int(_) => "an int",
        Value::Double(_) => "a double",
        Value::String(_) => "a string",
        Value::DateTime(_) => "a date",
        Value::Base64(_) => "base64",
        Value::Array(_) => "an array",
        Value::Struct(_) => "a struct",
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", shortened(text)),
        Value::Int(number) => number.to_string(),
        other => kind(other).to_owned(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
