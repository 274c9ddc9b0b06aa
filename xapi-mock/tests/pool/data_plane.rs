//! What the calls do to the namespaces. Needs root.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use super::client::{Client, config, error, text, texts};
use super::lifecycle::Vm;
use super::plugins::call;
use drawbridge_wire::xmlrpc::Value;
use xapi_mock::Mock;
use xapi_mock::config::{DataPlaneKind, FileConfig, NetworkConfig, PoolConfig};
use xapi_mock::dataplane::NetworkBackend;
use xapi_mock::faults::{Fault, MigrationFault};

/// `a` on host2 and `b` on host1, each with addresses.
fn addressed() -> PoolConfig {
    let mut config = config();
    config.data_plane = DataPlaneKind::Netns;
    config.vms[0].vifs.truncate(1);
    config.vms[1].affinity = Some("host1".to_owned());
    for (vm, last) in config.vms.iter_mut().zip(1..=2) {
        vm.vifs[0].addresses = vec![format!("10.0.0.{last}/24"), format!("fd00::{last}/64")];
    }
    config
}

/// What switches in host1 and in host2.
const BACKENDS: [[NetworkBackend; 2]; 3] = [
    [NetworkBackend::Bridge; 2],
    [NetworkBackend::OpenVSwitch; 2],
    [NetworkBackend::Bridge, NetworkBackend::OpenVSwitch],
];

async fn pool(backends: [NetworkBackend; 2]) -> Mock {
    let mut config = addressed();
    for (host, backend) in config.hosts.iter_mut().zip(backends) {
        host.network_backend = Some(backend);
    }
    Mock::start(config)
        .await
        .unwrap_or_else(|error| panic!("these tests need root, iproute2 and Open vSwitch: {error:?}"))
}

/// The VIFs in a host's dom0.
fn vifs(mock: &Mock, host: &str) -> Vec<String> {
    let links = mock.host(host).unwrap().links().unwrap();
    links.into_iter().map(|link| link.name).filter(|name| name.starts_with("vif")).collect()
}

/// Whether a datagram gets from one guest to the other's address, which it owns.
fn reaches(mock: &Mock, from: &str, to: &str, address: &str) -> bool {
    let target: IpAddr = address.parse().unwrap();
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = |vm: &str| mock.guest(vm).unwrap().run(|| UdpSocket::bind((any, 0)).unwrap());
    let (sender, receiver) = (socket(from), socket(to));
    let port = receiver.local_addr().unwrap().port();
    receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    // Once would do on a network that stands; a link that came up just now may lose the first.
    (0..10).any(|_| {
        // Without a route or a neighbour it fails: then it does not get there either.
        let _sent = sender.send_to(b"hello", (target, port));
        receiver.recv(&mut [0; 16]).is_ok()
    })
}

#[tokio::test]
async fn every_domain_has_its_vif_while_it_lives_and_no_longer() {
    for backends in BACKENDS {
        let mock = pool(backends).await;
        let client = Client::login(&mock);
        let vm = Vm::named(&client, "a");
        let flags = |paused: bool| [Value::Bool(paused), Value::Bool(false)];
        for (method, params, expected) in [
            ("start", &flags(true)[..], &["vif1.0"][..]),
            ("unpause", &[], &["vif1.0"]),
            ("clean_reboot", &[], &["vif2.0"]),
            ("suspend", &[], &[]),
            ("resume", &flags(false), &["vif3.0"]),
            ("hard_shutdown", &[], &[]),
            ("start", &flags(false), &["vif4.0"]),
            ("clean_shutdown", &[], &[]),
        ] {
            vm.call(method, params).unwrap();
            assert_eq!(vifs(&mock, "host2"), expected, "after {method}");
            assert_eq!(vifs(&mock, "host1"), [""; 0]);
        }
    }
}

#[tokio::test]
async fn guests_of_two_hosts_reach_each_other_as_far_as_their_vifs_are_unlocked() {
    for backends in BACKENDS {
        let mock = pool(backends).await;
        let client = Client::login(&mock);
        let (a, b) = (Vm::named(&client, "a"), Vm::named(&client, "b"));
        a.start(false);
        b.start(false);
        assert!(reaches(&mock, "a", "b", "10.0.0.2"));
        assert!(reaches(&mock, "a", "b", "fd00::2"));
        let vif = texts(&a.call("get_VIFs", &[]).unwrap()).remove(0);
        let set = |method: &str, value: Value| {
            client.call(&format!("VIF.{method}"), &[vif.as_str().into(), value]).unwrap()
        };
        set("set_ipv4_allowed", ["10.0.0.1"].into_iter().collect());
        set("set_locking_mode", "locked".into());
        assert!(reaches(&mock, "a", "b", "10.0.0.2"), "the allowed address passes");
        assert!(!reaches(&mock, "a", "b", "fd00::2"), "no IPv6 address is allowed");
        set("set_ipv4_allowed", ["10.0.0.7"].into_iter().collect());
        assert!(!reaches(&mock, "a", "b", "10.0.0.2"), "another address does not pass");
        set("set_locking_mode", "disabled".into());
        assert!(!reaches(&mock, "a", "b", "10.0.0.2"));
        set("set_locking_mode", "network_default".into());
        assert!(reaches(&mock, "a", "b", "10.0.0.2"));
        a.call("pause", &[]).unwrap();
        assert!(!reaches(&mock, "b", "a", "10.0.0.1"), "a paused guest is silent");
        a.call("unpause", &[]).unwrap();
        assert!(reaches(&mock, "b", "a", "10.0.0.1"));
    }
}

#[tokio::test]
async fn a_vif_comes_and_goes_under_a_running_guest() {
    for backends in BACKENDS {
        let mock = pool(backends).await;
        let client = Client::login(&mock);
        let vm = Vm::named(&client, "a");
        let vif = texts(&vm.call("get_VIFs", &[]).unwrap()).remove(0);
        vm.start(false);
        Vm::named(&client, "b").start(false);
        client.call("VIF.unplug", &[vif.as_str().into()]).unwrap();
        assert_eq!(vifs(&mock, "host2"), [""; 0]);
        client.call("VIF.plug", &[vif.as_str().into()]).unwrap();
        assert_eq!(vifs(&mock, "host2"), ["vif1.0"]);
        assert!(reaches(&mock, "a", "b", "10.0.0.2"));
    }
}

#[tokio::test]
async fn each_host_has_its_own_plugins() {
    let mut config = addressed();
    config.hosts[0].files = vec![
        FileConfig {
            path: "/etc/xapi.d/plugins/where".into(),
            mode: Some("0755".to_owned()),
            text: Some("#!/bin/sh\n. /etc/xensource-inventory\necho $INSTALLATION_UUID\nexit 1\n".to_owned()),
            source: None,
        },
        FileConfig {
            path: "/etc/drawbridge/note".into(),
            text: Some("x".to_owned()),
            ..FileConfig::default()
        },
    ];
    let mock = Mock::start(config).await.unwrap();
    let client = Client::login(&mock);
    let uuid = client.text("host.get_uuid", &[client.find("host", "host1").into()]);
    let said = format!("{uuid}\n");
    assert_eq!(
        call(&client, "host1", "where", &[]),
        error(&["XENAPI_PLUGIN_FAILURE", "non-zero exit", &said, ""])
    );
    assert_eq!(call(&client, "host2", "where", &[]), error(&["XENAPI_MISSING_PLUGIN", "where"]));
    // Those of the pool's directory are on both.
    for host in ["host1", "host2"] {
        assert_eq!(text(&call(&client, host, "noisy", &[]).unwrap()), "fine");
    }
    assert_eq!(mock.host("host1").unwrap().read("/etc/drawbridge/note").unwrap(), b"x");
    let elsewhere = std::path::Path::new("/etc/drawbridge/note");
    assert!(!elsewhere.exists() && mock.host("host2").unwrap().read(elsewhere).is_err());
}

#[tokio::test]
async fn a_plugin_finds_its_hosts_switch_where_dom0_has_it() {
    let script = |name: &str, body: &str| FileConfig {
        path: format!("/etc/xapi.d/plugins/{name}").into(),
        mode: Some("0755".to_owned()),
        text: Some(format!("#!/bin/sh\n{body}\nexit 1\n")),
        source: None,
    };
    let mut config = addressed();
    config.network_backend = NetworkBackend::OpenVSwitch;
    config.networks.push(NetworkConfig {
        name: "tenants".to_owned(),
        vlan: Some(100),
        ..NetworkConfig::default()
    });
    config.hosts[1].network_backend = Some(NetworkBackend::Bridge);
    config.hosts[0].files = vec![
        script("ports", "/usr/bin/ovs-vsctl list-ports xenbr0; /usr/bin/ovs-vsctl br-to-vlan xapi1"),
        script("flows", "/usr/bin/ovs-ofctl --no-stats dump-flows xenbr0"),
    ];
    let mock = Mock::start(config).await.unwrap();
    let client = Client::login(&mock);
    for (host, backend) in [("host1", "openvswitch"), ("host2", "bridge")] {
        let version = client.call("host.get_software_version", &[client.find("host", host).into()]).unwrap();
        assert_eq!(version.member("network_backend"), Some(&Value::from(backend)), "{host}");
    }
    let tenants = client.find("network", "tenants");
    let pifs = texts(&client.call("network.get_PIFs", &[tenants.into()]).unwrap());
    assert_eq!(pifs.len(), 2);
    for pif in pifs {
        let pif = client.call("PIF.get_record", &[pif.into()]).unwrap();
        assert_eq!((pif.member("VLAN"), pif.member("device")), (Some(&"100".into()), Some(&"eth0".into())));
        assert_eq!(pif.member("physical"), Some(&Value::Bool(false)));
    }
    Vm::named(&client, "b").start(false);
    let said = |plugin: &str| match call(&client, "host1", plugin, &[]) {
        Err(description) => description[2].clone(),
        Ok(value) => panic!("{value:?}"),
    };
    assert_eq!(said("ports"), "eth0\nvif1.0\n100\n");
    assert!(said("flows").contains("priority=0 actions=NORMAL"), "{}", said("flows"));
}

#[tokio::test]
async fn a_guest_migrates_with_both_vifs_standing_for_a_moment() {
    for backends in BACKENDS {
        let mock = pool(backends).await;
        let client = Client::login(&mock);
        let (a, b) = (Vm::named(&client, "a"), Vm::named(&client, "b"));
        a.start(false);
        b.start(false);
        let host1 = client.find("host", "host1");
        let migrate = |client: &Client, host: &str| {
            client.call("VM.pool_migrate", &[a.reference.as_str().into(), host.into(), Value::Struct(vec![])])
        };
        mock.faults().inject(Fault::Migration { action: MigrationFault::Hold, times: 1 });
        let moving = Client::at(&mock, 0, &client.session);
        std::thread::scope(|scope| {
            let moves = scope.spawn(|| migrate(&moving, &host1));
            while vifs(&mock, "host1").len() < 2 {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(vifs(&mock, "host2"), ["vif1.0"], "it still runs there");
            assert!(reaches(&mock, "b", "a", "10.0.0.1"));
            mock.faults().inject(Fault::Clear);
            moves.join().unwrap().unwrap();
        });
        assert_eq!(vifs(&mock, "host2"), [""; 0]);
        assert_eq!(vifs(&mock, "host1"), ["vif1.0", "vif2.0"]);
        assert_eq!(a.call("get_domid", &[]), Ok("2".into()));
        assert!(reaches(&mock, "b", "a", "10.0.0.1") && reaches(&mock, "a", "b", "fd00::2"));

        mock.faults().inject(Fault::Migration { action: MigrationFault::Fail, times: 1 });
        let host2 = client.find("host", "host2");
        migrate(&client, &host2).unwrap_err();
        assert_eq!((vifs(&mock, "host1").len(), vifs(&mock, "host2").len()), (2, 0));
        assert!(reaches(&mock, "b", "a", "10.0.0.1"), "it never left");

        // XAPI's own locking goes with the guest.
        let vif = texts(&a.call("get_VIFs", &[]).unwrap()).remove(0);
        let set = |method: &str, value: Value| {
            client.call(&format!("VIF.{method}"), &[vif.as_str().into(), value]).unwrap()
        };
        set("set_ipv4_allowed", ["10.0.0.7"].into_iter().collect());
        set("set_locking_mode", "locked".into());
        migrate(&client, &host2).unwrap();
        // The second domain there was the one of the migration that failed.
        assert_eq!(vifs(&mock, "host2"), ["vif3.0"]);
        assert!(!reaches(&mock, "a", "b", "10.0.0.2"));
    }
}

#[tokio::test]
async fn a_host_that_reboots_has_no_guests_and_no_rules() {
    for backends in BACKENDS {
        let mock = pool(backends).await;
        let client = Client::login(&mock);
        let (a, b) = (Vm::named(&client, "a"), Vm::named(&client, "b"));
        a.start(false);
        b.start(false);
        let dom0 = mock.host("host2").unwrap();
        dom0.command("iptables", &["-I", "FORWARD", "-j", "DROP"], b"").unwrap();
        mock.stop_host("host2").await.unwrap();
        assert_eq!(vifs(&mock, "host2"), [""; 0]);
        assert!(mock.guest("a").is_none());
        let rules = dom0.command("iptables-save", &[], b"").unwrap().stdout;
        assert!(!String::from_utf8(rules).unwrap().contains("-A FORWARD -j DROP"));
        mock.start_host("host2").await.unwrap();
        a.start(false);
        assert_eq!(vifs(&mock, "host2"), ["vif2.0"]);
        assert!(reaches(&mock, "b", "a", "10.0.0.1") && reaches(&mock, "a", "b", "10.0.0.2"));
    }
}
