//! What befalls a pool: migrations, restarts, a new master, hosts that go and come.

use std::io::{Read, Write};
use std::time::Duration;

use drawbridge_wire::xmlrpc::Value;
use xapi_mock::Mock;
use xapi_mock::faults::{Fault, HostState, MigrationFault};

use super::client::{Client, Outcome, address, connect, error, map, pool, post, text, texts};
use super::lifecycle::Vm;

const NOWHERE: &str = "OpaqueRef:NULL";

/// Where the record says a VM is and will be: power state, host, scheduled host, domid.
fn standing(client: &Client, vm: &str) -> (String, String, String, String) {
    let get = |field: &str| client.text(&format!("VM.get_{field}"), &[vm.into()]);
    (get("power_state"), get("resident_on"), get("scheduled_to_be_resident_on"), get("domid"))
}

fn is(state: &str, host: &str, scheduled: &str, domid: i64) -> (String, String, String, String) {
    (state.to_owned(), host.to_owned(), scheduled.to_owned(), domid.to_string())
}

fn migrate(client: &Client, vm: &str, host: &str) -> Outcome {
    client.call("VM.pool_migrate", &[vm.into(), host.into(), map(&[("live", "true")])])
}

/// VM `a` runs on host2.
async fn running() -> (Mock, Client, String) {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    vm.start(false);
    let reference = vm.reference;
    (mock, client, reference)
}

#[tokio::test]
async fn a_migration_ends_with_a_new_host_and_domain() {
    let (_mock, client, vm) = running().await;
    let (host1, host2) = (client.find("host", "host1"), client.find("host", "host2"));
    assert_eq!(standing(&client, &vm), is("Running", &host2, NOWHERE, 1));
    migrate(&client, &vm, &host1).unwrap();
    assert_eq!(standing(&client, &vm), is("Running", &host1, NOWHERE, 1));
    migrate(&client, &vm, &host1).unwrap();
    assert_eq!(standing(&client, &vm), is("Running", &host1, NOWHERE, 2));
    let residents = |host: &str| texts(&client.call("host.get_resident_VMs", &[host.into()]).unwrap());
    assert!(residents(&host1).contains(&vm) && !residents(&host2).contains(&vm));
}

#[tokio::test]
async fn the_record_says_where_a_vm_is_going_and_not_where_it_is_until_it_is_there() {
    let (mock, client, vm) = running().await;
    let (host1, host2) = (client.find("host", "host1"), client.find("host", "host2"));
    mock.faults().inject(Fault::Migration { action: MigrationFault::Hold, times: 1 });
    let moving = Client::at(&mock, 0, &client.session);
    std::thread::scope(|scope| {
        let moves = scope.spawn(|| migrate(&moving, &vm, &host1));
        while standing(&client, &vm).2 == NOWHERE {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(standing(&client, &vm), is("Running", &host2, &host1, 1));
        mock.faults().inject(Fault::Clear);
        assert_eq!(moves.join().unwrap(), Ok(Value::from("")));
    });
    assert_eq!(standing(&client, &vm), is("Running", &host1, NOWHERE, 1));
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_plan() {
    let mock = pool().await;
    let client = Client::login(&mock);
    let vm = Vm::named(&client, "a");
    let state = |state| Fault::Host { host: "host2".to_owned(), state };
    mock.faults().inject(state(HostState::Unreachable));
    let host2 = client.find("host", "host2");
    let refused = vm.call("start_on", &[host2.as_str().into(), false.into(), false.into()]);
    assert_eq!(refused, error(&["CANNOT_CONTACT_HOST", &host2]));
    assert_eq!(standing(&client, &vm.reference), is("Halted", NOWHERE, NOWHERE, -1));
    mock.faults().inject(state(HostState::Online));
    vm.start(true);
    assert_eq!(standing(&client, &vm.reference), is("Paused", &host2, NOWHERE, 1));
}

#[tokio::test]
async fn a_migration_can_fail_and_can_lose_the_guest() {
    let (mock, client, vm) = running().await;
    let (host1, host2) = (client.find("host", "host1"), client.find("host", "host2"));
    let broken_off = error(&["INTERNAL_ERROR", "xenopsd internal error: End_of_file"]);
    mock.faults().inject(Fault::Migration { action: MigrationFault::Fail, times: 1 });
    assert_eq!(migrate(&client, &vm, &host1), broken_off);
    assert_eq!(standing(&client, &vm), is("Running", &host2, NOWHERE, 1));
    mock.faults().inject(Fault::Migration { action: MigrationFault::Lose, times: 1 });
    assert_eq!(migrate(&client, &vm, &host1), broken_off);
    assert_eq!(standing(&client, &vm), is("Halted", NOWHERE, NOWHERE, -1));
    let refused = migrate(&client, &vm, &host1);
    assert_eq!(refused, error(&["VM_BAD_POWER_STATE", &vm, "running", "halted"]));
}

#[tokio::test]
async fn a_disabled_host_takes_no_vm_in_and_keeps_what_it_has() {
    let (_mock, client, vm) = running().await;
    let (host1, host2) = (client.find("host", "host1"), client.find("host", "host2"));
    client.call("host.disable", &[host1.as_str().into()]).unwrap();
    client.call("host.disable", &[host2.as_str().into()]).unwrap();
    assert_eq!(migrate(&client, &vm, &host1), error(&["HOST_DISABLED", &host1]));
    assert_eq!(standing(&client, &vm), is("Running", &host2, NOWHERE, 1));
    client.call("host.enable", &[host1.as_str().into()]).unwrap();
    migrate(&client, &vm, &host1).unwrap();
}

#[tokio::test]
async fn a_host_reboots_when_it_is_disabled_and_empty() {
    let (_mock, client, vm) = running().await;
    let (host1, host2) = (client.find("host", "host1"), client.find("host", "host2"));
    let reboot = || client.call("host.reboot", &[host2.as_str().into()]);
    let since = || {
        let config = client.call("host.get_other_config", &[host2.as_str().into()]).unwrap();
        text(config.member("boot_time").unwrap())
    };
    assert_eq!(reboot(), error(&["HOST_NOT_DISABLED"]));
    client.call("host.disable", &[host2.as_str().into()]).unwrap();
    assert_eq!(reboot(), error(&["HOST_IN_USE", &host2, "VM", &vm]));
    migrate(&client, &vm, &host1).unwrap();
    let before = since();
    reboot().unwrap();
    while since() == before {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.call("host.get_enabled", &[host2.as_str().into()]), Ok(Value::Bool(false)));
    assert_eq!(standing(&client, &vm).0, "Running");
}

#[tokio::test]
async fn a_migration_to_a_host_that_dies_meanwhile_fails() {
    let (mock, client, vm) = running().await;
    let (master, other) = (client.find("host", "host1"), client.find("host", "host2"));
    migrate(&client, &vm, &master).unwrap();
    mock.faults().inject(Fault::Migration { action: MigrationFault::Hold, times: 1 });
    let moving = Client::at(&mock, 0, &client.session);
    let handle = {
        let (vm, other) = (vm.clone(), other.clone());
        std::thread::spawn(move || migrate(&moving, &vm, &other))
    };
    while standing(&client, &vm).2 == NOWHERE {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    mock.faults().inject(Fault::Clear);
    mock.stop_host("host2").await.unwrap();
    // Whichever came first: it moved and went with the host, or it never left.
    let outcome = handle.join().unwrap();
    let (_, host, scheduled, _) = standing(&client, &vm);
    match outcome {
        Ok(_) => assert_eq!(host, other),
        Err(_) => assert_eq!((host.as_str(), scheduled.as_str()), (master.as_str(), NOWHERE)),
    }
}

#[tokio::test]
async fn a_restart_of_the_masters_toolstack_loses_sessions_and_cuts_connections() {
    let (mock, client, vm) = running().await;
    let waiting = Client::at(&mock, 0, &client.session);
    std::thread::scope(|scope| {
        let classes: Value = ["vm"].into_iter().collect();
        let waits = scope.spawn(move || {
            let params = [classes, "00000000000000000999,0".into(), Value::Double(20.0)];
            waiting.try_call("event.from", &params)
        });
        std::thread::sleep(Duration::from_millis(50));
        mock.restart_toolstack("host1").unwrap();
        assert_eq!(waits.join().unwrap(), None);
    });
    let gone = client.call("VM.get_record", &[vm.as_str().into()]);
    assert_eq!(gone, error(&["SESSION_INVALID", &client.session]));
    let again = Client::login(&mock);
    assert_eq!(standing(&again, &vm).0, "Running");
    mock.restart_toolstack("host2").unwrap();
    assert_eq!(standing(&again, &vm).0, "Running", "sessions are the master's");
    assert_eq!(mock.restart_toolstack("none").unwrap_err().to_string(), "host \"none\": no such host");
}

#[tokio::test]
async fn another_host_becomes_master() {
    let (mock, client, vm) = running().await;
    let host2 = client.find("host", "host2");
    mock.change_master("host2").unwrap();
    assert_eq!(client.call("VM.get_all", &[]), error(&["HOST_IS_SLAVE", "127.0.0.2"]));
    assert_eq!(mock.master_url(), mock.host_url("host2").unwrap());
    let mut new = Client::at(&mock, 1, "");
    let session = new.open("session.login_with_password", &["root".into(), "secret".into()]).unwrap();
    new.session = text(&session);
    assert_eq!(standing(&new, &vm).0, "Running");
    let pool = texts(&new.call("pool.get_all", &[]).unwrap());
    assert_eq!(new.text("pool.get_master", &[pool[0].as_str().into()]), host2);
    mock.change_master("host1").unwrap();
    assert_eq!(mock.fingerprint(), mock.hosts()[0].fingerprint);
}

#[tokio::test]
async fn a_host_that_dies_keeps_its_vms_in_the_records_until_it_is_back() {
    let (mock, client, vm) = running().await;
    let host2 = client.find("host", "host2");
    mock.stop_host("host2").await.unwrap();
    assert_eq!(standing(&client, &vm), is("Running", &host2, NOWHERE, 1));
    let refused = client.call("VM.hard_reboot", &[vm.as_str().into()]);
    assert_eq!(refused, error(&["HOST_OFFLINE", &host2]));
    mock.start_host("host2").await.unwrap();
    assert_eq!(standing(&client, &vm), is("Halted", NOWHERE, NOWHERE, -1));
    Vm::named(&client, "a").start(false);
    assert_eq!(standing(&client, &vm), is("Running", &host2, NOWHERE, 2));
    mock.reboot_host("host1").await.unwrap();
    let gone = client.call("VM.get_all", &[]);
    assert_eq!(gone, error(&["SESSION_INVALID", &client.session]), "the master's sessions go with it");
}

#[tokio::test]
async fn a_guest_that_crashes_reboots_or_is_gone() {
    let (mock, client, vm) = running().await;
    mock.guest_crashes("a").await.unwrap();
    let host2 = client.find("host", "host2");
    assert_eq!(standing(&client, &vm), is("Running", &host2, NOWHERE, 2));
    client.call("VM.set_actions_after_crash", &[vm.as_str().into(), "destroy".into()]).unwrap();
    mock.guest_crashes("a").await.unwrap();
    assert_eq!(standing(&client, &vm).0, "Halted");
    assert!(mock.guest_crashes("a").await.is_err());
}

#[tokio::test]
async fn a_cut_network_is_silence_and_then_a_broken_connection() {
    let (mock, client, vm) = running().await;
    let host2 = client.find("host", "host2");
    let state = |state| Fault::Host { host: "host2".to_owned(), state };
    mock.faults().inject(state(HostState::Silent));
    let asking = Client::at(&mock, 0, &client.session);
    let handle = std::thread::spawn(move || asking.call("VM.hard_reboot", &[vm.into()]));
    let mut direct = connect(&address(&mock, 1));
    direct.write_all(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n").unwrap();
    direct.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let silence = direct.read(&mut [0]).unwrap_err();
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    assert!(!handle.is_finished());
    mock.faults().inject(state(HostState::Online));
    assert_eq!(handle.join().unwrap(), error(&["CANNOT_CONTACT_HOST", &host2]));
    direct.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Closed with what it said unread.
    assert!(matches!(direct.read(&mut [0]), Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_host_says_since_when_it_and_its_toolstack_run() {
    let mock = pool().await;
    let started = |client: &Client| {
        let config = client.call("host.get_other_config", &[client.find("host", "host2").into()]).unwrap();
        ["boot_time", "agent_start_time"].map(|key| text(config.member(key).unwrap()))
    };
    let client = Client::login(&mock);
    let [boot, agent] = started(&client);
    assert!(boot.trim_end_matches('.').parse::<u64>().is_ok());
    mock.restart_toolstack("host2").unwrap();
    let [same, later] = started(&client);
    assert!(same == boot && later > agent);
    mock.reboot_host("host2").await.unwrap();
    let [later_boot, latest] = started(&client);
    assert!(later_boot > boot && latest > later);
}

#[tokio::test]
async fn incidents_come_over_http_too() {
    let (mock, client, vm) = running().await;
    let host2 = client.find("host", "host2");
    let happens = |json: &str| post(&address(&mock, 0), "/mock/incident", json.as_bytes());
    assert_eq!(happens(r#"{"incident": "guest_reboots", "vm": "a"}"#).unwrap().0, 200);
    assert_eq!(standing(&client, &vm), is("Running", &host2, NOWHERE, 2));
    assert_eq!(happens(r#"{"incident": "guest_crashes", "vm": "a"}"#).unwrap().0, 200);
    assert_eq!(happens(r#"{"incident": "set_back_events", "by": 3}"#).unwrap().0, 200);
    assert_eq!(happens(r#"{"incident": "stop_host", "host": "host2"}"#).unwrap().0, 200);
    assert_eq!(standing(&client, &vm), is("Running", &host2, NOWHERE, 3));
    assert_eq!(happens(r#"{"incident": "start_host", "host": "host2"}"#).unwrap().0, 200);
    assert_eq!(happens(r#"{"incident": "reboot_host", "host": "host2"}"#).unwrap().0, 200);
    assert_eq!(standing(&client, &vm).0, "Halted");
    Vm::named(&client, "a").start(false);
    assert_eq!(happens(r#"{"incident": "guest_shuts_down", "vm": "a"}"#).unwrap().0, 200);
    for (bad, words) in [
        (r#"{"incident": "guest_reboots", "vm": "a"}"#, "VM_BAD_POWER_STATE"),
        (r#"{"incident": "guest_reboots", "vm": "none"}"#, "HANDLE_INVALID"),
        (r#"{"incident": "stop_host", "host": "none"}"#, "no such host"),
        (r#"{"incident": "earthquake"}"#, "unknown variant"),
    ] {
        let (status, why) = happens(bad).unwrap();
        assert!(status == 400 && why.contains(words), "{bad}: {why}");
    }
    // Cuts the very connection it comes by, before the answer or after.
    let _answer = happens(r#"{"incident": "change_master", "host": "host2"}"#);
    assert_eq!(client.call("VM.get_all", &[]), error(&["HOST_IS_SLAVE", "127.0.0.2"]));
}
