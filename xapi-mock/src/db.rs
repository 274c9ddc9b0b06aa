//! The pool's database: records by class and reference, the back-references XAPI derives, and what `event.from` reads:
//! which objects changed since when.
//!
//! As in xapi (`db_cache_types.ml`) the database counts its changes, each row knows the counts at which it was made and
//! last changed, and each table remembers its latest deletions. Nothing else is kept of the past.

use std::collections::{BTreeMap, VecDeque};

use drawbridge_wire::xmlrpc::Value;

use crate::error::ApiError;
use crate::schema::{Class, NULL_REF};

/// Deletions a table remembers at most, and how many are left when there are more (`db_cache_types.ml`).
const MOST_DELETIONS: usize = 512;
const KEPT_DELETIONS: usize = 256;

/// An object's fields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record(BTreeMap<&'static str, Value>);

impl Record {
    /// A record with every field at its default.
    pub(crate) fn new(class: Class, uuid: &str) -> Self {
        let mut record =
            Self(class.fields().iter().map(|field| (field.name, field.kind.default())).collect());
        record.set("uuid", uuid);
        record
    }

    /// Sets a field of the class; a name outside the schema is a mistake of the mock's own.
    pub(crate) fn set(&mut self, field: &'static str, value: impl Into<Value>) {
        debug_assert!(self.0.contains_key(field), "no field {field}");
        self.0.insert(field, value.into());
    }

    /// [`set`](Self::set), chained.
    pub(crate) fn with(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.set(field, value);
        self
    }

    pub(crate) fn get(&self, field: &str) -> &Value {
        self.0.get(field).unwrap_or(&Value::Nil)
    }

    pub(crate) fn get_mut(&mut self, field: &str) -> Option<&mut Value> {
        self.0.get_mut(field)
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.get(field).as_str().unwrap_or_default()
    }

    pub(crate) fn flag(&self, field: &str) -> bool {
        *self.get(field) == Value::Bool(true)
    }

    /// A number that is no less than 0, or text that says one; 0 if it is neither, which the mock never writes.
    pub(crate) fn number(&self, field: &str) -> u32 {
        match self.get(field) {
            Value::Int(number) => u32::try_from(*number).unwrap_or_default(),
            other => other.as_str().and_then(|text| text.parse().ok()).unwrap_or_default(),
        }
    }

    /// The texts of a set.
    pub(crate) fn texts(&self, field: &str) -> Vec<String> {
        match self.get(field) {
            Value::Array(items) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, set: &str, item: &str) {
        if let Some(Value::Array(items)) = self.get_mut(set)
            && !items.iter().any(|known| known.as_str() == Some(item))
        {
            items.push(Value::from(item));
        }
    }

    pub(crate) fn remove(&mut self, set: &str, item: &str) {
        if let Some(Value::Array(items)) = self.get_mut(set) {
            items.retain(|known| known.as_str() != Some(item));
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        Value::Struct(self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }
}

/// A map field from strings.
pub(crate) fn map<'a>(entries: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    Value::Struct(
        entries.into_iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect(),
    )
}

/// A record and the counts at which it was made and last changed.
#[derive(Clone, Debug)]
struct Row {
    record: Record,
    created: u64,
    modified: u64,
}

#[derive(Clone, Debug)]
struct Deletion {
    reference: String,
    created: u64,
    deleted: u64,
}

#[derive(Clone, Debug, Default)]
struct Table {
    rows: BTreeMap<String, Row>,
    /// Oldest first.
    deletions: VecDeque<Deletion>,
}

/// What happened to an object since some count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happened {
    Added,
    Modified,
    Deleted,
}

/// All records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Db {
    tables: BTreeMap<Class, Table>,
    generation: u64,
}

impl Db {
    /// The number of changes so far.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// What of `class` changed after `since`: object, what happened to it, and when. What was made and deleted since is
    /// not told, and of deletions those alone that are remembered.
    pub(crate) fn changes(&self, class: Class, since: u64) -> impl Iterator<Item = (&str, Happened, u64)> {
        let table = self.tables.get(&class);
        let rows =
            table.into_iter().flat_map(|table| &table.rows).filter_map(move |(reference, row)| {
                match (row.created > since, row.modified > since) {
                    (true, _) => Some((reference.as_str(), Happened::Added, row.modified)),
                    (false, true) => Some((reference.as_str(), Happened::Modified, row.modified)),
                    (false, false) => None,
                }
            });
        let deletions = table.into_iter().flat_map(|table| &table.deletions);
        let deletions = deletions
            .filter(move |it| it.deleted > since && it.created <= since)
            .map(|it| (it.reference.as_str(), Happened::Deleted, it.deleted));
        rows.chain(deletions)
    }

    pub(crate) fn count(&self, class: Class) -> usize {
        self.tables.get(&class).map_or(0, |table| table.rows.len())
    }

    /// What a restart of xapi does: deletions are not in the file it writes.
    pub(crate) fn forget_deletions(&mut self) {
        for table in self.tables.values_mut() {
            table.deletions.clear();
        }
    }

    /// Sets the count back, as a master does that takes over with an older copy of the database. The records stay.
    pub(crate) fn set_back(&mut self, by: u64) {
        self.generation = self.generation.saturating_sub(by).max(1);
        let now = self.generation;
        for row in self.tables.values_mut().flat_map(|table| table.rows.values_mut()) {
            row.created = row.created.min(now);
            row.modified = row.modified.min(now);
        }
        self.forget_deletions();
    }

    pub(crate) fn insert(&mut self, class: Class, reference: &str, record: Record) {
        let now = self.next_generation();
        let row = Row { record, created: now, modified: now };
        self.tables.entry(class).or_default().rows.insert(reference.to_owned(), row);
    }

    pub(crate) fn delete(&mut self, class: Class, reference: &str) {
        let deleted = self.generation + 1;
        let Some(table) = self.tables.get_mut(&class) else { return };
        let Some(Row { created, .. }) = table.rows.remove(reference) else { return };
        self.generation = deleted;
        table.deletions.push_back(Deletion { reference: reference.to_owned(), created, deleted });
        if table.deletions.len() > MOST_DELETIONS {
            table.deletions.drain(..MOST_DELETIONS - KEPT_DELETIONS);
        }
    }

    pub(crate) fn all(&self, class: Class) -> impl Iterator<Item = (&String, &Record)> {
        let rows = self.tables.get(&class).into_iter().flat_map(|table| &table.rows);
        rows.map(|(reference, row)| (reference, &row.record))
    }

    pub(crate) fn get(&self, class: Class, reference: &str) -> Result<&Record, ApiError> {
        let row = self.tables.get(&class).and_then(|table| table.rows.get(reference));
        row.map(|row| &row.record).ok_or_else(|| ApiError::handle_invalid(class, reference))
    }

    /// Changes a record. As in xapi a change to what it was already is none.
    pub(crate) fn try_update<T>(
        &mut self,
        class: Class,
        reference: &str,
        change: impl FnOnce(&mut Record) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let now = self.generation + 1;
        let row = self.tables.get_mut(&class).and_then(|table| table.rows.get_mut(reference));
        let row = row.ok_or_else(|| ApiError::handle_invalid(class, reference))?;
        let mut record = row.record.clone();
        let answer = change(&mut record)?;
        if record != row.record {
            row.record = record;
            row.modified = now;
            self.generation = now;
        }
        Ok(answer)
    }

    /// Changes a record that may be gone by now; then there is nothing to change.
    pub(crate) fn update(&mut self, class: Class, reference: &str, change: impl FnOnce(&mut Record)) {
        let _gone = self.try_update(class, reference, |record| {
            change(record);
            Ok(())
        });
    }

    /// References of the class whose text field has this value.
    pub(crate) fn find<'a>(
        &'a self,
        class: Class,
        field: &'a str,
        value: &'a str,
    ) -> impl Iterator<Item = &'a str> + 'a {
        self.all(class)
            .filter(move |(_, record)| record.text(field) == value)
            .map(|(reference, _)| reference.as_str())
    }

    /// Is this host alive? A host nobody knows is not, as in xapi.
    pub(crate) fn live(&self, host: &str) -> bool {
        let metrics = self.get(Class::Host, host).map_or(NULL_REF, |record| record.text("metrics"));
        self.get(Class::HostMetrics, metrics).is_ok_and(|record| record.flag("live"))
    }

    /// A VM's VIFs, lowest device first.
    pub(crate) fn vifs_of(&self, vm: &str) -> Vec<String> {
        let mut vifs: Vec<_> = self
            .all(Class::Vif)
            .filter(|(_, vif)| vif.text("VM") == vm)
            .map(|(reference, vif)| (vif.number("device"), reference.clone()))
            .collect();
        vifs.sort();
        vifs.into_iter().map(|(_, reference)| reference).collect()
    }

    /// Inserts a VIF and the back-references to it.
    pub(crate) fn insert_vif(&mut self, reference: &str, record: Record) {
        let (vm, network) = (record.text("VM").to_owned(), record.text("network").to_owned());
        self.insert(Class::Vif, reference, record);
        self.update(Class::Vm, &vm, |vm| vm.insert("VIFs", reference));
        self.update(Class::Network, &network, |network| network.insert("VIFs", reference));
    }

    /// Deletes a VIF and the back-references to it.
    pub(crate) fn delete_vif(&mut self, reference: &str) {
        let Ok(record) = self.get(Class::Vif, reference) else { return };
        let (vm, network) = (record.text("VM").to_owned(), record.text("network").to_owned());
        self.delete(Class::Vif, reference);
        self.update(Class::Vm, &vm, |vm| vm.remove("VIFs", reference));
        self.update(Class::Network, &network, |network| network.remove("VIFs", reference));
    }
}
