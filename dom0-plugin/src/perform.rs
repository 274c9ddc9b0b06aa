//! Carries out a plan: which runs, in which order, under which locks, and what of their output is passed on.

use drawbridge_wire::reply::Outcome;

use crate::authorise::{
    Approved, ChangePlan, FlowsPlan, Plan, Program, RestorePlan, SavePlan, Table, look_at_switch,
};
use crate::bridge_nf;
use crate::config::Config;
use crate::exec::{self, Output};
use crate::guarded::flows::Written;
use crate::paths::Paths;
use crate::switch::Switch;
use crate::{Code, Refusal, Result, filter, generation, guarded, lock};

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
    let run = Performer { config, paths };
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
    let _lock = match claims {
        true => Some(lock::acquire(&paths.in_state("lock"), config.lock)?),
        false => None,
    };
    if let (true, Some(generation)) = (claims, generation) {
        generation::advance(paths, generation)?;
    }
    match plan {
        Plan::Save(plan) => run.save(plan),
        Plan::Restore(plan) => {
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
}

impl Performer<'_> {
    fn exec(&self, approved: &Approved) -> Result<Output> {
        exec::run(approved, self.paths, self.config.program)
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
        Ok(Outcome { stdout: report(switch, &cut), ..output })
    }

    /// Tries, writes, and answers what stands after it. Call with the write lock held.
    pub(crate) fn restore(&self, plan: &RestorePlan) -> Result<Outcome> {
        let program = Program::Restore(plan.family());
        let mut wait = Some(self.config.lock);
        let mut trial = outcome(program, self.exec(&plan.run(true, wait))?)?;
        // Held to the end.
        let mut _xtables = None;
        if cannot_wait(&trial) {
            wait = None;
            _xtables = Some(lock::acquire_xtables(&self.paths.xtables_lock, self.config.lock)?);
            trial = outcome(program, self.exec(&plan.run(true, wait))?)?;
        }
        if plan.trial_only() || trial.exit_code != 0 {
            return Ok(trial);
        }
        let done = outcome(program, self.exec(&plan.run(false, wait))?)?;
        if done.exit_code != 0 {
            return Ok(done);
        }
        let stdout = self.look(plan)?;
        Ok(Outcome { stdout, ..done })
    }

    /// What stands after a write, so that the caller need not ask; and the moment to turn bridge netfilter on, if it is
    /// not and our jump stands first.
    fn look(&self, plan: &RestorePlan) -> Result<String> {
        let look = plan.look();
        let output = outcome(look.program(), self.exec(&look)?)?;
        if output.exit_code != 0 {
            return Err(unparsable(look.program(), 0, "it failed"));
        }
        let cut = cut(look.program(), &output.stdout, &[Table::Filter, Table::Raw])?;
        let mut switch = bridge_nf::read(self.paths, plan.family())?;
        if switch != bridge_nf::Switch::On && filter::jump_stands_first(&cut) {
            bridge_nf::turn_on(self.paths, plan.family())?;
            switch = bridge_nf::Switch::On;
        }
        // Last: where it cannot be remembered, the rules stand and are obeyed.
        guarded::record(self.paths, plan.family(), &cut)?;
        Ok(report(switch, &cut))
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

/// What the caller gets to see of a dump.
fn report(switch: bridge_nf::Switch, cut: &str) -> String {
    format!("# drawbridge bridge-nf-call={}\n{cut}", switch.as_str())
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
