use std::collections::BTreeSet;

use drawbridge_wire::xmlrpc::Value;

use super::client::{Client, Outcome, config, error, pool, texts};
use xapi_mock::Mock;
use xapi_mock::config::{VifConfig, VmConfig};
use xapi_mock::faults::{Fault, HostState};

/// One VM under test.
pub(crate) struct Vm<'a> {
    client: &'a Client,
    pub(crate) reference: String,
}

impl<'a> Vm<'a> {
    pub(crate) fn named(client: &'a Client, name: &str) -> Self {
        Self { client, reference: client.find("VM", name) }
    }

    pub(crate) fn call(&self, method: &str, params: &[Value]) -> Outcome {
        let params: Vec<_> =
            std::iter::once(Value::from(self.reference.as_str())).chain(params.iter().cloned()).collect();
        self.client.call(&format!("VM.{method}"), &params)
    }

    fn get(&self, field: &str) -> String {
        self.client.text(&format!("VM.get_{field}"), &[self.reference.as_str().into()])
    }

    /// Power state, domid, name of the host, how many VIFs are attached.
    fn standing(&self) -> (String, i64, String, usize) {
        let host = self.get("resident_on");
        let host = match host.as_str() {
            "OpaqueRef:NULL" => host,
            host => self.client.text("host.get_name_label", &[host.into()]),
        };
        let vifs = texts(&self.call("get_VIFs", &[]).unwrap());
        let attached = |vif: &&String| {
            self.client.call("VIF.get_currently_attached", &[vif.as_str().into()]) == Ok(Value::Bool(true))
        };
        (
            self.get("power_state"),
            self.get("domid").parse().unwrap(),
            host,
            vifs.iter().filter(attached).count(),
        )
    }

    pub(crate) fn start(&self, paused: bool) {
        self.call("start", &[paused.into(), false.into()]).unwrap();
    }
}

fn standing(state: &str, domid: i64, host: &str, attached: usize) -> (String, i64, String, usize) {
    (state.to_owned(), domid, host.to_owned(), attached)
}

const NOWHERE: &str = "OpaqueRef:NULL";

#[tokio::test]
async fn a_vm_lives_and_every_domain_has_its_own_id() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    let flags = |first: bool| [Value::Bool(first), Value::Bool(false)];
    assert_eq!(vm.standing(), standing("Halted", -1, NOWHERE, 0));
    for (method, params, expected) in [
        ("start", &flags(true)[..], standing("Paused", 1, "host2", 2)),
        ("unpause", &[], standing("Running", 1, "host2", 2)),
        ("pause", &[], standing("Paused", 1, "host2", 2)),
        ("unpause", &[], standing("Running", 1, "host2", 2)),
        ("clean_reboot", &[], standing("Running", 2, "host2", 2)),
        ("hard_reboot", &[], standing("Running", 3, "host2", 2)),
        ("suspend", &[], standing("Suspended", -1, NOWHERE, 2)),
        ("resume", &flags(true), standing("Paused", 4, "host2", 2)),
        ("hard_reboot", &[], standing("Running", 5, "host2", 2)),
        ("clean_shutdown", &[], standing("Halted", -1, NOWHERE, 0)),
        ("start", &flags(false), standing("Running", 6, "host2", 2)),
        ("hard_shutdown", &[], standing("Halted", -1, NOWHERE, 0)),
        ("start", &flags(false), standing("Running", 7, "host2", 2)),
        ("suspend", &[], standing("Suspended", -1, NOWHERE, 2)),
        ("hard_shutdown", &[], standing("Halted", -1, NOWHERE, 0)),
    ] {
        assert_eq!(vm.call(method, params), Ok(Value::from("")), "{method}");
        assert_eq!(vm.standing(), expected, "after {method}");
    }
}

#[tokio::test]
async fn a_guest_may_reboot_and_shut_down_by_itself() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    let refused = mock.guest_reboots("a").await.unwrap_err();
    assert_eq!(refused.code, "VM_BAD_POWER_STATE");
    vm.start(false);
    mock.guest_reboots("a").await.unwrap();
    assert_eq!(vm.standing(), standing("Running", 2, "host2", 2));
    mock.guest_shuts_down("a").await.unwrap();
    assert_eq!(vm.standing(), standing("Halted", -1, NOWHERE, 0));
}

#[tokio::test]
async fn what_the_power_state_forbids_names_both_states() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "b");
    let flags = [Value::Bool(false), Value::Bool(false)];
    let bad = |expected: &str, actual: &str| error(&["VM_BAD_POWER_STATE", &vm.reference, expected, actual]);
    for (method, expected) in [
        ("unpause", "paused"),
        ("pause", "running"),
        ("clean_reboot", "running"),
        ("hard_reboot", "paused, running"),
        ("suspend", "running"),
        ("clean_shutdown", "running"),
        ("hard_shutdown", "paused, suspended, running"),
    ] {
        assert_eq!(vm.call(method, &[]), bad(expected, "halted"), "{method}");
    }
    assert_eq!(vm.call("resume", &flags), bad("suspended", "halted"));
    vm.start(false);
    assert_eq!(vm.call("start", &flags), bad("halted", "running"));
    assert_eq!(vm.call("destroy", &[]), bad("halted, suspended", "running"));
}

#[tokio::test]
async fn templates_snapshots_and_dom0_are_no_plain_vms() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let flags = [Value::Bool(false), Value::Bool(false)];
    let (template, snapshot) = (Vm::named(&client, "template"), Vm::named(&client, "snapshot"));
    assert_eq!(template.call("start", &flags), error(&["VM_IS_TEMPLATE", &template.reference, "start"]));
    assert_eq!(snapshot.call("start", &flags), error(&["VM_IS_SNAPSHOT", &snapshot.reference, "start"]));
    let dom0 = Vm::named(&client, "Control domain on host: host1");
    let refused = error(&["OPERATION_NOT_ALLOWED", "This operation is not allowed on a control domain"]);
    assert_eq!(dom0.call("hard_reboot", &[]), refused);
}

#[tokio::test]
async fn a_vm_starts_on_its_affinity_where_it_is_told_or_where_it_can() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let (a, b) = (Vm::named(&client, "a"), Vm::named(&client, "b"));
    let host1 = client.find("host", "host1");
    a.call("start_on", &[host1.as_str().into(), false.into(), false.into()]).unwrap();
    assert_eq!(a.standing(), standing("Running", 1, "host1", 2));
    // No affinity: the host with fewer VMs.
    b.start(false);
    assert_eq!(b.standing(), standing("Running", 1, "host2", 1));
    let residents = texts(&client.call("host.get_resident_VMs", &[host1.into()]).unwrap());
    assert!(residents.contains(&a.reference) && !residents.contains(&b.reference));
    a.call("hard_shutdown", &[]).unwrap();
    mock.faults().inject(Fault::Host { host: "host2".to_owned(), state: HostState::Offline });
    a.start(false);
    assert_eq!(a.standing(), standing("Running", 2, "host1", 2));
    let host2 = client.find("host", "host2");
    a.call("hard_shutdown", &[]).unwrap();
    let refused = a.call("start_on", &[host2.as_str().into(), false.into(), false.into()]);
    assert_eq!(refused, error(&["HOST_NOT_LIVE"]));
    mock.faults().inject(Fault::Host { host: "host2".to_owned(), state: HostState::Unreachable });
    let refused = a.call("start_on", &[host2.as_str().into(), false.into(), false.into()]);
    assert_eq!(refused, error(&["CANNOT_CONTACT_HOST", &host2]));
    assert_eq!(a.standing(), standing("Halted", -1, NOWHERE, 0));
}

#[tokio::test]
async fn destroy_removes_the_vm_its_vifs_and_what_refers_to_them() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "b");
    let vifs = texts(&vm.call("get_VIFs", &[]).unwrap());
    vm.call("destroy", &[]).unwrap();
    assert_eq!(vm.call("get_record", &[]), error(&["HANDLE_INVALID", "VM", &vm.reference]));
    assert_eq!(
        client.call("VIF.get_record", &[vifs[0].as_str().into()]),
        error(&["HANDLE_INVALID", "VIF", &vifs[0]])
    );
    let left = texts(&client.call("network.get_VIFs", &[client.find("network", "net").into()]).unwrap());
    assert!(!left.contains(&vifs[0]));
}

#[tokio::test]
async fn calls_on_one_vm_queue_up() {
    let mock = pool().await;
    let clients: Vec<_> = (0..4).map(|_| Client::login(&mock)).collect();
    Vm::named(&clients[0], "a").start(false);
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                for _ in 0..5 {
                    Vm::named(client, "a").call("hard_reboot", &[]).unwrap();
                }
            });
        }
    });
    assert_eq!(Vm::named(&clients[0], "a").standing(), standing("Running", 21, "host2", 2));
}

#[tokio::test]
async fn a_vm_can_run_from_the_start_or_come_later() {
    let mut config = config();
    config.vms[0].running = true;
    let mock = Mock::start(config).await.unwrap();
    let client = Client::login(&mock);
    assert_eq!(Vm::named(&client, "a").standing(), standing("Running", 1, "host2", 2));
    let vif = VifConfig { network: "net".to_owned(), ..VifConfig::default() };
    let late = VmConfig { name: "late".to_owned(), running: true, vifs: vec![vif], ..VmConfig::default() };
    let uuid = mock.add_vm(late.clone()).await.unwrap();
    assert_eq!(client.text("VM.get_by_uuid", &[uuid.into()]), client.find("VM", "late"));
    assert_eq!(Vm::named(&client, "late").standing(), standing("Running", 1, "host1", 1));
    let again = mock.add_vm(late).await.unwrap_err();
    assert_eq!(again.to_string(), "vm \"late\": names must be unique and not empty");
}

#[tokio::test]
async fn macs_not_given_are_unicast_local_and_distinct() {
    let mut config = config();
    for vif in config.vms.iter_mut().flat_map(|vm| &mut vm.vifs) {
        vif.mac = None;
    }
    let mock = Mock::start(config).await.unwrap();
    let client = Client::login(&mock);
    let vifs = texts(&client.call("VIF.get_all", &[]).unwrap());
    let macs: BTreeSet<_> =
        vifs.iter().map(|vif| client.text("VIF.get_MAC", &[vif.as_str().into()])).collect();
    assert_eq!(macs.len(), vifs.len());
    assert!(macs.iter().all(|mac| mac.starts_with("02:") && mac.len() == 17));
}
