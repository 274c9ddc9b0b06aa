//! Carries out a plan: which runs, in which order, under which locks, and what of their output is passed on.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use drawbridge_wire::Family;
use drawbridge_wire::reply::Outcome;

use crate::authorise::boundary::{Boundary, Standing};
use crate::authorise::{
    Approved, ChangePlan, FlowsPlan, Plan, Program, RestorePlan, SavePlan, Table, look_at_raw, look_at_rules,
    look_at_switch,
};
use crate::budget::Load;
use crate::config::Config;
use crate::exec::{self, Output};
use crate::guarded::flows::Written;
use crate::lock::Lock;
use crate::paths::Paths;
use crate::switch::Switch;
use crate::{Code, Refusal, Result, bridge_nf, bridges, conntrack, filter, guarded, lock, state, turn};

/// Carries it out. `generation`: the writer's.
///
/// # Errors
/// A refusal; a program's non-zero exit is an outcome.
pub(crate) fn perform(
    plan: &Plan,
    generation: Option<u64>,
    config: &Config,
    paths: &Paths,
) -> Result<Outcome> {
    // A read with a generation is the first half of a write: whoever reads in order to write refuses all older writers
    // from then on. Otherwise an older one could still write between the two, and the newer one's change would be made
    // to something it has never seen.
    let claims =
        plan.is_write() || matches!(plan, Plan::Save(_) | Plan::DumpFlows(_)) && generation.is_some();
    match (plan.is_write(), generation) {
        (true, None) => {
            return Err(Refusal::new(Code::MissingKey).detail("generation").detail("this call writes"));
        }
        (false, Some(_)) if !claims && !matches!(plan, Plan::Restore(_)) => {
            return Err(Refusal::new(Code::UnknownKey).detail("generation").detail("this call only reads"));
        }
        _ => {}
    }
    // Held to the end.
    let lock = match generation.filter(|_| claims) {
        Some(generation) => Some(turn::take(paths, generation, plan.is_write(), config.lock)?),
        None => None,
    };
    let run = Performer { config, paths, lock: lock.as_ref() };
    match plan {
        Plan::Save(plan) => run.save(plan),
        Plan::Restore(plan) => {
            run.check_cost(plan)?;
            let done = run.restore(plan)?;
            if !plan.trial_only() && done.exit_code == 0 {
                guarded::flows::forget_all(paths)?;
            }
            Ok(done)
        }
        Plan::Read(approved) => run.run(approved),
        Plan::DumpFlows(plan) => run.flows(plan),
        Plan::ChangeFlows(plan) => run.change_flows(plan),
    }
}

/// Runs plans, locks and generations aside.
pub(crate) struct Performer<'a> {
    pub(crate) config: &'a Config,
    pub(crate) paths: &'a Paths,
    /// The write lock, if it is held: programs then hold it, too.
    pub(crate) lock: Option<&'a Lock>,
}

impl Performer<'_> {
    fn exec(&self, approved: &Approved) -> Result<Output> {
        exec::run(approved, self.lock, self.paths, self.config.program)
    }

    /// Runs a program and passes on what it leaves.
    pub(crate) fn run(&self, approved: &Approved) -> Result<Outcome> {
        outcome(approved.program(), self.exec(approved)?)
    }

    /// What a program says that must not fail.
    pub(crate) fn success(&self, approved: &Approved) -> Result<String> {
        let done = self.run(approved)?;
        match done.exit_code {
            0 => Ok(done.stdout),
            _ => Err(Refusal::new(Code::ProgramFailed)
                .detail(approved.program())
                .detail(done.stderr.trim_ascii())),
        }
    }

    /// What stands; nothing, if the program failed.
    pub(crate) fn save(&self, plan: &SavePlan) -> Result<Outcome> {
        let output = outcome(plan.run.program(), self.exec(&plan.run)?)?;
        if output.exit_code != 0 {
            // Whatever it wrote before it failed is not a dump.
            return Ok(Outcome { stdout: String::new(), ..output });
        }
        let cut = cut(plan.run.program(), &output.stdout, &plan.tables)?;
        let switch = bridge_nf::read(self.paths, plan.family)?;
        let boundary =
            plan.tables.contains(&Table::Raw).then(|| self.boundary(&output.stdout, plan.family).standing());
        Ok(Outcome { stdout: self.report(switch, boundary, &cut), ..output })
    }

    /// Tries, writes, and answers what stands after it. Call with the write lock held.
    pub(crate) fn restore(&self, plan: &RestorePlan) -> Result<Outcome> {
        let family = plan.family();
        let behind = match plan.needs_boundary() && !plan.trial_only() {
            true => {
                let boundary = self.boundary(&self.success(&look_at_raw(family))?, family);
                (boundary.standing() != Standing::Stands).then(|| plan.behind(&boundary))
            }
            false => None,
        };
        if !plan.trial_only() {
            self.forget_cost(family)?;
        }
        let done = self.write(behind.as_ref().unwrap_or(plan))?;
        if plan.trial_only() || done.exit_code != 0 {
            return Ok(done);
        }
        let stdout = self.look(family)?;
        Ok(Outcome { stdout, ..done })
    }

    /// Refuses what would cost too much when it stands.
    fn check_cost(&self, plan: &RestorePlan) -> Result<()> {
        let family = plan.family();
        let known = fs::read_to_string(self.paths.load(family)).ok().and_then(|text| Load::from_text(&text));
        let standing = match known {
            Some(load) => load,
            // Nobody has written since the boot, or the record is lost.
            None => {
                let dump = self.success(&look_at_rules(family))?;
                Load::of(&cut(Program::Save(family), &dump, &[Table::Filter, Table::Raw])?)
            }
        };
        let input = std::str::from_utf8(plan.input()).map_err(|_| Refusal::from(Code::Internal))?;
        standing.after(input).check().map_err(|excess| Refusal::new(Code::TooCostly).detail(excess))
    }

    /// Before a write, which may end in the middle: what stands is read anew, unless it ends well and is looked at.
    fn forget_cost(&self, family: Family) -> Result<()> {
        let path = self.paths.load(family);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(state::failed(&path, &e)),
            _ => Ok(()),
        }
    }

    /// Remembers what stands, in short.
    fn remember_cost(&self, family: Family, cut: &str) -> Result<()> {
        let (path, text) = (self.paths.load(family), Load::of(cut).to_text());
        state::replace(&path, text.as_bytes())
    }

    /// Tries and, if the plan is for more and the trial went well, writes.
    fn write(&self, plan: &RestorePlan) -> Result<Outcome> {
        let run = |trial, wait| outcome(Program::Restore(plan.family()), self.exec(&plan.run(trial, wait))?);
        let mut wait: Option<Duration> = Some(self.config.lock);
        let mut trial = run(true, wait)?;
        // Held to the end.
        let mut _xtables = None;
        if cannot_wait(&trial) {
            wait = None;
            _xtables = Some(lock::acquire_xtables(&self.paths.xtables_lock, self.config.lock)?);
            trial = run(true, wait)?;
        }
        if plan.trial_only() || trial.exit_code != 0 { Ok(trial) } else { run(false, wait) }
    }

    /// What stands after a write, so that the caller need not ask; and the moment to turn bridge netfilter on, if it is
    /// not, our jump stands first and the boundary stands.
    pub(crate) fn look(&self, family: Family) -> Result<String> {
        let program = Program::Save(family);
        let mut dump = self.success(&look_at_rules(family))?;
        let mut cut = cut(program, &dump, &[Table::Filter, Table::Raw])?;
        let mut boundary = self.boundary(&dump, family);
        // First: whatever fails from here on, the next boot closes what is guarded now.
        let recorded = guarded::record(self.paths, family, &cut);
        let jumps_first = filter::jump_stands_first(&cut);
        let mut switch = bridge_nf::read(self.paths, family)?;
        let is_met = jumps_first || switch == bridge_nf::Switch::On;
        if is_met && boundary.standing() != Standing::Stands {
            dump = self.mend(&boundary, family)?;
            cut = self::cut(program, &dump, &[Table::Filter, Table::Raw])?;
            boundary = self.boundary(&dump, family);
        }
        if switch != bridge_nf::Switch::On && jumps_first {
            bridge_nf::turn_on(self.paths, family)?;
            switch = bridge_nf::Switch::On;
        }
        self.remember_cost(family, &cut)?;
        // Where it cannot be remembered, the rules stand and are obeyed.
        recorded?;
        Ok(self.report(switch, Some(boundary.standing()), &cut))
    }

    /// Puts the boundary right, and answers what stands then.
    fn mend(&self, boundary: &Boundary, family: Family) -> Result<String> {
        let refuse = |problem: &dyn std::fmt::Display| {
            Refusal::new(Code::Boundary).detail(Program::Restore(family)).detail(problem)
        };
        let done = self.write(&RestorePlan::mending(boundary, family))?;
        if done.exit_code != 0 {
            return Err(refuse(&done.stderr.trim_ascii()));
        }
        let dump = self.success(&look_at_rules(family))?;
        match self.boundary(&dump, family).standing() {
            Standing::Stands => Ok(dump),
            other => Err(refuse(&other)),
        }
    }

    /// The boundary as a dump shows it.
    fn boundary(&self, dump: &str, family: Family) -> Boundary {
        Boundary::read(dump, family, &bridges::of_guests(self.paths))
    }

    /// What the caller gets to see of a dump. `boundary`: how it stands, if that was read.
    fn report(&self, switch: bridge_nf::Switch, boundary: Option<Standing>, cut: &str) -> String {
        let mut text = format!("# drawbridge bridge-nf-call={}\n", switch.as_str());
        // Writing to a String cannot fail.
        if let Some(standing) = boundary {
            let _ = writeln!(text, "# drawbridge boundary={standing}");
        }
        for bridge in bridges::routed(self.paths) {
            let _ = writeln!(text, "# drawbridge routes={bridge}");
        }
        if let Some((tracked, most)) = conntrack::fill(self.paths) {
            let _ = writeln!(text, "# drawbridge conntrack={tracked}/{most}");
        }
        text + cut
    }

    fn flows(&self, plan: &FlowsPlan) -> Result<Outcome> {
        let exists = plan.bridge_exists();
        let found = outcome(exists.program(), self.exec(&exists)?)?;
        match found.exit_code {
            0 => self.run(plan.run()),
            2 => Err(Refusal::new(Code::NoSuchBridge).detail(plan.bridge())),
            _ => Err(Refusal::new(Code::ProgramFailed)
                .detail(exists.program())
                .detail(found.stderr.trim_ascii())),
        }
    }

    /// Compares with the switch and what stands there, writes, and answers with what stands after it. Call with the write lock
    /// held.
    fn change_flows(&self, plan: &ChangePlan) -> Result<Outcome> {
        let switch = Switch::parse(&self.success(&look_at_switch())?)?;
        let Some(bridge) = switch.bridge(plan.bridge()) else {
            return Err(Refusal::new(Code::NoSuchBridge).detail(plan.bridge()));
        };
        let before = self.run(&plan.all())?;
        if before.exit_code != 0 {
            // A bridge that speaks nothing newer, or a switch that does not answer: the program's own words say which.
            return Ok(Outcome { stdout: String::new(), ..before });
        }
        let done = self.run(plan.against(&bridge, &before.stdout)?)?;
        drop(before);
        if done.exit_code != 0 {
            return Ok(done);
        }
        let look = plan.look()?;
        let stands = self.run(&look)?;
        if stands.exit_code != 0 {
            return Err(unparsable(look.program(), 0, "it failed"));
        }
        let written = Written { bridge: plan.bridge(), dump: &stands.stdout, forgets: plan.forgets() };
        // Last: where it cannot be remembered, the flows stand and are obeyed.
        guarded::flows::record(self.paths, &written, &switch)?;
        Ok(Outcome { stdout: stands.stdout, ..done })
    }
}

/// Whether the program does not know `--wait`. iptables 1.4.21 as first shipped says so, and goes on without it: its
/// exit code does not tell.
fn cannot_wait(trial: &Outcome) -> bool {
    trial.stderr.lines().any(|line| line.contains("unrecognized option") && line.contains("--wait"))
}

fn unparsable(program: Program, line: usize, problem: &str) -> Refusal {
    Refusal::new(Code::OutputUnparsable).detail(program).detail(line).detail(problem)
}

fn cut(program: Program, dump: &str, tables: &[Table]) -> Result<String> {
    filter::cut(dump, tables).map_err(|e| unparsable(program, e.line, e.problem))
}

/// The output as text. What is not UTF-8 on standard output is refused; messages are made readable.
fn outcome(program: Program, output: Output) -> Result<Outcome> {
    let Output { exit_code, stdout, stderr } = output;
    let stdout = String::from_utf8(stdout).map_err(|_| unparsable(program, 0, "not UTF-8"))?;
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    Ok(Outcome { exit_code, stdout, stderr })
}
