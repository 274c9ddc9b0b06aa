//! What may run. An [`Approved`] is the permission itself: nothing outside this module can make one.

pub mod boundary;
mod grammar;
mod iptables;
mod ofctl;
pub mod restore;
mod vsctl;

use std::fmt;
use std::time::Duration;

use drawbridge_wire::call::Function;
use drawbridge_wire::{Family, Refusal, limits};

use self::boundary::Boundary;
use crate::Result;

pub(crate) use grammar::{is_interface, is_interface_pattern, is_mac, is_our_chain, number};
pub use ofctl::{Bridge, Input, Role, check_against};
pub(crate) use ofctl::{mac_number, write_own};
pub(crate) use vsctl::look_at_switch;

/// Whether a chain is one of the kernel's own.
pub(crate) fn is_builtin_chain(name: &str) -> bool {
    matches!(name, "PREROUTING" | "INPUT" | "FORWARD" | "OUTPUT" | "POSTROUTING")
}

/// The programs, and the only ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `iptables-save`, `ip6tables-save`
    Save(Family),
    /// `iptables-restore`, `ip6tables-restore`
    Restore(Family),
    /// `ovs-ofctl`
    Ofctl,
    /// `ovs-vsctl`
    Vsctl,
}

impl Program {
    /// Its file's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Save(Family::Ipv4) => "iptables-save",
            Self::Save(Family::Ipv6) => "ip6tables-save",
            Self::Restore(Family::Ipv4) => "iptables-restore",
            Self::Restore(Family::Ipv6) => "ip6tables-restore",
            Self::Ofctl => "ovs-ofctl",
            Self::Vsctl => "ovs-vsctl",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One start of a program that was found to be harmless.
#[must_use]
#[derive(Debug)]
pub struct Approved {
    program: Program,
    args: Vec<String>,
    stdin: Vec<u8>,
}

impl Approved {
    fn new(program: Program, args: &[&str]) -> Self {
        Self { program, args: args.iter().map(|&arg| arg.to_owned()).collect(), stdin: Vec::new() }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> Program {
        self.program
    }

    /// Its arguments.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Its input.
    #[must_use]
    pub fn stdin(&self) -> &[u8] {
        &self.stdin
    }
}

/// What a call comes to.
#[derive(Debug)]
pub enum Plan {
    /// Read our chains.
    Save(SavePlan),
    /// Write our chains.
    Restore(RestorePlan),
    /// Run, and pass the output on as it is.
    Read(Approved),
    /// Read flows of a bridge.
    DumpFlows(FlowsPlan),
    /// Change flows of a bridge.
    ChangeFlows(ChangePlan),
}

impl Plan {
    /// Whether the call changes anything: writes wait for each other and carry a generation.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Self::Save(_) | Self::Read(_) | Self::DumpFlows(_) => false,
            Self::Restore(plan) => !plan.trial_only,
            Self::ChangeFlows(_) => true,
        }
    }
}

/// `iptables-save`
#[derive(Debug)]
pub struct SavePlan {
    /// The run.
    pub run: Approved,
    /// The tables to report.
    pub tables: Vec<Table>,
    /// Whether counters were asked for.
    pub counters: bool,
    /// The address family.
    pub family: Family,
}

/// `iptables-restore`: once for trial, once for real.
#[derive(Debug)]
pub struct RestorePlan {
    family: Family,
    input: Vec<u8>,
    trial_only: bool,
}

impl RestorePlan {
    /// The address family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// What it writes.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    /// `--test`: the caller wants only the trial.
    #[must_use]
    pub fn trial_only(&self) -> bool {
        self.trial_only
    }

    /// The run: foreign rules stay (`--noflush`), and the xtables lock is waited for at most this long, if the program
    /// can wait.
    pub fn run(&self, trial: bool, wait: Option<Duration>) -> Approved {
        let mut run = Approved::new(Program::Restore(self.family), &["--noflush"]);
        if let Some(wait) = wait {
            // 1.4.21 of Red Hat's takes only the long form.
            run.args.push(format!("--wait={}", wait.as_secs()));
        }
        if trial {
            run.args.push("--test".to_owned());
        }
        if !trial || self.trial_only || self.tables() > 1 {
            run.stdin.clone_from(&self.input);
        }
        run
    }

    /// One table is committed as a whole or not at all, and needs no trial of its content: what is left of it, a run without
    /// input, finds out whether the program is there and can wait.
    fn tables(&self) -> usize {
        self.input.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"*")).count()
    }

    /// Whether it needs the boundary to stand when it is done: it puts our jump into FORWARD, so that bridged packets will
    /// meet iptables, or writes what stands behind the boundary.
    #[must_use]
    pub fn needs_boundary(&self) -> bool {
        self.input
            .split(|byte| *byte == b'\n')
            .any(|line| line == b"*raw" || line.starts_with(b"-I FORWARD "))
    }

    /// The same, with the boundary put right first.
    #[must_use]
    pub fn behind(&self, boundary: &Boundary) -> Self {
        let input = [boundary.repair().as_bytes(), &self.input].concat();
        Self { family: self.family, input, trial_only: self.trial_only }
    }

    /// Puts the boundary right, and does nothing else.
    #[must_use]
    pub fn mending(boundary: &Boundary, family: Family) -> Self {
        Self { family, input: boundary.repair().into_bytes(), trial_only: false }
    }
}

/// Reads the whole of a family's rules.
pub fn look_at_rules(family: Family) -> Approved {
    Approved::new(Program::Save(family), &[])
}

/// Reads the table in which the boundary stands.
pub fn look_at_raw(family: Family) -> Approved {
    Approved::new(Program::Save(family), &["-t", "raw"])
}

/// `ovs-ofctl dump-flows` on a bridge, which must exist: a name that is none would be taken for something else.
#[derive(Debug)]
pub struct FlowsPlan {
    run: Approved,
    bridge: String,
}

impl FlowsPlan {
    /// The run.
    pub fn run(&self) -> &Approved {
        &self.run
    }

    /// The bridge.
    #[must_use]
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Exits with 0 if the bridge exists, with 2 if not.
    pub fn bridge_exists(&self) -> Approved {
        Approved::new(Program::Vsctl, &["br-exists", &self.bridge])
    }
}

/// `ovs-ofctl` that changes flows: it runs when it was compared with the switch ([`ChangePlan::against`]).
#[derive(Debug)]
pub struct ChangePlan {
    run: Approved,
    command: ofctl::Command,
    bundle: bool,
    bridge: String,
    forgets: bool,
}

impl ChangePlan {
    /// Whether it means that networks are no longer guarded, if nothing says so after it: it deletes what says which are.
    #[must_use]
    pub fn forgets(&self) -> bool {
        self.forgets
    }

    /// The bridge.
    #[must_use]
    pub fn bridge(&self) -> &str {
        &self.bridge
    }
}

/// The two tables in which we have chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `filter`
    Filter,
    /// `raw`
    Raw,
}

impl Table {
    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Raw => "raw",
        }
    }
}

/// Decides about a call: its program's arguments, split, and its input, decoded.
///
/// # Errors
/// A [`Refusal`] that says what and where.
pub fn authorise(
    function: Function,
    family: Family,
    args: &[String],
    stdin: Option<Vec<u8>>,
) -> Result<Plan> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match function {
        Function::IptablesSave => iptables::save(family, &args, stdin.as_deref()),
        Function::IptablesRestore => iptables::restore(family, &args, stdin),
        Function::OvsOfctl => ofctl::authorise(&args, stdin),
        Function::OvsVsctl => vsctl::authorise(&args, stdin.as_deref()),
    }
}

/// Refuses an argument, by its position from 0.
fn refuse_argument(program: &str, at: usize, problem: impl fmt::Display) -> Refusal {
    Refusal::new(crate::Code::ArgumentRefused).detail(program).detail(at + 1).detail(problem)
}

/// Refuses input to a program that reads none.
fn no_input(function: Function, stdin: Option<&[u8]>) -> Result<()> {
    match stdin {
        None => Ok(()),
        Some(_) => Err(Refusal::new(crate::Code::UnknownKey)
            .detail(drawbridge_wire::call::STDIN)
            .detail(format!("{function} with these arguments reads no input"))),
    }
}

/// Refuses the lack of input to a program that reads it.
fn need_input(stdin: Option<Vec<u8>>) -> Result<Vec<u8>> {
    stdin.ok_or_else(|| Refusal::new(crate::Code::MissingKey).detail(drawbridge_wire::call::STDIN))
}

/// Refuses a line of the input, by its position from 0.
fn refuse_line(at: usize, problem: impl fmt::Display) -> Refusal {
    Refusal::new(crate::Code::InputRefused).detail(at + 1).detail(problem)
}

/// The lines of an input: printable ASCII only, each ended by a newline, none longer than `max_line`, at most
/// [`limits::INPUT_LINES`]. Each is looked at when it is asked for: all of them at once would be many times the input.
///
/// The programs read lines into buffers of fixed size and would take an overlong line for two.
fn lines(input: &[u8], max_line: usize) -> Result<impl Iterator<Item = Result<&str>>> {
    let Some(body) = input.strip_suffix(b"\n") else {
        let last = input.iter().filter(|&&b| b == b'\n').count();
        return Err(refuse_line(last, "the input does not end with a newline"));
    };
    Ok(body.split(|&b| b == b'\n').enumerate().map(move |(at, line)| {
        if at >= limits::INPUT_LINES {
            return Err(refuse_line(at, format!("more than {} lines", limits::INPUT_LINES)));
        }
        if let Some(b) = line.iter().find(|b| !matches!(b, b' '..=b'~')) {
            return Err(refuse_line(at, format!("the byte 0x{b:02x}, which is not printable ASCII")));
        }
        if line.len() > max_line {
            return Err(refuse_line(at, format!("longer than {max_line} bytes")));
        }
        std::str::from_utf8(line).map_err(|_| refuse_line(at, "not ASCII"))
    }))
}
