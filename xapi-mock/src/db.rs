//! The pool's database: records by class and reference, and the back-references XAPI derives.

use std::collections::BTreeMap;

use drawbridge_wire::xmlrpc::Value;

use crate::error::ApiError;
use crate::schema::{Class, NULL_REF};

/// An object's fields.
#[derive(Clone, Debug)]
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

    /// An int64 field; 0 if the text is no such number, which the mock never writes.
    pub(crate) fn number(&self, field: &str) -> u32 {
        self.text(field).parse().unwrap_or_default()
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

/// All records.
#[derive(Debug, Default)]
pub(crate) struct Db {
    tables: BTreeMap<Class, BTreeMap<String, Record>>,
}

impl Db {
    pub(crate) fn insert(&mut self, class: Class, reference: &str, record: Record) {
        self.tables.entry(class).or_default().insert(reference.to_owned(), record);
    }

    pub(crate) fn delete(&mut self, class: Class, reference: &str) {
        if let Some(table) = self.tables.get_mut(&class) {
            table.remove(reference);
        }
    }

    pub(crate) fn all(&self, class: Class) -> impl Iterator<Item = (&String, &Record)> {
        self.tables.get(&class).into_iter().flatten()
    }

    pub(crate) fn get(&self, class: Class, reference: &str) -> Result<&Record, ApiError> {
        self.tables
            .get(&class)
            .and_then(|table| table.get(reference))
            .ok_or_else(|| ApiError::handle_invalid(class, reference))
    }

    pub(crate) fn get_mut(&mut self, class: Class, reference: &str) -> Result<&mut Record, ApiError> {
        self.tables
            .get_mut(&class)
            .and_then(|table| table.get_mut(reference))
            .ok_or_else(|| ApiError::handle_invalid(class, reference))
    }

    /// Changes a record that may be gone by now; then there is nothing to change.
    pub(crate) fn update(&mut self, class: Class, reference: &str, change: impl FnOnce(&mut Record)) {
        if let Ok(record) = self.get_mut(class, reference) {
            change(record);
        }
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
