//! Fields that are lists: what replaces them, comes to them, goes from them.

use clap::Args;
use ruleset::model::prefix;
use serde_json::{Value, json};

use super::failure::Failure;
use super::noun::{Fields, as_word};

/// A change of a list.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    instead: Option<Vec<Value>>,
    add: Vec<Value>,
    remove: Vec<Value>,
}

impl Change {
    /// First `instead` takes the place of what is there, then some go, then some come.
    pub(super) fn new(instead: Option<Vec<Value>>, add: Vec<Value>, remove: Vec<Value>) -> Self {
        Self { instead, add, remove }
    }

    /// Changes a field. What is to go and is not there is an error: it may have been mistyped.
    pub(super) fn apply(&self, kind: &'static str, field: &str, fields: &mut Fields) -> Result<(), Failure> {
        let mut list = match (&self.instead, fields.get(field)) {
            (Some(list), _) => list.clone(),
            (None, Some(Value::Array(list))) => list.clone(),
            (None, _) => Vec::new(),
        };
        for gone in &self.remove {
            let before = list.len();
            list.retain(|item| !same(item, gone));
            if list.len() == before {
                return Err(Failure::NotThere {
                    kind,
                    id: fields.get("id").map(as_word).unwrap_or_default(),
                    what: in_words(gone),
                });
            }
        }
        list.extend(self.add.iter().cloned());
        fields.insert(field.to_owned(), Value::Array(list));
        Ok(())
    }
}

/// Addresses are the same however they are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a == b || prefix(a).is_ok_and(|a| Ok(a) == prefix(b)),
        (Value::Object(a), Value::Object(b)) => {
            let mac = |pair: &Fields| pair.get("mac").and_then(Value::as_str).map(str::to_ascii_lowercase);
            let address = |pair: &Fields| pair.get("address").cloned().unwrap_or_default();
            mac(a) == mac(b) && same(&address(a), &address(b))
        }
        _ => false,
    }
}

fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(pair) => {
            let part = |name| pair.get(name).and_then(Value::as_str).unwrap_or_default();
            let mac = part("mac");
            if mac.is_empty() { part("address").to_owned() } else { format!("{}@{mac}", part("address")) }
        }
        other => other.to_string(),
    }
}

/// How addresses are edited.
#[derive(Debug, Args)]
pub(super) struct Addresses {
    /// All of its addresses, instead of those it has.
    #[arg(long, value_delimiter = ',')]
    address: Option<Vec<String>>,
    /// Add these.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
    add_address: Vec<String>,
    /// Take these away.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
    remove_address: Vec<String>,
    /// Take all away.
    #[arg(long, conflicts_with = "address")]
    no_addresses: bool,
}

impl Addresses {
    pub(super) fn change(self) -> Change {
        let Self { address, add_address, remove_address, no_addresses } = self;
        let instead = address.map(addresses).or_else(|| no_addresses.then(Vec::new));
        Change::new(instead, addresses(add_address), addresses(remove_address))
    }
}

/// Texts as a list's items.
pub(super) fn addresses(texts: Vec<String>) -> Vec<Value> {
    texts.into_iter().map(Value::String).collect()
}

/// Address pairs, each `ADDRESS` or `ADDRESS@MAC`.
pub(super) fn pairs(texts: &[String]) -> Vec<Value> {
    let pair = |text: &String| match text.split_once('@') {
        Some((address, mac)) => json!({ "address": address, "mac": mac }),
        None => json!({ "address": text }),
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: &Change, before: Value) -> Result<Value, String> {
        let mut fields = Fields::new();
        fields.insert("id".to_owned(), json!("s"));
        fields.insert("list".to_owned(), before);
        change.apply("address set", "list", &mut fields).map_err(|failure| failure.to_string())?;
        Ok(fields["list"].clone())
    }

    #[test]
    fn what_comes_and_what_goes() {
        let texts = |list: &[&str]| addresses(list.iter().map(ToString::to_string).collect());
        let here = json!(["10.0.0.0/24", "192.0.2.7/32"]);
        let change = Change::new(None, texts(&["2001:db8::1"]), texts(&["192.0.2.7", "10.0.0.9/24"]));
        assert_eq!(changed(&change, here.clone()).unwrap(), json!(["2001:db8::1"]));
        let instead = Change::new(Some(texts(&["a"])), texts(&["b"]), Vec::new());
        assert_eq!(changed(&instead, here.clone()).unwrap(), json!(["a", "b"]));
        assert_eq!(changed(&Change::default(), here.clone()).unwrap(), here);
        let gone = Change::new(None, Vec::new(), texts(&["192.0.2.8"]));
        assert_eq!(changed(&gone, here).unwrap_err(), "address set s has no 192.0.2.8");
    }

    #[test]
    fn pairs_are_told_apart_by_their_mac() {
        let here =
            json!([{"address": "10.0.0.1/32"}, {"mac": "00:16:3e:00:00:0a", "address": "10.0.0.1/32"}]);
        let with = pairs(&["10.0.0.1@00:16:3E:00:00:0A".to_owned()]);
        let left = changed(&Change::new(None, Vec::new(), with), here.clone()).unwrap();
        assert_eq!(left, json!([{"address": "10.0.0.1/32"}]));
        let other = pairs(&["10.0.0.1@00:16:3e:00:00:0b".to_owned()]);
        let refused = changed(&Change::new(None, Vec::new(), other), here).unwrap_err();
        assert!(refused.ends_with("has no 10.0.0.1@00:16:3e:00:00:0b"), "{refused}");
    }
}
