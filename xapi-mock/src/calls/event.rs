//! `event.from` (`xapi_event.ml`): what changed since a token, waited for.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use drawbridge_wire::xmlrpc::Value;

use super::{Call, Methods};
use crate::config::Role;
use crate::db::{Db, Happened};
use crate::error::{ApiError, Reply};
use crate::faults::EventTrap;
use crate::schema::Class;

/// How long xapi lets changes gather once there is one.
const BATCHING: Duration = Duration::from_millis(50);
/// How often a call that waits looks whether its session is still there. xapi is told.
const TICK: Duration = Duration::from_millis(20);

pub(super) fn register(methods: &mut Methods) {
    methods.add("event.from".to_owned(), 3, Role::ReadOnly, from);
}

/// `(classes, token, timeout)`
fn from(call: &Call) -> Reply {
    let classes = call.texts(0)?;
    let subscriptions =
        classes.iter().map(|text| Subscription::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let asked = parse_token(call.text(1)?)?;
    let patience = Duration::try_from_secs_f64(call.seconds(2)?.max(0.0)).unwrap_or(Duration::MAX);
    let deadline = Instant::now().checked_add(patience);
    let pool = &call.pool;
    let mut since = asked;
    let mut looked_at = None;
    loop {
        pool.note_liveness();
        pool.sessions().get(&call.session)?;
        // xapi goes on waiting when the client has gone; here that would keep a thread for nothing.
        let over = pool.is_closed() || call.gone.load(Ordering::Relaxed);
        let late = over || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let db = pool.db();
        let generation = db.generation();
        if late || looked_at != Some(generation) {
            let (found, counts) = (find(&db, &subscriptions, since), counts(&db));
            drop(db);
            // As in xapi records are read later than changes: who is gone by then is left out, and told the next time.
            let events: Vec<_> = found.iter().filter_map(|found| event(&pool.db(), found)).collect();
            if late || !events.is_empty() {
                return Ok(answer(call, events, counts, asked, since.max(generation)));
            }
            if found.is_empty() {
                // What is of no interest need not be looked at again.
                since = since.max(generation);
            }
            looked_at = Some(generation);
        } else {
            drop(db);
        }
        if pool.await_change(generation, TICK) {
            thread::sleep(BATCHING);
        }
    }
}

/// What is asked about.
enum Subscription {
    All,
    Class(String),
    Object(String, String),
}

impl Subscription {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("*"), None, None) => Ok(Self::All),
            (Some(class), None, None) => Ok(Self::Class(class.to_lowercase())),
            (Some(class), Some(object), None) => Ok(Self::Object(class.to_lowercase(), object.to_owned())),
            _ => Err(ApiError::new("EVENT_SUBSCRIPTION_PARSE_FAILURE", [text])),
        }
    }

    fn covers(&self, class: Class, object: &str) -> bool {
        let name = class.name().to_lowercase();
        match self {
            Self::All => true,
            Self::Class(wanted) => *wanted == name,
            Self::Object(wanted, reference) => *wanted == name && reference == object,
        }
    }
}

/// `%020Ld,%020Ld`: the database's count and the messages', of which there are none.
fn parse_token(text: &str) -> Result<u64, ApiError> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = |part: &str| part.parse::<u64>().ok();
    let parsed = text.split_once(',').and_then(|(db, messages)| number(db).zip(number(messages)));
    parsed.map(|(db, _)| db).ok_or_else(|| ApiError::new("EVENT_FROM_TOKEN_PARSE_FAILURE", [text]))
}

struct Found {
    class: Class,
    object: String,
    happened: Happened,
    at: u64,
}

/// Everything of interest that changed, in xapi's order: what was added, what was modified, what was deleted.
fn find(db: &Db, subscriptions: &[Subscription], since: u64) -> Vec<Found> {
    let mut found: Vec<_> = Class::ALL
        .into_iter()
        .rev()
        .flat_map(|class| db.changes(class, since).map(move |change| (class, change)))
        .filter(|(class, (object, ..))| subscriptions.iter().any(|it| it.covers(*class, object)))
        .map(|(class, (object, happened, at))| Found { class, object: object.to_owned(), happened, at })
        .collect();
    found.sort_by_key(|found| found.happened);
    found
}

fn counts(db: &Db) -> Value {
    let count = |class: Class| {
        let number = i64::try_from(db.count(class)).unwrap_or(i64::MAX);
        (class.name().to_lowercase(), Value::Int(number))
    };
    Value::Struct(Class::ALL.into_iter().map(count).collect())
}

fn event(db: &Db, found: &Found) -> Option<(Happened, Value)> {
    let operation = match found.happened {
        Happened::Added => "add",
        Happened::Modified => "mod",
        Happened::Deleted => "del",
    };
    let mut members = vec![
        ("id".to_owned(), Value::from(found.at.to_string())),
        ("timestamp".to_owned(), Value::from("0.0")),
        ("class".to_owned(), Value::from(found.class.name().to_lowercase())),
        ("operation".to_owned(), Value::from(operation)),
        ("ref".to_owned(), Value::from(found.object.as_str())),
    ];
    if found.happened != Happened::Deleted {
        let record = db.get(found.class, &found.object).ok()?;
        members.push(("snapshot".to_owned(), record.to_value()));
    }
    Some((found.happened, Value::Struct(members)))
}

/// The answer, spoilt if it is to be.
fn answer(call: &Call, mut events: Vec<(Happened, Value)>, counts: Value, asked: u64, last: u64) -> Value {
    let mut token = last;
    let is_deletion = |event: &(Happened, Value)| event.0 == Happened::Deleted;
    if !events.is_empty() {
        match call.pool.faults.take_event_trap(events.iter().any(is_deletion)) {
            Some(EventTrap::DropDeletions) => events.retain(|event| !is_deletion(event)),
            Some(EventTrap::Duplicate) => events.extend(events.clone()),
            Some(EventTrap::Reverse) => events.reverse(),
            Some(EventTrap::TokenBack) => token = asked.saturating_sub(1),
            None => {}
        }
    }
    Value::Struct(vec![
        ("events".to_owned(), Value::Array(events.into_iter().map(|(_, event)| event).collect())),
        ("valid_ref_counts".to_owned(), counts),
        ("token".to_owned(), Value::from(format!("{token:020},{:020}", 0))),
    ])
}
