//! Records as XAPI writes them, what is refused and with which words, and the way back.

use std::fmt::Debug;

use drawbridge_wire::xmlrpc::{decode_value, encode_value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::fields::Problem;
use crate::{
    Backend, Bond, DefaultLockingMode, Host, HostMetrics, LockingMode, Mac, Network, NetworkSriov, Pif, Pool,
    PowerState, Uuid, Vif, Vm,
};

const UUID: &str = "5ad4f3a0-72e0-4b1c-9ac0-5a3c9c1d0e11";

/// A record as XML, the way XAPI writes it: untagged strings, int64 as text.
fn xml(members: &[(&str, &str)]) -> Value {
    let members: String = members
        .iter()
        .map(|(name, value)| format!("<member><name>{name}</name><value>{value}</value></member>"))
        .collect();
    decode_value(&format!("<value><struct>{members}</struct></value>")).unwrap()
}

const NO: &str = "<boolean>0</boolean>";
const YES: &str = "<boolean>1</boolean>";
const EMPTY_SET: &str = "<array><data></data></array>";
const EMPTY_MAP: &str = "<struct></struct>";
const SET: &str = "<array><data><value>OpaqueRef:a</value><value>OpaqueRef:b</value></data></array>";

const VM: &[(&str, &str)] = &[
    ("uuid", UUID),
    ("name_label", "web &lt;1&gt;"),
    ("power_state", "Running"),
    ("resident_on", "OpaqueRef:host"),
    ("scheduled_to_be_resident_on", "OpaqueRef:NULL"),
    ("domid", "7"),
    ("is_control_domain", NO),
    ("is_a_template", NO),
    ("is_a_snapshot", NO),
    ("VIFs", SET),
    ("other_config", "<struct><member><name>k</name><value>v</value></member></struct>"),
    ("xenstore_data", EMPTY_MAP),
    ("a_field_of_a_later_version", "<double>1.5</double>"),
];
const VIF: &[(&str, &str)] = &[
    ("uuid", UUID),
    ("device", "3"),
    ("MAC", "aa:bb:cc:00:11:22"),
    ("network", "OpaqueRef:net"),
    ("VM", "OpaqueRef:vm"),
    ("currently_attached", YES),
    ("locking_mode", "network_default"),
    ("ipv4_allowed", "<array><data><value>10.0.0.1</value></data></array>"),
    ("ipv6_allowed", EMPTY_SET),
    ("other_config", EMPTY_MAP),
];
const NETWORK: &[(&str, &str)] = &[
    ("uuid", UUID),
    ("name_label", ""),
    ("bridge", "xenbr0"),
    ("default_locking_mode", "disabled"),
    ("other_config", EMPTY_MAP),
    ("PIFs", SET),
    ("VIFs", EMPTY_SET),
];
const HOST: &[(&str, &str)] = &[
    ("uuid", UUID),
    ("name_label", "xen1"),
    ("hostname", "xen1"),
    ("address", "192.0.2.1"),
    ("enabled", YES),
    (
        "software_version",
        "<struct><member><name>network_backend</name><value>bridge</value></member></struct>",
    ),
    ("metrics", "OpaqueRef:metrics"),
    ("other_config", EMPTY_MAP),
];
const POOL: &[(&str, &str)] = &[("uuid", UUID), ("master", "OpaqueRef:host"), ("other_config", EMPTY_MAP)];
const PIF: &[(&str, &str)] = &[
    ("uuid", UUID),
    ("device", "eth0"),
    ("network", "OpaqueRef:net"),
    ("host", "OpaqueRef:host"),
    ("VLAN", "-1"),
    ("management", YES),
    ("bond_slave_of", "OpaqueRef:NULL"),
    ("sriov_logical_PIF_of", EMPTY_SET),
];

/// `members` with `field` set to `value`, or without it.
fn with<'a>(members: &[(&'a str, &'a str)], field: &'a str, value: Option<&'a str>) -> Value {
    assert!(members.iter().any(|(name, _)| *name == field), "{field} is no field of the sample");
    let mut members: Vec<_> = members.iter().copied().filter(|(name, _)| *name != field).collect();
    members.extend(value.map(|value| (field, value)));
    xml(&members)
}

#[test]
fn a_vm_is_read() {
    let vm = Vm::decode(&xml(VM)).unwrap();
    let expected = Vm {
        uuid: UUID.parse().unwrap(),
        name_label: "web <1>".to_owned(),
        power_state: PowerState::Running,
        resident_on: Ref::new("OpaqueRef:host"),
        scheduled_to_be_resident_on: Ref::null(),
        domid: Some(7),
        is_control_domain: false,
        is_a_template: false,
        is_a_snapshot: false,
        vifs: vec![Ref::new("OpaqueRef:a"), Ref::new("OpaqueRef:b")],
        other_config: [("k".to_owned(), "v".to_owned())].into(),
        xenstore_data: BTreeMap::new(),
    };
    assert_eq!(vm, expected);
    assert!(vm.is_guest());
    for flag in ["is_control_domain", "is_a_template", "is_a_snapshot"] {
        assert!(!Vm::decode(&with(VM, flag, Some(YES))).unwrap().is_guest(), "{flag}");
    }
}

#[test]
fn the_other_classes_are_read() {
    let vif = Vif::decode(&xml(VIF)).unwrap();
    assert_eq!((vif.device, vif.mac), (3, Mac([0xaa, 0xbb, 0xcc, 0, 0x11, 0x22])));
    assert_eq!((vif.locking_mode, vif.currently_attached), (LockingMode::NetworkDefault, true));
    assert_eq!(
        (vif.ipv4_allowed.as_slice(), vif.ipv6_allowed.len()),
        (["10.0.0.1".to_owned()].as_slice(), 0)
    );

    let network = Network::decode(&xml(NETWORK)).unwrap();
    assert_eq!((network.bridge.as_str(), network.pifs.len(), network.vifs.len()), ("xenbr0", 2, 0));
    assert_eq!(network.default_locking_mode, DefaultLockingMode::Disabled);

    let host = Host::decode(&xml(HOST)).unwrap();
    assert_eq!((host.address.as_str(), host.enabled), ("192.0.2.1", true));
    assert_eq!(host.backend(), Ok(Backend::Bridge));

    assert_eq!(Pool::decode(&xml(POOL)).unwrap().master, Ref::new("OpaqueRef:host"));

    let pif = Pif::decode(&xml(PIF)).unwrap();
    assert_eq!((pif.vlan, pif.management, pif.bond_slave_of.is_null()), (None, true, true));
    assert!(!pif.is_sriov());
}

/// What is accepted besides the samples.
#[test]
fn accepted_spellings() {
    let vm = |field, value| Vm::decode(&with(VM, field, Some(value))).unwrap();
    assert_eq!(vm("domid", "-1").domid, None);
    assert_eq!(vm("domid", "<int>-1</int>").domid, None);
    assert_eq!(vm("domid", "<i8>0</i8>").domid, Some(0));
    assert_eq!(vm("domid", "4294967295").domid, Some(u32::MAX));
    assert!(vm("resident_on", "OpaqueRef:NULL").resident_on.is_null());
    for (name, state) in [("Halted", PowerState::Halted), ("Paused", PowerState::Paused)] {
        assert_eq!(vm("power_state", name).power_state, state);
    }
    assert_eq!(vm("power_state", "Suspended").power_state, PowerState::Suspended);

    let vif = |field, value| Vif::decode(&with(VIF, field, Some(value))).unwrap();
    assert_eq!(vif("device", "0").device, 0);
    assert_eq!(vif("MAC", "AA:BB:CC:00:11:22").mac.to_string(), "aa:bb:cc:00:11:22");
    for (name, mode) in [
        ("locked", LockingMode::Locked),
        ("unlocked", LockingMode::Unlocked),
        ("disabled", LockingMode::Disabled),
    ] {
        assert_eq!(vif("locking_mode", name).locking_mode, mode);
    }

    let pif = |field, value| Pif::decode(&with(PIF, field, value)).unwrap();
    assert_eq!(pif("VLAN", Some("4094")).vlan, Some(4094));
    assert!(pif("sriov_logical_PIF_of", Some(SET)).is_sriov());
    assert!(!pif("sriov_logical_PIF_of", None).is_sriov());
}

/// Every field that is read is needed; the one exception is above.
#[test]
fn a_missing_field_is_an_error() {
    fn check<R: Record + Debug>(sample: &[(&str, &str)], optional: &[&str]) {
        for (field, _) in sample.iter().filter(|(field, _)| !optional.contains(field)) {
            let error = R::decode(&with(sample, field, None)).unwrap_err();
            assert_eq!((error.field, &error.problem), (Some(*field), &Problem::Missing));
            assert_eq!(error.to_string(), format!("{}, field {field}: missing", R::NAME));
        }
    }
    check::<Vm>(VM, &["a_field_of_a_later_version"]);
    check::<Vif>(VIF, &[]);
    check::<Network>(NETWORK, &[]);
    check::<Host>(HOST, &[]);
    check::<Pool>(POOL, &[]);
    check::<Pif>(PIF, &["sriov_logical_PIF_of"]);
}

#[test]
fn what_is_not_in_the_data_model_is_an_error_that_names_it() {
    fn check<R: Record + Debug>(
        sample: &[(&str, &str)],
        field: &'static str,
        value: &'static str,
        says: &str,
    ) {
        let error = R::decode(&with(sample, field, Some(value))).unwrap_err();
        assert_eq!(error.to_string(), format!("{}, field {field}: expected {says}", R::NAME), "{value}");
    }
    let states = "Halted, Paused, Running or Suspended, found";
    check::<Vm>(VM, "power_state", "running", &format!("{states} \"running\""));
    check::<Vm>(VM, "power_state", "", &format!("{states} \"\""));
    check::<Vm>(VM, "power_state", "<nil/>", &format!("{states} nil"));
    check::<Vm>(VM, "uuid", "x", "a uuid, found \"x\"");
    check::<Vm>(VM, "domid", "-2", "a domain id or -1, found \"-2\"");
    check::<Vm>(VM, "domid", "4294967296", "a domain id or -1, found \"4294967296\"");
    check::<Vm>(VM, "domid", "", "a domain id or -1, found \"\"");
    check::<Vm>(VM, "domid", "7 ", "a domain id or -1, found \"7 \"");
    check::<Vm>(VM, "domid", "<int>-7</int>", "a domain id or -1, found -7");
    check::<Vm>(VM, "domid", "<double>7</double>", "a domain id or -1, found a double");
    check::<Vm>(VM, "is_a_template", "true", "a boolean, found a string");
    check::<Vm>(VM, "is_a_template", "<int>1</int>", "a boolean, found an int");
    check::<Vm>(VM, "name_label", "<int>1</int>", "a string, found an int");
    check::<Vm>(VM, "resident_on", EMPTY_MAP, "a string, found a struct");
    check::<Vm>(VM, "VIFs", "OpaqueRef:a", "an array of strings, found a string");
    check::<Vm>(
        VM,
        "VIFs",
        "<array><data><value><nil/></value></data></array>",
        "an array of strings, found nil",
    );
    check::<Vm>(VM, "other_config", EMPTY_SET, "a map of strings, found an array");
    // The value of a map is never shown: it may be somebody's secret.
    let nested = "<struct><member><name>secret</name><value><int>5</int></value></member></struct>";
    check::<Vm>(VM, "xenstore_data", nested, "a map of strings, found an int");
    check::<Vif>(VIF, "device", "-1", "the number of a device, found \"-1\"");
    check::<Vif>(VIF, "device", "xvda", "the number of a device, found \"xvda\"");
    for mac in [
        "",
        "aa:bb:cc:00:11",
        "aa:bb:cc:00:11:22:33",
        "aa-bb-cc-00-11-22",
        "aa:bb:cc:00:11:2",
        "+a:bb:cc:00:11:22",
    ] {
        check::<Vif>(VIF, "MAC", mac, &format!("a MAC address, found {mac:?}"));
    }
    check::<Vif>(
        VIF,
        "locking_mode",
        "Locked",
        "network_default, locked, unlocked or disabled, found \"Locked\"",
    );
    check::<Network>(NETWORK, "default_locking_mode", "locked", "unlocked or disabled, found \"locked\"");
    check::<Pif>(PIF, "VLAN", "65536", "a VLAN tag or -1, found \"65536\"");
    check::<Pif>(PIF, "sriov_logical_PIF_of", "", "an array of strings, found a string");
}

#[test]
fn an_error_among_many_names_the_object_and_is_bounded() {
    let long = "x".repeat(10_000);
    let bad = with(VIF, "MAC", Some(&long));
    let all = Value::Struct(vec![("OpaqueRef:1".to_owned(), xml(VIF)), ("OpaqueRef:2".to_owned(), bad)]);
    let error = decode_records::<Vif>(&all).unwrap_err();
    let found = "x".repeat(60);
    assert_eq!(
        error.to_string(),
        format!("VIF OpaqueRef:2, field MAC: expected a MAC address, found \"{found}\"")
    );
}

#[test]
fn what_is_no_record_is_an_error() {
    let error = Vm::decode(&Value::Nil).unwrap_err();
    assert_eq!(error.to_string(), "VM, record: expected a struct, found nil");
    let error = decode_records::<Vm>(&Value::from("")).unwrap_err();
    assert_eq!(error.to_string(), "VM, record: expected a map of records, found a string");
    assert_eq!(decode_records::<Vm>(&Value::Struct(vec![])), Ok(BTreeMap::new()));
}

#[test]
fn the_backend_is_one_of_two_or_an_error() {
    let mut host = Host::decode(&xml(HOST)).unwrap();
    let mut backend = |name: Option<&str>| {
        host.software_version =
            name.map(|name| ("network_backend".to_owned(), name.to_owned())).into_iter().collect();
        host.backend()
    };
    assert_eq!(backend(Some("openvswitch")), Ok(Backend::OpenVSwitch));
    assert_eq!(
        backend(Some("vswitch")).unwrap_err().to_string(),
        format!(
            "host {UUID}, field software_version:network_backend: expected bridge or openvswitch, found \"vswitch\""
        ),
    );
    assert_eq!(backend(None).unwrap_err().problem, Problem::Missing);
}

// === There and back: decode(encode(record)) == record, also through XML ===

fn uuids<C: Class>() -> impl Strategy<Value = Uuid<C>> {
    any::<u128>().prop_map(|n| Uuid::new(uuid::Uuid::from_u128(n)))
}

fn refs<C: Class>() -> impl Strategy<Value = Ref<C>> {
    prop_oneof!["OpaqueRef:[0-9a-f]{1,8}".prop_map(Ref::new), Just(()).prop_map(|()| Ref::null())]
}

/// Text that XML can carry: all that XAPI lets into its database. A carriage return becomes a line feed in XML.
fn texts() -> impl Strategy<Value = String> {
    "[\\t\\n -~\u{a0}-\u{d7ff}\u{10000}-\u{10ffff}]{0,12}"
}

fn maps() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(texts(), texts(), 0..4)
}

prop_compose! {
    fn vms()(
        (uuid, name_label, resident_on, scheduled_to_be_resident_on) in (uuids(), texts(), refs(), refs()),
        power_state in prop::sample::select(&[
            PowerState::Halted, PowerState::Paused, PowerState::Running, PowerState::Suspended,
        ][..]),
        domid in any::<Option<u32>>(),
        flags in any::<[bool; 3]>(),
        vifs in vec(refs(), 0..4),
        (other_config, xenstore_data) in (maps(), maps()),
    ) -> Vm {
        let [is_control_domain, is_a_template, is_a_snapshot] = flags;
        Vm {
            uuid, name_label, power_state, resident_on, scheduled_to_be_resident_on, domid, is_control_domain,
            is_a_template, is_a_snapshot, vifs,
            other_config, xenstore_data,
        }
    }
}

prop_compose! {
    fn vifs()(
        (uuid, network, vm) in (uuids(), refs(), refs()),
        (device, mac, currently_attached) in (any::<u32>(), any::<[u8; 6]>(), any::<bool>()),
        locking_mode in prop::sample::select(&[
            LockingMode::NetworkDefault, LockingMode::Locked, LockingMode::Unlocked, LockingMode::Disabled,
        ][..]),
        (ipv4_allowed, ipv6_allowed) in (vec(texts(), 0..3), vec(texts(), 0..3)),
        other_config in maps(),
    ) -> Vif {
        let mac = Mac(mac);
        Vif {
            uuid, device, mac, network, vm, currently_attached, locking_mode, ipv4_allowed, ipv6_allowed, other_config,
        }
    }
}

prop_compose! {
    fn networks()(
        (uuid, name_label, bridge, other_config) in (uuids(), texts(), texts(), maps()),
        default_locking_mode in
            prop::sample::select(&[DefaultLockingMode::Unlocked, DefaultLockingMode::Disabled][..]),
        (pifs, vifs) in (vec(refs(), 0..3), vec(refs(), 0..3)),
    ) -> Network {
        Network { uuid, name_label, bridge, default_locking_mode, other_config, pifs, vifs }
    }
}

prop_compose! {
    fn hosts()(
        (uuid, name_label, hostname, address) in (uuids(), texts(), texts(), texts()),
        (enabled, software_version, metrics) in (any::<bool>(), maps(), refs::<HostMetrics>()),
        other_config in maps(),
    ) -> Host {
        Host { uuid, name_label, hostname, address, enabled, software_version, metrics, other_config }
    }
}

prop_compose! {
    fn pifs()(
        (uuid, device, network, host) in (uuids(), texts(), refs(), refs()),
        (vlan, management) in (any::<Option<u16>>(), any::<bool>()),
        (bond_slave_of, sriov_logical_pif_of) in (refs::<Bond>(), vec(refs::<NetworkSriov>(), 0..3)),
    ) -> Pif {
        Pif { uuid, device, network, host, vlan, management, bond_slave_of, sriov_logical_pif_of }
    }
}

fn there_and_back<R>(record: &R) -> Result<(), TestCaseError>
where
    R: Record + Debug + PartialEq + Clone,
    Value: for<'a> From<&'a R>,
    R: for<'a> TryFrom<&'a Value, Error = RecordError>,
{
    prop_assert_eq!(&R::try_from(&Value::from(record)).unwrap(), record);
    let records: BTreeMap<_, _> = [(Ref::new("OpaqueRef:1"), record.clone())].into();
    let xml = encode_value(&encode_records(&records));
    prop_assert_eq!(decode_records(&decode_value(&xml).unwrap()).unwrap(), records);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_vm_there_and_back(vm in vms()) { there_and_back(&vm)? }

    #[test]
    fn a_vif_there_and_back(vif in vifs()) { there_and_back(&vif)? }

    #[test]
    fn a_network_there_and_back(network in networks()) { there_and_back(&network)? }

    #[test]
    fn a_host_there_and_back(host in hosts()) { there_and_back(&host)? }

    #[test]
    fn a_pif_there_and_back(pif in pifs()) { there_and_back(&pif)? }

    #[test]
    fn a_pool_there_and_back(uuid in uuids(), master in refs(), other_config in maps()) {
        there_and_back(&Pool { uuid, master, other_config })?
    }
}
