//! Records: what XAPI's database holds of an object, cut to the fields that are used.

use std::collections::BTreeMap;

use drawbridge_wire::xmlrpc::Value;

use crate::fields::{RecordError, kind, unexpected};
use crate::reference::{Class, Ref};

pub(crate) mod host;
pub(crate) mod network;
pub(crate) mod pif;
pub(crate) mod pool;
pub(crate) mod vif;
pub(crate) mod vm;

#[cfg(test)]
mod tests;

/// A record of a class: read from the answer to `<class>.get_record`.
pub trait Record: Class + Sized {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`RecordError`] if a field that is needed is missing or is not what the data model says.
    fn decode(value: &Value) -> Result<Self, RecordError>;

    /// The record as XAPI writes it, cut to the fields it has here.
    fn encode(&self) -> Value;
}

/// Implements the conversions every record has.
macro_rules! conversions {
    ($record:ident, $name:literal) => {
        impl $crate::reference::Class for $record {
            const NAME: &'static str = $name;
        }

        impl TryFrom<&drawbridge_wire::xmlrpc::Value> for $record {
            type Error = $crate::fields::RecordError;

            fn try_from(value: &drawbridge_wire::xmlrpc::Value) -> Result<Self, Self::Error> {
                <Self as $crate::record::Record>::decode(value)
            }
        }

        impl From<&$record> for drawbridge_wire::xmlrpc::Value {
            fn from(record: &$record) -> Self {
                <$record as $crate::record::Record>::encode(record)
            }
        }
    };
}

/// An enumeration of the data model: its names, in both directions.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        impl $type {
            /// The name in XAPI's data model.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        impl std::str::FromStr for $type {
            type Err = ();

            fn from_str(name: &str) -> Result<Self, ()> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(()),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use {conversions, names};

/// Decodes the answer to `<class>.get_all_records`.
///
/// # Errors
/// [`RecordError`], naming the object, for the first record that is refused.
pub fn decode_records<R: Record>(value: &Value) -> Result<BTreeMap<Ref<R>, R>, RecordError> {
    let Value::Struct(members) = value else {
        return Err(RecordError::whole::<R>(unexpected("a map of records", kind(value))));
    };
    members
        .iter()
        .map(|(reference, record)| match R::decode(record) {
            Ok(record) => Ok((Ref::new(reference), record)),
            Err(error) => Err(error.at(reference)),
        })
        .collect()
}

/// The answer to `<class>.get_all_records`.
#[must_use]
pub fn encode_records<R: Record>(records: &BTreeMap<Ref<R>, R>) -> Value {
    Value::Struct(
        records.iter().map(|(reference, record)| (reference.as_str().to_owned(), record.encode())).collect(),
    )
}

/// A record under construction.
pub(crate) fn record<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Struct(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

pub(crate) fn text(value: &impl ToString) -> Value {
    Value::String(value.to_string())
}

pub(crate) fn texts<T: ToString>(values: &[T]) -> Value {
    values.iter().map(ToString::to_string).collect()
}

pub(crate) fn map(values: &BTreeMap<String, String>) -> Value {
    Value::Struct(values.iter().map(|(key, value)| (key.clone(), text(value))).collect())
}
