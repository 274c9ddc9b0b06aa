//! Reading a pool of 10,000 VMs: the first answer of `event.from`, 2.3 kB a VM with its VIF beside it.
//!
//! bare: quick-xml's events alone, the least any reader of XML can take; value: the wire's tree of values; events: that
//! and the typed records; cache: all of it, up to what a watch keeps.
#![expect(clippy::unwrap_used, reason = "a benchmark of fixed input")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use drawbridge_wire::xmlrpc::{Response, Value, decode_response, encode_response};
use quick_xml::Reader;
use quick_xml::events::Event as XmlEvent;
use xenapi::{Cache, Events};

const VMS: usize = 10_000;

/// Fields of a VM's record that nobody here reads; there are some sixty more in a real one.
const OTHERS: [&str; 28] = [
    "HVM_boot_policy",
    "HVM_shadow_multiplier",
    "NVRAM",
    "PCI_bus",
    "PV_args",
    "PV_bootloader",
    "PV_kernel",
    "PV_ramdisk",
    "VCPUs_at_startup",
    "VCPUs_max",
    "actions_after_crash",
    "actions_after_reboot",
    "actions_after_shutdown",
    "affinity",
    "appliance",
    "guest_metrics",
    "hardware_platform_version",
    "memory_dynamic_max",
    "memory_dynamic_min",
    "memory_overhead",
    "memory_static_max",
    "memory_target",
    "metrics",
    "name_description",
    "order",
    "recommendations",
    "suspend_VDI",
    "user_version",
];

fn fields(members: &[(&str, Value)]) -> Value {
    Value::Struct(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn uuid(kind: u8, n: usize) -> String {
    format!("{kind:08x}-72e0-4b1c-9ac0-{n:012x}")
}

fn vm(n: usize) -> Value {
    let mut members = vec![
        ("uuid", uuid(1, n).into()),
        ("name_label", format!("instance-{n:08x}").into()),
        ("power_state", "Running".into()),
        ("resident_on", format!("OpaqueRef:{}", uuid(3, n % 32)).into()),
        ("scheduled_to_be_resident_on", "OpaqueRef:NULL".into()),
        ("domid", n.to_string().into()),
        ("is_control_domain", false.into()),
        ("is_a_template", false.into()),
        ("is_a_snapshot", false.into()),
        ("VIFs", [format!("OpaqueRef:{}", uuid(2, n))].into_iter().collect()),
        ("other_config", fields(&[("nova_uuid", uuid(4, n).into()), ("base_template", "Debian".into())])),
        ("xenstore_data", fields(&[("vm-data/networking", "{\"label\": \"net\"}".into())])),
    ];
    members.extend(OTHERS.map(|name| (name, Value::from("OpaqueRef:NULL"))));
    fields(&members)
}

fn vif(n: usize) -> Value {
    let [.., a, b] = n.to_be_bytes();
    fields(&[
        ("uuid", uuid(2, n).into()),
        ("device", "0".into()),
        ("MAC", format!("02:00:00:00:{a:02x}:{b:02x}").into()),
        ("network", format!("OpaqueRef:{}", uuid(5, n % 100)).into()),
        ("VM", format!("OpaqueRef:{}", uuid(1, n)).into()),
        ("currently_attached", true.into()),
        ("locking_mode", "locked".into()),
        ("ipv4_allowed", [format!("10.0.{a}.{b}")].into_iter().collect()),
        ("ipv6_allowed", Value::Array(Vec::new())),
        ("other_config", fields(&[])),
    ])
}

fn event(class: &str, reference: String, snapshot: Value) -> Value {
    fields(&[
        ("id", "123456".into()),
        ("timestamp", "0.0".into()),
        ("class", class.into()),
        ("operation", "add".into()),
        ("ref", reference.into()),
        ("snapshot", snapshot),
    ])
}

/// The answer as it is on the wire.
fn answer() -> String {
    let vms = (0..VMS).map(|n| event("vm", format!("OpaqueRef:{}", uuid(1, n)), vm(n)));
    let vifs = (0..VMS).map(|n| event("vif", format!("OpaqueRef:{}", uuid(2, n)), vif(n)));
    let value = fields(&[
        ("events", vms.chain(vifs).collect()),
        ("valid_ref_counts", fields(&[("vm", Value::Int(10_000)), ("vif", Value::Int(10_000))])),
        ("token", "00000000000000012345,00000000000000000000".into()),
    ]);
    encode_response(&Response::Value(value))
}

fn decode(document: &str) -> Value {
    match decode_response(document).unwrap() {
        Response::Value(value) => value,
        Response::Fault { message, .. } => panic!("{message}"),
    }
}

fn read(criterion: &mut Criterion) {
    let document = answer();
    let mut group = criterion.benchmark_group(format!("{VMS} VMs"));
    group.sample_size(10);
    group.throughput(Throughput::Bytes(document.len().try_into().unwrap()));
    group.bench_function("bare", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::from_str(&document);
            reader.config_mut().expand_empty_elements = true;
            let mut count = 0_u64;
            while !matches!(black_box(reader.read_event().unwrap()), XmlEvent::Eof) {
                count += 1;
            }
            count
        });
    });
    group.bench_function("value", |bencher| bencher.iter(|| decode(black_box(&document))));
    group.bench_function("events", |bencher| {
        bencher.iter(|| Events::decode(&decode(black_box(&document))).unwrap());
    });
    group.bench_function("cache", |bencher| {
        bencher.iter(|| Cache::of(Events::decode(&decode(black_box(&document))).unwrap().events));
    });
    group.finish();
}

criterion_group!(benches, read);
criterion_main!(benches);
