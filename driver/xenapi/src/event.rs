//! What `event.from` answers: objects that changed, what they are now, and the token to ask from next.
//!
//! Source: xen-api `ocaml/xapi/xapi_event.ml`, `event_types.ml`. An answer is no history: each object stands in it at
//! most once or twice, in no order, with its state of now; deletions alone are told as such, and not reliably.

use std::collections::BTreeMap;

use drawbridge_wire::xmlrpc::Value;

use crate::fields::{Problem, RecordError, kind, unexpected};
use crate::record::Record;
use crate::reference::{Class, Ref};
use crate::{Host, Network, Pif, Pool, Vif, Vm};

/// Classes whose events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventClass {
    /// `host`
    Host,
    /// `network`
    Network,
    /// `PIF`
    Pif,
    /// `pool`
    Pool,
    /// `VIF`
    Vif,
    /// `VM`
    Vm,
}

impl EventClass {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Host, Self::Network, Self::Pif, Self::Pool, Self::Vif, Self::Vm];

    /// The class as events spell it: in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Network => "network",
            Self::Pif => "pif",
            Self::Pool => "pool",
            Self::Vif => "vif",
            Self::Vm => "vm",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| name.eq_ignore_ascii_case(class.as_str()))
    }
}

/// A point in the history of XAPI's database: `%020d,%020d`, so that the later one is the greater text.
///
/// It means something only to the XAPI process that gave it: the client keeps it with the session it came in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(String);

impl Token {
    /// Before everything: from here every object there is, is new.
    #[must_use]
    pub const fn start() -> Self {
        Self(String::new())
    }

    /// The token XAPI wrote as `text`. Nothing is checked: XAPI alone knows what it means.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The token as XAPI writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An object that changed: what it is now, or nothing if it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update<R: Class> {
    /// The object.
    pub object: Ref<R>,
    /// Its record.
    pub record: Option<R>,
}

/// An [`Update`] of any of the classes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the classes themselves")]
pub enum Event {
    Host(Update<Host>),
    Network(Update<Network>),
    Pif(Update<Pif>),
    Pool(Update<Pool>),
    Vif(Update<Vif>),
    Vm(Update<Vm>),
}

/// An answer to `event.from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// What changed. Events of classes that are not read are left out.
    pub events: Vec<Event>,
    /// Where the next call goes on.
    pub token: Token,
    /// How many objects of each class there were at `token`. Tells when a deletion was not told.
    pub counts: BTreeMap<EventClass, u64>,
}

/// In errors about the answer as a whole, what stands for the class.
enum EventFrom {}

impl Class for EventFrom {
    const NAME: &'static str = "event.from";
}

impl Events {
    /// Decodes the answer to `event.from`.
    ///
    /// # Errors
    /// [`RecordError`], also for a single record that cannot be understood: what is not read must not look unchanged.
    pub fn decode(value: &Value) -> Result<Self, RecordError> {
        let Value::Array(list) = member(value, "events")? else {
            return Err(wrong("events", "an array"));
        };
        let events = list.iter().filter_map(|event| Event::decode(event).transpose());
        let Value::Struct(counts) = member(value, "valid_ref_counts")? else {
            return Err(wrong("valid_ref_counts", "a struct"));
        };
        let count = |(name, count): &(String, Value)| {
            let class = EventClass::named(name)?;
            let number = match count {
                Value::Int(number) => u64::try_from(*number).ok(),
                Value::String(text) => text.parse().ok(),
                _ => None,
            };
            Some(number.map(|number| (class, number)).ok_or_else(|| wrong("valid_ref_counts", "counts")))
        };
        Ok(Self {
            events: events.collect::<Result<_, _>>()?,
            token: Token::new(text(value, "token")?),
            counts: counts.iter().filter_map(count).collect::<Result<_, _>>()?,
        })
    }
}

impl Event {
    /// Nothing if the event is of a class that is not read.
    fn decode(value: &Value) -> Result<Option<Self>, RecordError> {
        let Some(class) = EventClass::named(text(value, "class")?) else { return Ok(None) };
        Ok(Some(match class {
            EventClass::Host => Self::Host(Update::decode(value)?),
            EventClass::Network => Self::Network(Update::decode(value)?),
            EventClass::Pif => Self::Pif(Update::decode(value)?),
            EventClass::Pool => Self::Pool(Update::decode(value)?),
            EventClass::Vif => Self::Vif(Update::decode(value)?),
            EventClass::Vm => Self::Vm(Update::decode(value)?),
        }))
    }
}

impl<R: Record> Update<R> {
    fn decode(value: &Value) -> Result<Self, RecordError> {
        let reference = text(value, "ref")?;
        let record = match text(value, "operation")? {
            "del" => None,
            "add" | "mod" => {
                let record = R::decode(member(value, "snapshot")?);
                Some(record.map_err(|error| error.at(reference))?)
            }
            _ => return Err(wrong("operation", "add, mod or del")),
        };
        Ok(Self { object: Ref::new(reference), record })
    }
}

fn member<'a>(value: &'a Value, name: &'static str) -> Result<&'a Value, RecordError> {
    match value {
        Value::Struct(_) => value.member(name).ok_or_else(|| problem(name, Problem::Missing)),
        other => Err(RecordError::whole::<EventFrom>(unexpected("a struct", kind(other)))),
    }
}

fn text<'a>(value: &'a Value, name: &'static str) -> Result<&'a str, RecordError> {
    member(value, name)?.as_str().ok_or_else(|| wrong(name, "a string"))
}

fn wrong(field: &'static str, expected: &'static str) -> RecordError {
    problem(field, unexpected(expected, "something else"))
}

fn problem(field: &'static str, problem: Problem) -> RecordError {
    RecordError { class: EventFrom::NAME, reference: None, field: Some(field), problem }
}

#[cfg(test)]
mod tests;
