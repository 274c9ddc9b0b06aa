//! Open vSwitch hosts: how many flows a policy is, how many change with it, and what that takes from end to end, beside a
//! bare `ovs-ofctl` of the same text; and what a packet pays.

mod packets;
mod policy;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use drawbridge::desired::HostDesired;
use drawbridge::dom0::{Dom0, generation};
use drawbridge::reconcile::{Mode, reconcile};
use drawbridge::report::{HostReport, Status};
use drawbridge::run::Pool;
use e2e::lab::{Backend, Lab};
use ruleset::ids::Interface;
use ruleset::ovs::{Dialect, Observed, OvsHost, plan};
use xenapi::{Host, Ref};

use crate::stats::{Stats, ms, ratio, timed};
use policy::{Edit, Size};

/// Turns of one edit.
const RUNS: usize = 7;

const BRIDGE: &str = "xenbr0";
const OUR_FLOWS: &str = "cookie=0x4457427200000000/0xffffffff00000000";

/// The sizes of which neutron's figures are known.
const SIZES: [Size; 4] = [
    Size { ports: 10, rules: 20, members: 20 },
    Size { ports: 100, rules: 20, members: 20 },
    Size { ports: 200, rules: 100, members: 20 },
    Size { ports: 50, rules: 5, members: 2000 },
];

pub(crate) fn measure(plugin: &Path) -> Result<String> {
    let mut text = format!(
        "Ports × rules, members of a group that every port admits; {RUNS} turns of each edit, medians:\n\n\
         | | flows | cold | bare | compile alone | one rule: changes | | bare | one member: changes | | bare | nothing |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for size in SIZES {
        let lab = Lab::builder(Backend::OpenVSwitch).host_count(1).plugin(plugin.to_owned()).start()?;
        policy::add_ports(&lab, BRIDGE, 0..size.ports)?;
        text.push_str(&one_size(&lab, size)?);
    }
    writeln!(text, "\n{}", packets::measure(plugin)?)?;
    Ok(text)
}

fn one_size(lab: &Lab, size: Size) -> Result<String> {
    let pool = Pool::open(&lab.config_path())?;
    let (host, _) = lab.block_on(pool.host("host1"))?;
    let bench = Bench::new(lab, &pool, &host)?;
    let base = policy::host(size, Edit::None)?;
    let empty = Observed::default();
    let (cold_text, compile) = timed(|| bench.input(&base, &empty));
    let bare_cold = bench.bare(&cold_text?)?;
    bench.clear()?;
    let (_, cold) = bench.run(&base)?;
    let flows = bench.dump()?.flows.len();
    let (rule, rule_took, rule_bare) = bench.edit(&base, &policy::host(size, Edit::Rule)?)?;
    let (member, member_took, member_bare) = bench.edit(&base, &policy::host(size, Edit::Member)?)?;
    let mut nothing = Vec::new();
    for _ in 0..RUNS {
        let (report, took) = bench.run(&base)?;
        ensure!(report.status == Status::Unchanged, "a second run changed something");
        nothing.push(took);
    }
    let Size { ports, rules, members } = size;
    let with =
        |took: Duration, bare: Duration| format!("{} | {} (ratio {})", ms(took), ms(bare), ratio(took, bare));
    Ok(format!(
        "| {ports} × {rules}, {members} | {flows} | {} | {} | {rule} | {} | {member} | {} | {} |\n",
        with(cold, bare_cold),
        ms(compile),
        with(rule_took, rule_bare),
        with(member_took, member_bare),
        ms(Stats::of(nothing).median)
    ))
}

/// One host's switch, by the driver and by hand.
pub(crate) struct Bench<'a> {
    lab: &'a Lab,
    dom0: Dom0<'a>,
    bridge: Interface,
    switch: OvsHost,
    dialect: Dialect,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(lab: &'a Lab, pool: &'a Pool, host: &'a Ref<Host>) -> Result<Self> {
        let uuid = lab.host("host1")?.uuid().to_owned();
        let dom0 = Dom0 { client: &pool.client, signer: &pool.signer, host, uuid };
        let (switch, version) = lab.block_on(dom0.switch())?;
        let bridge: Interface = BRIDGE.parse()?;
        let dialect = switch.dialect(&bridge, version)?;
        Ok(Self { lab, dom0, bridge, switch: switch.host, dialect })
    }

    fn run(&self, desired: &HostDesired) -> Result<(HostReport, Duration)> {
        let mode = Mode::Apply { generation: generation() };
        let (report, took) = timed(|| self.lab.block_on(reconcile(&self.dom0, "host1", desired, mode, 1)));
        ensure!(report.status != Status::Failed, "{:?}", report.error);
        Ok((report, took))
    }

    pub(crate) fn dump(&self) -> Result<Observed> {
        Ok(self.lab.block_on(self.dom0.flows(&self.bridge, self.dialect, None))?)
    }

    pub(crate) fn input(&self, desired: &HostDesired, observed: &Observed) -> Result<String> {
        Ok(plan(&desired.policy, &self.switch, &self.bridge, observed, 1)?.input(self.dialect))
    }

    /// The bare program, then a bare dump.
    pub(crate) fn bare(&self, input: &str) -> Result<Duration> {
        Ok(self.ofctl(&self.dialect.write(&self.bridge), input)? + self.bare_read()?)
    }

    /// A bare dump.
    pub(crate) fn bare_read(&self) -> Result<Duration> {
        self.ofctl(&self.dialect.dump(&self.bridge), "")
    }

    fn ofctl(&self, command: &[String], stdin: &str) -> Result<Duration> {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        let (done, took) = timed(|| self.lab.ovs_ofctl("host1", &args, stdin.as_bytes()));
        done.context("the bare ovs-ofctl")?;
        Ok(took)
    }

    fn clear(&self) -> Result<()> {
        self.lab.ovs_ofctl("host1", &["del-flows", BRIDGE, OUR_FLOWS], b"").map(drop)
    }

    /// There and back again: how many flows change there, how long that takes, and how long by hand.
    fn edit(&self, base: &HostDesired, more: &HostDesired) -> Result<(usize, Duration, Duration)> {
        let (mut ours, mut bare, mut changes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..RUNS {
            self.run(base)?;
            bare.push(self.bare(&self.input(more, &self.dump()?)?)?);
            self.run(base)?;
            let (report, took) = self.run(more)?;
            changes = report.changes.len();
            ours.push(took);
        }
        self.run(base)?;
        Ok((changes, Stats::of(ours).median, Stats::of(bare).median))
    }
}
