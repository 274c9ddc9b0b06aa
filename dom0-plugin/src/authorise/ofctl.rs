//! The arguments of `ovs-ofctl`: flows of ours, on a bridge, from standard input.

mod actions;
mod bridge;
mod flows;
mod line;
mod matches;
mod pipeline;
mod standing;

use drawbridge_wire::call::Function;
use drawbridge_wire::flow;

use super::grammar::{is_interface, is_list};
use super::{Approved, ChangePlan, FlowsPlan, Plan, Program, need_input, no_input, refuse_argument};
use crate::Result;

pub use bridge::{Bridge, Role};
pub use flows::{Input, check_against};
pub(super) use line::Command;

const NAME: &str = "ovs-ofctl";

const VERSIONS: [&str; 6] =
    ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"];

/// Those in which flows are written. Before them a switch takes flows whose dump it does not take back.
const WRITES: &[&str] = VERSIONS.split_at(3).1;

/// What a write offers the switch, which takes the newest that its bridge speaks.
const OFFERED: &str = "OpenFlow13,OpenFlow14";

/// `--version`, or `[-O VERSIONS]` and one of
/// `[--no-stats] [--names|--no-names] dump-flows BRIDGE [FILTER]`, `[--bundle] add-flows BRIDGE -`,
/// `[--bundle] [--strict] del-flows BRIDGE -`.
pub(super) fn authorise(args: &[&str], stdin: Option<Vec<u8>>) -> Result<Plan> {
    if args == ["--version"] {
        no_input(Function::OvsOfctl, stdin.as_deref())?;
        return Ok(Plan::Read(Approved::new(Program::Ofctl, args)));
    }
    let mut at = 0;
    if args.first() == Some(&"-O") {
        let known = args.get(1).is_some_and(|list| is_list(list, VERSIONS.len(), |v| VERSIONS.contains(&v)));
        if !known {
            return Err(refuse_argument(NAME, 1, "expected OpenFlow10 to OpenFlow15"));
        }
        at = 2;
    }
    let options_from = at;
    while args.get(at).is_some_and(|arg| arg.starts_with("--")) {
        at += 1;
    }
    let options = &args[options_from..at];
    let allowed: &[&str] = match args.get(at) {
        Some(&"dump-flows") => &["--no-stats", "--names", "--no-names"],
        Some(&"add-flows") => &["--bundle"],
        Some(&"del-flows") => &["--bundle", "--strict"],
        _ => {
            let problem = "expected --version, or [-O VERSION] and dump-flows, add-flows or del-flows";
            return Err(refuse_argument(NAME, at, problem));
        }
    };
    for (i, option) in options.iter().enumerate() {
        if !allowed.contains(option) || options[..i].contains(option) {
            return Err(refuse_argument(
                NAME,
                options_from + i,
                "not an option of this command, or given twice",
            ));
        }
    }
    // A path, or `unix:…`, `tcp:…`, would be another switch.
    let bridge = match args.get(at + 1) {
        Some(bridge) if is_interface(bridge) => (*bridge).to_owned(),
        _ => return Err(refuse_argument(NAME, at + 1, "expected a bridge's name")),
    };
    let mut run = Approved::new(Program::Ofctl, args);
    if args[at] == "dump-flows" {
        no_input(Function::OvsOfctl, stdin.as_deref())?;
        let filter = match args[at + 2..] {
            [] => flows::dump_filter("")?,
            [filter] => flows::dump_filter(filter)?,
            _ => return Err(refuse_argument(NAME, at + 3, "expected nothing more")),
        };
        run.args.truncate(at + 2);
        run.args.push(filter);
        return Ok(Plan::DumpFlows(FlowsPlan { run, bridge }));
    }
    // Whatever the caller says, a write is in what the plugin chooses; but a caller who wants another is told.
    if at > 0 && args[0] == "-O" && !is_list(args[1], WRITES.len(), |v| WRITES.contains(&v)) {
        return Err(refuse_argument(NAME, 1, "flows are written with OpenFlow13 or newer"));
    }
    if args[at + 2..] != ["-"] {
        return Err(refuse_argument(
            NAME,
            at + 2,
            "expected - : flows come from standard input, never from a file",
        ));
    }
    let input = need_input(stdin)?;
    let command = match (args[at], options.contains(&"--strict")) {
        ("del-flows", true) => Command::DeleteStrict,
        ("del-flows", false) => Command::Delete,
        _ => Command::Add,
    };
    let bundle = options.contains(&"--bundle");
    Input { bytes: &input, command, bundle }.check()?;
    let forgets = Input { bytes: &input, command, bundle }.reaches(flow::GUARDED);
    let mut run = Approved::new(Program::Ofctl, &["-O", OFFERED]);
    run.args.extend(args[options_from..].iter().map(|&arg| arg.to_owned()));
    run.stdin = input;
    Ok(Plan::ChangeFlows(ChangePlan { run, command, bundle, bridge, forgets }))
}

/// A write of the plugin's own, at boot: in whatever the bridge speaks, and not compared with the switch, from which it was made.
pub(crate) fn write_own(versions: &str, bridge: &str, text: String) -> Result<Approved> {
    flows::check_own(text.as_bytes())?;
    let mut run = Approved::new(Program::Ofctl, &["-O", versions, "add-flows", bridge, "-"]);
    run.stdin = text.into_bytes();
    Ok(run)
}

impl ChangePlan {
    /// Reads all flows of the bridge, whose ever they are.
    pub fn all(&self) -> Approved {
        Approved::new(Program::Ofctl, &["-O", OFFERED, "dump-flows", &self.bridge])
    }

    /// Reads what stands after the write, of ours.
    ///
    /// # Errors
    /// None: our own filter is one.
    pub fn look(&self) -> Result<Approved> {
        let mut look = self.all();
        look.args.push(flows::dump_filter("")?);
        Ok(look)
    }

    /// The write, if it fits the bridge as it is and what stands there.
    ///
    /// # Errors
    /// See [`check_against`].
    pub fn against(&self, bridge: &Bridge, standing: &str) -> Result<&Approved> {
        let input = Input { bytes: &self.run.stdin, command: self.command, bundle: self.bundle };
        check_against(bridge, standing, input)?;
        Ok(&self.run)
    }
}

/// A MAC as flows are compared by it.
pub(crate) fn mac_number(text: &str) -> Option<u64> {
    matches::mac(text).and_then(|mac| u64::try_from(mac).ok())
}

/// Whether a cookie, under a mask, can only be ours.
fn is_ours(cookie: u64, mask: u64) -> bool {
    mask & flow::COOKIE_MASK == flow::COOKIE_MASK && cookie & flow::COOKIE_MASK == flow::COOKIE
}
