//! Guarded networks of an Open vSwitch: remembered with each write, closed when the switch has lost its flows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;

use dom0_plugin::{boot, boot_flows};
use drawbridge_wire::Function;
use ruleset::ovs::{COOKIE, parse_dump_flows, table};
use support::{Answer, Dom0, SWITCH, keeps, set_mode};

const RECORD: &str = "lib/drawbridge/guarded-flows";

const DRIVERS: &str = " cookie=0x4457427200000001, duration=1s, ";
const COUNTS: &str = "n_packets=0, n_bytes=0, ";

/// What the driver's flows say of guarded networks: `dl_vlan=100`.
fn marker(vlan: &str) -> String {
    format!("{DRIVERS}table=87, {COUNTS}priority=1,{vlan} actions=drop\n")
}

/// A dom0 with that switch. Its `ovs-ofctl` says what stands in the file `flows`, and keeps what it is told in `input`.
fn dom0(flows: &str) -> Dom0 {
    let dom0 = Dom0::new();
    let dir = dom0.dir.display();
    dom0.write("switch", SWITCH);
    dom0.write("flows", flows);
    dom0.fake("ovs-vsctl", &format!("case $* in br-exists*) ;; *csv*) cat {dir}/switch ;; esac"));
    dom0.fake(
        "ovs-ofctl",
        &format!("case $* in *dump-flows*) cat {dir}/flows ;; *) cat >>{dir}/input ;; esac"),
    );
    dom0
}

fn write(dom0: &Dom0, input: &str) -> Answer {
    let args = "-O OpenFlow14 --bundle add-flows xenbr0 -";
    let members = [("args", args), ("stdin", input), ("stdin_encoding", "plain"), ("generation", "1")];
    dom0.call(Function::OvsOfctl, &members)
}

const HARMLESS: &str = "add cookie=0x4457427200000001,table=60,priority=1,actions=drop\n";
const FORGETS: &str = "delete_strict cookie=0x4457427200000001/-1,table=87,priority=1,dl_vlan=100\n";

fn names(networks: &[&str]) -> BTreeSet<String> {
    networks.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn a_write_remembers_what_it_guards() {
    let dom0 = dom0("");
    write(&dom0, HARMLESS).reply();
    assert!(!dom0.dir.join(RECORD).exists(), "a host without guarded networks has nothing to remember");
    dom0.write("flows", &[marker("dl_vlan=100"), marker("vlan_tci=0x0000/0x1fff")].concat());
    write(&dom0, HARMLESS).reply();
    assert_eq!(dom0.read(RECORD), "xenbr0 - xenbr0\nxenbr0 100 xapi1\n");
}

/// The driver tries flows out before it writes them. On a switch that has just lost its flows nothing says what is
/// guarded until then; a driver that dies in between must not make dom0 forget it.
#[test]
fn only_a_deletion_forgets() {
    let dom0 = dom0(&marker("dl_vlan=100"));
    write(&dom0, HARMLESS).reply();
    dom0.write("flows", "");
    for trial in [HARMLESS, "delete cookie=0x4457427200000000/0xffffffff00000000,table=99\n"] {
        write(&dom0, trial).reply();
        assert_eq!(dom0.read(RECORD), "xenbr0 100 xapi1\n", "{trial}");
    }
    // A caller's word alone opens nothing either.
    dom0.write("flows", &marker("dl_vlan=100"));
    write(&dom0, FORGETS).reply();
    assert_eq!(dom0.read(RECORD), "xenbr0 100 xapi1\n");
    dom0.write("flows", "");
    write(&dom0, FORGETS).reply();
    assert_eq!(dom0.read(RECORD), "");
}

/// The flows stand; the caller is told, and the next write tries again.
#[test]
fn what_cannot_be_remembered_is_told() {
    let dom0 = dom0(&marker("dl_vlan=100"));
    fs::write(&dom0.paths.lasting, "").unwrap();
    assert_eq!(write(&dom0, HARMLESS).code(), "DRAWBRIDGE_UNSAFE_FILE");
    fs::remove_file(&dom0.paths.lasting).unwrap();
    dom0.write("flows", &marker("dl_vlan=many"));
    assert_eq!(write(&dom0, HARMLESS).code(), "DRAWBRIDGE_GUARDED_RECORD");
    dom0.write("flows", &marker("dl_vlan=100"));
    dom0.write("switch", "nonsense\n");
    assert_eq!(write(&dom0, HARMLESS).code(), "DRAWBRIDGE_OUTPUT_UNPARSABLE");
    dom0.write("switch", SWITCH);
    write(&dom0, HARMLESS).reply();
    assert_eq!(dom0.read(RECORD), "xenbr0 100 xapi1\n");
}

/// A dom0 that remembers a guarded VLAN, whose switch has lost its flows.
fn lost() -> Dom0 {
    let dom0 = dom0(&marker("dl_vlan=100"));
    write(&dom0, HARMLESS).reply();
    dom0.write("flows", "");
    fs::remove_file(dom0.dir.join("input")).unwrap();
    fs::remove_file(dom0.dir.join("started")).unwrap();
    dom0
}

/// What the driver's flows say of its own VM: where its MAC reaches XAPI.
const LIFELINE: &str = "xenbr0 100 00:16:3e:00:00:aa 192.0.2.7\n";

fn with_lifeline() -> Dom0 {
    let noted =
        "priority=1,tcp,dl_vlan=100,dl_src=00:16:3e:00:00:aa,nw_dst=192.0.2.7,tp_dst=443 actions=drop";
    let dom0 = dom0(&format!("{}{DRIVERS}table=88, {COUNTS}{noted}\n", marker("dl_vlan=100")));
    write(&dom0, HARMLESS).reply();
    assert_eq!(dom0.read("lib/drawbridge/lifelines-flows"), LIFELINE);
    dom0.write("flows", "");
    // A switch that has lost its flows says nothing of it.
    write(&dom0, HARMLESS).reply();
    assert_eq!(dom0.read("lib/drawbridge/lifelines-flows"), LIFELINE);
    fs::remove_file(dom0.dir.join("input")).unwrap();
    dom0
}

#[test]
fn the_drivers_own_vm_reaches_xapi_from_closed_networks() {
    let dom0 = with_lifeline();
    assert_eq!(boot_flows(&dom0.paths).unwrap(), names(&["xenbr0/100"]));
    let input = dom0.read("input");
    let open: BTreeSet<&str> = input.lines().filter(|line| line.contains("priority=45040")).collect();
    let flow =
        |text: &str| format!("add cookie=0x4457427200000000,table=0,priority=45040,{text},actions=NORMAL");
    let none = "vlan_tci=0x0000/0x1fff";
    let (from, to) = ("dl_src=00:16:3e:00:00:aa", "dl_dst=00:16:3e:00:00:aa");
    let mut expected = vec![
        flow(&format!("arp,in_port=3,{none},{from},arp_sha=00:16:3e:00:00:aa")),
        flow(&format!("udp,in_port=3,{none},{from},tp_src=68,tp_dst=67")),
        flow(&format!("tcp,in_port=3,{none},{from},nw_dst=192.0.2.7,tp_dst=443")),
    ];
    for known in ["in_port=1,dl_vlan=100", "in_port=2,vlan_tci=0x0000/0x1fff"] {
        expected.extend([
            flow(&format!("arp,{known},{to}")),
            flow(&format!("arp,{known},dl_dst=01:00:00:00:00:00/01:00:00:00:00:00")),
            flow(&format!("udp,{known},{to},tp_src=67,tp_dst=68")),
            flow(&format!("tcp,{known},{to},nw_src=192.0.2.7,tp_src=443,tcp_flags=+ack")),
        ]);
    }
    assert_eq!(open, expected.iter().map(String::as_str).collect());
}

/// A record of before there were any, one that is damaged, a switch that refuses: closed, all of them.
#[test]
fn a_lifeline_that_is_not_understood_is_none() {
    let closes = |dom0: &Dom0| {
        let told = boot_flows(&dom0.paths).map_err(|refusal| refusal.code.as_str()).err();
        let input = dom0.read("input");
        assert!(input.contains("priority=45010,in_port=3,actions=drop\n"), "{input}");
        (told, input.contains("actions=NORMAL"))
    };
    let record = "lib/drawbridge/lifelines-flows";
    let dom0 = with_lifeline();
    fs::remove_file(dom0.dir.join(record)).unwrap();
    assert_eq!(closes(&dom0), (None, false));
    for wrong in ["\n", "xenbr0 100 00:16:3e:00:00:aa\n", "xenbr0 100 00:16:3e:00:00:aa 0.0.0.0/0\n"] {
        let dom0 = with_lifeline();
        dom0.write(record, &format!("{LIFELINE}{wrong}"));
        assert_eq!(closes(&dom0), (Some("DRAWBRIDGE_GUARDED_RECORD"), false), "{wrong}");
    }
    let dom0 = with_lifeline();
    let dir = dom0.dir.display();
    let take =
        format!("cat >{dir}/tried; ! grep -q tcp_flags {dir}/tried || exit 1; cat {dir}/tried >>{dir}/input");
    dom0.fake("ovs-ofctl", &format!("case $* in *dump-flows*) cat {dir}/flows ;; *) {take} ;; esac"));
    assert_eq!(closes(&dom0), (None, false));
}

/// They are flows like others to the driver, who finds a cookie that is not its own and replaces them.
#[test]
fn a_switch_that_lost_its_flows_is_closed() {
    for run in [boot, boot_flows] {
        let dom0 = lost();
        assert_eq!(run(&dom0.paths).unwrap(), names(&["xenbr0/100"]));
        let input = dom0.read("input");
        let flows = "add cookie=0x4457427200000000,table=0,priority=45030,in_port=2,vlan_tci=0x0000/0x1fff,\
                     actions=push_vlan:0x8100,set_field:4196->vlan_vid,output:1\n\
                     add cookie=0x4457427200000000,table=0,priority=45030,in_port=1,dl_vlan=100,actions=pop_vlan,output:2\n\
                     add cookie=0x4457427200000000,table=0,priority=45020,dl_vlan=100,actions=drop\n\
                     add cookie=0x4457427200000000,table=0,priority=45010,in_port=3,actions=drop\n\
                     add cookie=0x4457427200000000,table=87,priority=1,dl_vlan=100,actions=drop\n";
        // Twice: the switch might have changed while it was closed.
        assert_eq!(input, flows.repeat(2));
        let dump: String = flows.lines().map(dumped).collect();
        let observed = parse_dump_flows(&format!("OFPST_FLOW reply (OF1.4) (xid=0x6):\n{dump}")).unwrap();
        assert_eq!(observed.flows.len(), 5);
        assert!(observed.flows.iter().all(|flow| flow.cookie == COOKIE));
        // The record is as it was, and the Linux bridge's switches are left alone.
        assert_eq!(dom0.read(RECORD), "xenbr0 100 xapi1\n");
        assert_eq!(dom0.read("bridge/bridge-nf-call-iptables").trim(), "0");
    }
    assert_eq!(table::GUARDED, 87);
}

/// A line of input as the switch shows it.
fn dumped(line: &str) -> String {
    let flow = line.strip_prefix("add ").unwrap();
    let (key, actions) = flow.split_once(",actions=").unwrap();
    let (cookie, rest) = key.split_once(',').unwrap();
    let (table, rest) = rest.split_once(',').unwrap();
    format!(" {cookie}, duration=1s, {table}, {COUNTS}{rest} actions={actions}\n")
}

#[test]
fn what_the_driver_wrote_since_stays() {
    let dom0 = lost();
    dom0.write("flows", &marker("dl_vlan=100"));
    assert_eq!(boot_flows(&dom0.paths).unwrap(), names(&[]));
    assert!(!dom0.dir.join("input").exists());
}

/// A port that has gone may come back as somebody else's.
#[test]
fn flows_of_an_earlier_run_go() {
    let dom0 = lost();
    let gone = "add cookie=0x4457427200000000,table=0,priority=45030,in_port=9,dl_vlan=100,actions=pop_vlan,output:2";
    let stays = "add cookie=0x4457427200000000,table=0,priority=45020,dl_vlan=100,actions=drop";
    dom0.write("flows", &[dumped(gone), dumped(stays)].concat());
    boot_flows(&dom0.paths).unwrap();
    let input = dom0.read("input");
    let deleted: Vec<_> = input.lines().filter(|line| line.starts_with("delete")).collect();
    let expected = "delete_strict cookie=0x4457427200000000/-1,table=0,priority=45030,in_port=9,dl_vlan=100";
    assert_eq!(deleted, [expected; 2]);
}

/// `systemctl` starts it when something of the switch changes: the switch itself may come a moment later.
#[test]
fn a_switch_that_is_not_there_yet_is_waited_for() {
    let dom0 = lost();
    let dir = dom0.dir.display();
    // The database answers at the third question, the bridge at the third then.
    let counted = |name: &str, answer: &str| {
        format!("echo >>{dir}/{name}; [ $(wc -l <{dir}/{name}) -ge 3 ] || exit 1; {answer}")
    };
    dom0.fake("ovs-vsctl", &counted("asked", &format!("cat {dir}/switch")));
    let answer = format!("case $* in *dump-flows*) cat {dir}/flows ;; *) cat >>{dir}/input ;; esac");
    dom0.fake("ovs-ofctl", &counted("tried", &answer));
    assert_eq!(boot_flows(&dom0.paths).unwrap(), names(&["xenbr0/100"]));
}

/// One that never comes is told, unless nothing says that there is a switch at all.
#[test]
fn a_switch_that_does_not_come() {
    let dom0 = lost();
    dom0.write("etc/dom0.toml", "program_seconds = 1\n");
    dom0.fake("ovs-ofctl", "echo 'xenbr0: failed to connect to socket' >&2; exit 1");
    let refusal = boot_flows(&dom0.paths).unwrap_err();
    assert_eq!(refusal.code.as_str(), "DRAWBRIDGE_PROGRAM_FAILED", "{refusal:?}");
    dom0.fake("ovs-vsctl", "exit 1");
    assert_eq!(boot_flows(&dom0.paths).unwrap(), names(&[]));
    dom0.fake("ovs-vsctl", "echo nonsense");
    assert_eq!(boot_flows(&dom0.paths).unwrap_err().code.as_str(), "DRAWBRIDGE_OUTPUT_UNPARSABLE");
}

/// The host had Open vSwitch and has Linux bridges now: its networks are known by name.
#[test]
fn from_flows_to_chains() {
    let dom0 = lost();
    dom0.fake("ovs-vsctl", "echo 'database connection failed' >&2; exit 1");
    for family in ["iptables", "ip6tables"] {
        let dir = dom0.dir.display();
        dom0.fake(&format!("{family}-restore"), &keeps(&dom0.dir.join(family)));
        dom0.fake(
            &format!("{family}-save"),
            &format!("cat {dir}/{family} 2>/dev/null || printf '*filter\\nCOMMIT\\n'"),
        );
    }
    assert_eq!(boot(&dom0.paths).unwrap(), names(&["xapi1"]));
    assert!(dom0.read("ip6tables").contains("-A dwb-unknown-from -i xapi1 -j DROP\n"));
    assert_eq!(dom0.read(RECORD), "xenbr0 100 xapi1\n", "forgotten before the driver has written");
    // From the driver's first chains on, they say what is guarded.
    dom0.restore(1, "*filter\n:dwb-unknown-from - [0:0]\nCOMMIT\n").reply();
    assert!(!dom0.dir.join(RECORD).exists());
    // As a boot leaves them.
    for family in ["iptables", "ip6tables"] {
        fs::remove_file(dom0.dir.join(family)).unwrap();
    }
    assert_eq!(boot(&dom0.paths).unwrap(), names(&["xapi1"]), "the other family still says so");
}

/// And the other way round.
#[test]
fn from_chains_to_flows() {
    let dom0 = dom0("");
    fs::create_dir(&dom0.paths.lasting).unwrap();
    set_mode(&dom0.paths.lasting, 0o700);
    dom0.write("lib/drawbridge/guarded-ipv4", "xapi1\n");
    dom0.write("lib/drawbridge/guarded-ipv6", "xapi1\nxapi7\n");
    assert_eq!(boot_flows(&dom0.paths).unwrap(), names(&["xenbr0/100"]));
    // The driver writes: the flows say what is guarded on this bridge, and nothing else does.
    dom0.write("flows", &marker("vlan_tci=0x0000/0x1fff"));
    write(&dom0, HARMLESS).reply();
    assert_eq!(dom0.read(RECORD), "xenbr0 - xenbr0\n");
    assert_eq!(dom0.read("lib/drawbridge/guarded-ipv4"), "");
    assert_eq!(dom0.read("lib/drawbridge/guarded-ipv6"), "xapi7\n");
}

#[test]
fn a_record_that_others_wrote_is_not_believed() {
    let dom0 = lost();
    set_mode(&dom0.dir.join(RECORD), 0o666);
    assert_eq!(boot_flows(&dom0.paths).unwrap_err().code.as_str(), "DRAWBRIDGE_UNSAFE_FILE");
    set_mode(&dom0.dir.join(RECORD), 0o600);
    for text in ["xenbr0\n", "xenbr0 - -O\n", "xenbr0 5000 x\n", "\n"] {
        fs::write(dom0.dir.join(RECORD), text).unwrap();
        assert_eq!(
            boot_flows(&dom0.paths).unwrap_err().code.as_str(),
            "DRAWBRIDGE_GUARDED_RECORD",
            "{text:?}"
        );
    }
    assert_eq!(dom0.started(), [""; 0]);
}
