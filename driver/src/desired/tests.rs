use std::path::Path;

use ruleset::resolve::Lifeline;
use xenapi::{Bond, DefaultLockingMode, HostMetrics, NetworkSriov, Pif, PowerState, Uuid};

use super::*;
use crate::locking::Locking;
use crate::run::{RunError, Scope};

fn uuid<C>(n: usize) -> Uuid<C> {
    format!("00000000-0000-0000-0000-{n:012}").parse().unwrap()
}

fn reference<C>(name: &str) -> Ref<C> {
    Ref::new(format!("OpaqueRef:{name}"))
}

fn host(inventory: &mut Inventory, name: &str, backend: &str) {
    let host = Host {
        uuid: uuid(inventory.hosts.len() + 1),
        name_label: name.to_owned(),
        hostname: name.to_owned(),
        address: "127.0.0.1".to_owned(),
        enabled: true,
        software_version: [("network_backend".to_owned(), backend.to_owned())].into(),
        metrics: Ref::<HostMetrics>::null(),
        other_config: BTreeMap::new(),
    };
    inventory.hosts.insert(reference(name), host);
}

fn network(inventory: &mut Inventory, name: &str, bridge: &str) {
    let network = Network {
        uuid: uuid(100 + inventory.networks.len()),
        name_label: name.to_owned(),
        bridge: bridge.to_owned(),
        default_locking_mode: DefaultLockingMode::Unlocked,
        other_config: BTreeMap::new(),
        pifs: Vec::new(),
        vifs: Vec::new(),
    };
    inventory.networks.insert(reference(name), network);
}

/// A running guest with one VIF on `lan`.
fn guest(inventory: &mut Inventory, key: &str, name: &str, host: &str, domid: u32) {
    let vm = Vm {
        uuid: uuid(200 + inventory.vms.len()),
        name_label: name.to_owned(),
        power_state: PowerState::Running,
        resident_on: reference(host),
        scheduled_to_be_resident_on: Ref::null(),
        domid: Some(domid),
        is_control_domain: false,
        is_a_template: false,
        is_a_snapshot: false,
        vifs: vec![reference(key)],
        other_config: BTreeMap::new(),
        xenstore_data: BTreeMap::new(),
    };
    let vif = Vif {
        uuid: uuid(300 + inventory.vifs.len()),
        device: 0,
        mac: "00:16:3e:00:00:01".parse().unwrap(),
        network: reference("lan"),
        vm: reference(key),
        currently_attached: true,
        locking_mode: LockingMode::NetworkDefault,
        ipv4_allowed: Vec::new(),
        ipv6_allowed: Vec::new(),
        other_config: BTreeMap::new(),
    };
    inventory.vms.insert(reference(key), vm);
    inventory.vifs.insert(reference(key), vif);
}

fn pool() -> Inventory {
    let mut inventory = Inventory::default();
    host(&mut inventory, "h1", "bridge");
    host(&mut inventory, "h2", "bridge");
    network(&mut inventory, "lan", "xenbr0");
    guest(&mut inventory, "a", "web", "h1", 5);
    guest(&mut inventory, "b", "db", "h2", 7);
    inventory
}

const POLICY: &str = r#"
[[group]]
id = "web"
[[group]]
id = "db"
[[group.rule]]
direction = "ingress"
remote_group = "web"
[[port]]
vm = "web"
device = 0
groups = ["web"]
addresses = ["10.0.0.1"]
[[port]]
vm = "db"
device = 0
groups = ["db"]
addresses = ["10.0.0.2"]
"#;

fn bound(text: &str, inventory: &Inventory) -> Desired {
    desired(&PolicyFile::parse(Path::new("p"), text).unwrap(), inventory, &BTreeSet::new()).unwrap()
}

fn members(desired: &Desired) -> Vec<String> {
    let peers = desired.hosts[&reference("h2")].policy.peers.values();
    peers.flatten().map(ToString::to_string).collect()
}

#[test]
fn ports_are_found_where_they_run_and_count_as_members_everywhere() {
    let desired = bound(POLICY, &pool());
    assert!(desired.problems.is_empty(), "{:?}", desired.problems);
    let on_h1 = &desired.hosts[&reference("h1")].policy.attachments;
    assert_eq!(on_h1[0].interfaces()[0], "vif5.0");
    assert_eq!(members(&desired), ["10.0.0.1/32"]);
    let web = BTreeSet::from(["web".parse().unwrap()]);
    assert!(desired.hosts[&reference("h2")].refers_to(&web));
    assert!(!desired.hosts[&reference("h1")].refers_to(&web));
}

/// Suspended, halted or unplugged: nothing of it remains, on any host.
#[test]
fn what_has_no_interface_is_no_member() {
    for change in [
        (|vm: &mut Vm, _: &mut Vif| vm.power_state = PowerState::Suspended) as fn(&mut Vm, &mut Vif),
        |vm, _| vm.power_state = PowerState::Halted,
        |_, vif| vif.currently_attached = false,
        |vm, _| vm.resident_on = Ref::null(),
        |vm, _| vm.domid = None,
    ] {
        let mut inventory = pool();
        let vif = inventory.vifs.get_mut(&reference("a")).unwrap();
        change(inventory.vms.get_mut(&reference("a")).unwrap(), vif);
        let desired = bound(POLICY, &inventory);
        assert!(desired.problems.is_empty() && desired.hosts[&reference("h1")].is_empty());
        assert!(members(&desired).is_empty());
    }
}

#[test]
fn what_cannot_be_bound_is_told_and_the_rest_is_enforced() {
    let mut ambiguous = pool();
    guest(&mut ambiguous, "c", "web", "h2", 8);
    let mut snapshot = pool();
    guest(&mut snapshot, "c", "web", "h2", 8);
    snapshot.vms.get_mut(&reference("c")).unwrap().is_a_snapshot = true;
    let mut sriov = pool();
    let pif = Pif {
        uuid: uuid(400),
        device: "eth0".to_owned(),
        network: reference("lan"),
        host: reference("h1"),
        vlan: None,
        management: false,
        bond_slave_of: Ref::<Bond>::null(),
        sriov_logical_pif_of: vec![Ref::<NetworkSriov>::new("OpaqueRef:s")],
    };
    sriov.pifs.insert(reference("p"), pif);
    sriov.networks.get_mut(&reference("lan")).unwrap().pifs.push(reference("p"));
    let unheard = with_backend("p4");
    let unknown = POLICY.replace("vm = \"web\"", "vm = \"wub\"");
    let device = POLICY.replacen("device = 0", "device = 3", 1);
    let guarded = format!("guarded_networks = [\"nowhere\"]\n{POLICY}");

    for (text, inventory, words, enforced) in [
        (unknown.as_str(), &pool(), "no VM of this name", 1),
        (device.as_str(), &pool(), "no VIF of this device", 1),
        (POLICY, &ambiguous, "several VMs", 1),
        (POLICY, &sriov, "SR-IOV", 0),
        (POLICY, &unheard, "p4", 1),
        (guarded.as_str(), &pool(), "no network of this name", 2),
    ] {
        let desired = bound(text, inventory);
        assert!(
            desired.problems.iter().any(|p| p.message.contains(words)),
            "{words}: {:?}",
            desired.problems
        );
        let ports: usize = desired.hosts.values().map(|h| h.policy.attachments.len()).sum();
        assert_eq!(ports, enforced, "{words}");
    }
    assert!(bound(POLICY, &snapshot).problems.is_empty(), "a snapshot has the same name and is no guest");
}

/// The pool, with this network back end on `h1`.
fn with_backend(name: &str) -> Inventory {
    let mut inventory = pool();
    let version = &mut inventory.hosts.get_mut(&reference("h1")).unwrap().software_version;
    version.insert("network_backend".to_owned(), name.to_owned());
    inventory
}

/// Every hook of the pool failed for one such host.
#[test]
fn a_host_without_a_known_back_end_fails_only_hooks_about_it() {
    let inventory = with_backend("p4");
    let problems = bound(POLICY, &inventory).problems;
    let concerned = |scope: &Scope| {
        let own = scope.own_hosts(&inventory).unwrap();
        problems.iter().any(|problem| scope.concerns(problem, &inventory, &own))
    };
    let vm = |vm: &str, leaving| Scope::Vm { vm: vm.to_owned(), leaving };
    let migration = |vm: &str, to: &str| Scope::Migration { vm: vm.to_owned(), to: Some(to.to_owned()) };
    for scope in [Scope::Everything, Scope::Host("h1".to_owned()), vm("web", false), migration("db", "h1")] {
        assert!(concerned(&scope), "{scope:?}");
    }
    for scope in [Scope::Host("h2".to_owned()), vm("db", false), vm("db", true), migration("db", "h2")] {
        assert!(!concerned(&scope), "{scope:?}");
    }
}

/// Hooks acted on all of them, whichever was meant.
#[test]
fn a_name_that_several_vms_have_is_refused() {
    let mut inventory = pool();
    guest(&mut inventory, "c", "web", "h2", 8);
    let uuid = inventory.vms[&reference("c")].uuid.to_string();
    let scopes = |vm: &str| {
        let vm = vm.to_owned();
        let to = Some("h1".to_owned());
        [
            Scope::Vm { vm: vm.clone(), leaving: false },
            Scope::Vm { vm: vm.clone(), leaving: true },
            Scope::Migration { vm: vm.clone(), to },
            Scope::Migration { vm, to: None },
        ]
    };
    for scope in scopes("web") {
        let refused = scope.own_hosts(&inventory);
        assert!(matches!(&refused, Err(RunError::AmbiguousVm(vm)) if vm == "web"), "{scope:?}: {refused:?}");
    }
    for scope in scopes(&uuid).iter().chain(&scopes("db")) {
        scope.own_hosts(&inventory).unwrap();
    }
    // A snapshot has the same name and is no guest.
    inventory.vms.get_mut(&reference("c")).unwrap().is_a_snapshot = true;
    scopes("web")[0].own_hosts(&inventory).unwrap();
}

#[test]
fn each_host_has_the_back_end_it_says_now() {
    for (name, backend) in [("bridge", Backend::Bridge), ("openvswitch", Backend::OpenVSwitch)] {
        let desired = bound(POLICY, &with_backend(name));
        assert_eq!(desired.problems, []);
        assert_eq!(desired.hosts[&reference("h1")].backend, backend);
        assert_eq!(desired.hosts[&reference("h2")].backend, Backend::Bridge);
        // Who is a member does not depend on it.
        assert_eq!(members(&desired), ["10.0.0.1/32"]);
    }
}

#[test]
fn on_a_switch_a_vif_is_left_on_its_bridge_as_it_is() {
    let wanted = |inventory: &Inventory, host: &str| {
        let desired = bound(POLICY, inventory);
        desired.hosts[&reference(host)].locking[0].wanted.clone()
    };
    let inventory = with_backend("openvswitch");
    assert_eq!(wanted(&inventory, "h1"), Locking::OnSwitch);
    assert!(matches!(wanted(&inventory, "h2"), Locking::Locked { .. }));
}

#[test]
fn vifs_that_xapi_locks_are_known_where_they_are_no_ports() {
    let mut inventory = with_backend("openvswitch");
    guest(&mut inventory, "c", "other", "h1", 9);
    for vif in inventory.vifs.values_mut() {
        vif.locking_mode = LockingMode::Locked;
    }
    let uuid = inventory.vifs[&reference("c")].uuid.to_string();
    let desired = bound(POLICY, &inventory);
    let locked = &desired.hosts[&reference("h1")].locked;
    let names = ["vif9.0".to_owned(), "tap9.0".to_owned()];
    assert_eq!(*locked, BTreeMap::from([(uuid.parse().unwrap(), names)]));
    inventory.vifs.get_mut(&reference("c")).unwrap().currently_attached = false;
    assert!(bound(POLICY, &inventory).hosts[&reference("h1")].locked.is_empty());
}

#[test]
fn a_network_is_guarded_by_policy_or_by_other_config() {
    let mut inventory = pool();
    let key = (GUARDED_KEY.to_owned(), "true".to_owned());
    inventory.networks.get_mut(&reference("lan")).unwrap().other_config.extend([key]);
    for (text, inventory) in [(POLICY, &inventory), ("guarded_networks = [\"lan\"]\n", &pool())] {
        let desired = bound(text, inventory);
        let guarded = &desired.hosts[&reference("h1")].policy.guarded;
        assert_eq!(guarded.iter().map(Interface::as_str).collect::<Vec<_>>(), ["xenbr0"]);
    }
}

/// The driver's own VM must reach XAPI whatever the policy says of it, and may be in no policy at all.
#[test]
fn the_drivers_own_vm_reaches_xapi() {
    let own = BTreeSet::from([Mac([0, 0x16, 0x3e, 0, 0, 0xaa])]);
    let mut inventory = pool();
    inventory.vifs.get_mut(&reference("a")).unwrap().mac = "00:16:3e:00:00:aa".parse().unwrap();
    inventory.hosts.get_mut(&reference("h2")).unwrap().address = "192.0.2.7".to_owned();
    let guarded = "guarded_networks = [\"lan\"]\n";

    // In the policy: filtered as written, but XAPI stays open.
    let file = PolicyFile::parse(Path::new("p"), &format!("{guarded}{POLICY}")).unwrap();
    let listed = desired(&file, &inventory, &own).unwrap();
    let host = &listed.hosts[&reference("h1")].policy;
    assert_eq!(host.attachments[0].port.groups.len(), 2);
    let rules = &host.groups[&host.attachments[0].port.groups[1]].rules;
    let remotes: Vec<_> = rules.iter().map(|r| format!("{:?} {}", r.remote, r.service)).collect();
    assert!(remotes.iter().any(|r| r.contains("192.0.2.7") && r.ends_with("tcp/443")), "{remotes:?}");

    // Not in the policy, on a guarded network: not filtered.
    let file = PolicyFile::parse(Path::new("p"), guarded).unwrap();
    let unlisted = desired(&file, &inventory, &own).unwrap();
    let ports = &unlisted.hosts[&reference("h1")].policy.attachments;
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0].port.security, ruleset::model::PortSecurity::Off);

    // Not in the policy, on a network that is not guarded: left alone.
    let file = PolicyFile::parse(Path::new("p"), "").unwrap();
    assert!(desired(&file, &inventory, &own).unwrap().hosts[&reference("h1")].is_empty());
}

/// Wherever it comes up next, and whenever: as a VIF without rules it reaches XAPI, on every host.
#[test]
fn the_drivers_own_vm_has_a_lifeline_on_every_host() {
    let own = BTreeSet::from([Mac([0, 0x16, 0x3e, 0, 0, 0xaa])]);
    let mut inventory = pool();
    let guarded = "guarded_networks = [\"lan\"]\n";
    let [listed, unlisted, open] = [format!("{guarded}{POLICY}"), guarded.to_owned(), POLICY.to_owned()]
        .map(|text| PolicyFile::parse(Path::new("p"), &text).unwrap());
    assert!(desired(&listed, &inventory, &own).unwrap().hosts[&reference("h1")].policy.lifelines.is_empty());

    let vif = inventory.vifs.get_mut(&reference("a")).unwrap();
    vif.mac = "00:16:3e:00:00:aa".parse().unwrap();
    (vif.currently_attached, vif.locking_mode) = (false, LockingMode::Locked);
    inventory.hosts.get_mut(&reference("h2")).unwrap().address = "2001:db8::7".to_owned();
    inventory.networks.get_mut(&reference("lan")).unwrap().default_locking_mode =
        DefaultLockingMode::Disabled;
    let lifeline = Lifeline {
        bridge: "xenbr0".parse().unwrap(),
        mac: Mac([0, 0x16, 0x3e, 0, 0, 0xaa]),
        hosts: ["127.0.0.1", "2001:db8::7"].map(|address| address.parse().unwrap()).into(),
    };
    for file in [listed, unlisted] {
        let desired = desired(&file, &inventory, &own).unwrap();
        for host in ["h1", "h2"] {
            let lifelines = &desired.hosts[&reference(host)].policy.lifelines;
            assert_eq!(*lifelines, [lifeline.clone()].into(), "{host}");
        }
        // XAPI's locking does not keep it off the bridge either.
        assert!(desired.idle.iter().all(|vif| vif.reference != reference("a")), "{:?}", desired.idle);
    }
    assert!(desired(&open, &inventory, &own).unwrap().hosts[&reference("h1")].policy.lifelines.is_empty());
}

/// Where the network keeps VIFs off the bridge, those without an interface are to go back there.
#[test]
fn idle_vifs_of_closed_networks() {
    type Change = fn(&mut Vm, &mut Vif);
    let idle = |change: Change, default| {
        let mut inventory = pool();
        inventory.networks.get_mut(&reference("lan")).unwrap().default_locking_mode = default;
        inventory.vifs.get_mut(&reference("a")).unwrap().locking_mode = LockingMode::Locked;
        change(
            inventory.vms.get_mut(&reference("a")).unwrap(),
            inventory.vifs.get_mut(&reference("a")).unwrap(),
        );
        let idle = bound(POLICY, &inventory).idle;
        assert!(idle.iter().all(|vif| vif.wanted == Locking::NetworkDefault), "{idle:?}");
        idle.into_iter().map(|vif| vif.reference).collect::<Vec<_>>()
    };
    let halted: Change = |vm, _| vm.power_state = PowerState::Halted;
    let unplugged: Change = |_, vif| vif.currently_attached = false;
    let closed: Change =
        |_, vif| (vif.currently_attached, vif.locking_mode) = (false, LockingMode::NetworkDefault);
    let used: Change = |_, _| {};
    assert_eq!(idle(halted, DefaultLockingMode::Disabled), [reference("a")]);
    assert_eq!(idle(unplugged, DefaultLockingMode::Disabled), [reference("a")]);
    assert_eq!(idle(closed, DefaultLockingMode::Disabled), []);
    assert_eq!(idle(used, DefaultLockingMode::Disabled), []);
    assert_eq!(idle(halted, DefaultLockingMode::Unlocked), []);
}

/// VIFs that are expected on a host.
fn expected(desired: &Desired, host: &str) -> Vec<String> {
    let expected = &desired.hosts[&reference(host)].policy.expected;
    expected.iter().map(|e| format!("{} on {}", e.port.mac, e.bridge)).collect()
}

#[test]
fn who_moves_to_a_new_domain_on_its_host_is_expected_there() {
    let mut inventory = pool();
    inventory.vms.get_mut(&reference("a")).unwrap().scheduled_to_be_resident_on = reference("h1");
    let moving = bound(POLICY, &inventory);
    assert_eq!(expected(&moving, "h1"), ["00:16:3e:00:00:01 on xenbr0"]);
    assert_eq!(moving.hosts[&reference("h1")].policy.attachments.len(), 1);
}

#[test]
fn who_migrates_is_expected_at_the_destination_and_still_at_the_source() {
    let mut inventory = pool();
    assert!(expected(&bound(POLICY, &inventory), "h2").is_empty());
    let vm = inventory.vms.get_mut(&reference("a")).unwrap();
    vm.scheduled_to_be_resident_on = reference("h2");
    let migrating = bound(POLICY, &inventory);
    assert_eq!(expected(&migrating, "h2"), ["00:16:3e:00:00:01 on xenbr0"]);
    assert!(expected(&migrating, "h1").is_empty());
    assert_eq!(migrating.hosts[&reference("h1")].policy.attachments.len(), 1);
    assert_eq!(migrating.hosts[&reference("h2")].policy.groups.len(), 2, "the rules of its groups are there");

    // XAPI says so when all is over.
    let vm = inventory.vms.get_mut(&reference("a")).unwrap();
    (vm.resident_on, vm.scheduled_to_be_resident_on, vm.domid) = (reference("h2"), Ref::null(), Some(9));
    let arrived = bound(POLICY, &inventory);
    assert!(expected(&arrived, "h2").is_empty());
    assert_eq!(arrived.hosts[&reference("h2")].policy.attachments.len(), 2);
    assert!(arrived.hosts[&reference("h1")].policy.attachments.is_empty());
}

#[test]
fn what_is_not_plugged_does_not_migrate() {
    let mut inventory = pool();
    inventory.vms.get_mut(&reference("a")).unwrap().scheduled_to_be_resident_on = reference("h2");
    inventory.vifs.get_mut(&reference("a")).unwrap().currently_attached = false;
    assert!(expected(&bound(POLICY, &inventory), "h2").is_empty());
}

#[test]
fn who_starts_or_resumes_is_expected() {
    for state in [PowerState::Halted, PowerState::Suspended] {
        let mut inventory = pool();
        let vm = inventory.vms.get_mut(&reference("a")).unwrap();
        (vm.power_state, vm.resident_on, vm.domid) = (state, Ref::null(), None);
        inventory.vifs.get_mut(&reference("a")).unwrap().currently_attached = false;
        assert!(expected(&bound(POLICY, &inventory), "h1").is_empty());
        inventory.vms.get_mut(&reference("a")).unwrap().scheduled_to_be_resident_on = reference("h1");
        assert_eq!(expected(&bound(POLICY, &inventory), "h1").len(), 1, "{state:?}");
        assert!(expected(&bound(POLICY, &inventory), "h2").is_empty());
    }
}

#[test]
fn who_is_announced_is_expected_until_it_is_there() {
    let file = PolicyFile::parse(Path::new("p"), POLICY).unwrap();
    let announced = |host| Announced::from([(reference("a"), reference(host))]);
    let with = |announced| expecting(&file, &pool(), &BTreeSet::new(), &announced).unwrap();
    assert_eq!(expected(&with(announced("h2")), "h2").len(), 1);
    assert!(expected(&with(announced("h1")), "h1").is_empty(), "it is there");
}
