//! Getters and setters of every class, made from the schema.

use drawbridge_wire::xmlrpc::Value;

use super::{Call, Methods, type_error};
use crate::config::Role;
use crate::db::Record;
use crate::error::{ApiError, Reply};
use crate::schema::{Class, Field, Kind};

pub(super) fn register(methods: &mut Methods, class: Class) {
    let name = class.name();
    let mut read = |call: &str, params, run: fn(&Call, Class) -> Reply| {
        methods.add(format!("{name}.{call}"), params, Role::ReadOnly, move |call| run(call, class));
    };
    read("get_all", 0, |call, class| {
        Ok(call.pool.db().all(class).map(|(reference, _)| reference.as_str()).collect())
    });
    read("get_all_records", 0, |call, class| {
        let db = call.pool.db();
        Ok(Value::Struct(
            db.all(class).map(|(reference, record)| (reference.clone(), record.to_value())).collect(),
        ))
    });
    read("get_record", 1, |call, class| Ok(call.pool.db().get(class, call.text(0)?)?.to_value()));
    read("get_by_uuid", 1, |call, class| {
        let uuid = call.text(0)?;
        let db = call.pool.db();
        let found = db.find(class, "uuid", uuid).next().map(Value::from);
        found.ok_or_else(|| ApiError::new("UUID_INVALID", [class.name(), uuid]))
    });
    if class.field("name_label").is_some() {
        read("get_by_name_label", 1, |call, class| {
            Ok(call.pool.db().find(class, "name_label", call.text(0)?).collect())
        });
    }
    for field in class.fields() {
        let getter = format!("{name}.get_{}", field.name);
        methods.add(getter, 1, Role::ReadOnly, move |call| {
            Ok(call.pool.db().get(class, call.text(0)?)?.get(field.name).clone())
        });
        if let Some(role) = field.writer {
            register_writers(methods, class, field, role);
        }
    }
}

fn register_writers(methods: &mut Methods, class: Class, field: &'static Field, role: Role) {
    let name = class.name();
    let write = move |call: &Call, change: &dyn Fn(&mut Record) -> Result<(), ApiError>| -> Reply {
        call.pool.db().try_update(class, call.text(0)?, change)?;
        Ok(Value::from(""))
    };
    methods.add(format!("{name}.set_{}", field.name), 2, role, move |call| {
        let value = checked(call, field.kind)?;
        write(call, &|record| {
            record.set(field.name, value.clone());
            Ok(())
        })
    });
    match field.kind {
        Kind::Map => {
            methods.add(format!("{name}.add_to_{}", field.name), 3, role, move |call| {
                let (key, value) = (call.text(1)?, call.text(2)?);
                write(call, &|record| add_to(record, class, field.name, call.text(0)?, key, value))
            });
            methods.add(format!("{name}.remove_from_{}", field.name), 2, role, move |call| {
                let key = call.text(1)?;
                write(call, &|record| {
                    if let Some(Value::Struct(members)) = record.get_mut(field.name) {
                        members.retain(|(known, _)| known != key);
                    }
                    Ok(())
                })
            });
        }
        Kind::Set => {
            methods.add(format!("{name}.add_{}", field.name), 2, role, move |call| {
                let item = call.text(1)?;
                write(call, &|record| {
                    record.insert(field.name, item);
                    Ok(())
                })
            });
            methods.add(format!("{name}.remove_{}", field.name), 2, role, move |call| {
                let item = call.text(1)?;
                write(call, &|record| {
                    record.remove(field.name, item);
                    Ok(())
                })
            });
        }
        Kind::Text | Kind::Int | Kind::Bool | Kind::Float | Kind::Date | Kind::Ref => {}
    }
}

/// The second argument, if it is of this kind.
fn checked(call: &Call, kind: Kind) -> Reply {
    match kind {
        Kind::Text | Kind::Ref => call.text(1).map(Value::from),
        Kind::Set => call.texts(1).map(|texts| texts.into_iter().collect()),
        Kind::Map => {
            let entries = call.map(1)?;
            Ok(Value::Struct(entries.into_iter().map(|(key, value)| (key, Value::String(value))).collect()))
        }
        Kind::Bool => call.flag(1).map(Value::Bool),
        // No field of these kinds is written by a plain setter.
        Kind::Int | Kind::Float | Kind::Date => Err(type_error("string", call.arg(1))),
    }
}

fn add_to(
    record: &mut Record,
    class: Class,
    field: &'static str,
    reference: &str,
    key: &str,
    value: &str,
) -> Result<(), ApiError> {
    if let Some(Value::Struct(members)) = record.get_mut(field) {
        if members.iter().any(|(known, _)| known == key) {
            return Err(ApiError::new("MAP_DUPLICATE_KEY", [class.name(), field, reference, key]));
        }
        members.push((key.to_owned(), Value::from(value)));
    }
    Ok(())
}
