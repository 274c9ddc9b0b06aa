//! The interpreter says what a real Open vSwitch says (`ofproto/trace`), flow by flow and packet by packet.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ruleset::iptables::MARK_MASK;
use ruleset::ovs::interpret::{Arrival, Outcome, Tables};
use ruleset::ovs::{CtState, OfPort, OvsHost, parse_dump_flows, plan};
use ruleset::packet::{Packet, Payload, Transport};

use crate::agree::{case, header, state, world};
use crate::generate::Random;
use crate::switch::{Model, parent, switch};

/// Packets to be traced in all.
const PACKETS: usize = 1_200;
/// Packets per policy.
const PER_POLICY: usize = 60;

/// Our own `ovsdb-server` and `ovs-vswitchd`, which touch nothing of the system's.
struct Switch {
    directory: PathBuf,
    daemons: Vec<Child>,
}

#[expect(clippy::disallowed_methods, reason = "this test's one place that starts programs")]
fn command(program: &str) -> Command {
    Command::new(program)
}

impl Switch {
    fn start() -> Self {
        let directory = std::env::temp_dir().join(format!("ruleset-trace-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut switch = Self { directory, daemons: Vec::new() };
        let database = switch.path("conf.db");
        switch.run("ovsdb-tool", &["create", &database, "/usr/share/openvswitch/vswitch.ovsschema"]);
        let socket = switch.path("db.sock");
        switch.daemon("ovsdb-server", &[&database, &format!("--remote=punix:{socket}")], &socket);
        switch.vsctl(&["--no-wait", "init"]);
        let control = switch.path("vswitchd.ctl");
        let options = [&format!("unix:{socket}"), "--enable-dummy=override", "--disable-system"];
        switch.daemon("ovs-vswitchd", &[&options[..], &[&format!("--unixctl={control}")]].concat(), &control);
        switch
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn prepare(&self, program: &str) -> Command {
        let mut command = command(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
            command.env(variable, &self.directory);
        }
        command
    }

    fn daemon(&mut self, program: &str, args: &[&str], socket: &str) {
        let mut command = self.prepare(program);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}; install openvswitch-switch"));
        self.daemons.push(child);
        let start = Instant::now();
        while !std::path::Path::new(socket).exists() {
            assert!(start.elapsed() < Duration::from_secs(30), "{program} does not open {socket}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        self.run_with(program, args, "")
    }

    fn run_with(&self, program: &str, args: &[&str], input: &str) -> String {
        let mut command = self.prepare(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|e| panic!("{program}: {e}; install openvswitch-switch"));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn vsctl(&self, args: &[&str]) {
        let database = format!("--db=unix:{}", self.path("db.sock"));
        self.run("ovs-vsctl", &[&[database.as_str()], args].concat());
    }

    fn appctl(&self, args: &[&str]) -> String {
        let control = self.path("vswitchd.ctl");
        self.run("ovs-appctl", &[&["-t", control.as_str()], args].concat())
    }

    fn ofctl(&self, args: &[&str], bridge: &str, rest: &[&str], input: &str) -> String {
        let bridge = format!("unix:{}", self.path(&format!("{bridge}.mgmt")));
        self.run_with("ovs-ofctl", &[args, &[bridge.as_str()], rest].concat(), input)
    }

    /// A bridge with the ports of a host, under the same OpenFlow numbers.
    fn bridge(&self, name: &str, host: &OvsHost) {
        let mut args: Vec<String> =
            ["add-br", name, "--", "set", "bridge", name, "datapath_type=dummy"].map(str::to_owned).into();
        for port in &host.ports[&parent()] {
            if let OfPort::Number(number) = port.ofport {
                let interface = format!("{name}p{number}");
                args.extend(["--", "add-port", name, &interface].map(str::to_owned));
                args.extend(port.tag.map(|tag| format!("tag={tag}")));
                let request = format!("ofport_request={number}");
                args.extend(
                    ["--", "set", "interface", &interface, "type=dummy", &request].map(str::to_owned),
                );
            }
        }
        self.vsctl(&args.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// OpenFlow numbers by the datapath's own.
    fn datapath_ports(&self, bridge: &str) -> BTreeMap<String, OfPort> {
        let shown = self.appctl(&["dpif/show"]);
        let of_bridge = shown.lines().map(str::trim).filter_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            let (ofport, datapath) = rest.split_once(':')?.0.split_once('/')?;
            let ours = name == bridge || name.starts_with(&format!("{bridge}p"));
            ours.then(|| (datapath.to_owned(), OfPort::from_database(ofport.parse().unwrap()).unwrap()))
        });
        of_bridge.collect()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The packet as `ofproto/trace` reads it.
fn flow_text(arrival: &Arrival<'_>) -> String {
    let Packet { source, destination, payload } = arrival.packet;
    let mut text = format!("in_port={},dl_src={source},dl_dst={destination}", arrival.in_port);
    if let Some(id) = arrival.vlan {
        let _ = write!(text, ",dl_vlan={id}");
    }
    if arrival.mark != 0 {
        let _ = write!(text, ",ct_mark={:#x}", arrival.mark);
    }
    let transport = match payload {
        Payload::Arp(arp) => {
            let _ = write!(
                text,
                ",arp,arp_op={},arp_spa={},arp_tpa={},arp_sha={}",
                if arp.reply { 2 } else { 1 },
                arp.sender,
                arp.target,
                arp.sender_mac
            );
            return text;
        }
        Payload::Other(kind) => {
            let _ = write!(text, ",dl_type={kind:#06x}");
            return text;
        }
        Payload::Ipv4(ip) => {
            let protocol = protocol_text("ip", arrival.packet);
            let _ = write!(text, ",{protocol},nw_src={},nw_dst={}", ip.source, ip.destination);
            &ip.transport
        }
        Payload::Ipv6(ip) => {
            let protocol = protocol_text("ipv6", arrival.packet);
            let _ = write!(text, ",{protocol},ipv6_src={},ipv6_dst={}", ip.source, ip.destination);
            &ip.transport
        }
    };
    match transport {
        Transport::Ports { protocol, source, destination } if matches!(protocol.0, 6 | 17 | 132) => {
            let name = if protocol.0 == 6 {
                "tcp"
            } else if protocol.0 == 17 {
                "udp"
            } else {
                "sctp"
            };
            let _ = write!(text, ",{name}_src={source},{name}_dst={destination}");
            if name == "tcp" && arrival.state.0 & CtState::NEW.0 == 0 {
                text.push_str(",tcp_flags=ack");
            }
        }
        Transport::Icmp { kind, code, target } => {
            let name = if matches!(payload, Payload::Ipv6(_)) { "icmpv6" } else { "icmp" };
            let _ = write!(text, ",{name}_type={kind},{name}_code={code}");
            if let (Some(target), 135 | 136, 0) = (target, kind, code) {
                let _ = write!(text, ",nd_target={target}");
            }
        }
        Transport::Fragment(_) => text.push_str(",nw_frag=later"),
        Transport::Ports { .. } | Transport::Other(_) => {}
    }
    text
}

/// The word that lets ports and types follow, or the protocol's number.
fn protocol_text(family: &str, packet: &Packet) -> String {
    let number = packet.protocol().unwrap().0;
    let word = match (family, number) {
        ("ip", 1) => "icmp",
        ("ip", 6) => "tcp",
        ("ip", 17) => "udp",
        ("ip", 132) => "sctp",
        ("ipv6", 58) => "icmp6",
        ("ipv6", 6) => "tcp6",
        ("ipv6", 17) => "udp6",
        ("ipv6", 132) => "sctp6",
        _ => return format!("{family},nw_proto={number}"),
    };
    word.to_owned()
}

fn state_text(state: CtState) -> String {
    let flags = [
        (CtState::NEW, "new"),
        (CtState::EST, "est"),
        (CtState::REL, "rel"),
        (CtState::RPL, "rpl"),
        (CtState::INV, "inv"),
    ];
    let set = flags.iter().filter(|(flag, _)| state.0 & flag.0 != 0).map(|(_, name)| *name);
    ["trk"].into_iter().chain(set).collect::<Vec<_>>().join(",")
}

/// What the trace says: the datapath's actions, one stage after the other.
fn read_trace(trace: &str, vlan: Option<u16>, ports: &BTreeMap<String, OfPort>) -> Outcome {
    let mut outcome = Outcome { normal: trace.contains("NORMAL"), ..Outcome::default() };
    let mut vlan = vlan;
    for actions in trace.lines().filter_map(|line| line.strip_prefix("Datapath actions: ")) {
        let mut depth = 0_i32;
        let outside = |c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ',' && depth == 0
        };
        for action in actions.split(outside) {
            if let Some(port) = ports.get(action) {
                outcome.outputs.push((*port, vlan));
            } else if action == "pop_vlan" {
                vlan = None;
            } else if let Some(rest) = action.strip_prefix("push_vlan(vid=") {
                vlan = Some(rest.split_once(',').unwrap().0.parse().unwrap());
            } else if let Some(rest) = action.strip_prefix("ct(") {
                let value = |name: &str| {
                    let value = rest.trim_end_matches(')').split(',').find_map(|i| i.strip_prefix(name))?;
                    let value = value.split('/').next()?;
                    value
                        .strip_prefix("0x")
                        .map_or_else(|| value.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
                };
                outcome.commit = value("mark=").or(outcome.commit);
                outcome.zone = value("zone=");
            } else {
                let known = action == "drop" || action.starts_with("recirc(");
                assert!(known, "the datapath action {action} is not known:\n{trace}");
            }
        }
    }
    outcome.outputs.sort_unstable();
    outcome
}

#[test]
fn a_real_switch_does_what_the_interpreter_says() {
    let server = Switch::start();
    let mut traced = 0;
    let mut kinds = [0; 3];
    for seed in 1_000.. {
        if traced >= PACKETS {
            break;
        }
        let mut r = Random(seed);
        let world = world(&mut r);
        let host = world.host();
        let ports = switch(&mut r, &host);
        let text = plan(&host, &ports, &parent(), &Model::default().observed(), 77).unwrap().bundle();
        if text.is_empty() {
            continue;
        }
        let bridge = format!("b{seed}");
        server.bridge(&bridge, &ports);
        server.ofctl(&["-O", "OpenFlow14", "--bundle", "add-flows"], &bridge, &["-"], &text);
        let ours = "cookie=0x4457427200000000/0xffffffff00000000";
        let dump = server.ofctl(&["-O", "OpenFlow14", "dump-flows"], &bridge, &[ours], "");
        let observed = parse_dump_flows(&dump).unwrap();
        let again = plan(&host, &ports, &parent(), &observed, 77).unwrap();
        assert!(again.is_empty(), "what was written reads back as something else: {:#?}", again.changes);
        let tables = Tables::new(&observed);
        let epoch = observed.epoch().unwrap();
        let datapath = server.datapath_ports(&bridge);
        for _ in 0..PER_POLICY {
            let Some(case) = case(&mut r, &world, &host, &ports) else { continue };
            let (state, mark, _) = state(&mut r, &case.packet, epoch);
            let vlan = header(case.tag, case.from);
            let arrival = Arrival { packet: &case.packet, in_port: case.from.ofport, vlan, state, mark };
            let flow = flow_text(&arrival);
            let trace = server.appctl(&["ofproto/trace", &bridge, &flow, "--ct-next", &state_text(state)]);
            let real = read_trace(&trace, vlan, &datapath);
            let mut ours = tables.send(arrival).unwrap();
            ours.outputs.sort_unstable();
            ours.commit = ours.commit.map(|mark| mark & MARK_MASK);
            assert_eq!(ours.normal, real.normal, "{flow}\n{trace}");
            if !ours.normal {
                assert_eq!(ours, real, "{flow}\n{trace}\n{dump}");
            }
            traced += 1;
            let kind = if ours.normal { 2 } else { usize::from(!ours.outputs.is_empty()) };
            kinds[kind] += 1;
        }
        server.vsctl(&["del-br", &bridge]);
    }
    assert!(kinds.iter().all(|n| *n > 50), "dropped, sent, left alone: {kinds:?}");
}
