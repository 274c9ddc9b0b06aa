//! `Async.*` and `task.*`

use std::sync::Arc;
use std::thread;

use drawbridge_wire::xmlrpc::{Value, encode_value};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Call, Methods, Run};
use crate::config::Role;
use crate::db::Record;
use crate::inventory::ref_of;
use crate::schema::Class;

pub(super) fn register(methods: &mut Methods) {
    methods.add("task.destroy".to_owned(), 1, Role::ReadOnly, |call| {
        let task = call.text(0)?;
        let mut db = call.pool.db();
        db.get(Class::Task, task)?;
        db.delete(Class::Task, task);
        Ok(Value::from(""))
    });
}

/// Makes a task, starts the call behind it, and returns the task's reference.
pub(super) fn start(name: &str, call: Call, run: &'static Run) -> Value {
    let uuid = Uuid::new_v4().to_string();
    let reference = ref_of(&uuid);
    let record = Record::new(Class::Task, &uuid)
        .with("name_label", name)
        .with("status", "pending")
        .with("type", "<none/>")
        .with("resident_on", call.pool.master())
        .with("created", now());
    let pool = Arc::clone(&call.pool);
    pool.db().insert(Class::Task, &reference, record);
    let task = reference.clone();
    thread::spawn(move || {
        let outcome = run(&call);
        call.pool.db().update(Class::Task, &task, |record| {
            record.set("progress", Value::Double(1.0));
            record.set("finished", now());
            match outcome {
                Ok(value) => {
                    record.set("status", "success");
                    // A call without a result leaves the field empty.
                    let result = if value == Value::from("") { String::new() } else { encode_value(&value) };
                    record.set("result", result);
                }
                Err(error) => {
                    record.set("status", "failure");
                    record.set("error_info", error.description());
                }
            }
        });
    });
    Value::from(reference)
}

fn now() -> Value {
    Value::DateTime(Timestamp::now().strftime("%Y%m%dT%H:%M:%SZ").to_string())
}
