//! Tables as `ovs-vsctl --format=json list` prints them (RFC 7047, section 5.1 for the values).

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Deserialize;
use serde_json::Value;

use super::HostError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    headings: Vec<String>,
    data: Vec<Vec<Value>>,
}

/// One table.
pub(in crate::ovs) struct Table {
    name: &'static str,
    raw: Raw,
}

/// One row of it.
pub(super) struct Row<'a> {
    table: &'a Table,
    cells: &'a [Value],
}

impl Table {
    pub(in crate::ovs) fn parse(name: &'static str, text: &str) -> Result<Self, HostError> {
        let problem = |problem: String| HostError::Table { table: name, problem };
        let raw: Raw = serde_json::from_str(text).map_err(|e| problem(e.to_string()))?;
        match raw.data.iter().position(|row| row.len() != raw.headings.len()) {
            Some(at) => Err(problem(format!("row {} does not have one value per heading", at + 1))),
            None => Ok(Self { name, raw }),
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.raw.data.iter().map(|cells| Row { table: self, cells })
    }

    pub(super) fn by_uuid(&self) -> Result<BTreeMap<String, Row<'_>>, HostError> {
        self.rows().map(|row| Ok((uuid(row.cell("_uuid")?).ok_or_else(|| row.odd("_uuid"))?, row))).collect()
    }
}

impl Row<'_> {
    pub(super) fn problem(&self, column: &str, problem: &dyn Display) -> HostError {
        HostError::Table { table: self.table.name, problem: format!("column {column}: {problem}") }
    }

    fn odd(&self, column: &str) -> HostError {
        self.problem(column, &"not a value of the kind expected")
    }

    fn cell(&self, column: &str) -> Result<&Value, HostError> {
        let at = self.table.raw.headings.iter().position(|heading| heading == column);
        at.and_then(|at| self.cells.get(at)).ok_or_else(|| self.problem(column, &"is missing"))
    }

    pub(super) fn text(&self, column: &str) -> Result<String, HostError> {
        self.optional_text(column)?.ok_or_else(|| self.odd(column))
    }

    /// `None` for the empty set, which is how the database says "no value".
    pub(super) fn optional_text(&self, column: &str) -> Result<Option<String>, HostError> {
        match self.cell(column)? {
            Value::String(text) => Ok(Some(text.clone())),
            value => self.empty(column, value),
        }
    }

    pub(super) fn optional_number(&self, column: &str) -> Result<Option<i64>, HostError> {
        match self.cell(column)? {
            Value::Number(number) => number.as_i64().map(Some).ok_or_else(|| self.odd(column)),
            value => self.empty(column, value),
        }
    }

    fn empty<T>(&self, column: &str, value: &Value) -> Result<Option<T>, HostError> {
        match tagged("set", value).and_then(Value::as_array) {
            Some(set) if set.is_empty() => Ok(None),
            _ => Err(self.odd(column)),
        }
    }

    /// A set of references; a set of one is printed without the brackets.
    pub(super) fn uuids(&self, column: &str) -> Result<Vec<String>, HostError> {
        let value = self.cell(column)?;
        let uuids = match tagged("set", value) {
            Some(set) => set.as_array().and_then(|set| set.iter().map(uuid).collect()),
            None => uuid(value).map(|only| vec![only]),
        };
        uuids.ok_or_else(|| self.odd(column))
    }

    /// A set of texts; a set of one is printed without the brackets.
    pub(super) fn texts(&self, column: &str) -> Result<Vec<String>, HostError> {
        let value = self.cell(column)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts = match tagged("set", value) {
            Some(set) => set.as_array().and_then(|set| set.iter().map(text).collect()),
            None => text(value).map(|only| vec![only]),
        };
        texts.ok_or_else(|| self.odd(column))
    }

    pub(super) fn map(&self, column: &str) -> Result<BTreeMap<String, String>, HostError> {
        let pair = |pair: &Value| {
            let [key, value] = pair.as_array()?.as_slice() else { return None };
            Some((key.as_str()?.to_owned(), value.as_str()?.to_owned()))
        };
        let pairs = tagged("map", self.cell(column)?).and_then(Value::as_array);
        pairs.and_then(|pairs| pairs.iter().map(pair).collect()).ok_or_else(|| self.odd(column))
    }
}

/// The value in `[tag, value]`.
fn tagged<'a>(tag: &str, value: &'a Value) -> Option<&'a Value> {
    match value.as_array()?.as_slice() {
        [Value::String(found), value] if found == tag => Some(value),
        _ => None,
    }
}

fn uuid(value: &Value) -> Option<String> {
    tagged("uuid", value)?.as_str().map(str::to_owned)
}
