//! The flow guard before a real switch: what it lets through changes nothing but flows of ours, and what stands then is the
//! same after the switch's own start script has saved and loaded it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use dom0_plugin::authorise::{Bridge, Input, Role, check_against};
use e2e::lab::{Backend, Lab};
use e2e::scenario::pool;
use ruleset::ovs::{OfPort, PortKind, Switch};

const SCRIPT: &str = "/usr/share/openvswitch/scripts/ovs-save";
const OURS: &str = "cookie=0x44574272";

/// Somebody else's flows at places that would do for ours.
const FOREIGN: &str = "\
cookie=0x7,table=0,priority=45500,in_port=3,vlan_tci=0x0000/0x1fff,actions=drop
cookie=0x0,table=67,priority=50,tcp,reg3=0x1,tp_dst=0x50/0xfff0,actions=drop
cookie=0x4457427100000001,table=72,priority=50,reg5=0x1,actions=drop
";

const MATCHES: [&str; 24] = [
    "",
    "in_port=PORT",
    "in_port=PORT,vlan_tci=0x0000/0x1fff",
    "in_port=PORT,dl_vlan=VLAN",
    "in_port=PORT,dl_src=MAC",
    "in_port=PORT,vlan_tci=0x0000/0x1fff,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
    "dl_src=MAC",
    "vlan_tci=0x0000/0x1fff,dl_dst=MAC",
    "dl_vlan=VLAN,dl_dst=MAC",
    "dl_vlan=VLAN",
    "ip,reg5=NUMBER",
    "ipv6,reg5=NUMBER,ct_state=-inv+trk",
    "reg7=NUMBER",
    "reg5=NUMBER",
    "reg5=NUMBER,dl_dst=MAC",
    "reg2=NUMBER,reg5=NUMBER",
    "tcp,reg3=NUMBER,tp_dst=0x50/0xfff0",
    "conj_id=7,ip",
    "icmp6,icmp_type=135,nd_sll=MAC",
    "arp,reg6=NUMBER,arp_sha=MAC,arp_spa=10.0.0.0/24",
    "ct_state=+est+trk,ct_mark=0x100/0xffffff00",
    "udp6,ipv6_src=fe80::/10,tp_src=547,tp_dst=546",
    "ip,nw_frag=later",
    "tcp,nw_src=10.0.0.1,tp_src=443,tcp_flags=+ack",
];

const ACTIONS: [&str; 20] = [
    "drop",
    "NORMAL",
    "LOCAL",
    "resubmit(,TABLE)",
    "resubmit(,TABLE),resubmit(,TABLE)",
    "load:NUMBER->NXM_NX_REG5[],resubmit(,TABLE)",
    "load:NUMBER->NXM_NX_REG7[],resubmit(,75)",
    "load:0x1->NXM_NX_REG2[]",
    "load:NUMBER->NXM_NX_REG5[],load:NUMBER->NXM_NX_REG6[],resubmit(,60)",
    "pop_vlan,load:NUMBER->NXM_NX_REG5[],resubmit(,71)",
    "pop_vlan,output:PORT",
    "strip_vlan,resubmit(,TABLE)",
    "ct(table=TABLE,zone=ZONE)",
    "ct(commit,zone=ZONE,exec(load:0x1->NXM_NX_CT_MARK[8..31]))",
    "ct(commit,zone=ZONE,exec(load:0x1->NXM_NX_CT_MARK[8..31])),resubmit(,TABLE)",
    "conjunction(7,1/2)",
    "conjunction(7,2/2),conjunction(8,1/2)",
    "output:PORT",
    "output:PORT,push_vlan:0x8100,set_field:TAGGED->vlan_vid,output:PORT",
    "output:PORT,output:PORT",
];

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % most
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.get(self.below(of.len())).copied().unwrap_or_default()
    }

    /// A flow of some table: as often as not what no table's flows do.
    fn flow(&mut self, ports: &[String]) -> String {
        let place = match self.below(40) {
            at @ 0..=8 => format!("table=0,priority={}", [45_000, 45_050, 45_500][at % 3]),
            at => {
                let priority = self.pick(&["0", "1", "5", "50", "50", "90", "100"]);
                format!("table={},priority={priority}", [60 + at - 9, 99][usize::from(at > 37)])
            }
        };
        let (matches, actions) = (self.pick(&MATCHES), self.pick(&ACTIONS));
        let comma = if matches.is_empty() { "" } else { "," };
        let mut flow = format!("{place}{comma}{matches},actions={actions}");
        let numbers = ["0x1", "0x2", "0x21"];
        let number = self.pick(&numbers);
        for hole in ["PORT", "VLAN", "MAC", "NUMBER", "TABLE", "ZONE", "TAGGED"] {
            while flow.contains(hole) {
                let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
                let with = match hole {
                    "PORT" => self.pick(&ports),
                    "VLAN" => self.pick(&["0", "5", "77"]),
                    "MAC" => self.pick(&["00:16:3e:00:00:01", "00:16:3e:00:00:02", "02:00:00:00:00:01"]),
                    "NUMBER" => number,
                    "TABLE" => self.pick(&["61", "64", "68", "70", "72", "75", "81", "83", "85"]),
                    "ZONE" => self.pick(&["1", "2", "0"]),
                    _ => self.pick(&["4101", "4173"]),
                };
                flow = flow.replacen(hole, with, 1);
            }
        }
        flow
    }
}

/// The bridge as the plugin sees it, and its ports' numbers.
fn bridge(lab: &Lab) -> Result<(Bridge, Vec<String>)> {
    let arguments = Switch::arguments();
    let said = lab.ovs_vsctl("host1", &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    let switch = Switch::parse(&said)?;
    let name = "xenbr0".parse()?;
    let mut bridge = Bridge::default();
    for port in switch.host.ports.get(&name).context("no such bridge")? {
        let role = match &port.kind {
            PortKind::Guest { .. } => Role::Guest,
            PortKind::Internal { mac } => {
                Role::Own(mac.map(|mac| mac.0.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))))
            }
            PortKind::Wire { .. } => Role::Wire { trunk: port.tag.is_none() },
        };
        let number = match port.ofport {
            OfPort::Number(number) => number,
            OfPort::Local => 0xfffe,
        };
        bridge.ports.insert(number, role);
        bridge.access.extend(port.tag.map(|tag| (number, tag)));
    }
    bridge.vlans = switch.host.networks_of(&name).filter_map(|(_, tag)| tag).chain([5]).collect();
    let named = |number: &u16| if *number == 0xfffe { "LOCAL".to_owned() } else { number.to_string() };
    let ports = bridge.ports.keys().map(named).collect();
    Ok((bridge, ports))
}

fn dump(lab: &Lab) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let said = lab.ovs_ofctl("host1", &["-O", "OpenFlow14", "--no-stats", "dump-flows", "xenbr0"], b"")?;
    Ok(said.lines().map(|line| line.trim().to_owned()).partition(|flow| flow.contains(OURS)))
}

/// Those of random lines that pass, each by itself and all together.
fn accepted(r: &mut Random, bridge: &Bridge, ports: &[String], standing: &str) -> Vec<String> {
    let line = |flow: String| format!("cookie=0x4457427200000002,{flow}\n");
    let alone = |line: &String| check_against(bridge, "", Input::added(line.as_bytes(), true)).is_ok();
    let mut lines: Vec<String> = (0..4000).map(|_| line(r.flow(ports))).filter(alone).collect();
    lines.sort_unstable();
    lines.dedup_by_key(|line| line.split(",actions").next().unwrap_or_default().to_owned());
    loop {
        let refused = check_against(bridge, standing, Input::added(lines.concat().as_bytes(), true));
        let Err(refusal) = refused else { return lines };
        let at: usize = refusal.details.first().and_then(|at| at.parse().ok()).unwrap_or(1);
        lines.remove(at - 1);
    }
}

#[test]
fn what_the_guard_accepts_is_ours_and_can_be_saved() -> Result<()> {
    let lab = pool(Backend::OpenVSwitch).start()?;
    lab.ovs_ofctl("host1", &["-O", "OpenFlow14", "add-flows", "xenbr0", "-"], FOREIGN.as_bytes())?;
    lab.apply()?.success()?;
    let (bridge, ports) = bridge(&lab)?;
    for seed in 0..4 {
        let (ours, others) = dump(&lab)?;
        let standing = lab.ovs_ofctl("host1", &["-O", "OpenFlow14", "dump-flows", "xenbr0"], b"")?;
        let lines = accepted(&mut Random(seed), &bridge, &ports, &standing);
        ensure!(lines.len() > 40, "seed {seed}: only {} lines pass", lines.len());
        let write = ["-O", "OpenFlow13,OpenFlow14", "--bundle", "add-flows", "xenbr0", "-"];
        let taken = lab.ovs_ofctl("host1", &write, lines.concat().as_bytes());
        taken.with_context(|| format!("seed {seed}: the switch refuses\n{}", lines.concat()))?;
        let (after, others_after) = dump(&lab)?;
        ensure!(others == others_after, "seed {seed}: others' flows {others:#?} became {others_after:#?}");
        let key = |flow: &String| flow.split(" actions=").next().unwrap_or_default().to_owned();
        let places: BTreeSet<String> = ours.iter().chain(&after).map(key).collect();
        ensure!(places.len() == after.len(), "seed {seed}: something of ours went that was not told to");

        let host = lab.host("host1")?;
        let saved = host.command("sh", &[SCRIPT, "save-flows", "xenbr0"], b"")?;
        ensure!(saved.status.success(), "{saved:?}");
        lab.ovs_ofctl("host1", &["-O", "OpenFlow14", "del-flows", "xenbr0"], b"")?;
        let loaded = host.command("sh", &["-e", "-s"], &saved.stdout)?;
        ensure!(loaded.status.success(), "seed {seed}: {loaded:?}");
        ensure!(dump(&lab)? == (after, others_after), "seed {seed}: saved and loaded, the flows are others");
    }
    Ok(())
}
