//! Answers of `event.from`, and what is none.

use drawbridge_wire::xmlrpc::decode_value;

use super::*;

const UUID: &str = "5ad4f3a0-72e0-4b1c-9ac0-5a3c9c1d0e11";

fn members(members: &[(&str, &str)]) -> String {
    let members: String = members
        .iter()
        .map(|(name, value)| format!("<member><name>{name}</name><value>{value}</value></member>"))
        .collect();
    format!("<struct>{members}</struct>")
}

fn event(class: &str, operation: &str, snapshot: Option<&str>) -> String {
    let mut list =
        vec![("class", class), ("operation", operation), ("ref", "OpaqueRef:1"), ("timestamp", "0.0")];
    list.extend(snapshot.map(|snapshot| ("snapshot", snapshot)));
    members(&list)
}

fn answer(events: &[String]) -> String {
    let events: String = events.iter().map(|event| format!("<value>{event}</value>")).collect();
    members(&[
        ("events", &format!("<array><data>{events}</data></array>")),
        ("valid_ref_counts", &members(&[("vm", "<i4>7</i4>"), ("pool", "1"), ("sr", "<i4>3</i4>")])),
        ("token", "00000000000000000123,00000000000000000000"),
    ])
}

fn decode(answer: &str) -> Result<Events, RecordError> {
    Events::decode(&decode_value(&format!("<value>{answer}</value>")).unwrap())
}

fn pool() -> String {
    members(&[("uuid", UUID), ("master", "OpaqueRef:host"), ("other_config", "<struct></struct>")])
}

#[test]
fn an_answer_is_read() {
    let pool = pool();
    let list = [event("pool", "mod", Some(&pool)), event("VM", "del", None), event("sr", "add", Some("x"))];
    let events = decode(&answer(&list)).unwrap();
    let record = Pool {
        uuid: UUID.parse().unwrap(),
        master: Ref::new("OpaqueRef:host"),
        other_config: BTreeMap::new(),
    };
    let object = Ref::new("OpaqueRef:1");
    let expected = [
        Event::Pool(Update { object, record: Some(record) }),
        Event::Vm(Update { object: Ref::new("OpaqueRef:1"), record: None }),
    ];
    assert_eq!(events.events, expected);
    assert_eq!(events.token.as_str(), "00000000000000000123,00000000000000000000");
    assert_eq!(events.counts, [(EventClass::Vm, 7), (EventClass::Pool, 1)].into());
    assert!(events.token > Token::start() && events.token < Token::new("00000000000000000124,0"));
}

#[test]
fn what_is_no_answer_is_an_error_that_says_where() {
    let (pool, broken) = (pool(), members(&[("uuid", "x")]));
    let with = |event: String| answer(&[event]);
    for (given, words) in [
        ("text".to_owned(), "event.from, record: expected a struct, found a string"),
        (members(&[]), "event.from, field events: missing"),
        (members(&[("events", "x")]), "event.from, field events: expected an array, found something else"),
        (
            with(event("pool", "changed", Some(&pool))),
            "event.from, field operation: expected add, mod or del",
        ),
        (with(event("pool", "mod", None)), "event.from, field snapshot: missing"),
        (with(event("pool", "add", Some(&broken))), "pool OpaqueRef:1, field uuid: expected a uuid"),
        (with("x".to_owned()), "event.from, record: expected a struct, found a string"),
        (with(members(&[("class", "vm")])), "event.from, field ref: missing"),
        (
            answer(&[]).replace("<i4>7</i4>", "<i4>-7</i4>"),
            "event.from, field valid_ref_counts: expected counts",
        ),
        (answer(&[]).replace("<i4>7</i4>", "<nil/>"), "event.from, field valid_ref_counts: expected counts"),
        (answer(&[]).replace("token", "tokens"), "event.from, field token: missing"),
    ] {
        let error = decode(&given).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}\nnot {words}");
    }
}
